"""Stage `predict`: predictions for the held-out images, figures of the classifier, and the images to explain."""

import time
from collections.abc import Mapping

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from heatproof.base import device as devices
from heatproof.base.errors import HeatproofError, fault
from heatproof.base.merit import Judged, figures
from heatproof.base.records import SPLITS, Classifier, Predictions, Samples
from heatproof.base.settings import Compute, EvalSettings
from heatproof.stages.predict.explained import explained_rows

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
    """Predictions for "val", "test" and `eval.split`, figures of both with 95 % intervals, and the rows to explain.

    The index of the table is the row of `Samples.table`. Without labels the columns of labels are null and there are no
    figures. The explained images depend on `dataset_seed` alone (and on the predictions under `only_correct`).
    Raises: HeatproofError where no image is left to explain or `eval.positive` is not one of two classes.
    """
    positive = positive_class(classifier.classes, eval_settings.positive)
    splits = [split for split in SPLITS if split in ("val", "test", eval_settings.split)]
    rows = np.concatenate([samples.rows(split) for split in splits])
    start = time.perf_counter()
    p = probabilities(samples, classifier, rows, compute, progress=progress)
    seconds = time.perf_counter() - start
    table = _table(samples, classifier, rows, p, positive)
    found = {split: _figures(table, p, classifier, positive, split, dataset_seed) for split in ("val", "test")}
    return Predictions(
        table,
        found["test"],
        explained_rows(samples, table, eval_settings, dataset_seed),
        val_figures=found["val"],
        positive=None if positive is None else classifier.classes[positive],
        seconds=seconds,
    )


def positive_class(classes: tuple[str, ...], wanted: str | None) -> int | None:
    """Number of the positive one of two classes, the last unless another is wanted; None for more classes.

    >>> [positive_class(("ill", "well"), wanted) for wanted in ("ill", "well", None)]
    [0, 1, 1]
    """
    if wanted is not None and (len(classes) != 2 or wanted not in classes):
        rule = "no such class" if len(classes) == 2 else "only of two classes one is positive; leave it null"
        raise HeatproofError(fault("eval.positive", rule, got=wanted, choices=classes))
    if len(classes) != 2:
        return None
    return 1 if wanted is None else classes.index(wanted)


def _figures(
    table: pd.DataFrame, p: Array, classifier: Classifier, positive: int | None, split: str, seed: int
) -> Mapping[str, Mapping[str, float]]:
    chosen = (table["split"] == split).to_numpy() & table["label"].notna().to_numpy()
    if not chosen.any():
        return {}
    labels = table["label"].to_numpy()[chosen].astype(np.int64)
    groups = table["group"].to_numpy()[chosen].tolist()
    return figures(Judged(labels, p[chosen], classifier.classes, groups, positive), seed=seed)


def probabilities(
    samples: Samples, classifier: Classifier, rows: np.ndarray, compute: Compute, *, progress: bool = False
) -> Array:
    """Softmax of the logits for rows of the sample table, float64 (n, K)."""
    device = classifier.device
    result = np.empty((len(rows), len(classifier.classes)))
    with tqdm(total=len(rows), desc="predict", unit="image", disable=not progress) as bar, torch.inference_mode():
        batch = devices.images_at_once(device, samples.pixels.shape[1])
        for start in range(0, len(rows), batch):
            some = rows[start : start + batch]
            with devices.autocast(compute, device):
                logits = classifier.module(samples.images(some).to(device))
            result[start : start + len(some)] = logits.double().softmax(1).cpu().numpy()
            bar.update(len(some))
    return result


def _table(samples: Samples, classifier: Classifier, rows: np.ndarray, p: Array, positive: int | None) -> pd.DataFrame:
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
    outcomes = None if positive is None else _outcomes(table["label"], predicted, positive)
    table["outcome"] = pd.Series(outcomes, index=table.index, dtype="str" if labelled and outcomes else object)
    table["group"] = samples.table["group"].iloc[rows]
    probabilities = pd.DataFrame(p, index=table.index, columns=[f"p_{name}" for name in classifier.classes])
    return pd.concat([table, probabilities], axis=1)


def _outcomes(labels: pd.Series, predicted: np.ndarray, positive: int) -> list[str | None]:
    """TP, TN, FP, FN: was the prediction true, and was it the positive class."""
    return [
        None if pd.isna(label) else ("T" if label == guess else "F") + ("P" if guess == positive else "N")
        for label, guess in zip(labels, predicted, strict=True)
    ]
