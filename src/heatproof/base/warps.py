"""Affine warps of images and maps with validity, and the way back from a view.

Conventions: coordinates are pixel centres relative to the image's centre ((W-1)/2, (H-1)/2), x right, y down, in
pixels. A warp is the matrix that takes a position in the view to the position in the image that it shows. Bilinear;
outside, the picture is mirrored about its outermost pixel centres (dcb|abcd|cba). Positions within 1e-6 px of a pixel
centre are that centre, so flips, whole shifts and quarter turns of square images move pixels exactly.
A pixel is valid where its source lies within the hull of pixel centres and, on the way back, every neighbour that it
is interpolated from is valid too: no extrapolated value is ever called valid.
"""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

# ((a, b, tx), (c, d, ty)): view (x, y) -> image (a x + b y + tx, c x + d y + ty)
Affine = tuple[tuple[float, float, float], tuple[float, float, float]]

FLIP: Affine = ((-1.0, 0.0, 0.0), (0.0, 1.0, 0.0))


def rotation(angle: float) -> Affine:
    """Content turned counter-clockwise by `angle` degrees."""
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    return ((cos, -sin, 0.0), (sin, cos, 0.0))


def translation(right: float, down: float) -> Affine:
    """Content moved right and down by so many pixels."""
    return ((1.0, 0.0, -right), (0.0, 1.0, -down))


def magnification(factor: float) -> Affine:
    """Content enlarged by `factor`."""
    return ((1 / factor, 0.0, 0.0), (0.0, 1 / factor, 0.0))


def inverse(warp: Affine) -> Affine:
    """The warp that undoes this one."""
    (a, b, tx), (c, d, ty) = warp
    det = a * d - b * c
    p, q, r, s = d / det, -b / det, -c / det, a / det
    return ((p, q, -(p * tx + q * ty)), (r, s, -(r * tx + s * ty)))


def warped(images: Float[Tensor, "*n h w"], warp: Affine) -> Float[Tensor, "*n h w"]:
    """The images as the view shows them."""
    return _sampler(warp, *images.shape[-2:], images.device)(images)


@dataclass(frozen=True)
class Unwarp:
    """The way back from a view: `unwarp(maps) -> (maps, valid)` in image coordinates; warp None = nothing moved."""

    affine: Affine | None = None

    @property
    def identity(self) -> bool:
        """Whether the view moves nothing (photometric views)."""
        return self.affine is None

    def warp(self, maps: Float[Tensor, "b h w"]) -> Float[Tensor, "b h w"]:
        """Maps of the image sent through the view's own warp: what an equivariant explainer gives on the view."""
        return maps if self.affine is None else warped(maps, self.affine)

    def __call__(self, maps: Float[Tensor, "b h w"]) -> tuple[Float[Tensor, "b h w"], Bool[Tensor, "b h w"]]:
        """Maps of the view warped back, and where they say something; invalid pixels hold the mirrored map."""
        if self.affine is None:
            return maps, torch.ones_like(maps, dtype=torch.bool)
        height, width = maps.shape[-2:]
        back = _sampler(inverse(self.affine), height, width, maps.device)
        return back(maps), _seen_both_ways(self.affine, height, width, maps.device).expand_as(maps)


@dataclass(frozen=True)
class UnwarpEach(Unwarp):
    """The way back from a view that moves each image by a warp of its own. One map alone is taken to every warp."""

    affines: tuple[Affine, ...] = ()

    @property
    def identity(self) -> bool:
        """Each image moves."""
        return False

    def warp(self, maps: Float[Tensor, "b h w"]) -> Float[Tensor, "n h w"]:
        """Each map sent through its image's warp."""
        return warped_each(maps.expand(len(self.affines), -1, -1), self.affines)

    def __call__(self, maps: Float[Tensor, "b h w"]) -> tuple[Float[Tensor, "n h w"], Bool[Tensor, "n h w"]]:
        """Maps of the view warped back, and where they say something; invalid pixels hold the mirrored map."""
        maps = maps.expand(len(self.affines), -1, -1)
        parts = [Unwarp(warp)(one[None]) for one, warp in zip(maps, self.affines, strict=True)]
        return torch.cat([part for part, _ in parts]), torch.cat([valid for _, valid in parts])


