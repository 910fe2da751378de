"""Curves of a classifier with pointwise 95 % bands: ROC, precision over recall, reliability.

Conventions: `positive` (n,) bool, `p` (n,) the probability of being positive. Bands are percentiles of resampled curves
over images, or over groups where `groups` holds several images of one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import NDArray

from heatproof.base.merit import bin_of
from heatproof.base.stats import LEVEL, draws, intervals, units_of

# A band needs fewer resamples than an interval that is printed with digits.
RESAMPLES = 400
GRID = np.linspace(0, 1, 101)

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Curve:
    """The curve's points (x, y) and its band (lo, hi) over GRID."""

    x: Array
    y: Array
    lo: Array
    hi: Array


@dataclass(frozen=True)
class Reliability:
    """Bins that hold images: mean probability, share of positives with its interval, images."""

    p: Array
    share: Array
    lo: Array
    hi: Array
    n: NDArray[np.int64]


def roc(
    positive: Bool[np.ndarray, " n"], p: Float[np.ndarray, " n"], groups: Sequence[object] | None = None, *, seed: int
) -> Curve:
    """Share of positives found (y) over share of negatives called positive (x), equal probabilities joined by a slope.

    Source: scikit-learn's roc_curve. Raises ValueError where only one of the two kinds is there.
    """
    from sklearn.metrics import roc_curve

    _both(positive)
    x, y, _ = roc_curve(positive, p, drop_intermediate=True)

    def resampled(up: Array, down: Array) -> Array:
        hits, misses = _from_zero(up), _from_zero(down)
        return np.interp(GRID, misses / misses[-1], hits / hits[-1])

    return Curve(x, y, *_band(positive, p, groups, seed, resampled))


def precision_recall(
    positive: Bool[np.ndarray, " n"], p: Float[np.ndarray, " n"], groups: Sequence[object] | None = None, *, seed: int
) -> Curve:
    """Precision (y) over recall (x), a step down to the next threshold; its area is the average precision.

    Source: scikit-learn's precision_recall_curve. Raises ValueError where only one of the two kinds is there.
    """
    from sklearn.metrics import precision_recall_curve

    _both(positive)
    y, x, _ = precision_recall_curve(positive, p)

    def resampled(up: Array, down: Array) -> Array:
        hits = np.cumsum(up)
        met = hits + np.cumsum(down)
        place = np.searchsorted(hits, np.maximum(GRID * hits[-1], 1e-9) - 1e-9)
        precision: Array = hits[place] / met[place]
        return precision

    return Curve(x[::-1], y[::-1], *_band(positive, p, groups, seed, resampled))


def reliability(
    positive: Bool[np.ndarray, " n"], p: Float[np.ndarray, " n"], groups: Sequence[object] | None = None, *, seed: int
) -> Reliability:
    """Share of positives in 15 equal-width bins of the probability, with 95 % intervals.

    As for any binary value: Wilson's, by effective size in groups, and BCa from 100 images of a bin on.
    """
    number = bin_of(p)
    filled = np.unique(number)
    inside = number[:, None] == filled
    found = intervals(np.where(inside, positive[:, None], np.nan), groups=groups, seed=seed, binary=True)
    return Reliability(
        p=np.array([p[column].mean() for column in inside.T]),
        share=np.array([one.mean for one in found]),
        lo=np.array([one.lo for one in found]),
        hi=np.array([one.hi for one in found]),
        n=inside.sum(0),
    )


def _both(positive: np.ndarray) -> None:
    if not 0 < positive.sum() < len(positive):
        raise ValueError("a curve needs positives and negatives")


def _from_zero(found: Array) -> Array:
    return np.concatenate([[0.0], np.cumsum(found)])


def _band(
    positive: np.ndarray,
    p: np.ndarray,
    groups: Sequence[object] | None,
    seed: int,
    resampled: Callable[[Array, Array], Array],
) -> tuple[Array, Array]:
    """Percentiles over GRID of what `resampled` says of positives and negatives at each threshold, highest first."""
    units = units_of(groups, len(p))
    _, ranks = np.unique(-p, return_inverse=True)
    rows = []
    for counts in draws(int(units.max()) + 1, abs(seed), RESAMPLES):
        for weights in counts[:, units]:
            up = np.bincount(ranks, weights * positive).astype(np.float64)
            down = np.bincount(ranks, weights * ~positive).astype(np.float64)
            if up.any() and down.any():
                met = (up + down) > 0
                rows.append(resampled(up[met], down[met]))
    if not rows:
        return np.full(len(GRID), np.nan), np.full(len(GRID), np.nan)
    lo, hi = np.quantile(rows, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return lo, hi
