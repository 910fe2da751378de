"""Aggregates over views respect validity."""

import numpy as np
import pytest
import torch

from heatproof.base.aggregate import masked_mean, masked_median, scaled, spread


def views(seed=0):
    generator = torch.Generator().manual_seed(seed)
    maps = torch.randn(5, 3, 12, 11, generator=generator, dtype=torch.float64)
    valid = torch.rand(5, 3, 12, 11, generator=generator) > 0.3
    valid[0] = True
    return maps, valid


def masked(maps, valid):
    return np.ma.array(maps.numpy(), mask=~valid.numpy())


def test_mean_median_and_spread_equal_numpy_masked_arrays():
    maps, valid = views()
    np.testing.assert_allclose(masked_mean(maps, valid), masked(maps, valid).mean(0).data, atol=1e-12)
    np.testing.assert_allclose(masked_median(maps, valid), np.ma.median(masked(maps, valid), 0).data, atol=1e-12)
    np.testing.assert_allclose(spread(maps, valid, scale="none"), masked(maps, valid).std(0).data, atol=1e-12)


def test_values_of_invalid_pixels_do_not_matter():
    maps, valid = views()
    other = torch.where(valid, maps, 1e6)
    for scale in ("p99", "minmax", "none"):
        a, b = scaled(maps, valid, scale), scaled(other, valid, scale)
        assert torch.equal(masked_mean(a, valid), masked_mean(b, valid))
        assert torch.equal(masked_median(a, valid), masked_median(b, valid))


@pytest.mark.parametrize("share", [0.3, 0.0])
def test_p99_equals_numpy_percentile(share):
    maps, valid = views()
    valid |= torch.rand(valid.shape) > share
    units = maps / scaled(maps, valid, "p99")
    for v in range(5):
        for b in range(3):
            expected = np.percentile(maps[v, b][valid[v, b]].abs().numpy(), 99)
            np.testing.assert_allclose(units[v, b].numpy(), expected, rtol=1e-9)


def test_a_dead_map_stays_dead_and_a_sparse_one_is_scaled_by_its_peak():
    maps = torch.zeros(1, 2, 20, 20)
    maps[0, 1, 3, 4] = 5.0
    out = scaled(maps, torch.ones_like(maps, dtype=torch.bool), "p99")
    assert out[0, 0].abs().max() == 0
    assert out[0, 1, 3, 4] == 1


def test_a_pixel_that_no_view_sees_is_zero():
    maps, valid = views()
    valid[:, 0, 5, 5] = False
    assert masked_mean(maps, valid)[0, 5, 5] == 0
    assert masked_median(maps, valid)[0, 5, 5] == 0
