"""Views as study 5's code has them, kept so that its tables can be reproduced.

Both ways back are faulty: a rotation is undone about a point half a pixel off the centre with black corners that count
as evidence, a crop is not undone at all. Everything counts as valid.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn import functional as F

from heatproof.base import warps
from heatproof.base.registry import choice
from heatproof.base.warps import Unwarp

Images = Float[Tensor, "b c h w"]
Seeds = Int64[Tensor, " b"]


@choice(family="rotation", source="Panboonyuen 2026, code")
def rotate_study(images: Images, seeds: Seeds, *, angle: float) -> tuple[Images, "RotatedBack"]:
    """The view `rotate`; maps cut to uint8 steps and turned back about (W/2, H/2), corners 0, all valid."""
    warp = warps.rotation(angle)
    return warps.warped(images, warp), RotatedBack(warp, angle)


@choice(family="scale", source="Panboonyuen 2026, code")
def centre_crop_study(images: Images, seeds: Seeds, *, fraction: float) -> tuple[Images, "LeftAsSeen"]:
    """The view `centre_crop`; maps are left where the view shows them, all valid.

    The study cuts 190 px out of the file before resizing; here it is the same share of the resized image.
    """
    warp = warps.magnification(1 / fraction)
    return warps.warped(images, warp), LeftAsSeen(warp)


@dataclass(frozen=True)
class RotatedBack(Unwarp):
    """The study's way back from a rotation by `angle`: maps in [0, 1]."""

    angle: float = 0.0

    def __call__(self, maps: Float[Tensor, "b h w"]) -> tuple[Float[Tensor, "b h w"], Bool[Tensor, "b h w"]]:
        height, width = maps.shape[-2:]
        cos, sin = math.cos(math.radians(self.angle)), math.sin(math.radians(self.angle))
        y = torch.arange(height, dtype=torch.float64)[:, None] - height / 2
        x = torch.arange(width, dtype=torch.float64)[None] - width / 2
        # Normalised positions of grid_sample with align_corners=True: -1 and 1 are the outermost pixel centres.
        column = (cos * x + sin * y + width / 2) * 2 / (width - 1) - 1
        row = (-sin * x + cos * y + height / 2) * 2 / (height - 1) - 1
        grid = torch.stack([column, row], -1).to(maps).expand(len(maps), -1, -1, -1)
        levels = (maps.clamp(0, 1) * 255).floor()
        turned = F.grid_sample(levels[:, None], grid, mode="bilinear", padding_mode="zeros", align_corners=True)
        return turned[:, 0].round() / 255, torch.ones_like(maps, dtype=torch.bool)


@dataclass(frozen=True)
class LeftAsSeen(Unwarp):
    """No way back at all."""

    def __call__(self, maps: Float[Tensor, "b h w"]) -> tuple[Float[Tensor, "b h w"], Bool[Tensor, "b h w"]]:
        return maps, torch.ones_like(maps, dtype=torch.bool)
