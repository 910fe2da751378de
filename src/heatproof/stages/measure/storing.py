"""Numbers of cells on disk: whole ones in the store, blocks in work beside."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from heatproof.stages.measure.cells import Cell, Found


def write(folder: Path, found: Found) -> None:
    arrays: dict[str, Any] = {
        f"{variant}/{name}": column for variant, columns in found.values.items() for name, column in columns.items()
    }
    if found.curve is not None:
        arrays |= {"curve/x": found.curve[0], "curve/y": found.curve[1]}
    if found.picture is not None:
        arrays |= {"picture/maps": found.picture}
    with (folder / "values.npz").open("wb") as file:
        np.savez(file, **arrays)
    (folder / "status.json").write_text(json.dumps({k: list(v) for k, v in found.status.items()}))


def read(folder: Path) -> Found:
    values: dict[str, dict[str, np.ndarray]] = {}
    with np.load(folder / "values.npz") as arrays:
        for key in arrays.files:
            variant, name = key.split("/", 1)
            values.setdefault(variant, {})[name] = arrays[key]
    curve, picture = values.pop("curve", None), values.pop("picture", None)
    status = json.loads((folder / "status.json").read_text())
    return Found(values, status, (curve["x"], curve["y"]) if curve else None, picture["maps"] if picture else None)


def keep_block(folder: Path, numbers: Mapping[int, Found], passes: Mapping[str, int]) -> None:
    part = folder.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    for place, found in numbers.items():
        cell = part / str(place)
        cell.mkdir(parents=True)
        write(cell, found)
    (part / "passes.json").write_text(json.dumps(dict(passes)))
    part.replace(folder)


def read_block(folder: Path, places: Mapping[int, Cell]) -> tuple[dict[int, Found], dict[str, int]]:
    passes = json.loads((folder / "passes.json").read_text())
    return {place: read(folder / str(place)) for place in places}, passes


def joined(parts: Sequence[Found]) -> Found:
    return Found(
        {
            variant: {name: np.concatenate([part.values[variant][name] for part in parts]) for name in columns}
            for variant, columns in parts[0].values.items()
        },
        {variant: [s for part in parts for s in part.status[variant]] for variant in parts[0].status},
        _joined_curve([part.curve for part in parts if part.curve is not None]),
        parts[0].picture,
    )


def _joined_curve(parts: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray] | None:
    return (parts[0][0], np.concatenate([y for _, y in parts])) if parts else None
