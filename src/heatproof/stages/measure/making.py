"""What metrics need beside the measured images: nets of other weights, validation images, the subset of reruns."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from heatproof.base.background import training_images
from heatproof.base.randomise import OtherWeights
from heatproof.base.records import Classifier, Maps, Samples
from heatproof.base.reruns import OTHER_NETS
from heatproof.base.settings import CALIBRATED, VALIDATED, EvalSettings
from heatproof.base.targets import predicted_classes, targets_of
from heatproof.base.validation import ValidationMaps, annotated_rows
from heatproof.stages.measure.cells import Cell


def other_weights(
    samples: Samples,
    classifier: Classifier,
    maps: Maps,
    cells: Mapping[int, Cell],
    batch: int,
    permuted: Classifier | None,
) -> OtherWeights | None:
    """What makes nets of other weights, where a metric asks for them; batch norms are calibrated on training images, or
    on the explained ones where there are none."""
    if not any(set(cell.choice.metric.facts.get("reruns", ())) & set(OTHER_NETS) for cell in cells.values()):
        return None
    images = training_images(samples, CALIBRATED)
    if images is None:
        images = samples.images(maps.rows[:CALIBRATED])
    return OtherWeights(classifier, images, permuted=permuted, batch=batch)


def validation_maps(
    samples: Samples,
    classifier: Classifier,
    cells: Mapping[int, Cell],
    evaluation: EvalSettings,
    batch: int,
    target: str,
) -> ValidationMaps | None:
    """What makes maps of annotated validation images, where a metric asks for them; none where they are measured."""
    asked = any("validation" in cell.choice.metric.facts.get("needs", ()) for cell in cells.values())
    if not asked or evaluation.split == "val":
        return None
    rows = annotated_rows(samples, "val", VALIDATED)
    if not len(rows):
        return None
    assert samples.masks is not None
    targets = targets_of(samples, classifier.classes, rows, predicted_classes(samples, classifier, rows, batch), target)
    return ValidationMaps(
        samples.images(rows),
        torch.from_numpy(np.asarray(samples.masks[rows])).bool(),
        torch.as_tensor(targets),
        [str(image) for image in samples.table["image"].iloc[rows]],
    )


def rerun_subset(n: int, wanted: int | None, seed: int) -> np.ndarray:
    """Which of the n images methods are rerun on: one seeded subset for all methods, all where none is wanted."""
    use = np.ones(n, dtype=bool)
    if wanted is not None and wanted < n:
        use[:] = False
        use[np.random.default_rng(seed).permutation(n)[:wanted]] = True
    return use
