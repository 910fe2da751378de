"""Stage `predict`: predictions for the held-out images, figures of the classifier, and the images to explain.

Conventions: figures are about the split "test"; one that is undefined (of a class without test images) is NaN.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int64
from numpy.typing import NDArray
from tqdm import tqdm

from heatproof.base import device as devices
from heatproof.base.errors import HeatproofError, fault
from heatproof.base.fields import image_seed
from heatproof.base.records import SPLITS, Classifier, Predictions, Samples
from heatproof.base.settings import Compute, EvalSettings
from heatproof.base.stats import LEVEL, wilson

BATCH = 64
RESAMPLES = 2000
# Cells of a resampling matrix at a time: bounds memory, not results.
_CELLS = 4_000_000

Array = NDArray[np.float64]


def predict(
    samples: Samples,
    classifier: Classifier,
    eval_settings: EvalSettings,
    *,
    dataset_seed: int,
    compute: Compute,
    progress: bool = True,
) -> Predictions:
    """Predictions for "val", "test" and `eval.split`, test figures with 95 % intervals, and the rows to explain.

    The index of the table is the row of `Samples.table`. Without labels the columns of labels are null and there are no
    figures. The explained images depend on `dataset_seed` alone (and on the predictions under `only_correct`).
    Raises: HeatproofError where no image is left to explain.
    """
    splits = [split for split in SPLITS if split in ("val", "test", eval_settings.split)]
    rows = np.concatenate([samples.rows(split) for split in splits])
    p = probabilities(samples, classifier, rows, compute, progress=progress)
    table = _table(samples, classifier, rows, p)
    test = (table["split"] == "test").to_numpy() & table["label"].notna().to_numpy()
    figures: dict[str, dict[str, float]] = {}
    if test.any():
        labels = table["label"].to_numpy()[test].astype(np.int64)
        groups = samples.table["group"].to_numpy()[rows[test]]
        figures = classifier_figures(labels, p[test], classifier.classes, groups, seed=dataset_seed)
    return Predictions(table, figures, explained_rows(samples, table, eval_settings, dataset_seed))


def probabilities(
    samples: Samples, classifier: Classifier, rows: np.ndarray, compute: Compute, *, progress: bool = False
) -> Array:
    """Softmax of the logits for rows of the sample table, float64 (n, K)."""
    device = classifier.device
    result = np.empty((len(rows), len(classifier.classes)))
    with tqdm(total=len(rows), desc="predict", unit="image", disable=not progress) as bar, torch.inference_mode():
        for start in range(0, len(rows), BATCH):
            some = rows[start : start + BATCH]
            with devices.autocast(compute, device):
                logits = classifier.module(samples.images(some).to(device))
            result[start : start + len(some)] = logits.double().softmax(1).cpu().numpy()
            bar.update(len(some))
    return result


def _table(samples: Samples, classifier: Classifier, rows: np.ndarray, p: Array) -> pd.DataFrame:
    table = samples.table.iloc[rows][["image", "split", "label"]].copy()
    predicted = p.argmax(1)
    table["predicted"] = predicted
    labelled = bool(table["label"].notna().all())
    if labelled:
        labels = table["label"].to_numpy().astype(np.int64)
        table["label"] = labels
        table["correct"] = labels == predicted
    else:
        table["label"] = table["label"].astype("Int64")
        table["correct"] = (table["label"] == predicted).astype("boolean")
    table["outcome"] = _outcomes(table["label"], predicted) if len(classifier.classes) == 2 else None
    table["outcome"] = table["outcome"].astype("str" if labelled and len(classifier.classes) == 2 else object)
    for index, name in enumerate(classifier.classes):
        table[f"p_{name}"] = p[:, index]
    return table


def _outcomes(labels: pd.Series, predicted: np.ndarray) -> list[str | None]:
    """TP, TN, FP, FN with the second class as the positive one."""
    return [
        None if pd.isna(label) else ("T" if label == guess else "F") + ("P" if guess == 1 else "N")
        for label, guess in zip(labels, predicted, strict=True)
    ]


def explained_rows(
    samples: Samples, table: pd.DataFrame, settings: EvalSettings, dataset_seed: int
) -> NDArray[np.int64]:
    """Rows of `Samples.table` to explain, ordered by image id: every `shards`-th from `shard` on.

    Class-stratified: each class gets its share of `images` (largest remainder first, at least one where there is room),
    and in it the images with the smallest hash of (dataset_seed, image id). So the choice depends neither on order nor
    on the net, and a smaller one is part of a larger one but for rounding.
    """
    if not 0 <= settings.shard < settings.shards:
        raise HeatproofError(fault("eval.shard", f"must lie in 0 .. {settings.shards - 1}", got=settings.shard))
    if settings.images is not None and settings.images < 1:
        raise HeatproofError(fault("eval.images", "must be at least 1, or null for all", got=settings.images))
    chosen = table[table["split"] == settings.split]
    if chosen.empty:
        raise HeatproofError(fault("eval.split", "no images in this split", got=settings.split, choices=SPLITS))
    if settings.only_correct:
        if chosen["label"].isna().any():
            raise HeatproofError(fault("eval.only_correct", "the data set has no labels"))
        chosen = chosen[chosen["correct"].astype(bool)]
        if chosen.empty:
            raise HeatproofError(
                fault("eval.only_correct", f"the net is right on no image of the split {settings.split!r}")
            )
    if settings.images is not None and settings.images < len(chosen):
        keys = [image_seed(dataset_seed, image, "explained") for image in chosen["image"]]
        chosen = chosen.iloc[np.argsort(np.array(keys), kind="stable")]
        classes = chosen["label"].astype("Float64").fillna(-1).to_numpy(dtype=np.float64)
        names, counts = np.unique(classes, return_counts=True)
        shares = dict(zip(names, _shares(counts, settings.images), strict=True))
        rank = pd.Series(classes).groupby(classes).cumcount().to_numpy()
        chosen = chosen[[r < shares[c] for r, c in zip(rank, classes, strict=True)]]
    ordered = chosen.sort_values("image").index.to_numpy().astype(np.int64)
    return ordered[settings.shard :: settings.shards]


def _shares(counts: np.ndarray, total: int) -> np.ndarray:
    """`total` divided in proportion to `counts`, largest remainder first; at least 1 each where total allows it.

    >>> _shares(np.array([90, 9, 1]), 10).tolist()
    [8, 1, 1]
    """
    exact = counts * total / counts.sum()
    shares = np.floor(exact).astype(int)
    if total >= len(counts):
        shares = np.maximum(shares, 1)
    order = np.argsort(-(exact - shares), kind="stable")
    while (left := total - shares.sum()) > 0:
        shares[order[: int(left)]] += 1
    while shares.sum() > total:
        shares[np.argmax(np.where(shares > 1, shares - exact, -np.inf))] -= 1
    result: np.ndarray = shares
    return result


def classifier_figures(
    labels: Int64[np.ndarray, "n"],
    p: Float[np.ndarray, "n k"],
    classes: Sequence[str],
    groups: Sequence[Any] | np.ndarray | None = None,
    *,
    seed: int,
) -> dict[str, dict[str, float]]:
    """Name -> {"value", "lo", "hi", "n"}, n = number of test images.

    accuracy; balanced_accuracy (mean recall over the classes with images); macro_f1 (over the classes that occur as
    label or prediction); roc_auc (two classes: of the second one; more: mean of one against the rest, NaN where a class
    has no images); precision_<class>, recall_<class>. All in 0..1, larger is better.

    Intervals: percentile bootstrap over images, or over groups where any holds several images; Wilson's for the shares
    (accuracy, precision, recall) of single images. Where no resample differs (a faultless classifier) the bootstrap's
    interval would be a point: then Wilson's takes its place, with the number of images or groups as n.
    """
    n, k = p.shape
    units = _units(groups, n)
    num_units = int(units.max()) + 1
    cells = labels * k + p.argmax(1)
    one_hot = np.zeros((n, k * k))
    one_hot[np.arange(n), cells] = 1.0
    value = _figures(one_hot.sum(0)[None], _areas(labels, p, np.ones((1, n))), classes)
    draws = [
        _figures(weights @ one_hot, _areas(labels, p, weights), classes)
        for weights in _weights(units, num_units, seed, max(1, _CELLS // (n * max(1, k))))
    ]
    result = {}
    for name, (estimate,) in value.items():
        drawn = np.concatenate([some[name] for some in draws])
        lo, hi = _percentiles(drawn) if np.isfinite(estimate) else (np.nan, np.nan)
        base = _denominator(name, labels, p.argmax(1), classes)
        if np.isfinite(estimate) and num_units == n and base:
            lo, hi = wilson(float(estimate), base)
        elif np.isfinite(estimate) and lo == hi:
            lo, hi = wilson(float(estimate), min(base or num_units, num_units))
        result[name] = {"value": float(estimate), "lo": float(lo), "hi": float(hi), "n": float(n)}
    return result


def _units(groups: Sequence[Any] | np.ndarray | None, n: int) -> np.ndarray:
    """Number of the unit of each image: its group, or itself where it has none."""
    if groups is None:
        return np.arange(n)
    names = [
        ("image", str(i)) if group is None or group != group else ("group", str(group))
        for i, group in enumerate(groups)
    ]
    numbers = {name: i for i, name in enumerate(dict.fromkeys(names))}
    return np.array([numbers[name] for name in names])


def _weights(units: np.ndarray, num_units: int, seed: int, size: int) -> list[Array]:
    """How often each image is drawn, in blocks of at most `size` resamples."""
    rng = np.random.default_rng((abs(seed), num_units))
    p = np.full(num_units, 1 / num_units)
    sizes = [min(size, RESAMPLES - start) for start in range(0, RESAMPLES, size)]
    return [rng.multinomial(num_units, p, rows).astype(np.float64)[:, units] for rows in sizes]


def _figures(confusion: Array, areas: Array, classes: Sequence[str]) -> dict[str, Array]:
    """All figures of B resamples from their confusion counts (B, K * K) and areas (B,)."""
    k = len(classes)
    table = confusion.reshape(-1, k, k)
    hits, actual, guessed = table.diagonal(axis1=1, axis2=2), table.sum(2), table.sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        recall, precision, f1 = hits / actual, hits / guessed, 2 * hits / (actual + guessed)
        figures = {
            "accuracy": hits.sum(1) / table.sum((1, 2)),
            "balanced_accuracy": _mean_defined(recall),
            "macro_f1": _mean_defined(f1),
            "roc_auc": areas,
        }
    figures |= {f"precision_{name}": precision[:, i] for i, name in enumerate(classes)}
    return figures | {f"recall_{name}": recall[:, i] for i, name in enumerate(classes)}


def _mean_defined(values: Array) -> Array:
    defined = np.isfinite(values)
    result: Array = np.where(defined, values, 0).sum(1) / defined.sum(1)
    return result


def _areas(labels: np.ndarray, p: Array, weights: Array) -> Array:
    """Area under the ROC curve for B weightings (B, n) of the images; ties count half. NaN where a class is absent."""
    k = p.shape[1]
    columns = [1] if k == 2 else range(k)
    return np.mean([_area(labels == c, p[:, c], weights) for c in columns], axis=0)


def _area(positive: np.ndarray, scores: np.ndarray, weights: Array) -> Array:
    """P(score of a positive > score of a negative) + P(equal) / 2 under each weighting."""
    _, ranks = np.unique(scores, return_inverse=True)
    order = np.argsort(ranks, kind="stable")
    first = np.flatnonzero(np.diff(ranks[order], prepend=-1))
    up = np.add.reduceat((weights * positive)[:, order], first, axis=1)
    down = np.add.reduceat((weights * ~positive)[:, order], first, axis=1)
    below = np.cumsum(down, axis=1) - down / 2
    with np.errstate(invalid="ignore", divide="ignore"):
        area: Array = (up * below).sum(1) / (up.sum(1) * down.sum(1))
    return area


def _percentiles(drawn: Array) -> tuple[float, float]:
    """Ends of the middle 95 % of the defined resamples."""
    defined = drawn[np.isfinite(drawn)]
    if not len(defined):
        return np.nan, np.nan
    lo, hi = np.quantile(defined, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(lo), float(hi)


def _denominator(name: str, labels: np.ndarray, predicted: np.ndarray, classes: Sequence[str]) -> int:
    """How many images a share is a share of; 0 for figures that are no shares."""
    bases: Mapping[str, int] = {
        "accuracy": len(labels),
        **{f"recall_{c}": int((labels == i).sum()) for i, c in enumerate(classes)},
        **{f"precision_{c}": int((predicted == i).sum()) for i, c in enumerate(classes)},
    }
    return bases.get(name, 0)
