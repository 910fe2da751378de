"""Stage `measure`: every metric of every method on every explained image, beside shifted copies and floors.

Results are stored per (method, metric), so a method or metric that is added later costs its own passes only; blocks are
stored as they finish, so a kill costs at most one.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from tqdm import tqdm

from heatproof.base import fields
from heatproof.base import methods as maps_of
from heatproof.base.altered import shift, shift_offsets
from heatproof.base.blocks import blocks_of
from heatproof.base.case import Case
from heatproof.base.passes import Block, Engine, Result, Task
from heatproof.base.records import Classifier, Maps, Method, MetricChoice, Samples, Scores
from heatproof.base.settings import EvalSettings, MeasureSettings
from heatproof.base.store import Store
from heatproof.base.twin import Twin

# Raise it when the numbers of an unchanged metric change.
VERSION = 1
# What a metric is evaluated on: the method's maps, their shifted copies, other images' reruns.
VARIANTS = ("own", "shifted", "floor")
# Counts of `passes.Passes` that add up over blocks.
COUNTED = ("used", "requested", "maps", "again")
COLUMNS = [
    *("image", "group", "label", "predicted", "method", "base", "layer", "views", "fusion", "control_of", "metric"),
    *("column", "identity", "protocol", "fill", "target", "seed", "value", "status"),
]


@dataclass(frozen=True)
class _Cell:
    """One method under one metric: the unit of the store."""

    method: Method
    choice: MetricChoice
    identity: Mapping[str, Any]

    def variants(self, settings: MeasureSettings) -> tuple[str, ...]:
        """Shifted copies are for methods under test, the floor for all; neither is part of the study protocol."""
        facts = self.choice.metric.facts
        sound = settings.protocol == "sound"
        shifted = sound and facts.get("shifted") and "shifted" in settings.controls and self.method.control_of is None
        return ("own", *(["shifted"] if shifted else []), *(["floor"] if sound and facts.get("floor") else []))


@dataclass(frozen=True)
class _Found:
    """A cell's numbers: variant -> column -> float64 (n,), and variant -> status per image; the curve (x, y) of the
    method's own maps where the metric sums one up."""

    values: Mapping[str, Mapping[str, np.ndarray]]
    status: Mapping[str, Sequence[str]]
    curve: tuple[np.ndarray, np.ndarray] | None = None


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
) -> Scores:
    """The long table of scores for all methods of `maps` under all metrics; shifted controls included."""
    methods = [method for method in maps.methods if method.alter != "shifted"]
    common = _common_identity(samples, classifier, maps, settings, evaluation)
    cells = _cells(methods, metrics, common)
    found: dict[int, _Found] = {}
    for place, cell in enumerate(cells):
        folder = store.find("scores", cell.identity)
        if folder is not None:
            found[place] = _read(folder)
    missing = {place: cell for place, cell in enumerate(cells) if place not in found}
    passes = dict.fromkeys(COUNTED, 0) | {"stored_cells": len(found), "new_cells": len(missing)}
    if missing:
        scratch = store.scratch("scores-blocks", {"cells": [cell.identity for cell in missing.values()]})
        scratch.mkdir(parents=True, exist_ok=True)
        blocks = _blocks(samples, classifier, maps, missing, settings, evaluation, batch, scratch, estimate, progress)
        parts = list(blocks)
        for name in COUNTED:
            passes[name] = sum(part[1][name] for part in parts)
        for place, cell in missing.items():
            found[place] = _joined([part[0][place] for part in parts])
            store.get_or_make(
                "scores",
                cell.identity,
                partial(_write, found=found[place]),
                what=f"scores of {cell.method.name} under {cell.choice.label}",
            )
        shutil.rmtree(scratch, ignore_errors=True)
    return _scores(samples.table.iloc[maps.rows], maps, cells, found, metrics, settings, passes)


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
    cells = _cells([method for method in maps.methods if method.alter != "shifted"], metrics, {})
    numbered = dict(enumerate(cells))
    twin = Twin(classifier.module, images[:2].to(classifier.device))
    ids = [str(image) for image in table["image"]]
    parts, passes = [], dict.fromkeys(COUNTED, 0)
    for rows in blocks_of(n):
        part = images[rows].to(classifier.device)
        marked = masks[rows].bool() if masks is not None else torch.zeros(len(rows), *part.shape[-2:]).bool()
        block = _block(
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
            classifier, twin, seed=settings.seed, sign=settings.sign, protocol=settings.protocol, batch=batch
        )
        parts.append(_measure_block(engine, block, rows, maps, numbered, settings))
        passes = {name: passes[name] + getattr(engine.passes, name) for name in passes}
    found = {place: _joined([part[place] for part in parts]) for place in numbered}
    return _scores(table, maps, cells, found, metrics, settings, passes)


