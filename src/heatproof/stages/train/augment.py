"""Random changes of training images, drawn anew in each epoch and the same in every run.

Conventions: images (b, c, h, w) in [0, 1]; `seeds` int64 (b,), one per (seed, epoch, image). What leaves the frame is
gone, what enters it is the mirrored border.
"""

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

from heatproof.base.fields import image_seed, uniform

SHIFT = 0.05  # of the side, either way
ROTATE_DEGREES = 10.0  # either way


def augmented(
    images: Float[Tensor, "b c h w"], names: Sequence[str], seed: int, epoch: int, image_ids: Sequence[str]
) -> Float[Tensor, "b c h w"]:
    """Images changed by each named augmentation in turn."""
    for name in names:
        seeds = [image_seed(seed, image, f"{name} epoch {epoch}") for image in image_ids]
        images = AUGMENTATIONS[name](images, torch.tensor(seeds, device=images.device))
    return images


def flip(images: Float[Tensor, "b c h w"], seeds: Int64[Tensor, "b"]) -> Float[Tensor, "b c h w"]:
    """Left and right exchanged in every second image or so."""
    return torch.where(uniform(seeds, (1, 1, 1)) < 0.5, images.flip(-1), images)


def shift(images: Float[Tensor, "b c h w"], seeds: Int64[Tensor, "b"]) -> Float[Tensor, "b c h w"]:
    """Moved by whole pixels, at most 5 % of each side."""
    height, width = images.shape[-2:]
    u = uniform(seeds, (2,))
    rows = _mirrored(u[:, 0], height)[:, None, :, None].expand(-1, images.shape[1], -1, width)
    columns = _mirrored(u[:, 1], width)[:, None, None, :].expand(-1, images.shape[1], height, -1)
    return images.gather(2, rows).gather(3, columns)


def _mirrored(u: Float[Tensor, "b"], side: int) -> Int64[Tensor, "b side"]:
    most = max(1, round(SHIFT * side))
    offsets = (u * (2 * most + 1)).long() - most
    positions = torch.arange(side, device=u.device) + offsets[:, None]
    return torch.where(
        positions < 0, -1 - positions, torch.where(positions >= side, 2 * side - 1 - positions, positions)
    )


def rotate(images: Float[Tensor, "b c h w"], seeds: Int64[Tensor, "b"]) -> Float[Tensor, "b c h w"]:
    """Turned about the centre by at most 10 degrees, bilinear."""
    height, width = images.shape[-2:]
    angle = (2 * uniform(seeds, (1,))[:, 0] - 1) * math.radians(ROTATE_DEGREES)
    cos, sin, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    # The grid runs from -1 to 1 along both sides, whatever their lengths.
    top = torch.stack([cos, -sin * height / width, zero], 1)
    bottom = torch.stack([sin * width / height, cos, zero], 1)
    grid = F.affine_grid(torch.stack([top, bottom], 1), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)


AUGMENTATIONS: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {"flip": flip, "shift": shift, "rotate": rotate}
