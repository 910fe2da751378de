"""Fusion of aligned maps: hand-computed, scale of each view, invalid pixels."""

import pytest
import torch

from heatproof.base.registry import choices
from heatproof.views.fusion import mean, median

ONE = torch.rand(1, 2, 10, 10, generator=torch.Generator().manual_seed(0)) - 0.3


def test_an_outlying_scale_counts_no_more_than_the_others():
    maps = torch.cat([ONE, 1000 * ONE, ONE])
    valid = torch.ones_like(maps, dtype=torch.bool)
    unit = torch.quantile(ONE[0].abs().flatten(1), 0.99, dim=1)[:, None, None]
    torch.testing.assert_close(mean(maps, valid), ONE[0] / unit)
    torch.testing.assert_close(median(maps, valid), ONE[0] / unit)


def test_only_valid_views_enter():
    maps = torch.tensor([1.0, 3.0, 8.0]).view(3, 1, 1, 1).expand(3, 1, 1, 4).clone()
    valid = torch.tensor([[True, True, True, False], [True, True, False, False], [True, False, False, False]])
    valid = valid.view(3, 1, 1, 4)
    maps[~valid] = torch.nan
    assert mean(maps, valid, scale="none").flatten().tolist() == [4, 2, 1, 0]
    assert median(maps, valid, scale="none").flatten().tolist() == [3, 2, 1, 0]


@pytest.mark.parametrize("scale", ["p99", "minmax", "none"])
def test_invalid_values_reach_neither_scale_nor_map(scale):
    maps = torch.cat([ONE, ONE.flip(-1)])
    valid = torch.ones_like(maps, dtype=torch.bool)
    valid[1, :, :3] = False
    spoilt = maps.masked_fill(~valid, 1e6)
    for fuse in (mean, median):
        assert torch.equal(fuse(maps, valid, scale=scale), fuse(spoilt, valid, scale=scale))


def test_fusions_of_equal_views_are_that_view():
    maps = ONE.expand(4, -1, -1, -1)
    valid = torch.ones_like(maps, dtype=torch.bool)
    for name in choices("fusion"):
        fuse = choices("fusion")[name].load()
        torch.testing.assert_close(fuse(maps, valid, scale="none"), ONE[0])
