"""Stage `measure`: every metric of every method on every explained image, beside shifted copies and floors.

Results are stored per (method, metric), so a method or metric that is added later costs its own passes only; blocks are
stored as they finish, so a kill costs at most one.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from tqdm import tqdm

from heatproof.base.blocks import blocks_of
from heatproof.base.passes import Engine
from heatproof.base.randomise import OtherWeights
from heatproof.base.records import Classifier, Maps, MetricChoice, Samples, Scores
from heatproof.base.settings import EvalSettings, MeasureSettings
from heatproof.base.store import Store
from heatproof.base.twin import Twin
from heatproof.stages.measure.block import block_of, block_of_samples, measure_block
from heatproof.stages.measure.cells import Cell, Found, cells_of, common_identity
from heatproof.stages.measure.making import other_weights, rerun_subset, validation_maps
from heatproof.stages.measure.pairs import compares
from heatproof.stages.measure.storing import joined, keep_block, read, read_block, write
from heatproof.stages.measure.table import scores_of

# Counts of `passes.Passes` that add up over blocks.
COUNTED = ("used", "requested", "maps", "again")


def measure(
    samples: Samples,
    classifier: Classifier,
    maps: Maps,
    metrics: Sequence[MetricChoice],
    settings: MeasureSettings,
    evaluation: EvalSettings,
    *,
    store: Store,
    batch: int = 32,
    estimate: int | None = None,
    progress: bool = True,
    permuted: Classifier | None = None,
    target: str = "predicted",
) -> Scores:
    """The long table of scores for all methods of `maps` under all metrics; shifted controls included.

    `permuted`: the net trained on permuted labels, for metrics that compare with it. `target`: what is explained on
    validation images, for metrics that pick a threshold on them.
    """
    methods = [method for method in maps.methods if method.alter != "shifted"]
    common = common_identity(samples, classifier, maps, settings, evaluation)
    single = [choice for choice in metrics if not compares(choice)]
    cells = cells_of(methods, single, common, None if permuted is None else permuted.identity)
    found = _stored(dict(enumerate(cells)), store)
    missing = {place: cell for place, cell in enumerate(cells) if place not in found}
    passes = dict.fromkeys(COUNTED, 0) | {"stored_cells": len(found), "new_cells": len(missing)}
    if missing:
        work = {"cells": [cell.identity for cell in missing.values()]}
        # Two processes that measure the same would take each other's blocks away.
        with store.locked("scores-blocks", work, f"scores of {len(missing)} methods x metrics"):
            found |= _stored(missing, store)
            missing = {place: cell for place, cell in missing.items() if place not in found}
            passes |= {"stored_cells": len(found), "new_cells": len(missing)}
            if missing:
                scratch = store.scratch("scores-blocks", work)
                parts = list(
                    _blocks(
                        *(samples, classifier, maps, missing, settings, evaluation, batch, scratch),
                        *(estimate, progress, permuted, target),
                    )
                )
                for name in COUNTED:
                    passes[name] = sum(part[1][name] for part in parts)
                for place, cell in missing.items():
                    found[place] = joined([part[0][place] for part in parts])
                    store.get_or_make(
                        "scores",
                        cell.identity,
                        partial(write, found=found[place]),
                        what=f"scores of {cell.method.name} under {cell.choice.label}",
                    )
                shutil.rmtree(scratch, ignore_errors=True)
    return scores_of(samples.table.iloc[maps.rows], maps, cells, found, metrics, settings, passes)


def _stored(cells: Mapping[int, Cell], store: Store) -> dict[int, Found]:
    """The numbers of those cells that the store has."""
    folders = {place: store.find("scores", cell.identity) for place, cell in cells.items()}
    return {place: read(folder) for place, folder in folders.items() if folder is not None}


def measure_tensors(
    classifier: Classifier,
    images: Float[Tensor, "n c h w"],
    maps: Maps,
    metrics: Sequence[MetricChoice],
    settings: MeasureSettings,
    *,
    masks: Bool[Tensor, "n h w"] | None = None,
    table: pd.DataFrame | None = None,
    batch: int = 32,
) -> Scores:
    """`measure` for images and maps in memory; nothing is stored. `table`: image, group, label per image, if known."""
    n = len(images)
    if table is None:
        table = pd.DataFrame({"image": [str(i) for i in range(n)], "group": None, "label": None})
    single = [choice for choice in metrics if not compares(choice)]
    cells = cells_of([method for method in maps.methods if method.alter != "shifted"], single, {})
    numbered = dict(enumerate(cells))
    twin = Twin(classifier.module, images[:2].to(classifier.device))
    ids = [str(image) for image in table["image"]]
    others = OtherWeights(classifier, images if classifier.background is None else classifier.background, batch=batch)
    parts, passes = [], dict.fromkeys(COUNTED, 0)
    for rows in blocks_of(n):
        part = images[rows].to(classifier.device)
        marked = masks[rows].bool() if masks is not None else torch.zeros(len(rows), *part.shape[-2:]).bool()
        block = block_of(
            part,
            marked.to(classifier.device),
            [ids[row] for row in rows],
            table["group"].iloc[rows],
            maps.targets[rows],
            np.ones(len(rows), dtype=bool),
            twin,
            batch,
        )
        engine = Engine(
            classifier, twin, seed=settings.seed, sign=settings.sign, protocol=settings.protocol, batch=batch,
            others=others,
        )  # fmt: skip
        parts.append(measure_block(engine, block, rows, maps, numbered, settings))
        passes = {name: passes[name] + getattr(engine.passes, name) for name in passes}
    found = {place: joined([part[place] for part in parts]) for place in numbered}
    return scores_of(table, maps, cells, found, metrics, settings, passes)


def _blocks(
    samples: Samples,
    classifier: Classifier,
    maps: Maps,
    cells: Mapping[int, Cell],
    settings: MeasureSettings,
    evaluation: EvalSettings,
    batch: int,
    scratch: Path,
    estimate: int | None,
    progress: bool,
    permuted: Classifier | None,
    target: str,
) -> Iterator[tuple[dict[int, Found], dict[str, int]]]:
    """Each block's numbers and pass counts; finished blocks are read back."""
    example = samples.images(maps.rows[: min(2, len(maps.rows))]).to(classifier.device)
    twin = Twin(classifier.module, example)
    rerun = rerun_subset(len(maps.rows), evaluation.rerun_images, settings.seed)
    others = other_weights(samples, classifier, maps, cells, batch, permuted)
    validation = validation_maps(samples, classifier, cells, evaluation, batch, target)
    with tqdm(total=estimate, desc="measure", unit="pass", disable=None if progress else True) as bar:
        for number, block_rows in enumerate(blocks_of(len(maps.rows))):
            folder = scratch / f"block_{number:05d}"
            if not folder.exists():
                engine = Engine(
                    classifier,
                    twin,
                    seed=settings.seed,
                    sign=settings.sign,
                    protocol=settings.protocol,
                    batch=batch,
                    on_pass=bar.update,
                    others=others,
                    validation=validation,
                )
                block = block_of_samples(samples, classifier, twin, maps, block_rows, rerun[block_rows], batch)
                numbers = measure_block(engine, block, block_rows, maps, cells, settings)
                keep_block(folder, numbers, vars(engine.passes))
            yield read_block(folder, cells)
