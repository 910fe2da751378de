"""Figures of merit of a classifier with 95 % intervals, and the differences between two classifiers.

Conventions: `labels` (n,) are class numbers, `p` (n, k) probabilities; the prediction is the first largest one. Of two
classes one is positive, the last unless `positive` says otherwise; with more classes each stands against the rest. What
is undefined is NaN, never 0. Values come from scikit-learn, resamples from matrix products (a test holds them equal).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int64
from numpy.typing import NDArray

from heatproof.base.stats import LEVEL, draws, units_of, wilson

RESAMPLES = 2000
# Equal-width bins of the largest probability, the last one closed (Guo et al. 2017 use 15).
BINS = 15
# Numbers of a resampling matrix at a time: bounds memory, not results.
_CELLS = 2_000_000
# Above this many (image, class, resample) triples fewer resamples are drawn, never fewer than LEAST.
WORK = 5_000_000_000
LEAST = 200
# Ends nearer than this differ by rounding alone.
CLOSE = 1e-9

Array = NDArray[np.float64]
Figures = dict[str, dict[str, float]]


@dataclass(frozen=True)
class Judged:
    """The predictions of one classifier on n images of known classes; `groups` says which images belong together."""

    labels: Int64[np.ndarray, " n"]
    p: Float[np.ndarray, "n k"]
    classes: Sequence[str]
    groups: Sequence[Any] | None = None
    positive: int | None = None

    @property
    def predicted(self) -> Int64[np.ndarray, " n"]:
        return self.p.argmax(1).astype(np.int64)

    @property
    def sides(self) -> list[int]:
        """Classes that stand against the rest: the positive one of two, else all."""
        k = self.p.shape[1]
        return [k - 1 if self.positive is None else self.positive] if k == 2 else list(range(k))


@dataclass(frozen=True)
class _Parts:
    """What all figures are made of, for B weightings of the images: per class (B, k), per side (B, sides), (B,)."""

    precision: Array
    recall: Array
    f1: Array
    specificity: Array
    support: Array
    roc: Array
    pr: Array
    accuracy: Array
    mcc: Array
    brier: Array
    ece: Array


def figures(judged: Judged, *, seed: int) -> Figures:
    """Name -> {"value", "lo", "hi", "n"}; n = images that the figure is taken over.

    accuracy; balanced_accuracy (mean recall over the classes with images); precision_<class>, recall_<class>,
    f1_<class>, their means over the classes on which they are defined (macro_*) and the same weighted by the images of
    each class (weighted_*); sensitivity and specificity of the positive class, with more classes the means over the
    classes, then also specificity_<class> (sensitivity_<class> is recall_<class>); roc_auc and pr_auc (average
    precision) of the positive class, with more classes the means and roc_auc_<class>, pr_auc_<class>, NaN where a class
    or its rest has no images; mcc (-1..1, NaN where only one class occurs as label or as prediction); brier (mean
    squared distance to the true class, 0..1 for two classes, 0..2 for more); ece (expected calibration error of the
    largest probability, 15 equal-width bins, 0..1). All others lie in 0..1; larger is better but for brier and ece.

    Intervals: bias-corrected percentiles of a bootstrap over images, or over groups where any holds several images;
    Wilson's for the shares (accuracy, precision, recall, specificity) of single images. Where no resample differs (a
    faultless classifier) the bootstrap's interval would be a point: then Wilson's takes its place, with the number of
    images or groups as n.

    Source: scikit-learn for the values but ece; Guo et al. 2017 for ece; Efron & Tibshirani 1993, section 14.3 without
    acceleration, for the intervals.
    """
    n, k = len(judged.labels), len(judged.classes)
    num_units = int(units_of(judged.groups, n).max()) + 1
    drawn, sizes = resampled(judged, seed=seed), _sizes(judged)
    result = {}
    for name, value in values(judged).items():
        base = sizes.get(name, n)
        lo, hi = bias_corrected(drawn[name], value)
        if np.isfinite(value) and num_units == n and name in sizes:
            lo, hi = wilson(value, base)
        elif np.isfinite(value) and not hi - lo > CLOSE:
            low, high = (-1, 1) if name == "mcc" else (0, 2) if name == "brier" and k > 2 else (0, 1)
            ends = wilson((value - low) / (high - low), min(base, num_units))
            lo, hi = (low + (high - low) * end for end in ends)
        result[name] = {"value": value, "lo": lo, "hi": hi, "n": float(base)}
    return result


def differences(one: Judged, other: Judged, *, seed: int) -> Figures:
    """`one` minus `other` on the same images in the same order: figure -> {"value", "lo", "hi", "n"}.

    Both are resampled with the same draws of images or groups (paired bootstrap, bias-corrected percentiles). Where no
    resample differs, the two agree on every image as far as the figure goes and the interval is a point. Of figures
    that only one of them has there is no difference; NaN where either is undefined. The labels must be equal.
    """
    assert np.array_equal(one.labels, other.labels)
    first, second = values(one), values(other)
    drawn, drawn_other = resampled(one, seed=seed), resampled(other, seed=seed)
    result = {}
    for name in [name for name in first if name in second]:
        value = first[name] - second[name]
        lo, hi = bias_corrected(drawn[name] - drawn_other[name], value)
        result[name] = {"value": value, "lo": lo, "hi": hi, "n": float(len(one.labels))}
    return result


def values(judged: Judged) -> dict[str, float]:
    """Name -> value of every figure of `figures`."""
    from sklearn import metrics

    labels, p, predicted = judged.labels, judged.p, judged.predicted
    k = p.shape[1]
    precision, recall, f1, support = (
        np.asarray(found, dtype=np.float64)[None]
        for found in metrics.precision_recall_fscore_support(labels, predicted, labels=range(k), zero_division=np.nan)
    )
    others = metrics.multilabel_confusion_matrix(labels, predicted, labels=range(k))
    with np.errstate(invalid="ignore"):
        specificity = (others[:, 0, 0] / others[:, 0].sum(1))[None]
    varied = len(np.unique(labels)) > 1 and len(np.unique(predicted)) > 1
    brier = metrics.brier_score_loss(np.eye(k)[labels], p, scale_by_half=k == 2)
    made = _Parts(
        precision, recall, f1, specificity, support,
        roc=np.array([[_area(metrics.roc_auc_score, labels == c, p[:, c]) for c in judged.sides]]),
        pr=np.array([[_area(metrics.average_precision_score, labels == c, p[:, c]) for c in judged.sides]]),
        accuracy=np.array([metrics.accuracy_score(labels, predicted)]),
        mcc=np.array([metrics.matthews_corrcoef(labels, predicted) if varied else np.nan]),
        brier=np.array([brier]),
        ece=_calibration_error(_binned(judged).sum(0)[None]),
    )  # fmt: skip
    return {name: float(value[0]) for name, value in _named(judged, made).items()}


def _area(score: Any, positive: np.ndarray, p: np.ndarray) -> float:
    return float(score(positive, p)) if 0 < positive.sum() < len(positive) else float("nan")


def resampled(judged: Judged, *, seed: int) -> dict[str, Array]:
    """Name -> the figure on each resample of the images (or groups), NaN where it is undefined there."""
    n = len(judged.labels)
    units = units_of(judged.groups, n)
    resamples = int(np.clip(WORK // judged.p.size, LEAST, RESAMPLES))
    # numpy seeds are not negative; the cells count images, which are at least as many as units.
    blocks = draws(int(units.max()) + 1, abs(seed), resamples, cells=max(1, _CELLS * (int(units.max()) + 1) // n))
    found = [_named(judged, weighted(judged, counts[:, units])) for counts in blocks]
    return {name: np.concatenate([some[name] for some in found]) for name in found[0]}


def weighted(judged: Judged, weights: Float[np.ndarray, "b n"]) -> _Parts:
    """The parts of all figures where image i counts weights[:, i] times."""
    labels, p, predicted = judged.labels, judged.p, judged.predicted
    k = p.shape[1]
    truth, guess = np.eye(k)[labels], np.eye(k)[predicted]
    squares = np.square(p - truth).sum(1, keepdims=True) / (2 if k == 2 else 1)
    sums = weights @ np.hstack([truth, guess, truth * guess, squares, _binned(judged)])
    actual, guessed, hits = (sums[:, i * k : (i + 1) * k] for i in range(3))
    total = weights.sum(1)
    areas = [_areas(labels == c, p[:, c], weights) for c in judged.sides]
    with np.errstate(invalid="ignore", divide="ignore"):
        right = hits.sum(1)
        spread = np.sqrt((total**2 - np.square(guessed).sum(1)) * (total**2 - np.square(actual).sum(1)))
        return _Parts(
            precision=hits / guessed,
            recall=hits / actual,
            f1=2 * hits / (actual + guessed),
            specificity=1 - (guessed - hits) / (total[:, None] - actual),
            support=actual,
            roc=np.stack([roc for roc, _ in areas], axis=1),
            pr=np.stack([pr for _, pr in areas], axis=1),
            accuracy=right / total,
            mcc=(right * total - (guessed * actual).sum(1)) / np.where(spread > 0, spread, np.nan),
            brier=sums[:, 3 * k] / total,
            ece=_calibration_error(sums[:, 3 * k + 1 :]),
        )


def _named(judged: Judged, parts: _Parts) -> dict[str, Array]:
    """All figures by name, from what they are made of."""
    sides, two = judged.sides, judged.p.shape[1] == 2
    shares = {"precision": parts.precision, "recall": parts.recall, "f1": parts.f1}
    result = {"accuracy": parts.accuracy, "balanced_accuracy": _mean_defined(parts.recall)}
    result |= {f"macro_{name}": _mean_defined(found) for name, found in shares.items()}
    result |= {f"weighted_{name}": _mean_defined(found, parts.support) for name, found in shares.items()}
    result |= {
        "sensitivity": _mean_defined(parts.recall[:, sides]),
        "specificity": _mean_defined(parts.specificity[:, sides]),
        "roc_auc": parts.roc.mean(1),
        "pr_auc": parts.pr.mean(1),
        "mcc": parts.mcc,
        "brier": parts.brier,
        "ece": parts.ece,
    }
    for number, name in enumerate(judged.classes):
        result |= {f"{share}_{name}": found[:, number] for share, found in shares.items()}
        if not two:
            result |= {
                f"specificity_{name}": parts.specificity[:, number],
                f"roc_auc_{name}": parts.roc[:, number],
                f"pr_auc_{name}": parts.pr[:, number],
            }
    return result


def _sizes(judged: Judged) -> dict[str, int]:
    """How many images a share is a share of, by its name."""
    n, two = len(judged.labels), judged.p.shape[1] == 2
    actual, guessed = (np.bincount(some, minlength=len(judged.classes)) for some in (judged.labels, judged.predicted))
    sizes = {"accuracy": n, "weighted_recall": n}
    for c, name in enumerate(judged.classes):
        sizes |= {f"recall_{name}": int(actual[c]), f"precision_{name}": int(guessed[c])}
        if two and c == judged.sides[0]:
            sizes |= {"sensitivity": int(actual[c]), "specificity": n - int(actual[c])}
        elif not two:
            sizes[f"specificity_{name}"] = n - int(actual[c])
    return sizes


def _mean_defined(found: Array, weights: Array | None = None) -> Array:
    """Mean over the classes that are defined, weighted where asked; NaN where none is."""
    chosen = np.isfinite(found) * (np.ones_like(found) if weights is None else weights)
    with np.errstate(invalid="ignore"):
        result: Array = (np.nan_to_num(found) * chosen).sum(1) / chosen.sum(1)
    return result


def bin_of(p: Array) -> NDArray[np.int64]:
    """Number of the equal-width bin that each probability lies in; 1 belongs to the last one."""
    return np.minimum((p * BINS).astype(np.int64), BINS - 1)


def _binned(judged: Judged) -> Float[np.ndarray, "n m"]:
    """Per image and bin: is it there, its confidence there, is it right there (three blocks of BINS columns)."""
    confidence = judged.p.max(1)
    inside = np.eye(BINS)[bin_of(confidence)]
    right = (judged.predicted == judged.labels)[:, None]
    return np.hstack([inside, inside * confidence[:, None], inside * right])


def _calibration_error(sums: Float[np.ndarray, "b m"]) -> Array:
    """Mean over the images of |share of right ones - mean confidence| of their bin, from sums over the bins."""
    count, confidence, right = np.split(sums, 3, axis=1)
    result: Array = np.abs(right - confidence).sum(1) / count.sum(1)
    return result


def _areas(positive: np.ndarray, p: np.ndarray, weights: Array) -> tuple[Array, Array]:
    """Under each weighting: P(p of a positive > p of a negative) + P(equal) / 2, and the average precision."""
    _, ranks = np.unique(-p, return_inverse=True)
    order = np.argsort(ranks, kind="stable")
    first = np.flatnonzero(np.diff(ranks[order], prepend=-1))
    up = np.add.reduceat((weights * positive)[:, order], first, axis=1)
    down = np.add.reduceat((weights * ~positive)[:, order], first, axis=1)
    hits, misses = np.cumsum(up, axis=1), np.cumsum(down, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        roc = (down * (hits - up / 2)).sum(1) / (hits[:, -1] * misses[:, -1])
        pr = (up * np.nan_to_num(hits / (hits + misses))).sum(1) / hits[:, -1]
    return roc, np.where(misses[:, -1] > 0, pr, np.nan)


def area_of(
    positive: Bool[np.ndarray, " n"], score: Float[np.ndarray, " n"], groups: Sequence[Any] | None, *, seed: int
) -> tuple[float, float, float]:
    """ROC area of any score for being positive, ties counted half, and its 95 % interval, images or groups resampled.

    0 to 1, chance 0.5; NaN where all or none is positive. Source: scikit-learn's roc_auc_score; bias-corrected ends.
    """
    from sklearn.metrics import roc_auc_score

    value = _area(roc_auc_score, positive, score)
    units = units_of(groups, len(positive))
    blocks = draws(int(units.max(initial=-1)) + 1, abs(seed), RESAMPLES) if np.isfinite(value) else ()
    drawn = [_areas(positive, score, counts[:, units])[0] for counts in blocks]
    return (value, *bias_corrected(np.concatenate(drawn) if drawn else np.empty(0), value))


def bias_corrected(drawn: Array, value: float) -> tuple[float, float]:
    """Ends of the 95 % interval from resamples: percentiles moved by twice the bias of their median, and widened to
    hold the value itself; NaN where the value or all resamples are undefined."""
    defined = drawn[np.isfinite(drawn)]
    if not len(defined) or not np.isfinite(value):
        return float("nan"), float("nan")
    close = 1e-12 * max(1.0, abs(value))
    below = ((defined < value - close).mean() + (defined <= value + close).mean()) / 2
    normal = NormalDist()
    bias = normal.inv_cdf(float(np.clip(below, 1 / (len(defined) + 1), len(defined) / (len(defined) + 1))))
    tails = [normal.cdf(2 * bias + normal.inv_cdf(tail)) for tail in ((1 - LEVEL) / 2, (1 + LEVEL) / 2)]
    lo, hi = np.quantile(defined, tails)
    return min(float(lo), value), max(float(hi), value)
