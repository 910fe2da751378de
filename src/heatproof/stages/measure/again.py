"""One number made again, and everything that was run for it, so that a reader can check it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
from jaxtyping import Float
from torch import Tensor

from heatproof.base.blocks import blocks_of
from heatproof.base.passes import Engine
from heatproof.base.records import Classifier, Maps, Method, MetricChoice, Samples
from heatproof.base.reruns import OTHER_NETS
from heatproof.base.settings import EvalSettings, MeasureSettings
from heatproof.base.tasks import Seen
from heatproof.base.twin import Twin
from heatproof.stages.measure.block import block_of_samples, measure_block
from heatproof.stages.measure.cells import cells_of
from heatproof.stages.measure.making import other_weights, rerun_subset, validation_maps
from heatproof.stages.measure.table import rows_of


@dataclass(frozen=True)
class Run:
    """An image that was run for a number: what was done to it, its pixels (c, h, w), and what came out: the probability
    of the explained class, or the map of the method."""

    what: str
    image: Float[np.ndarray, "c h w"]
    p: float | None = None
    map: Float[np.ndarray, "h w"] | None = None


@dataclass
class Again:
    """A number made again: its `value` and `status`; `p` of the explained class on the image itself; what was `run`."""

    value: float
    status: str
    p: float
    run: list[Run] = field(default_factory=list)


def measure_again(
    samples: Samples,
    classifier: Classifier,
    maps: Maps,
    place: int,
    method: Method,
    choice: MetricChoice,
    column: str,
    settings: MeasureSettings,
    evaluation: EvalSettings,
    *,
    batch: int,
    target: str,
    permuted: Classifier | None = None,
) -> Again:
    """The number of the image at `place` of the maps in one column of a method: from this image alone, or from its
    block where other images take part in it (floors, nets of other weights)."""
    of = next(
        one for one in maps.methods if str(one.name) == (method.control_of if _moved(method) else str(method.name))
    )
    facts = choice.metric.facts
    derived = column.endswith(("_excess", "_floor"))
    together = bool(set(facts.get("reruns", ())) & set(OTHER_NETS)) or (derived and bool(facts.get("floor")))
    everyone = blocks_of(len(maps.rows))
    rows = next(block for block in everyone if place in block) if together else np.array([place])
    at = int(np.flatnonzero(rows == place)[0])
    # Shifted copies are made where the number is theirs, or is taken over them.
    settings = replace(settings, controls=("shifted",) if _moved(method) or derived else ())
    part = _part(maps, rows)
    (cell,) = cells_of([of], [choice], {})
    cells = {0: cell}
    rerun = rerun_subset(len(maps.rows), evaluation.rerun_images, settings.seed)[rows]
    twin = Twin(classifier.module, samples.images(maps.rows[: min(2, len(maps.rows))]).to(classifier.device))
    found: list[Run] = []
    engine = Engine(
        classifier, twin, seed=settings.seed, sign=settings.sign, protocol=settings.protocol, batch=batch,
        others=other_weights(samples, classifier, maps, cells, batch, permuted),
        validation=validation_maps(samples, classifier, cells, evaluation, batch, target),
        watch=partial(_noted, found, at, str(of.name), int(part.targets[at])),
    )  # fmt: skip
    block = block_of_samples(samples, classifier, twin, part, np.arange(len(rows)), rerun, batch)
    numbers = measure_block(engine, block, np.arange(len(rows)), part, cells, settings)
    table = rows_of(samples.table.iloc[part.rows], part, cell, numbers[0], settings)
    mine = table[(table["method"] == str(method.name)) & (table["column"] == column)].iloc[at]
    return Again(float(mine["value"]), str(mine["status"]), float(block.p[at]), found)


def _moved(method: Method) -> bool:
    return method.alter == "shifted"


def _part(maps: Maps, rows: Sequence[int] | np.ndarray) -> Maps:
    """The maps of some images."""
    names = list(maps.files)
    spreads = {name: found[rows] for name in names if (found := maps.spread(name)) is not None}
    return replace(
        maps,
        rows=maps.rows[rows],
        targets=maps.targets[rows],
        predicted=maps.predicted[rows],
        files={name: np.array(maps.array(name)[rows]) for name in names},
        sd_files=spreads,
        status={name: tuple(status[row] for row in rows) for name, status in maps.status.items()},
        notes={},
    )


def _noted(found: list[Run], row: int, name: str, target: int, seen: Seen) -> None:
    """Keep what was run of one image."""
    for i in (seen.rows == row).nonzero()[:, 0].tolist():
        image = seen.images[i].cpu().numpy()
        if seen.logits is not None:
            found.append(Run(seen.what, image, p=float(seen.logits[i].double().softmax(0)[target])))
        elif name in seen.maps:
            found.append(Run(seen.what, image, map=_plain(seen.maps[name][i])))


def _plain(one: Tensor) -> np.ndarray:
    return np.asarray(one.cpu().numpy())
