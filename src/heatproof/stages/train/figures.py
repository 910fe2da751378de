"""Figures of an epoch, from true and predicted classes."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int64
from torch import Tensor

# What a training can look at, and the sign that makes larger better.
MONITORS = {
    "val_loss": -1,
    "val_accuracy": 1,
    "val_macro_precision": 1,
    "val_macro_recall": 1,
    "val_macro_f1": 1,
    "val_recall": 1,
}


def figures(
    labels: Int64[Tensor, " n"], predicted: Int64[Tensor, " n"], num_classes: int, monitored: Sequence[int] = ()
) -> dict[str, float]:
    """accuracy, macro_precision, macro_recall, macro_f1 and recall, the mean recall of the `monitored` classes (all
    where none is named).

    In [0, 1], up. Macro means are over the classes that occur or are predicted, a class never predicted has precision
    0, one that does not occur recall 0 (scikit-learn's averages with zero_division=0).
    """
    counts = torch.bincount(labels * num_classes + predicted, minlength=num_classes**2)
    confusion = counts.view(num_classes, num_classes).double().cpu()
    hits, occur, called = confusion.diag(), confusion.sum(1), confusion.sum(0)
    there = occur + called > 0
    recall = _ratio(hits, occur)
    some = recall[list(monitored)] if monitored else recall[there]
    return {
        "accuracy": (hits.sum() / occur.sum()).item(),
        "macro_precision": _ratio(hits, called)[there].mean().item(),
        "macro_recall": recall[there].mean().item(),
        "macro_f1": _ratio(2 * hits, occur + called)[there].mean().item(),
        "recall": some.mean().item(),
    }


def _ratio(part: Float[Tensor, " k"], whole: Float[Tensor, " k"]) -> Float[Tensor, " k"]:
    return torch.where(whole > 0, part / whole.clamp(min=1), 0.0)
