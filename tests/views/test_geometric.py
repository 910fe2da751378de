"""Views that move content: where a mark goes, and settings from their files."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from heatproof.base.registry import preset
from heatproof.views.geometric import centre_crop, flip, identity, magnify, random_crop, rotate, shift

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


@given(
    height=st.integers(9, 40),
    width=st.integers(9, 40),
    name=st.sampled_from(["random_crop", "random_rotate", "rotate", "shift", "magnify", "centre_crop", "flip"]),
    seed=st.integers(-(2**63), 2**63 - 1),
)
@settings(max_examples=60, deadline=None)
def test_ramps_come_back_at_every_size(height, width, name, seed):
    """Bilinear interpolation keeps affine pictures, so what comes back at valid pixels is the picture itself."""
    rows, columns = torch.arange(height).float()[:, None], torch.arange(width).float()[None]
    images = torch.stack([(rows + 2 * columns) / 100, (3 * rows - columns) / 100])[:, None]
    seeds = torch.tensor([seed, 5])
    seen, unwarp = preset("view", name)(images, seeds)
    assert seen.shape == images.shape
    maps, valid = unwarp(seen[:, 0])
    torch.testing.assert_close(maps[valid], images[:, 0][valid], atol=2e-5, rtol=0)
    # Images are warped one by one as in a batch.
    alone, back = preset("view", name)(images[:1], seeds[:1])
    torch.testing.assert_close(alone, seen[:1])
    assert torch.equal(back(alone[:, 0])[1], valid[:1])


def test_rotation_corners_are_not_valid():
    _, unwarp = rotate(torch.zeros(1, 1, 21, 33), SEEDS, angle=15)
    _, valid = unwarp(torch.zeros(1, 21, 33))
    assert not valid[0, [0, 0, -1, -1], [0, -1, 0, -1]].any()
    assert valid[0, 8:13, 8:25].all()


def test_each_image_has_its_own_crop():
    images = torch.rand(1, 1, 40, 30, generator=torch.Generator().manual_seed(0)).expand(3, -1, -1, -1)
    seen, unwarp = random_crop(images, torch.tensor([1, 2, 1]), fraction=0.6, draw=1)
    assert torch.equal(seen[0], seen[2])
    assert not torch.allclose(seen[0], seen[1])
    _, valid = unwarp(seen[:, 0])
    assert valid.flatten(1).float().mean(1).tolist() == pytest.approx([0.36] * 3, abs=0.06)
    assert not torch.equal(valid[0], valid[1])
    again, _ = random_crop(images, torch.tensor([1, 2, 1]), fraction=0.6, draw=2)
    assert not torch.allclose(again[0], seen[0])
