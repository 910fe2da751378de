"""Views that change values and move nothing: maps made on them lie where they are.

Conventions: images in [0, 1]; jitters draw their factors per image from its seed and clip to [0, 1] after each step.
"""

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

from heatproof.base.colour import brightened, contrasted, factors, grey, saturated
from heatproof.base.fields import normal, uniform
from heatproof.base.registry import choice
from heatproof.base.smooth import along
from heatproof.base.warps import Unwarp

Images = Float[Tensor, "b c h w"]
Seeds = Int64[Tensor, " b"]


@choice(family="photometric")
def gamma(images: Images, seeds: Seeds, *, gamma: float) -> tuple[Images, Unwarp]:
    """`x ^ gamma`; values below 0 count as 0."""
    return images.clamp_min(0) ** gamma, Unwarp()


@choice(family="photometric", source="torchvision.transforms.ColorJitter")
def colour_jitter(
    images: Images, seeds: Seeds, *, brightness: float, contrast: float, saturation: float
) -> tuple[Images, Unwarp]:
    """Brightness, contrast and saturation each times a factor uniform in [max(0, 1 - s), 1 + s].

    In this order (torchvision draws the order, too); saturation changes nothing in grey images.
    """
    draws = uniform(seeds.to(images.device), (3,))
    images = brightened(images, factors(draws[:, 0], brightness))
    images = contrasted(images, factors(draws[:, 1], contrast))
    return saturated(images, factors(draws[:, 2], saturation)), Unwarp()


@choice(family="photometric", source="torchvision.transforms.ColorJitter")
def contrast_jitter(images: Images, seeds: Seeds, *, contrast: float) -> tuple[Images, Unwarp]:
    """Contrast times a factor uniform in [max(0, 1 - contrast), 1 + contrast], about the mean grey value."""
    return contrasted(images, factors(uniform(seeds.to(images.device), (1,))[:, 0], contrast)), Unwarp()


@choice(family="photometric", source="torchvision.transforms.functional.gaussian_blur")
def gaussian_blur(images: Images, seeds: Seeds, *, kernel: int) -> tuple[Images, Unwarp]:
    """Gaussian blur with a window of `kernel` pixels (odd) and sd 0.15 kernel + 0.35, border mirrored (dcb|abcd)."""
    sd = 0.15 * kernel + 0.35
    half = (kernel - 1) // 2
    offsets = torch.arange(-half, half + 1, dtype=torch.float64)
    window = torch.exp(-(offsets**2) / (2 * sd**2))
    weights = (window / window.sum()).to(images.dtype).tolist()
    rows = along(F.pad(images, (half, half, 0, 0), mode="reflect"), weights, -1)
    return along(F.pad(rows, (0, 0, half, half), mode="reflect"), weights, -2), Unwarp()


@choice(family="photometric")
def greyscale(images: Images, seeds: Seeds) -> tuple[Images, Unwarp]:
    """Every channel the image's luma; grey images as they are."""
    return (grey(images).expand_as(images).clone() if images.shape[1] == 3 else images), Unwarp()


@choice(family="noise", source="Smilkov 2017, arXiv 1706.03825 (SmoothGrad)")
def noise(images: Images, seeds: Seeds, *, std: float, draw: int) -> tuple[Images, Unwarp]:
    """`x + std e`: Gaussian noise in pixel units, drawn for each image, not clipped.

    `draw` numbers the noises of a set: each number draws anew.
    """
    return images + std * normal((seeds + draw).to(images.device), tuple(images.shape[1:])).to(images), Unwarp()
