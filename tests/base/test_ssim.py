"""Structural similarity against torchmetrics, and where it says nothing."""

import pytest
import torch
from torchmetrics.functional.image import structural_similarity_index_measure

from heatproof.base.ssim import ssim
from heatproof.base.values import norm


def drawn(n: int, size: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(n, 1, 6, 6, generator=generator)
    return torch.nn.functional.interpolate(coarse, size=(size, size), mode="bilinear")[:, 0]


@pytest.mark.parametrize("size", [11, 24, 37])
def test_it_is_torchmetrics_without_the_mirrored_border(size):
    """torchmetrics also averages over windows that look at pixels mirrored at the border."""
    a, b = drawn(4, size, 0), drawn(4, size, 1)
    _, everywhere = structural_similarity_index_measure(
        norm(a).double()[:, None], norm(b).double()[:, None], data_range=1.0, return_full_image=True
    )
    wanted = everywhere[:, 0, 5 : size - 5, 5 : size - 5].mean((1, 2))
    assert ssim(a, b).tolist() == pytest.approx(wanted.tolist(), abs=1e-6)


def test_scale_and_offset_change_nothing():
    a = drawn(3, 16, 0)
    assert ssim(a, 5 * a - 2).tolist() == pytest.approx([1, 1, 1], abs=1e-5)
    assert (ssim(a, -a) < 0.5).all()


def test_constant_maps_and_small_ones_say_nothing():
    a = drawn(2, 16, 0)
    flat = torch.stack([torch.zeros(16, 16), a[1]])
    assert ssim(a, flat).isnan().tolist() == [True, False]
    assert ssim(a[:, :10], a[:, :10]).isnan().all()


def test_windows_that_touch_invalid_pixels_do_not_count():
    a, b = drawn(1, 30, 0), drawn(1, 30, 1)
    # Keep the range of the whole map inside the valid part, so that scaling is the same.
    a[0, 0, 0], a[0, 0, 1] = a.min(), a.max()
    b[0, 0, 0], b[0, 0, 1] = b.min(), b.max()
    valid = torch.ones(1, 30, 30, dtype=torch.bool)
    valid[:, :, 20:] = False
    changed = b.clone()
    changed[:, :, 20:] = b[:, :, 20:].flip(1)
    assert ssim(a, changed, valid).item() == pytest.approx(ssim(a, b, valid).item(), abs=1e-9)
    assert ssim(a, changed).item() != pytest.approx(ssim(a, b).item(), abs=1e-3)
    assert ssim(a, b, ~torch.ones_like(valid)).isnan().all()
