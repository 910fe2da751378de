"""Aggregates over aligned views that respect validity: scaling, mean, median, standard deviation.

Conventions: `maps` (v, b, h, w), `valid` bool of the same shape; a view counts at a pixel only where it is valid there;
a pixel with no valid view is 0.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

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
    largest = size.topk(min(size.shape[-1], int(0.01 * size.shape[-1]) + 2), dim=-1).values.clamp_min(0)
    place = 0.01 * (seen.sum(-1, keepdim=True) - 1).clamp_min(0).double()
    low = place.floor().long()
    above = largest.gather(-1, low)
    below = largest.gather(-1, (low + 1).clamp_max(largest.shape[-1] - 1))
    unit = above + (place - low).to(flat.dtype) * (below - above)
    unit = torch.where(unit > 0, unit, largest[..., :1])
    return torch.where(unit > 0, flat / unit.clamp_min(1e-38), torch.zeros_like(flat)).view_as(maps)


def masked_mean(maps: Float[Tensor, "v b h w"], valid: Bool[Tensor, "v b h w"]) -> Float[Tensor, "b h w"]:
    """Mean over the views valid at a pixel."""
    count = valid.sum(0)
    return maps.masked_fill(~valid, 0).sum(0) / count.clamp_min(1)


def masked_median(maps: Float[Tensor, "v b h w"], valid: Bool[Tensor, "v b h w"]) -> Float[Tensor, "b h w"]:
    """Median over the views valid at a pixel; of an even number the mean of the two middle ones."""
    ordered = maps.masked_fill(~valid, torch.inf).sort(0).values
    count = valid.sum(0, keepdim=True)
    low = ordered.gather(0, ((count - 1) // 2).clamp_min(0))
    high = ordered.gather(0, (count // 2).clamp_max(len(maps) - 1))
    return torch.where(count > 0, (low + high) / 2, torch.zeros_like(low))[0]


def spread(
    maps: Float[Tensor, "v b h w"], valid: Bool[Tensor, "v b h w"], *, scale: str = "p99"
) -> Float[Tensor, "b h w"]:
    """Per-pixel population standard deviation over the valid views of the scaled maps: the fusion's uncertainty."""
    on_scale = scaled(maps, valid, scale)
    mean = masked_mean(on_scale, valid)
    return masked_mean((on_scale - mean) ** 2, valid).sqrt()