def _cells(methods: Sequence[Method], metrics: Sequence[MetricChoice], common: Mapping[str, Any]) -> list[_Cell]:
    return [
        _Cell(
            method,
            choice,
            {
                **common,
                "method": method.identity(),
                "blur_px": method.blur_px,
                "metric": choice.metric.identity(),
                "protocol": choice.protocol,
            },
        )
        for method in methods
        for choice in metrics
    ]


def _scores(
    table: pd.DataFrame,
    maps: Maps,
    cells: Sequence[_Cell],
    found: Mapping[int, _Found],
    metrics: Sequence[MetricChoice],
    settings: MeasureSettings,
    passes: Mapping[str, int],
) -> Scores:
    rows = [_rows(table, maps, cell, found[place], settings) for place, cell in enumerate(cells)]
    return Scores(
        pd.concat(rows, ignore_index=True)[COLUMNS],
        pd.concat([_EMPTY_CURVES, *(_curve_rows(table, cell, found[place]) for place, cell in enumerate(cells))]),
        pd.DataFrame(columns=["image", "method_a", "method_b", "metric", "value"]),
        tuple(maps.methods),
        tuple(metrics),
        passes,
        {name: _counts(status) for name, status in maps.status.items()},
    )


def _common_identity(
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


def _blocks(
    samples: Samples,
    classifier: Classifier,
    maps: Maps,
    cells: Mapping[int, _Cell],
    settings: MeasureSettings,
    evaluation: EvalSettings,
    batch: int,
    scratch: Path,
    estimate: int | None,
    progress: bool,
) -> Iterator[tuple[dict[int, _Found], dict[str, int]]]:
    """Each block's numbers and pass counts; finished blocks are read back."""
    example = samples.images(maps.rows[: min(2, len(maps.rows))]).to(classifier.device)
    twin = Twin(classifier.module, example)
    rerun = rerun_subset(len(maps.rows), evaluation.rerun_images, settings.seed)
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
                )
                block = _block_of_samples(samples, classifier, twin, maps, block_rows, rerun[block_rows], batch)
                numbers = _measure_block(engine, block, block_rows, maps, cells, settings)
                _keep_block(folder, numbers, vars(engine.passes))
            yield _read_block(folder, cells)


def rerun_subset(n: int, wanted: int | None, seed: int) -> np.ndarray:
    """Which of the n images methods are rerun on: one seeded subset for all methods, all where none is wanted."""
    use = np.ones(n, dtype=bool)
    if wanted is not None and wanted < n:
        use[:] = False
        use[np.random.default_rng(seed).permutation(n)[:wanted]] = True
    return use


