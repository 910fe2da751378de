"""The long table of scores, and what stands beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from heatproof.base.records import Maps, Method, MetricChoice, Scores
from heatproof.base.settings import MeasureSettings
from heatproof.stages.measure.cells import Cell, Found
from heatproof.stages.measure.pairs import pairs_of

COLUMNS = [
    *("image", "group", "label", "predicted", "method", "base", "layer", "views", "fusion", "control_of", "metric"),
    *("column", "identity", "protocol", "fill", "target", "seed", "value", "status"),
]
EMPTY_CURVES = pd.DataFrame(
    {"image": [], "method": [], "metric": [], "identity": [], "x": np.zeros(0), "y": np.zeros(0)}
)


def scores_of(
    table: pd.DataFrame,
    maps: Maps,
    cells: Sequence[Cell],
    found: Mapping[int, Found],
    metrics: Sequence[MetricChoice],
    settings: MeasureSettings,
    passes: Mapping[str, int],
) -> Scores:
    rows = [rows_of(table, maps, cell, found[place], settings) for place, cell in enumerate(cells)]
    return Scores(
        pd.concat(rows, ignore_index=True)[COLUMNS],
        pd.concat([EMPTY_CURVES, *(curve_rows_of(table, cell, found[place]) for place, cell in enumerate(cells))]),
        pairs_of(table, maps, metrics, settings),
        tuple(maps.methods),
        tuple(metrics),
        passes,
        {name: _counts(status) for name, status in maps.status.items()},
        {
            (str(cell.method.name), cell.choice.label): picture
            for place, cell in enumerate(cells)
            if (picture := found[place].picture) is not None
        },
    )


def rows_of(table: pd.DataFrame, maps: Maps, cell: Cell, found: Found, settings: MeasureSettings) -> pd.DataFrame:
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
    if "negative" in found.values:
        both = [a if a != "ok" else b for a, b in zip(found.status["own"], found.status["negative"], strict=True)]
        add(cell.method, f"{label}_qge", own[main] - found.values["negative"][main], both)
    if f"{main}_chance" in own:
        add(cell.method, f"{label}_excess", sign * (own[main] - own[f"{main}_chance"]), found.status["own"])
    return pd.concat(frames, ignore_index=True)


def curve_rows_of(table: pd.DataFrame, cell: Cell, found: Found) -> pd.DataFrame:
    """The rows of one cell in `curves.parquet`: one per image and point, undefined images left out."""
    if found.curve is None:
        return EMPTY_CURVES
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
