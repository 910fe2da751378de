"""One block of images: every metric of every method on it, beside shifted copies and floors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from heatproof.base import fields
from heatproof.base import methods as maps_of
from heatproof.base.altered import shift, shift_offsets
from heatproof.base.case import Case
from heatproof.base.halving import Batch, in_batches
from heatproof.base.passes import Engine
from heatproof.base.records import Classifier, Maps, Method, Samples
from heatproof.base.settings import MeasureSettings
from heatproof.base.tasks import Block, Result, Task
from heatproof.base.twin import Twin
from heatproof.stages.measure.cells import Cell, Found

# Variants that are evaluated on other maps than the method's own.
COPIES = ("shifted", "negative")


def block_of_samples(
    samples: Samples, classifier: Classifier, twin: Twin, maps: Maps, rows: np.ndarray, rerun: np.ndarray, batch: int
) -> Block:
    chosen = maps.rows[rows]
    table = samples.table.iloc[chosen]
    images = samples.images(chosen).to(classifier.device)
    if samples.masks is not None:
        masks = torch.from_numpy(np.asarray(samples.masks[chosen])).bool().to(classifier.device)
    else:
        masks = torch.zeros(len(rows), *images.shape[-2:], dtype=torch.bool, device=classifier.device)
    ids = [str(image) for image in table["image"]]
    return block_of(images, masks, ids, table["group"], maps.targets[rows], rerun, twin, batch)


def block_of(
    images: Tensor,
    masks: Tensor,
    ids: Sequence[str],
    groups: pd.Series,
    targets: np.ndarray,
    rerun: np.ndarray,
    twin: Twin,
    batch: int,
) -> Block:
    """An empty mask is no annotation; an image without a group is its own."""
    logits = torch.cat([twin(part) for part in images.split(batch)])
    return Block(
        images,
        ids,
        [image if pd.isna(group) else str(group) for image, group in zip(ids, groups, strict=True)],
        torch.as_tensor(targets, device=images.device),
        logits.double(),
        masks,
        masks.flatten(1).any(1),
        torch.from_numpy(rerun).to(images.device),
    )


def measure_block(
    engine: Engine,
    block: Block,
    block_rows: np.ndarray,
    maps: Maps,
    cells: Mapping[int, Cell],
    settings: MeasureSettings,
) -> dict[int, Found]:
    engine.start(block)
    tasks: list[Task] = []
    asked: list[tuple[int, str]] = []
    cases: dict[str, Case] = {}
    shifted: dict[str, list[Case]] = {}
    negative: dict[str, list[Case]] = {}
    offsets = _offsets(block, settings)
    view_maps = _view_maps(engine, block, [cell.method for cell in cells.values()], settings)
    for place, cell in cells.items():
        name = str(cell.method.name)
        status = [maps.status[name][row] for row in block_rows]
        if name not in cases:
            own = torch.from_numpy(np.array(maps.array(name)[block_rows])).to(block.images.device)
            spread = maps.spread(name)
            cases[name] = engine.case(
                cell.method,
                own,
                view_maps=view_maps.get(name),
                spread=None if spread is None else torch.from_numpy(spread[block_rows].copy()).to(own),
            )
        for variant in cell.variants(settings):
            if variant == "shifted" and name not in shifted:
                moved = Method(**{**vars(cell.method), "alter": "shifted"})
                shifted[name] = [engine.case(moved, shift(cases[name].maps, offset)) for offset in offsets]
            if variant == "negative" and name not in negative:
                negative[name] = [replace(cases[name], maps=-cases[name].maps, undefined=[], curves=[])]
            group = {"shifted": shifted, "negative": negative}[variant][name] if variant in COPIES else [cases[name]]
            for case in group:
                tasks.append(engine.task(case, cell.choice, status, floor=variant == "floor"))
                asked.append((place, variant))
    collected: dict[int, dict[str, list[Result]]] = {}
    for (place, variant), result in zip(asked, engine.run(tasks), strict=True):
        collected.setdefault(place, {}).setdefault(variant, []).append(result)
    return {
        place: Found(
            {variant: _mean_columns(results) for variant, results in by_variant.items()},
            {variant: _first_bad(results) for variant, results in by_variant.items()},
            None if (kept := by_variant["own"][0].curve) is None else (kept.x.numpy(), kept.y.numpy()),
            None if (picture := by_variant["own"][0].picture) is None else picture.numpy(),
        )
        for place, by_variant in collected.items()
    }


def _offsets(block: Block, settings: MeasureSettings) -> list[Tensor]:
    """The circular shifts of each copy: per image, equal for all methods."""
    height, width = block.images.shape[-2:]
    device = block.images.device
    return [
        shift_offsets(
            torch.tensor(
                [fields.image_seed(settings.seed, image, f"shift{copy}") for image in block.ids], device=device
            ),
            height,
            width,
        )
        for copy in range(settings.shifts)
    ]


def _view_maps(engine: Engine, block: Block, methods: Sequence[Method], settings: MeasureSettings) -> dict[str, Tensor]:
    """Aligned maps of the views of each fusion: only the study protocol looks at them. Fusions share their views."""
    fused = {str(method.name): method for method in methods if method.views}
    if settings.protocol != "study" or not fused:
        return {}
    counter = maps_of.MapPasses()

    def run(rows: slice) -> list[Tensor]:
        made = maps_of.explain_batch(
            engine.classifier,
            block.images[rows],
            block.targets[rows],
            [*fused.values()],
            ids=block.ids[rows],
            seed=settings.seed,
            protocol="study",
            keep_views=True,
            passes=counter,
        )
        return [views for name in fused if (views := made[name].views) is not None]

    parts = [views for _, views in in_batches(len(block.ids), Batch(engine.running.batch), run)]
    engine.passes.again += counter.images
    return {name: torch.cat(views, 1) for name, views in zip(fused, zip(*parts, strict=True), strict=True)}


def _mean_columns(results: Sequence[Result]) -> dict[str, np.ndarray]:
    return {name: np.mean([result.columns[name].numpy() for result in results], axis=0) for name in results[0].columns}


def _first_bad(results: Sequence[Result]) -> list[str]:
    return [
        next((status for status in per_image if status != "ok"), "ok")
        for per_image in zip(*(result.status for result in results), strict=True)
    ]
