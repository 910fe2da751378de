"""Aggregates over views respect validity."""

import numpy as np
import pytest
import torch

from heatproof.base.aggregate import (
    coefficient_of_variation,
    common_valid,
    dose_curve,
    leave_one_out,
    masked_mean,
    masked_median,
    round_trip_error,
    scaled,
    spread,
)
from heatproof.base.registry import preset


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


@pytest.mark.parametrize("count", [1, 2, 5, 6, 11])
def test_the_median_of_any_number_of_views(count):
    maps = torch.randn(count, 2, 9, 8, generator=torch.Generator().manual_seed(count))
    np.testing.assert_allclose(masked_median(maps, torch.ones_like(maps, dtype=torch.bool)), np.median(maps, 0))


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


# ---- what one view, or more, add -------------------------------------------------------------------------------------


def stack(v=4, b=2, h=9, w=7):
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(v, b, h, w, generator=generator)
    return maps, torch.rand(v, b, h, w, generator=generator) < 0.8


@pytest.mark.parametrize("name", ["mean", "median"])
def test_leave_one_out_fuses_the_others(name):
    maps, valid = stack()
    fusion = preset("fusion", name)
    without = leave_one_out(maps, valid, fusion)
    assert without.shape == maps.shape
    torch.testing.assert_close(without[1], fusion(maps[[0, 2, 3]], valid[[0, 2, 3]]))
    # Two equal views: leaving one of them out changes nothing in the mean of one scale.
    same = maps[:1].expand(3, -1, -1, -1)
    everywhere = torch.ones_like(same, dtype=torch.bool)
    torch.testing.assert_close(leave_one_out(same, everywhere, fusion)[0], fusion(same, everywhere))


def test_the_dose_curve_ends_at_one():
    maps, valid = stack()
    valid = valid | (torch.arange(7) > 2)
    curve = dose_curve(maps, valid, preset("fusion", "mean"))
    assert curve.shape == (4, 2)
    torch.testing.assert_close(curve[-1], torch.ones(2, dtype=torch.float64))
    assert (curve[0] < curve[2]).all()
    same = maps[:1].expand(4, -1, -1, -1)
    torch.testing.assert_close(dose_curve(same, valid, preset("fusion", "mean"))[0], torch.ones(2).double())


def test_coefficient_of_variation_by_hand():
    maps = torch.tensor([[[[1.0, 0.0, -4.0]]], [[[3.0, 0.0, -4.0]]]])
    everywhere = torch.ones_like(maps, dtype=torch.bool)
    found = coefficient_of_variation(maps, everywhere, scale="none")[0, 0]
    assert found[0] == 0.5
    assert found[1].isnan()
    assert found[2] == 0
    only_first = everywhere.clone()
    only_first[1, 0, 0, 0] = False
    assert coefficient_of_variation(maps, only_first, scale="none")[0, 0, 0] == 0
    assert common_valid(only_first)[0, 0].tolist() == [False, True, True]


@pytest.mark.parametrize("name", ["identity", "flip", "noise", "rotate", "random_crop", "magnify"])
def test_round_trips_lose_little_and_nothing_where_nothing_is_interpolated(name):
    ramp = torch.linspace(0, 1, 30)[None, :, None] * torch.linspace(1, 2, 25)[None, None]
    maps = ramp.repeat(2, 1, 1)
    _, unwarp = preset("view", name)(maps[:, None], torch.tensor([1, 2]))
    lost, seen = round_trip_error(maps, unwarp)
    assert (lost < (1e-7 if name in ("identity", "flip", "noise") else 0.01)).all()
    assert (seen > 0.5).all()
    assert (seen == 1).all() == (name in ("identity", "flip", "noise"))
    assert round_trip_error(torch.ones_like(maps), unwarp)[0].isnan().all()
