"""Aggregates over aligned views that respect validity: scaling, mean, median, spread, what one view or more add.

Conventions: `maps` (v, b, h, w), `valid` bool of the same shape; a view counts at a pixel only where it is valid there;
a pixel with no valid view is 0.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from heatproof.base.correlations import pearson
from heatproof.base.order import largest
from heatproof.base.warps import Unwarp

# Maps (v, b, h, w) and where they are valid to one map (b, h, w).
Fusion = Callable[[Tensor, Tensor], Tensor]
SCALES = ("p99", "minmax", "none")


def scaled(maps: Float[Tensor, "v b h w"], valid: Bool[Tensor, "v b h w"], scale: str) -> Float[Tensor, "v b h w"]:
    """Each map on a common scale: divided by its 99th percentile of |a| over valid pixels, min-max scaled, or as is.

    A map whose 99th percentile (or range) is 0 becomes 0: it says nothing. A sparse map whose 99th percentile is 0
    while its maximum is not is divided by its maximum of |a|.
    """
    if scale == "none":
        return maps
    flat = maps.flatten(2)
    seen = valid.flatten(2)
    if scale == "minmax":
        low = flat.masked_fill(~seen, torch.inf).amin(-1, keepdim=True)
        high = flat.masked_fill(~seen, -torch.inf).amax(-1, keepdim=True)
        width = high - low
        out = torch.where(width > 0, (flat - low) / width.clamp_min(1e-38), torch.zeros_like(flat))
        return torch.where(seen, out, torch.zeros_like(out)).view_as(maps)
    # The linear 99th percentile read from the top 1 % alone: sorting everything, or torch.quantile with its cap of
    # 2^24 elements, is not needed.
    size = flat.abs().masked_fill(~seen, -1)
    pixels = size.shape[-1]
    top = largest(size.flatten(0, 1), min(pixels, int(0.01 * pixels) + 2)).unflatten(0, size.shape[:2]).clamp_min(0)
    # Ones in float32 add up exactly to 2^24 pixels, in an eighth of the time of flags.
    place = 0.01 * (seen.float().sum(-1, keepdim=True).double() - 1).clamp_min(0)
    low = place.floor().long()
    above = top.gather(-1, low)
    below = top.gather(-1, (low + 1).clamp_max(top.shape[-1] - 1))
    unit = above + (place - low).to(flat.dtype) * (below - above)
    unit = torch.where(unit > 0, unit, top[..., :1])
    return torch.where(unit > 0, flat / unit.clamp_min(1e-38), torch.zeros_like(flat)).view_as(maps)


def masked_mean(maps: Float[Tensor, "v b h w"], valid: Bool[Tensor, "v b h w"]) -> Float[Tensor, "b h w"]:
    """Mean over the views valid at a pixel."""
    return maps.masked_fill(~valid, 0).sum(0) / _counted(valid).clamp_min(1)


def _counted(valid: Bool[Tensor, "v b h w"]) -> Int64[Tensor, "b h w"]:
    """In how many views each pixel is valid. Added view by view: torch's sum of flags takes twelve times as long."""
    return functools.reduce(operator.add, [view.int() for view in valid]).long()


