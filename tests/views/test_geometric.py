"""Views that move content: where a mark goes, and settings from their files."""

import pytest
import torch

from heatproof.base.registry import preset
from heatproof.views.geometric import centre_crop, flip, identity, magnify, rotate, shift

SEEDS = torch.tensor([0])


def mark(row: int, column: int, size: int = 101) -> torch.Tensor:
    image = torch.zeros(1, 1, size, size)
    image[..., row, column] = 1
    return image


def place(images: torch.Tensor) -> tuple[float, float]:
    """Centre of mass (row, column)."""
    mass = images[0, 0] / images.sum()
    grid = torch.arange(images.shape[-1]).float()
    return (mass.sum(1) @ grid).item(), (mass.sum(0) @ grid).item()


def test_where_a_mark_goes():
    at = mark(50, 90)
    assert place(identity(at, SEEDS)[0]) == (50, 90)
    assert place(flip(at, SEEDS)[0]) == (50, 10)
    # Counter-clockwise as seen: from the right upwards.
    assert place(rotate(at, SEEDS, angle=90)[0]) == (10, 50)
    # Clockwise 7 degrees: from the right downwards by 40 sin 7.
    assert place(preset("view", "rerun_rotate")(at, SEEDS)[0]) == pytest.approx((54.87, 89.70), abs=0.05)
    # Right round(0.04 * 101), up round(0.03 * 101).
    assert place(preset("view", "rerun_shift")(at, SEEDS)[0]) == (47, 94)
    assert place(magnify(mark(50, 70), SEEDS, factor=1.5)[0]) == pytest.approx((50, 80), abs=1e-3)
    assert place(centre_crop(mark(50, 70), SEEDS, fraction=0.5)[0]) == pytest.approx((50, 90), abs=1e-3)


def test_settings_come_from_the_files():
    at = mark(50, 90)
    assert torch.equal(rotate(at, SEEDS)[0], rotate(at, SEEDS, angle=15)[0])
    assert torch.equal(preset("view", "rotate_m15")(at, SEEDS)[0], rotate(at, SEEDS, angle=-15)[0])
    assert torch.equal(shift(at, SEEDS)[0], shift(at, SEEDS, dx=0.04, dy=-0.03)[0])


def test_a_crop_says_nothing_of_what_was_cut_off():
    images = torch.rand(2, 1, 20, 20, generator=torch.Generator().manual_seed(0))
    seen, unwarp = centre_crop(images, torch.tensor([0, 1]), fraction=0.5)
    maps, valid = unwarp(seen[:, 0])
    assert maps.shape == valid.shape == (2, 20, 20)
    assert valid.sum().item() == 2 * 100
    assert valid[:, 5:15, 5:15].all()
    # An affine picture is kept exactly by bilinear interpolation.
    ramp = torch.arange(20.0).expand(1, 1, 20, 20)
    seen, unwarp = centre_crop(ramp, SEEDS, fraction=0.5)
    maps, valid = unwarp(seen[:, 0])
    torch.testing.assert_close(maps[valid], ramp[:, 0][valid])
