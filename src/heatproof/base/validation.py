"""Maps of annotated validation images: what a metric's threshold is picked on, so that no measured image picks it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from heatproof.base import methods, values
from heatproof.base.case import Annotated
from heatproof.base.fields import image_seed
from heatproof.base.halving import in_batches
from heatproof.base.records import Method, Samples
from heatproof.base.tasks import Running


def annotated_rows(samples: Samples, split: str, count: int) -> np.ndarray:
    """At most `count` rows of annotated images of a split, in an order that depends on their ids alone."""
    if samples.masks is None:
        return np.empty(0, dtype=np.int64)
    masks = samples.masks
    rows = [int(row) for row in samples.rows(split) if masks[row].any()]
    ids = samples.table["image"]
    return np.array(sorted(rows, key=lambda row: image_seed(0, str(ids.iloc[row]), split))[:count], dtype=np.int64)


class ValidationMaps:
    """Makes the maps of some annotated images, once for each method; one object serves all blocks of a run.

    `targets`: the classes that are explained. Images on which a method has no map are left out of its answer.
    """

    def __init__(
        self,
        images: Float[Tensor, "m c h w"],
        masks: Bool[Tensor, "m h w"],
        targets: Int64[Tensor, " m"],
        ids: Sequence[str],
    ) -> None:
        self.images = images
        self.masks = masks
        self.targets = targets
        self.ids = ids
        self._made: dict[str, Annotated] = {}

    def of(self, method: Method, running: Running) -> Annotated:
        """The maps of a method, of a shifted copy those of what it is a copy of."""
        if method.alter == "shifted":
            method = replace(method, alter=None)
        name = str(method.name)
        if name not in self._made:
            device = running.classifier.device

            def run(rows: slice) -> Tensor:
                counter = methods.MapPasses()
                made = methods.explain_batch(
                    running.classifier,
                    self.images[rows].to(device),
                    self.targets[rows].to(device),
                    [method],
                    ids=self.ids[rows],
                    seed=running.seed,
                    protocol=running.protocol,
                    passes=counter,
                )
                running.mapped(counter.images)
                return made[name].maps

            maps = torch.cat([found for _, found in in_batches(len(self.ids), running, run)])
            fine = torch.tensor([status == "ok" for status in values.status_of(maps)], device=device)
            measured = values.as_measured(maps, running.sign)
            self._made[name] = Annotated(measured[fine], self.masks.to(device)[fine])
        return self._made[name]
