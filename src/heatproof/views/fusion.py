"""Aligned maps of one image's views, fused into one map.

Conventions: `maps` (v, b, h, w), `valid` bool of the same shape. Each map is first brought to a common scale (`scale`:
p99 = divided by its 99th percentile of |a| over valid pixels, minmax, none); a view counts only where it is valid; a
pixel that no view sees is 0 (with the identity among the views there is none). The spread of the views about the fused
map is `aggregate.spread`.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from heatproof.base.aggregate import masked_mean, masked_median, scaled
from heatproof.base.registry import choice

Stack = Float[Tensor, "v b h w"]
Valid = Bool[Tensor, "v b h w"]
Maps = Float[Tensor, "b h w"]


@choice(kind="fusion", source="Panboonyuen 2026, RobustCAM")
def mean(maps: Stack, valid: Valid, *, scale: str) -> Maps:
    """Mean over the views valid at a pixel."""
    return masked_mean(scaled(maps, valid, scale), valid)


@choice(kind="fusion", source="Panboonyuen 2026, RobustCAM")
def median(maps: Stack, valid: Valid, *, scale: str) -> Maps:
    """Median over the views valid at a pixel; of an even number the mean of the middle two."""
    return masked_median(scaled(maps, valid, scale), valid)


@choice(kind="fusion", source="Panboonyuen 2026, code")
def mean_study(maps: Stack, valid: Valid, *, scale: str) -> Maps:
    """Mean over all views, black corners of rotated maps among them."""
    return mean(maps, torch.ones_like(valid), scale=scale)


@choice(kind="fusion", source="Panboonyuen 2026, code")
def median_study(maps: Stack, valid: Valid, *, scale: str) -> Maps:
    """Median over all views, black corners of rotated maps among them."""
    return median(maps, torch.ones_like(valid), scale=scale)
