"""Tables of the classifier: figures of merit, classification report, confusion matrix, training history."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from heatproof.base.merit import Judged
from heatproof.base.records import Classifier, Predictions

SPLITS = ("test", "val")
PER_CLASS = ("precision", "recall", "f1", "specificity", "roc_auc", "pr_auc")
AVERAGED = ("precision", "recall", "f1")


def judged_of(predictions: Predictions, classes: Sequence[str], split: str | None) -> Judged | None:
    """The labelled predictions of a split (None: of all that were predicted), or None where there are none."""
    table = predictions.table.dropna(subset=["label"])
    table = table if split is None else table[table["split"] == split]
    if table.empty:
        return None
    positive = None if predictions.positive is None else list(classes).index(predictions.positive)
    groups = table["group"].tolist() if "group" in table else None
    p = table[[f"p_{name}" for name in classes]].to_numpy(dtype=np.float64)
    return Judged(table["label"].to_numpy(dtype=np.int64), p, tuple(classes), groups, positive)


def where_of(split: str | None) -> str:
    return f"{split} split" if split else "evaluated images"


def figures_of(predictions: Predictions) -> dict[str, Mapping[str, Mapping[str, float]]]:
    """Split -> figure -> value with interval, of the splits that have figures."""
    found = {"test": predictions.figures, "val": predictions.val_figures}
    return {split: some for split, some in found.items() if some}


def classifier_frame(predictions: Predictions) -> pd.DataFrame:
    """One row per split and figure of the classifier, those of single classes included."""
    rows = [
        {"split": split, "figure": name, **found}
        for split, some in figures_of(predictions).items()
        for name, found in some.items()
    ]
    return pd.DataFrame(rows, columns=["split", "figure", "value", "lo", "hi", "n"])


def overall_frame(predictions: Predictions, classes: Sequence[str]) -> pd.DataFrame:
    """Figures of the whole classifier as text, one column per split."""
    own = {f"{figure}_{name}" for figure in PER_CLASS for name in classes}
    by_split = figures_of(predictions)
    names = [name for name in next(iter(by_split.values()), {}) if name not in own]
    rows = [{"figure": name, **{split: figure_text(some.get(name)) for split, some in by_split.items()}}
            for name in names]  # fmt: skip
    return pd.DataFrame(rows, columns=["figure", *by_split])


def report_frame(predictions: Predictions, classes: Sequence[str]) -> pd.DataFrame:
    """The classification report: split, class, support, then each figure with `_lo` and `_hi`; the last two rows of a
    split are the means over the classes, plain and weighted by support."""
    rows = []
    for split, found in figures_of(predictions).items():
        for name in classes:
            row = {"split": split, "class": name, "support": found.get(f"recall_{name}", {}).get("n", np.nan)}
            for figure in PER_CLASS:
                row |= _cells(figure, found.get(f"{figure}_{name}") or _of_two(found, figure, name, predictions))
            rows.append(row)
        total = found.get("accuracy", {}).get("n", np.nan)
        for kind in ("macro", "weighted"):
            row = {"split": split, "class": f"{kind} mean", "support": total}
            for figure in PER_CLASS:
                whole = f"{kind}_{figure}" if figure in AVERAGED else figure if kind == "macro" else ""
                averaged = found.get(whole) if len(classes) > 2 or figure in AVERAGED else None
                row |= _cells(figure, averaged)
            rows.append(row)
    frame = pd.DataFrame(rows)
    return frame.dropna(axis=1, how="all") if len(frame) else pd.DataFrame(columns=["split", "class", "support"])


def _of_two(
    found: Mapping[str, Mapping[str, float]], figure: str, name: str, predictions: Predictions
) -> Mapping[str, float] | None:
    """A figure that two classes have for the positive one alone."""
    return found.get(figure) if name == predictions.positive and figure not in AVERAGED else None


def _cells(figure: str, found: Mapping[str, float] | None) -> dict[str, float]:
    if not found:
        return {figure: np.nan, f"{figure}_lo": np.nan, f"{figure}_hi": np.nan}
    return {figure: found["value"], f"{figure}_lo": found["lo"], f"{figure}_hi": found["hi"]}


def report_text(frame: pd.DataFrame) -> pd.DataFrame:
    """The classification report for readers: one column per figure, `0.91 [0.85, 0.95]`."""
    shown = frame[["split", "class"]].copy()
    shown["images"] = [f"{n:.0f}" if np.isfinite(n) else "–" for n in frame["support"]]
    for figure in [name for name in PER_CLASS if name in frame]:
        ends = zip(frame[figure], frame[f"{figure}_lo"], frame[f"{figure}_hi"], strict=True)
        title = "recall (sensitivity)" if figure == "recall" else figure
        shown[title] = [figure_text({"value": value, "lo": lo, "hi": hi}) for value, lo, hi in ends]
    return shown


def figure_text(found: Mapping[str, float] | None) -> str:
    """`0.91 [0.85, 0.95]`, a dash where the figure is undefined."""
    if not found or not np.isfinite(found["value"]):
        return "–"
    if not np.isfinite(found["lo"]):
        return f"{found['value']:.2f} [no interval]"
    places = 2 if found["hi"] - found["lo"] >= 0.01 else 3
    text = f"{found['value']:.{places}f} [{found['lo']:.{places}f}, {found['hi']:.{places}f}]"
    return text.replace(f"-{0:.{places}f}", f"{0:.{places}f}")


def confusion_counts(judged: Judged) -> NDArray[np.int64]:
    """Images by true class (rows) and predicted class (columns)."""
    k = len(judged.classes)
    return np.bincount(judged.labels * k + judged.predicted, minlength=k * k).reshape(k, k)


def confusion_frame(predictions: Predictions, classes: Sequence[str]) -> pd.DataFrame:
    """One row per split, true and predicted class: images, and their share of the true class."""
    rows = []
    for split in SPLITS:
        judged = judged_of(predictions, classes, split)
        if judged is None:
            continue
        counts = confusion_counts(judged)
        for (true, predicted), count in np.ndenumerate(counts):
            share = count / counts[true].sum() if counts[true].sum() else np.nan
            rows.append(
                {"split": split, "true": classes[true], "predicted": classes[predicted], "images": count, "rate": share}
            )
    return pd.DataFrame(rows, columns=["split", "true", "predicted", "images", "rate"])


def history_frame(classifier: Classifier) -> pd.DataFrame:
    """One row per epoch, `kept` where its weights are those of the classifier."""
    frame = pd.DataFrame([dict(epoch) for epoch in classifier.history])
    if "epoch" in frame and classifier.best_epoch is not None:
        frame["kept"] = frame["epoch"] == classifier.best_epoch
    return frame


def most_frequent(predictions: pd.DataFrame) -> float:
    """Share of the most frequent class among test images (all, where none is one): the accuracy of naming it always; 0
    without labels."""
    table = predictions.dropna(subset=["label"])
    table = table[table["split"] == "test"] if (table["split"] == "test").any() else table
    return float(table["label"].value_counts(normalize=True).max()) if len(table) else 0.0
