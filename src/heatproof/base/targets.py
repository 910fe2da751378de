"""Which class of an image is explained."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from heatproof.base.errors import HeatproofError, fault
from heatproof.base.records import Classifier, Samples


def predicted_classes(samples: Samples, classifier: Classifier, rows: np.ndarray, batch: int) -> np.ndarray:
    """The first argmax on each unperturbed image."""
    with torch.inference_mode():
        parts = [
            classifier.module(samples.images(part).to(classifier.device)).argmax(1).cpu()
            for part in np.array_split(rows, -(-len(rows) // batch))
        ]
    return torch.cat(parts).numpy()


def targets_of(
    samples: Samples, classes: Sequence[str], rows: np.ndarray, predicted: np.ndarray, target: str
) -> np.ndarray:
    """The explained class of each image: the predicted one, the true one, or one class by name."""
    if target == "predicted":
        return predicted
    if target == "true":
        return samples.table["label"].iloc[rows].to_numpy(dtype=np.int64)
    if target not in classes:
        raise HeatproofError(
            fault(
                "target",
                "neither 'predicted', 'true' nor a class",
                got=target,
                choices=("predicted", "true", *classes),
            )
        )
    return np.full(len(rows), classes.index(target), dtype=np.int64)
