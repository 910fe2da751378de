"""Shifted and blurred copies of maps."""

import scipy.ndimage
import torch

from heatproof.base.altered import correlation_length, gaussian_blur, matched_blur_px, shift, shift_offsets


def smooth(n=4, size=40, seed=0):
    coarse = torch.rand(n, 1, 6, 6, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(coarse, size=(size, size), mode="bilinear")[:, 0]


def test_shift_equals_a_roll_of_each_map():
    maps = torch.rand(5, 9, 7)
    offsets = shift_offsets(torch.arange(5) * 7919, 9, 7)
    for moved, original, offset in zip(shift(maps, offsets), maps, offsets.tolist(), strict=True):
        assert torch.equal(moved, torch.roll(original, offset, (0, 1)))


def test_offsets_are_uniform_over_all_positions_but_none():
    offsets = shift_offsets(torch.arange(20_000), 4, 5)
    counts = torch.bincount(offsets[:, 0] * 5 + offsets[:, 1], minlength=20)
    assert counts[0] == 0
    assert (counts[1:] - 20_000 / 19).abs().max() < 5 * (20_000 / 19) ** 0.5


def test_blur_equals_scipy():
    maps = torch.rand(2, 21, 17, dtype=torch.float64)
    expected = torch.stack(
        [torch.from_numpy(scipy.ndimage.gaussian_filter(m.numpy(), 1.5, mode="reflect", truncate=4)) for m in maps]
    )
    torch.testing.assert_close(gaussian_blur(maps, 1.5), expected, atol=1e-12, rtol=0)


def test_correlation_length_of_a_cosine():
    # Along its axis a cosine of period T falls to 1/e at T/(2 pi) acos(1/e); a map that varies with both axes alike
    # falls off at about that distance in every direction.
    x = torch.arange(120, dtype=torch.float64)
    wave = torch.cos(2 * torch.pi * x / 30)
    maps = (wave[:, None] * wave[None, :])[None]
    along = 30 / (2 * torch.pi) * torch.acos(torch.tensor(1 / torch.e)).item()
    length = correlation_length(maps).item()
    assert 0.8 * along < length < 1.1 * along


def test_the_matched_blur_is_found_again():
    maps = smooth()
    for sd in (0.0, 1.0, 2.5, 4.0):
        assert matched_blur_px(maps, gaussian_blur(maps, sd)) == sd


def test_a_sharper_fusion_asks_for_no_blur():
    maps = smooth()
    assert matched_blur_px(gaussian_blur(maps, 3), maps) == 0


def test_dead_maps_do_not_count():
    maps = smooth()
    blurred = gaussian_blur(maps, 2)
    maps[1] = 0
    assert matched_blur_px(maps, blurred) == 2
