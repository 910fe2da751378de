"""Conciseness: how concentrated and how smooth a map is. None is good or bad by itself: a map may be sharp and wrong.

Conventions: positive part of the map over its valid pixels, as shares of its sum, defined on constant maps; where
nothing is positive they are undefined (`zero`). `smoothness` takes the map as it is.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from heatproof.base.altered import correlation_length
from heatproof.base.case import Case
from heatproof.base.order import descending
from heatproof.base.registry import choice

Columns = dict[str, Float[Tensor, " b"]]


@choice(better="neither", range=(0, 1), columns=("concentration",), shifted=False, version=1, source="study 1")
def concentration(case: Case, *, q: float) -> Columns:
    """Share of the positive part that the top q of the pixels hold: `sum of the k largest / sum`, k = floor(q HW).

    q for a flat map, 1 where all lies in k pixels. Source: the study of CAM granularity; it gives 0 for an empty map.
    """
    ordered, n = _shares(case)
    most = (q * n.double()).floor().long().clamp_min(1)
    return {"concentration": ordered.cumsum(1).gather(1, (most - 1)[:, None])[:, 0]}


@choice(better="neither", range=(0, 1), columns=("gini",), shifted=False, version=1, source="Chalasani 2020, section 3")
def gini(case: Case) -> Columns:
    """Gini index of the positive part: 0 for a flat map, 1 - 1/n where one of n pixels holds all.

    Source: Chalasani 2020, section 3.
    """
    ordered, n = _shares(case)
    place = torch.arange(1, ordered.shape[1] + 1, dtype=torch.float64, device=ordered.device)
    # Largest first: sum_i (2 i - n - 1) v_(i) / n with i counted from the smallest.
    weights = n[:, None] + 1 - 2 * place[None]
    return {"gini": (ordered * weights).sum(1) / n}


@choice(
    better="neither", range=(0, 1), columns=("entropy",), shifted=False, version=1, source="Bhatt 2020, section 3.3"
)
def entropy(case: Case) -> Columns:
    """Entropy of the positive part as a distribution over n pixels, divided by log n: 1 for a flat map, 0 for a pixel.

    Source: Bhatt 2020, section 3.3 (complexity), there not divided.
    """
    ordered, n = _shares(case)
    nats = -torch.special.xlogy(ordered, ordered).sum(1)
    return {"entropy": nats / n.double().log().clamp_min(math.log(2))}


@choice(better="neither", range=(0, 1), columns=("effective_area",), shifted=False, version=1, source="heatproof")
def effective_area(case: Case, *, mass: float) -> Columns:
    """Smallest share of the pixels that holds `mass` of the positive part: `mass` for a flat map, 1/n for one pixel.

    Source: definition of this package.
    """
    ordered, n = _shares(case)
    reached = ordered.cumsum(1) >= mass * ordered.sum(1, keepdim=True) - 1e-12
    pixels = reached.double().argmax(1) + 1
    return {"effective_area": torch.where(ordered.isnan().any(1), torch.nan, pixels.double() / n)}


@choice(
    better="neither",
    range=(0, 0.5),
    columns=("smoothness",),
    needs=("order",),
    shifted=False,
    version=1,
    source="heatproof",
)
def smoothness(case: Case) -> Columns:
    """Correlation length of the map as a share of its width: the distance at which its autocorrelation falls to 1/e.

    White noise blurred by a Gaussian of sd s pixels has 2 s / W, for its autocorrelation is exp(-d^2 / (4 s^2)). Over
    pairs of valid pixels, mean over directions; a map that falls off nowhere within half its shorter side has that.
    Undefined on constant maps. Source: definition of this package.
    """
    return {"smoothness": correlation_length(case.maps, case.valid) / case.maps.shape[2]}


def _shares(case: Case) -> tuple[Float[Tensor, "b n"], Tensor]:
    """The positive part over valid pixels as shares of its sum, largest first, and the number of valid pixels."""
    valid = case.valid.flatten(1)
    positive = case.maps.flatten(1).double().clamp_min(0).masked_fill(~valid, 0)
    total = positive.sum(1, keepdim=True)
    case.undefine(total[:, 0] <= 0, "zero")
    shares = torch.where(total > 0, positive / total.clamp_min(1e-300), torch.nan)
    return descending(shares)[0], valid.sum(1)
