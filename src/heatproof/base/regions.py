"""Regions of maps: the top pixels and how two regions overlap.

Conventions: a region is bool (b, h, w), True = selected. The sound rule selects exactly k pixels and breaks ties by a
seeded permutation; the study rule (`inclusive_region`) selects every pixel at or above a percentile.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int, Int64
from torch import Tensor

from heatproof.base import fields
from heatproof.base.order import among_largest, ascending, descending
from heatproof.base.values import extremes

# Values closer than 2^-20 of a map's range are ties: float32 noise of another batch size must not pick pixels.
STEPS = 2**20
TIE_BITS = 40


def quantised(maps: Float[Tensor, "b h w"], valid: Bool[Tensor, "b h w"] | None = None) -> Int64[Tensor, "b hw"]:
    """`(a - min) / (max - min)` over the valid pixels in whole steps of 2^-20: 0 .. 2^20, and -1 on invalid pixels.

    All 0 on a map without range.
    """
    low, high = extremes(maps, valid)
    width = torch.where(high > low, high - low, 1.0)
    steps = ((maps.flatten(1).double() - low[:, None]) / width[:, None] * STEPS).round().long()
    return steps if valid is None else steps.masked_fill(~valid.flatten(1), -1)


def ranking(
    maps: Float[Tensor, "b h w"], tie_seeds: Int64[Tensor, " b"], valid: Bool[Tensor, "b h w"] | None = None
) -> Int64[Tensor, "b h w"]:
    """Place of each pixel in the order of falling values: 1 for the highest, each place once; invalid pixels come last.

    Values are compared and ties are broken as in `top_region`, so that the first k places are its pixels.
    """
    keys = _keys(maps, tie_seeds, valid)
    order = descending(keys)[1]
    places = torch.arange(1, keys.shape[1] + 1, device=maps.device).expand_as(order)
    return torch.zeros_like(keys).scatter_(1, order, places).view(maps.shape)


def compact(order: Int64[Tensor, "*shape"], largest: int) -> Int[Tensor, "*shape"]:
    """Places 1 .. `largest` + 1 in the smallest type that holds them: many metrics hold one a pixel and method."""
    return order.to(torch.int16 if largest < torch.iinfo(torch.int16).max else torch.int32)


def _keys(
    maps: Float[Tensor, "b h w"], tie_seeds: Int64[Tensor, " b"], valid: Bool[Tensor, "b h w"] | None
) -> Int64[Tensor, "b hw"]:
    """What pixels are sorted by: the value in steps, then the seeded permutation; -1 for invalid ones."""
    steps = quantised(maps, valid)
    ties = fields.hash_keys(tie_seeds, steps.shape[1]) & (2**TIE_BITS - 1)
    return torch.where(steps >= 0, (steps << TIE_BITS) | ties, -1)


def top_region(
    maps: Float[Tensor, "b h w"],
    q: float,
    tie_seeds: Int64[Tensor, " b"],
    valid: Bool[Tensor, "b h w"] | None = None,
) -> Bool[Tensor, "b h w"]:
    """The top q of each map: exactly k = max(1, round(q n)) of its n valid pixels, those with the highest value.

    Values are compared in steps of 2^-20 of the map's range; ties are broken by a permutation seeded per image. A flat
    map gets k pixels drawn uniformly; an image without valid pixels an empty region. Regions that will be compared need
    different tie seeds: sharing them lets two sparse, disjoint maps overlap. Source: metrics law, section 0.
    """
    keys = _keys(maps, tie_seeds, valid)
    if valid is None:
        count = torch.full((len(maps),), max(1, round(q * keys.shape[1])), dtype=torch.int64, device=maps.device)
    else:
        n = valid.flatten(1).sum(1)
        # torch rounds halves to even, as Python does.
        count = torch.minimum((q * n.double()).round().long().clamp_min(1), n)
    return among_largest(keys, count).view(maps.shape)


def tied_share(
    maps: Float[Tensor, "b h w"], region: Bool[Tensor, "b h w"], valid: Bool[Tensor, "b h w"] | None = None
) -> Float[Tensor, " b"]:
    """Share of a top region that the tie rule chose: its pixels at the lowest selected value, where pixels of that
    value were left out, over all its pixels. 0 = the map alone decided, 1 = chance alone."""
    steps = quantised(maps, valid)
    inside = region.flatten(1)
    cut = steps.masked_fill(~inside, STEPS + 1).amin(1, keepdim=True)
    at_cut = steps == cut
    drawn = (at_cut & inside).sum(1)
    left_out = (at_cut & ~inside).any(1)
    return torch.where(left_out, drawn / inside.sum(1).clamp_min(1).double(), 0.0)


def inclusive_region(maps: Float[Tensor, "b h w"], percentile: float) -> Bool[Tensor, "b h w"]:
    """The study rule: every pixel with `a >= percentile(a)` (numpy's linear percentile, 0 to 100).

    May select more than intended, up to the whole image on a flat map. Source: study code of the nine metrics.
    """
    flat = ascending(maps.flatten(1))[0]
    place = percentile / 100 * (flat.shape[1] - 1)
    low = int(place)
    high = min(low + 1, flat.shape[1] - 1)
    # numpy's own two-sided interpolation, so that ties at the cut fall the same way.
    below, above, t = flat[:, low], flat[:, high], place - low
    step = above - below
    cut = below + step * t if t < 0.5 else above - step * (1 - t)
    return maps >= cut[:, None, None]


def area(region: Bool[Tensor, "b h w"]) -> Float[Tensor, " b"]:
    """Selected share of the image's pixels, 0 to 1."""
    return region.flatten(1).double().mean(1)


def iou(a: Bool[Tensor, "b h w"], b: Bool[Tensor, "b h w"]) -> Float[Tensor, " b"]:
    """Pixels in both regions over pixels in either, 0 to 1; NaN where both are empty.

    >>> iou(torch.tensor([[[True, True, False]]]), torch.tensor([[[False, True, True]]]))
    tensor([0.3333], dtype=torch.float64)
    """
    both = (a & b).flatten(1).sum(1).double()
    either = (a | b).flatten(1).sum(1).double()
    return both / either
