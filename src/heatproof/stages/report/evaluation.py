"""Figures of the classifier: training, confusion, ROC, precision over recall, reliability."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import ceil

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from heatproof.base.curves import GRID, Curve, precision_recall, reliability, roc
from heatproof.base.merit import BINS, Judged
from heatproof.base.records import Classifier, Predictions
from heatproof.stages.report.classified import confusion_counts, judged_of, where_of
from heatproof.stages.report.drawing import CONTROL, PAGE, SECOND, TESTED, TEXT_COLUMN, Drawing, short

# Curves of at most so many classes, those with most images; all have their figures in the tables.
CLASSES = 8
QUANTITIES = {"loss": "cross-entropy [nat]", "lr": "learning rate"}


def classifier_drawings(classifier: Classifier, predictions: Predictions, *, seed: int) -> Iterator[Drawing]:
    """All figures of the classifier that there is data for."""
    yield from _training(classifier)
    split = "test" if len(predictions.table) and (predictions.table["split"] == "test").any() else None
    judged = judged_of(predictions, classifier.classes, split)
    if judged is None:
        return
    where = where_of(split)
    yield _confusion(judged, where)
    yield from _one_against_rest(judged, predictions, where, seed)
    yield _reliability(judged, predictions, where, seed)


def _training(classifier: Classifier) -> Iterator[Drawing]:
    """One axes per quantity of the history, training and validation together."""
    history = pd.DataFrame([dict(epoch) for epoch in classifier.history])
    if history.empty or "epoch" not in history:
        return
    known = [name for name in history if name not in ("epoch", "seconds", "phase") and history[name].notna().any()]
    known = [name for name in known if pd.api.types.is_numeric_dtype(history[name])]
    # Recall of the watched classes is the macro recall where all are watched: one curve is enough.
    known = [name for name in known if not (name == "val_recall" and _equal(history, name, "val_macro_recall"))]
    quantities = list(dict.fromkeys(name.removeprefix("train_").removeprefix("val_") for name in known))
    across = min(3, len(quantities))
    down = ceil(len(quantities) / across)
    figure = Figure(figsize=(PAGE / 3 * across, 1.75 * down))
    grid = figure.subplots(down, across, squeeze=False)
    for axes in grid.flat[len(quantities) :]:
        axes.set_visible(False)
    for axes, quantity in zip(grid.flat, quantities, strict=False):
        for name, title, color in (
            (f"train_{quantity}", "training", TESTED),
            (f"val_{quantity}", "validation", SECOND),
            (quantity, None, "black"),
        ):
            if name in known:
                axes.plot(history["epoch"], history[name], color=color, label=title, marker=".", markersize=3)
        if classifier.best_epoch is not None:
            axes.axvline(classifier.best_epoch, color="0.4", linewidth=0.8, linestyle=":", label="epoch kept")
        axes.set(xlabel="epoch", ylabel=QUANTITIES.get(quantity, quantity.replace("_", " ")))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
        top = (
            1.02
            if quantity not in QUANTITIES and history[[n for n in known if quantity in n]].max().max() <= 1
            else None
        )
        axes.set_ylim(0, top)
    grid[0, 0].legend()
    kept = "" if classifier.best_epoch is None else f" The weights of epoch {classifier.best_epoch} are kept."
    yield Drawing("training", figure, f"Training of the classifier, one run of {len(history)} epochs (n = 1 run, so no "
                                      f"interval); numbers in tables/history.csv.{kept}")  # fmt: skip


def _equal(history: pd.DataFrame, name: str, other: str) -> bool:
    return other in history and bool(np.allclose(history[name], history[other], equal_nan=True))


def _confusion(judged: Judged, where: str) -> Drawing:
    counts = confusion_counts(judged)
    actual = counts.sum(axis=1, keepdims=True)
    shares = counts / np.maximum(actual, 1)
    k = len(judged.classes)
    side = float(np.clip(1.3 + 0.5 * k, 2.3, PAGE))
    figure = Figure(figsize=(side + 0.6, side))
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if k <= 20:
        for row, column in np.ndindex(*counts.shape):
            color = "white" if shares[row, column] > 0.55 else "black"
            rate = f"\n{shares[row, column]:.2f}" if k <= 10 and actual[row, 0] else ""
            axes.text(column, row, f"{counts[row, column]}{rate}", ha="center", va="center", color=color, fontsize=7)
    names = [short(name, 18) for name in judged.classes]
    axes.set_xticks(range(k), names, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(k), [f"{name} ({n})" for name, n in zip(names, actual[:, 0], strict=True)])
    axes.set(xlabel="predicted", ylabel="true (images)")
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    figure.colorbar(image, ax=axes, label="share of the true class", fraction=0.046)
    caption = (
        f"Confusion matrix on the {where}: images, and below them the share of the true class (n = {len(judged.labels)}"
        "). The diagonal's shares are the recalls; their intervals stand in the classification report."
    )
    return Drawing("confusion", figure, caption)


def _one_against_rest(judged: Judged, predictions: Predictions, where: str, seed: int) -> Iterator[Drawing]:
    """ROC and precision over recall, one axes per class (of two classes the positive one)."""
    sides = [c for c in _shown(judged) if 0 < (judged.labels == c).sum() < len(judged.labels)]
    if not sides:
        return
    drawn = "groups of images" if _grouped(judged) else "images"
    for name, make, x, y, title, plot in (
        ("roc", roc, "1 - specificity", "sensitivity", "area", _roc),
        ("pr", precision_recall, "recall", "precision", "average precision", _precision_recall),
    ):
        figure, grid = _squares(len(sides))
        for axes, side in zip(grid, sides, strict=True):
            positive = judged.labels == side
            plot(axes, make(positive, judged.p[:, side], judged.groups, seed=seed), float(positive.mean()))
            figure_name = f"{'roc' if name == 'roc' else 'pr'}_auc"
            figure_name = figure_name if len(judged.classes) == 2 else f"{figure_name}_{judged.classes[side]}"
            axes.set_title(
                f"{short(judged.classes[side], 26)}\n{_interval(predictions, figure_name, where)}", fontsize=7
            )
            axes.set(xlabel=x, ylabel=y, xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
            axes.text(0.97 if name == "roc" else 0.03, 0.04, f"{positive.sum()} of {len(positive)} images", fontsize=6,
                      ha="right" if name == "roc" else "left", transform=axes.transAxes)  # fmt: skip
        chance = "the diagonal" if name == "roc" else "the share of the class"
        what = "ROC" if name == "roc" else "Precision-recall"
        caption = (
            f"{what} curve on the {where}, {_against(judged)}; title: {title} [95 % interval]; "
            f"band: pointwise 95 % over resampled {drawn}; dotted: {chance}, which a guess reaches "
            f"(n = {len(judged.labels)}).{_left_out(judged, sides)}"
        )
        yield Drawing(name, figure, caption)


def _roc(axes: Axes, curve: Curve, _share: float) -> None:
    axes.fill_between(GRID, curve.lo, curve.hi, color=TESTED, alpha=0.18, linewidth=0)
    axes.plot(curve.x, curve.y, color=TESTED)
    axes.plot([0, 1], [0, 1], color="0.4", linewidth=0.8, linestyle=":")


def _precision_recall(axes: Axes, curve: Curve, share: float) -> None:
    axes.fill_between(GRID, curve.lo, curve.hi, color=TESTED, alpha=0.18, linewidth=0)
    axes.step(curve.x, curve.y, color=TESTED, where="pre")
    axes.axhline(share, color="0.4", linewidth=0.8, linestyle=":")


def _reliability(judged: Judged, predictions: Predictions, where: str, seed: int) -> Drawing:
    """Of the largest probability (what ece sums up), then class by class."""
    right = judged.predicted == judged.labels
    plots = [(f"largest probability\nece {_interval(predictions, 'ece', where)}", right, judged.p.max(1))]
    for side in _shown(judged):
        plots.append((short(judged.classes[side], 26), judged.labels == side, judged.p[:, side]))
    figure, grid = _squares(len(plots))
    for axes, (title, positive, p) in zip(grid, plots, strict=True):
        found = reliability(positive, p, judged.groups, seed=seed)
        heights = found.n / found.n.max() * 0.22
        places = np.minimum((found.p * BINS).astype(int), BINS - 1)
        axes.bar((places + 0.5) / BINS, heights, width=0.9 / BINS, color=CONTROL, alpha=0.5, linewidth=0)
        axes.plot([0, 1], [0, 1], color="0.4", linewidth=0.8, linestyle=":")
        ends = np.nan_to_num([found.share - found.lo, found.hi - found.share]).clip(min=0)
        axes.errorbar(found.p, found.share, yerr=ends, color=TESTED, fmt="o-", markersize=3, linewidth=1, capsize=1.5)
        axes.set_title(title, fontsize=7)
        axes.set(xlabel="predicted probability", ylabel="observed share", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    caption = (
        f"Reliability on the {where} in {BINS} equal-width bins (n = {len(judged.labels)}): share of right predictions "
        f"over their probability, then the share of each class over its own probability; Wilson's 95 % intervals"
        f"{', by effective size for groups' if _grouped(judged) else ''}; grey: images per bin, highest = the fullest "
        f"bin; on the dotted line probabilities mean what they say.{_left_out(judged, _shown(judged))}"
    )
    return Drawing("reliability", figure, caption)


def _shown(judged: Judged) -> list[int]:
    """The sides with most images, in the order of the classes."""
    counts = np.bincount(judged.labels, minlength=len(judged.classes))
    return sorted(sorted(judged.sides, key=lambda c: -counts[c])[:CLASSES])


def _left_out(judged: Judged, shown: Sequence[int]) -> str:
    names = [short(judged.classes[c], 26) for c in judged.sides if c not in shown]
    if not names:
        return ""
    listed = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    return f" Not drawn, for want of images or of room: {listed}."


def _against(judged: Judged) -> str:
    if len(judged.classes) == 2:
        return f"positive = {short(judged.classes[judged.sides[0]], 26)}"
    return "each class against the rest"


def _grouped(judged: Judged) -> bool:
    known = [group for group in judged.groups or () if group is not None and group == group]
    return len(set(known)) < len(known)


def _interval(predictions: Predictions, name: str, where: str) -> str:
    found = predictions.figures.get(name)
    if not found or "test" not in where or not np.isfinite(found["value"]):
        return ""
    return f"{found['value']:.2f} [{found['lo']:.2f}, {found['hi']:.2f}]"


def _squares(count: int) -> tuple[Figure, list[Axes]]:
    across = 4 if count == 4 else min(3, count)
    down = ceil(count / across)
    width = TEXT_COLUMN * 0.85 if across == 1 else min(PAGE, PAGE / 3 * across)
    figure = Figure(figsize=(width, (width / across + 0.15) * down))
    grid = list(figure.subplots(down, across, squeeze=False).flat)
    for axes in grid[count:]:
        axes.set_visible(False)
    return figure, grid[:count]