def _block_of_samples(
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
    return _block(images, masks, ids, table["group"], maps.targets[rows], rerun, twin, batch)


def _block(
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


def _measure_block(
    engine: Engine,
    block: Block,
    block_rows: np.ndarray,
    maps: Maps,
    cells: Mapping[int, _Cell],
    settings: MeasureSettings,
) -> dict[int, _Found]:
    engine.start(block)
    tasks: list[Task] = []
    asked: list[tuple[int, str]] = []
    cases: dict[str, Case] = {}
    shifted: dict[str, list[Case]] = {}
    offsets = _offsets(block, settings)
    for place, cell in cells.items():
        name = str(cell.method.name)
        status = [maps.status[name][row] for row in block_rows]
        if name not in cases:
            own = torch.from_numpy(np.array(maps.array(name)[block_rows])).to(block.images.device)
            cases[name] = engine.case(cell.method, own, view_maps=_view_maps(engine, block, cell.method, settings))
        for variant in cell.variants(settings):
            if variant == "shifted" and name not in shifted:
                moved = Method(**{**vars(cell.method), "alter": "shifted"})
                shifted[name] = [engine.case(moved, shift(cases[name].maps, offset)) for offset in offsets]
            group = shifted[name] if variant == "shifted" else [cases[name]]
            for case in group:
                tasks.append(engine.task(case, cell.choice, status, floor=variant == "floor"))
                asked.append((place, variant))
    collected: dict[int, dict[str, list[Result]]] = {}
    for (place, variant), result in zip(asked, engine.run(tasks), strict=True):
        collected.setdefault(place, {}).setdefault(variant, []).append(result)
    return {
        place: _Found(
            {variant: _mean_columns(results) for variant, results in by_variant.items()},
            {variant: _first_bad(results) for variant, results in by_variant.items()},
            None if (kept := by_variant["own"][0].curve) is None else (kept.x.numpy(), kept.y.numpy()),
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


def _view_maps(engine: Engine, block: Block, method: Method, settings: MeasureSettings) -> Tensor | None:
    """Aligned maps of a fusion's views: only the study protocol looks at them."""
    if settings.protocol != "study" or not method.views:
        return None
    counter = maps_of.MapPasses()
    made = maps_of.explain_batch(
        engine.classifier,
        block.images,
        block.targets,
        [method],
        ids=block.ids,
        seed=settings.seed,
        protocol="study",
        keep_views=True,
        passes=counter,
    )
    engine.passes.again += counter.images
    return made[str(method.name)].views


def _mean_columns(results: Sequence[Result]) -> dict[str, np.ndarray]:
    return {name: np.mean([result.columns[name].numpy() for result in results], axis=0) for name in results[0].columns}


def _first_bad(results: Sequence[Result]) -> list[str]:
    return [
        next((status for status in per_image if status != "ok"), "ok")
        for per_image in zip(*(result.status for result in results), strict=True)
    ]


# ---- storing numbers -------------------------------------------------------------------------------------------------


def _write(folder: Path, found: _Found) -> None:
    arrays: dict[str, Any] = {
        f"{variant}/{name}": column for variant, columns in found.values.items() for name, column in columns.items()
    }
    if found.curve is not None:
        arrays |= {"curve/x": found.curve[0], "curve/y": found.curve[1]}
    with (folder / "values.npz").open("wb") as file:
        np.savez(file, **arrays)
    (folder / "status.json").write_text(json.dumps({k: list(v) for k, v in found.status.items()}))


def _read(folder: Path) -> _Found:
    values: dict[str, dict[str, np.ndarray]] = {}
    with np.load(folder / "values.npz") as arrays:
        for key in arrays.files:
            variant, name = key.split("/", 1)
            values.setdefault(variant, {})[name] = arrays[key]
    curve = values.pop("curve", None)
    status = json.loads((folder / "status.json").read_text())
    return _Found(values, status, (curve["x"], curve["y"]) if curve else None)


def _keep_block(folder: Path, numbers: Mapping[int, _Found], passes: Mapping[str, int]) -> None:
    part = folder.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    for place, found in numbers.items():
        cell = part / str(place)
        cell.mkdir(parents=True)
        _write(cell, found)
    (part / "passes.json").write_text(json.dumps(dict(passes)))
    part.replace(folder)


def _read_block(folder: Path, places: Mapping[int, _Cell]) -> tuple[dict[int, _Found], dict[str, int]]:
    passes = json.loads((folder / "passes.json").read_text())
    return {place: _read(folder / str(place)) for place in places}, passes


def _joined(parts: Sequence[_Found]) -> _Found:
    return _Found(
        {
            variant: {name: np.concatenate([part.values[variant][name] for part in parts]) for name in columns}
            for variant, columns in parts[0].values.items()
        },
        {variant: [s for part in parts for s in part.status[variant]] for variant in parts[0].status},
        _joined_curve([part.curve for part in parts if part.curve is not None]),
    )


def _joined_curve(parts: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray] | None:
    return (parts[0][0], np.concatenate([y for _, y in parts])) if parts else None


# ---- the long table --------------------------------------------------------------------------------------------------


def _rows(table: pd.DataFrame, maps: Maps, cell: _Cell, found: _Found, settings: MeasureSettings) -> pd.DataFrame:
    """The rows of one cell: the metric's columns, floor and excess, and the shifted control's own row."""
    facts = cell.choice.metric.facts
    frames = []

    def add(method: Method, column: str, values: np.ndarray, status: Sequence[str]) -> None:
        name = method.name
        frames.append(
            pd.DataFrame(
                {
                    "image": table["image"].to_numpy(),
                    "group": table["group"].to_numpy(),
                    "label": table["label"].to_numpy(),
                    "predicted": maps.predicted,
                    "method": str(name),
                    "base": name.label,
                    "layer": method.layer,
                    "views": name.views,
                    "fusion": name.fusion,
                    "control_of": method.control_of,
                    "metric": cell.choice.label,
                    "column": column,
                    "identity": cell.choice.identity,
                    "protocol": settings.protocol,
                    "fill": cell.choice.metric.settings.get("fill"),
                    "target": maps.targets,
                    "seed": settings.seed,
                    "value": values,
                    "status": list(status),
                }
            )
        )

    own = found.values["own"]
    main = facts["columns"][0]
    for column, values in own.items():
        status = found.status["own"] if column == main else _status_beside(values, found.status["own"])
        add(cell.method, labelled(column, cell.choice), values, status)
    label = cell.choice.label
    sign = -1.0 if facts["better"] == "down" else 1.0
    for variant in ("shifted", "floor"):
        if variant in found.values:
            status = [a if a != "ok" else b for a, b in zip(found.status["own"], found.status[variant], strict=True)]
            baseline = found.values[variant][main]
            add(cell.method, f"{label}_excess", sign * (own[main] - baseline), status)
            if variant == "floor":
                add(cell.method, f"{label}_floor", baseline, found.status[variant])
            else:
                moved = replace(
                    cell.method,
                    name=cell.method.name.prefixed("shifted"),
                    control_of=str(cell.method.name),
                    alter="shifted",
                )
                add(moved, label, baseline, found.status[variant])
    if f"{main}_chance" in own:
        add(cell.method, f"{label}_excess", sign * (own[main] - own[f"{main}_chance"]), found.status["own"])
    return pd.concat(frames, ignore_index=True)


_EMPTY_CURVES = pd.DataFrame(
    {"image": [], "method": [], "metric": [], "identity": [], "x": np.zeros(0), "y": np.zeros(0)}
)


def _curve_rows(table: pd.DataFrame, cell: _Cell, found: _Found) -> pd.DataFrame:
    """The rows of one cell in `curves.parquet`: one per image and point, undefined images left out."""
    if found.curve is None:
        return _EMPTY_CURVES
    x, y = found.curve
    known = ~np.isnan(y).all(1)
    return pd.DataFrame(
        {
            "image": np.repeat(table["image"].to_numpy()[known], len(x)),
            "method": str(cell.method.name),
            "metric": cell.choice.label,
            "identity": cell.choice.identity,
            "x": np.tile(x, int(known.sum())),
            "y": y[known].ravel(),
        }
    )


def _status_beside(values: np.ndarray, main: Sequence[str]) -> list[str]:
    """Status of a further column: it may say something where the main one does not, and the other way round."""
    lost = ["undefined:nan" if why == "ok" else why for why in main]
    return ["ok" if np.isfinite(value) else why for value, why in zip(values, lost, strict=True)]


def labelled(column: str, choice: MetricChoice) -> str:
    """A metric's column under the label of its choice: `faith_area` of `faith_mean` is `faith_mean_area`."""
    name = choice.metric.name
    return choice.label + column[len(name) :] if column.startswith(name) else f"{choice.label}_{column}"


def _counts(status: Sequence[str]) -> dict[str, int]:
    return {kind: status.count(kind) for kind in sorted(set(status))}