def warped_each(images: Float[Tensor, "b *c h w"], warps: Sequence[Affine]) -> Float[Tensor, "b *c h w"]:
    """Each image as its own warp shows it."""
    return torch.stack([warped(image, warp) for image, warp in zip(images, warps, strict=True)])


@dataclass(frozen=True, eq=False)
class _Sampler:
    """Up to four neighbours (k, HW) with weights (k, HW) of each output pixel; whether its source is inside the hull.

    A neighbour of weight 0 is replaced by one that counts, so that no value leaks from where nothing is read.
    """

    neighbours: Tensor
    weights: Tensor
    inside: Tensor

    def __call__(self, maps: Tensor) -> Tensor:
        flat = maps.flatten(-2)
        total: Tensor | None = None
        for index, weight in zip(self.neighbours, self.weights.to(maps.dtype), strict=True):
            part = _taken(flat, index).mul_(weight)
            total = part if total is None else total.add_(part)
        assert total is not None
        return total.unflatten(-1, maps.shape[-2:])

    def all_of(self, flags: Tensor) -> Tensor:
        return flags.flatten()[self.neighbours].all(0).view_as(flags)


def _taken(flat: Float[Tensor, "*b n"], index: Int64[Tensor, " m"]) -> Float[Tensor, "*b m"]:
    """Those values of each row. On a CPU NumPy's take, a third of the time of torch's."""
    if flat.device.type == "cpu" and not flat.requires_grad:
        return torch.from_numpy(np.take(flat.numpy(), index.numpy(), axis=-1))
    return flat.index_select(-1, index)


@functools.lru_cache(maxsize=32)
@torch.inference_mode(False)
def _sampler(warp: Affine, height: int, width: int, device: torch.device) -> _Sampler:
    (a, b, tx), (c, d, ty) = warp
    y = torch.arange(height, dtype=torch.float64)[:, None] - (height - 1) / 2
    x = torch.arange(width, dtype=torch.float64)[None] - (width - 1) / 2
    column = _snapped(a * x + b * y + tx + (width - 1) / 2)
    row = _snapped(c * x + d * y + ty + (height - 1) / 2)
    inside = (column >= 0) & (column <= width - 1) & (row >= 0) & (row <= height - 1)
    left, right, to_right = _neighbours(column, width)
    upper, lower, to_lower = _neighbours(row, height)
    neighbours = torch.stack([upper * width + left, upper * width + right, lower * width + left, lower * width + right])
    weights = torch.stack(
        [(1 - to_lower) * (1 - to_right), (1 - to_lower) * to_right, to_lower * (1 - to_right), to_lower * to_right]
    )
    counts = weights.flatten(1).any(1)
    return _Sampler(neighbours.flatten(1)[counts].to(device), weights.flatten(1)[counts].to(device), inside.to(device))


@functools.lru_cache(maxsize=32)
@torch.inference_mode(False)
def _seen_both_ways(warp: Affine, height: int, width: int, device: torch.device) -> Bool[Tensor, "h w"]:
    """Pixels whose source on the way back is inside and made of pixels that the view saw."""
    back = _sampler(inverse(warp), height, width, device)
    return back.inside & back.all_of(_sampler(warp, height, width, device).inside)


def _snapped(position: Tensor) -> Tensor:
    centre = position.round()
    return torch.where((position - centre).abs() < 1e-6, centre, position)


def _neighbours(position: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Indices before and after a mirrored position, and the weight of the latter; equal where the weight is 0."""
    period = max(2 * (size - 1), 1)
    position = position.abs() % period if size > 1 else torch.zeros_like(position)
    position = torch.minimum(position, period - position) if size > 1 else position
    before = position.floor()
    weight = position - before
    after = torch.where(weight > 0, before + 1, before)
    return before.long(), after.long(), weight
