"""Warps: exact where they can be, equal to torchvision inside, honest about what they cannot see."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as TF

from heatproof.base import warps
from heatproof.base.warps import Unwarp, inverse, magnification, rotation, translation, warped

IMAGES = torch.rand(2, 3, 20, 24, generator=torch.Generator().manual_seed(0))
SQUARE = IMAGES[..., :20]

WARPS = st.one_of(
    st.floats(-180, 180).map(rotation),
    st.floats(0.5, 2).map(magnification),
    st.tuples(st.floats(-9, 9), st.floats(-9, 9)).map(lambda s: translation(*s)),
    st.just(warps.FLIP),
)


def twin(image, warp):
    """One pixel at a time in Python numbers."""
    height, width = image.shape
    (a, b, tx), (c, d, ty) = warp
    out, inside = torch.zeros_like(image), torch.zeros(image.shape, dtype=torch.bool)

    def mirrored(p, n):
        while p < 0 or p > n - 1:
            p = -p if p < 0 else 2 * (n - 1) - p
        return p

    for i in range(height):
        for j in range(width):
            y, x = i - (height - 1) / 2, j - (width - 1) / 2
            u, v = a * x + b * y + tx + (width - 1) / 2, c * x + d * y + ty + (height - 1) / 2
            inside[i, j] = -1e-6 <= u <= width - 1 + 1e-6 and -1e-6 <= v <= height - 1 + 1e-6
            u, v = mirrored(u, width), mirrored(v, height)
            u0, v0 = min(int(u), width - 2), min(int(v), height - 2)
            s, t = u - u0, v - v0
            out[i, j] = (1 - t) * ((1 - s) * image[v0, u0] + s * image[v0, u0 + 1]) + t * (
                (1 - s) * image[v0 + 1, u0] + s * image[v0 + 1, u0 + 1]
            )
    return out, inside


@settings(deadline=None, max_examples=15)
@given(WARPS)
def test_equal_to_the_slow_twin(warp):
    image = IMAGES[0, 0, :9, :11].double()
    expected, inside = twin(image, warp)
    torch.testing.assert_close(warped(image[None], warp)[0], expected, atol=2e-5, rtol=0)
    assert torch.equal(warps._sampler(warp, 9, 11, torch.device("cpu")).inside, inside)


@settings(deadline=None, max_examples=20)
@given(WARPS)
def test_validity_never_includes_what_was_extrapolated(warp):
    """A map that is NaN wherever the view shows mirrored content: nothing of it may reach a valid pixel."""
    ones = torch.ones(1, 20, 24)
    unwarp = Unwarp(warp)
    shown = warps._sampler(warp, 20, 24, torch.device("cpu")).inside
    maps, valid = unwarp(unwarp.warp(ones).masked_fill(~shown, torch.nan))
    torch.testing.assert_close(maps[valid], torch.ones(int(valid.sum())))


@settings(deadline=None, max_examples=20)
@given(WARPS)
def test_the_inverse_undoes_the_warp(warp):
    (a, b, tx), (c, d, ty) = warp
    (p, q, sx), (r, s, sy) = inverse(warp)
    x, y = 3.0, -2.0
    u, v = a * x + b * y + tx, c * x + d * y + ty
    assert (p * u + q * v + sx, r * u + s * v + sy) == pytest.approx((x, y), abs=1e-9)


@settings(deadline=None, max_examples=15)
@given(st.floats(-30, 30), st.floats(0.9, 1.2))
def test_a_smooth_map_survives_the_round_trip_where_valid(angle, factor):
    y = torch.arange(48)[:, None] / 48
    x = torch.arange(48)[None] / 48
    smooth = (torch.sin(4 * x + 1) * torch.cos(3 * y))[None]
    for warp in (rotation(angle), magnification(factor)):
        unwarp = Unwarp(warp)
        back, valid = unwarp(unwarp.warp(smooth))
        assert valid.float().mean() > 0.5
        # Two bilinear steps: twice (4^2 + 3^2) / 8 / 48^2, somewhat more where the view is coarser.
        assert (back - smooth)[valid].abs().max() < 4e-3


def test_flip_shift_and_quarter_turns_are_exact():
    assert torch.equal(warped(IMAGES, warps.FLIP), IMAGES.flip(-1))
    for quarter in (1, 2, 3):
        assert torch.equal(warped(SQUARE, rotation(90 * quarter)), SQUARE.rot90(quarter, (-2, -1)))
    assert torch.equal(warped(IMAGES, translation(3, -2))[..., :-2, 3:], IMAGES[..., 2:, :-3])
    for warp in (warps.FLIP, rotation(90), rotation(180), rotation(-90)):
        unwarp = Unwarp(warp)
        back, valid = unwarp(unwarp.warp(SQUARE[:, 0]))
        assert valid.all()
        assert torch.equal(back, SQUARE[:, 0])


def test_shifted_content_is_valid_where_it_stayed_in_the_picture():
    unwarp = Unwarp(translation(3, -2))
    back, valid = unwarp(unwarp.warp(IMAGES[:, 0]))
    expected = torch.ones(20, 24, dtype=torch.bool)
    expected[:2] = False
    expected[:, -3:] = False
    assert torch.equal(valid, expected.expand(2, -1, -1))
    assert torch.equal(back[valid], IMAGES[:, 0][valid])


def test_rotation_equals_torchvision_inside():
    expected = TF.rotate(SQUARE, 15, interpolation=InterpolationMode.BILINEAR)
    ours = warped(SQUARE, rotation(15))
    torch.testing.assert_close(ours[..., 5:15, 5:15], expected[..., 5:15, 5:15], atol=1e-5, rtol=0)


def test_mirrored_border():
    row = torch.arange(5.0).expand(1, 5, 5)
    assert warped(row, translation(2, 0))[0, 0].tolist() == [2, 1, 0, 1, 2]


def test_identity_way_back():
    maps, valid = Unwarp()(IMAGES[:, 0])
    assert Unwarp().identity
    assert not Unwarp(warps.FLIP).identity
    assert torch.equal(maps, IMAGES[:, 0])
    assert valid.all()
    assert torch.equal(Unwarp().warp(IMAGES[:, 0]), IMAGES[:, 0])


def test_one_pixel_wide_images():
    thin = IMAGES[:, 0, :, :1]
    assert torch.equal(warped(thin, warps.FLIP), thin)
    assert torch.isfinite(warped(thin, rotation(10))).all()


def test_nothing_leaks_from_neighbours_of_weight_zero():
    """The middle pixel of a turned picture is read exactly: its neighbours, not finite here, have no say."""
    image = torch.full((1, 5, 5), torch.nan)
    image[0, 2, 2] = 3
    assert warped(image, rotation(30))[0, 2, 2] == 3
