"""`report.html`: the whole report in one file that needs no network; every name is escaped."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pandas as pd

from heatproof.base.records import Predictions, Samples
from heatproof.stages.report.classified import overall_frame, report_frame, report_text
from heatproof.stages.report.findings import Column, Findings
from heatproof.stages.report.tables import (
    cell_text,
    common_n,
    comparisons_frame,
    digits,
    notes,
    title,
)
from heatproof.stages.report.verdicts import marks
from heatproof.stages.report.viewer import MAP_SIDE, Viewer


def environment() -> jinja2.Environment:
    """The templates of this folder; whatever is put into them is escaped."""
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    return jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)


def render(
    findings: Findings,
    *,
    summary: Mapping[str, Any],
    samples: Samples,
    predictions: Predictions,
    classes: Sequence[str],
    figures: Sequence[Mapping[str, str]],
    config: str,
    protocol: str,
    views: pd.DataFrame,
    viewer: Viewer,
) -> str:
    """The report as HTML. A table sorts by a click on its heading and is filtered by words; without JavaScript it is a
    plain table, and the images show the maps of the first method."""
    tables = [("", table_of(findings, findings.of("main")), "The arrow points to the better side.")]
    if findings.of("excess"):
        text = "What is left after the baseline; 0 = no better than it, up is better."
        tables.append(("Excess over the baseline", table_of(findings, findings.of("excess")), text))
    overrides = summary.get("overrides") or ()
    template = environment().get_template("page.html")
    return template.render(
        summary=summary,
        command=" ".join(["heatproof", *map(shlex.quote, overrides)]) if "overrides" in summary else "",
        counts=frame_of(counts_frame(samples)),
        controls=[str(method.name) for method in findings.controls],
        tables=tables,
        notes=notes(findings, protocol=protocol),
        marks={name: found for m in findings.tested if (found := marks(findings, name := str(m.name)))},
        comparisons=frame_of(comparisons_frame(findings)),
        classified=frame_of(report_text(report_frame(predictions, classes))),
        overall=frame_of(overall_frame(predictions, classes)),
        positive=predictions.positive,
        uncertainty=list(_uncertainty(findings)),
        views=frame_of(views),
        undefined=frame_of(undefined_frame(findings)),
        flags=frame_of(flags_frame(summary["flags"])),
        figures=figures,
        viewer=viewer,
        first=next(iter(viewer.maps), ""),
        outlines=any(tile.outline for tile in viewer.tiles),
        map_side=MAP_SIDE,
        hashes={"plan": summary["plan_hash"], "data": summary["data_hash"], "net": summary.get("net")},
        config=config,
    )


def counts_frame(samples: Samples) -> pd.DataFrame:
    """Images by class (rows) and split (columns)."""
    named = samples.table["label_name"].fillna("without a label")
    counts = pd.crosstab(named, samples.table["split"].fillna("none"))
    order = [name for name in ("train", "val", "test") if name in counts]
    counts = counts[[*order, *(name for name in counts if name not in order)]]
    frame = counts.assign(all=counts.sum(axis=1)).rename_axis("class").rename_axis(None, axis=1).reset_index()
    total = pd.DataFrame([{"class": "all", **{name: frame[name].sum() for name in frame.columns[1:]}}])
    return pd.concat([frame, total], ignore_index=True)


def undefined_frame(findings: Findings) -> pd.DataFrame:
    """One row per method, figure and reason: how many of its images have no value."""
    rows = [
        {"method": method, "figure": column, "reason": why, "images": count, "of": cell.rows}
        for (method, column), cell in findings.cells.items()
        for why, count in cell.undefined.items()
    ]
    return pd.DataFrame(rows, columns=["method", "figure", "reason", "images", "of"])


def flags_frame(flags: Mapping[str, Mapping[str, int]]) -> pd.DataFrame:
    """One row per method: how many of its maps are ok, zero, constant, not finite or failed."""
    states = list(dict.fromkeys(["ok", *(state for counts in flags.values() for state in counts)]))
    rows = [{"method": name, **{state: counts.get(state, 0) for state in states}} for name, counts in flags.items()]
    return pd.DataFrame(rows, columns=["method", *states])


KINDS = {
    "bca": "bootstrap, bias-corrected and accelerated (BCa)",
    "bootstrap-t": "bootstrap-t",
    "student-t": "Student's t, for fewer than 6 of them",
    "none": "none, for there are too few values",
    "wilson": "Wilson's interval of a share",
    "constant": "none, for all values are equal",
}


def _uncertainty(findings: Findings) -> Iterator[str]:
    """What the intervals are of and how they are made."""
    kinds: dict[str, int] = {}
    for cell in findings.cells.values():
        if cell.interval.n:
            kinds[cell.interval.kind] = kinds.get(cell.interval.kind, 0) + 1
    unit = "groups (patients), whose images are drawn together" if findings.grouped else "images"
    yield f"Every figure has its own n and its 95 % interval over {unit}; {len(findings.images)} images were explained."
    if kinds:
        made = "; ".join(f"{KINDS.get(kind, kind)} ({count})" for kind, count in kinds.items())
        yield f"How the intervals were made (number of figures): {made}."
    if findings.pairs:
        yield (
            f"{len(findings.pairs)} paired comparisons; their p values are adjusted over all of them (Holm): of tables "
            "without any difference, at most one in twenty names a winner."
        )
    yield f"One run of seed {findings.seed}: the intervals do not cover other trainings; a sweep over seeds does."


def table_of(findings: Findings, columns: Sequence[Column]) -> dict[str, Any]:
    """Headings and rows; each cell with the number that it sorts by."""
    rows = []
    for method in (*findings.tested, *findings.controls):
        cells = []
        for column in columns:
            cell = findings.cells[str(method.name), column.name]
            text = cell_text(cell, digits(findings, column), common_n=common_n(findings, column))
            mean, _, ends = text.partition(" ")
            cells.append({"text": mean, "ends": ends, "sort": _sortable(cell.interval.mean)})
        rows.append({"name": str(method.name), "control": method.control_of is not None, "cells": cells})
    heads = [
        {"text": title(c), "n": common_n(findings, c) or 0, "over": f"over {c.baseline}" if c.baseline else ""}
        for c in columns
    ]
    return {"heads": heads, "rows": rows}


def frame_of(frame: pd.DataFrame) -> dict[str, Any]:
    """Headings and rows of a plain table; each cell with what it sorts by."""
    rows = [[{"text": _text(value), "sort": _sortable(value)} for value in row] for row in frame.to_numpy().tolist()]
    return {"heads": list(frame.columns), "rows": rows}


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3g}" if np.isfinite(value) else "–"
    return str(value)


def _sortable(value: object) -> str:
    """Text that sorts: a number in full, that of `0.91 [0.85, 0.95]`, else the text itself; nothing where a value is
    undefined."""
    if isinstance(value, (int, float)):
        return repr(float(value)) if np.isfinite(value) else ""
    text = str(value)
    number = re.match(r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?(?= \[|$)", text)
    return number[0] if number else "" if text == "–" else text
