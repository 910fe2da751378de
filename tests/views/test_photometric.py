"""Views that change values: equal to torchvision, seeded per image, for one channel too."""

import pytest
import torch
from torchvision.transforms import functional as TF

from heatproof.base.fields import uniform
from heatproof.views.photometric import colour_jitter, contrast_jitter, gamma, gaussian_blur, greyscale

IMAGES = torch.rand(3, 3, 10, 12, generator=torch.Generator().manual_seed(0))
SEEDS = torch.tensor([3, -4, 2**60])


def test_colour_jitter_equals_torchvision_with_the_same_factors():
    seen, unwarp = colour_jitter(IMAGES, SEEDS, brightness=0.4, contrast=0.4, saturation=0.4)
    factors = 0.6 + 0.8 * uniform(SEEDS, (3,))
    for image, (b, c, s), found in zip(IMAGES, factors.tolist(), seen, strict=True):
        expected = TF.adjust_saturation(TF.adjust_contrast(TF.adjust_brightness(image, b), c), s)
        torch.testing.assert_close(found, expected, atol=3e-4, rtol=0)
    assert unwarp.identity
    assert (factors.std(0) > 0.01).all()


def test_contrast_jitter_equals_torchvision():
    seen, _ = contrast_jitter(IMAGES, SEEDS)
    factors = 0.2 + 1.6 * uniform(SEEDS, (1,))[:, 0]
    for image, c, found in zip(IMAGES, factors.tolist(), seen, strict=True):
        torch.testing.assert_close(found, TF.adjust_contrast(image, c), atol=3e-4, rtol=0)


def test_jitter_of_one_channel():
    one = IMAGES[:, :1]
    seen, _ = colour_jitter(one, SEEDS, brightness=0.0, contrast=0.0, saturation=0.9)
    torch.testing.assert_close(seen, one)
    seen, _ = colour_jitter(one, SEEDS, brightness=0.0, contrast=0.5, saturation=0.0)
    factor = 0.5 + uniform(SEEDS, (3,))[:, 1, None, None, None]
    mean = one.mean((1, 2, 3), keepdim=True)
    torch.testing.assert_close(seen, (mean + factor * (one - mean)).clamp(0, 1))


@pytest.mark.parametrize("kernel", [3, 5])
def test_blur_equals_torchvision(kernel):
    seen, unwarp = gaussian_blur(IMAGES, SEEDS, kernel=kernel)
    torch.testing.assert_close(seen, TF.gaussian_blur(IMAGES, [kernel, kernel]), atol=1e-6, rtol=0)
    assert unwarp.identity
    if kernel == 5:
        assert torch.equal(gaussian_blur(IMAGES, SEEDS)[0], seen)


def test_greyscale():
    seen, _ = greyscale(IMAGES, SEEDS)
    torch.testing.assert_close(seen, TF.rgb_to_grayscale(IMAGES, num_output_channels=3), atol=2e-4, rtol=0)
    assert torch.equal(greyscale(IMAGES[:, :1], SEEDS)[0], IMAGES[:, :1])


def test_gamma():
    seen, _ = gamma(torch.tensor([[[[0.0, 0.25, 1.0, -0.1]]]]), SEEDS[:1], gamma=1.5)
    assert seen.flatten().tolist() == [0.0, 0.125, 1.0, 0.0]