def masked_median(maps: Float[Tensor, "v b h w"], valid: Bool[Tensor, "v b h w"]) -> Float[Tensor, "b h w"]:
    """Median over the views valid at a pixel; of an even number the mean of the two middle ones."""
    if bool(valid.all()):
        ordered = _in_order(maps)
        return (ordered[(len(maps) - 1) // 2] + ordered[len(maps) // 2]) / 2
    ordered = _in_order(maps.masked_fill(~valid, torch.inf))
    count = _counted(valid)[None]
    low = ordered.gather(0, ((count - 1) // 2).clamp_min(0))
    high = ordered.gather(0, (count // 2).clamp_max(len(maps) - 1))
    return torch.where(count > 0, (low + high) / 2, torch.zeros_like(low))[0]


def _in_order(stack: Float[Tensor, "v b h w"]) -> Float[Tensor, "v b h w"]:
    """The views' values at each pixel, lowest first; where one is NaN, so are others.

    Neighbours change places v times (odd-even transposition sort): whole maps at once, a tenth of the time of sorting.
    """
    views = list(stack.unbind(0))
    for turn in range(len(views)):
        for i in range(turn % 2, len(views) - 1, 2):
            views[i], views[i + 1] = torch.minimum(views[i], views[i + 1]), torch.maximum(views[i], views[i + 1])
    return torch.stack(views)


def spread(
    maps: Float[Tensor, "v b h w"], valid: Bool[Tensor, "v b h w"], *, scale: str = "p99"
) -> Float[Tensor, "b h w"]:
    """Per-pixel population standard deviation over the valid views of the scaled maps: the fusion's uncertainty."""
    on_scale = scaled(maps, valid, scale)
    mean = masked_mean(on_scale, valid)
    return masked_mean((on_scale - mean) ** 2, valid).sqrt()


def common_valid(valid: Bool[Tensor, "v b h w"]) -> Bool[Tensor, "b h w"]:
    """Pixels that every view sees."""
    return functools.reduce(torch.logical_and, valid)


def coefficient_of_variation(
    maps: Float[Tensor, "v b h w"], valid: Bool[Tensor, "v b h w"], *, scale: str = "p99"
) -> Float[Tensor, "b h w"]:
    """Standard deviation over the valid views as a share of |mean|, of the scaled maps; 0 or more.

    NaN where |mean| is at most 1e-6 of the largest |mean| of the image: a share of nothing.
    """
    on_scale = scaled(maps, valid, scale)
    mean = masked_mean(on_scale, valid).abs()
    sd = spread(maps, valid, scale=scale)
    return torch.where(mean > 1e-6 * mean.amax((1, 2), keepdim=True), sd / mean.clamp_min(1e-38), torch.nan)


def any_valid(valid: Bool[Tensor, "v b h w"]) -> Bool[Tensor, "b h w"]:
    """Pixels that some view sees."""
    return functools.reduce(torch.logical_or, valid)


def leave_one_out(maps: Float[Tensor, "v b h w"], valid: Bool[Tensor, "v b h w"], fusion: Fusion) -> Tensor:
    """The fused map without each of the views in turn, (v, b, h, w), v >= 2: what hangs on one view alone."""
    assert len(maps) >= 2
    rest = [[other for other in range(len(maps)) if other != view] for view in range(len(maps))]
    return torch.stack([fusion(maps[others], valid[others]) for others in rest])


def dose_curve(maps: Float[Tensor, "v b h w"], valid: Bool[Tensor, "v b h w"], fusion: Fusion) -> Float[Tensor, "v b"]:
    """Pearson's r of the map fused over the first 1 .. V views with that of all V, over the pixels that all see.

    The last is 1. Where the curve is flat, more views add nothing. NaN where a map is constant there.
    """
    whole, seen = fusion(maps, valid), common_valid(valid)
    return torch.stack([pearson(fusion(maps[:count], valid[:count]), whole, seen) for count in range(1, len(maps) + 1)])


def round_trip_error(maps: Float[Tensor, "b h w"], unwarp: Unwarp) -> tuple[Float[Tensor, " b"], Float[Tensor, " b"]]:
    """What a view's warp alone does to a map, there and back: mean |difference| over valid pixels as a share of the
    map's range, and the share of valid pixels. 0 for views that move nothing; NaN for a constant map."""
    back, valid = unwarp(unwarp.warp(maps))
    low, high = maps.amin((1, 2)).double(), maps.amax((1, 2)).double()
    lost = (back - maps).abs().masked_fill(~valid, 0).flatten(1).double().sum(1) / valid.flatten(1).sum(1)
    return torch.where(high > low, lost / (high - low), torch.nan), valid.flatten(1).double().mean(1)
