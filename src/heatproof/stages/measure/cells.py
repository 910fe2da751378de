"""The unit that is stored: one method under one metric, and its numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from heatproof.base.records import Classifier, Maps, Method, MetricChoice, Samples
from heatproof.base.settings import EvalSettings, MeasureSettings

# Raise it when the numbers of an unchanged metric change.
VERSION = 1


@dataclass(frozen=True)
class Cell:
    """One method under one metric: the unit of the store."""

    method: Method
    choice: MetricChoice
    identity: Mapping[str, Any]

    def variants(self, settings: MeasureSettings) -> tuple[str, ...]:
        """Shifted copies are for methods under test, the floor for all; neither is part of the study protocol. The
        negative map is for metrics that were asked for their quasi-gradient excess."""
        facts = self.choice.metric.facts
        sound = settings.protocol == "sound"
        shifted = sound and facts.get("shifted") and "shifted" in settings.controls and self.method.control_of is None
        floor = sound and facts.get("floor")
        flags = (("shifted", shifted), ("floor", floor), ("negative", self.choice.qge))
        return ("own", *(variant for variant, wanted in flags if wanted))


@dataclass(frozen=True)
class Found:
    """A cell's numbers: variant -> column -> float64 (n,), and variant -> status per image; the curve (x, y) of the
    method's own maps where the metric sums one up; a picture of the maps that it compares."""

    values: Mapping[str, Mapping[str, np.ndarray]]
    status: Mapping[str, Sequence[str]]
    curve: tuple[np.ndarray, np.ndarray] | None = None
    picture: np.ndarray | None = None


def cells_of(
    methods: Sequence[Method],
    metrics: Sequence[MetricChoice],
    common: Mapping[str, Any],
    permuted: str | None = None,
) -> list[Cell]:
    """A cell for each method and metric. `permuted`: identity of the net that was trained on permuted labels."""
    return [
        Cell(
            method,
            choice,
            {
                **common,
                "method": method.identity(),
                "blur_px": method.blur_px,
                "metric": choice.metric.identity(),
                "protocol": choice.protocol,
                **({"qge": True} if choice.qge else {}),
                **({"permuted": permuted} if "labels" in choice.metric.facts.get("reruns", ()) else {}),
            },
        )
        for method in methods
        for choice in metrics
    ]


def common_identity(
    samples: Samples, classifier: Classifier, maps: Maps, settings: MeasureSettings, evaluation: EvalSettings
) -> dict[str, Any]:
    return {
        "data": samples.data_hash,
        "classifier": classifier.identity,
        "images": [str(image) for image in samples.table["image"].iloc[maps.rows]],
        "targets": maps.targets.tolist(),
        "seed": settings.seed,
        "sign": settings.sign,
        "shifts": settings.shifts,
        "rerun_images": evaluation.rerun_images,
        "version": VERSION,
    }
