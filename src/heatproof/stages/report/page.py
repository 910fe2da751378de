"""`report.html`: the whole report in one file that needs no network; every name is escaped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pandas as pd

from heatproof.base.records import Predictions
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


def render(
    findings: Findings,
    *,
    summary: Mapping[str, Any],
    predictions: Predictions,
    classes: Sequence[str],
    figures: Sequence[Mapping[str, str]],
    config: str,
    protocol: str,
    views: pd.DataFrame,
) -> str:
    """The report as HTML. A table sorts by a click on its heading; without JavaScript it is a plain table."""
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    page = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    tables = [("Metrics", _table(findings, findings.of("main")), "The arrow points to the better side.")]
    if findings.of("excess"):
        text = "What is left after the baseline; 0 = no better than it, up is better."
        tables.append(("Excess over the baseline", _table(findings, findings.of("excess")), text))
    return page.get_template("page.html").render(
        summary=summary,
        tables=tables,
        notes=notes(findings, protocol=protocol),
        marks={name: found for m in findings.tested if (found := marks(findings, name := str(m.name)))},
        comparisons=_frame(comparisons_frame(findings)),
        classified=_frame(report_text(report_frame(predictions, classes))),
        overall=_frame(overall_frame(predictions, classes)),
        positive=predictions.positive,
        views=_frame(views),
        figures=figures,
        config=config,
    )


def _table(findings: Findings, columns: Sequence[Column]) -> dict[str, Any]:
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


def _frame(frame: pd.DataFrame) -> dict[str, Any]:
    rows = [[{"text": _text(value), "sort": _sortable(value)} for value in row] for row in frame.to_numpy().tolist()]
    return {"heads": list(frame.columns), "rows": rows}


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3g}" if np.isfinite(value) else "–"
    return str(value)


def _sortable(value: object) -> str:
    """Text that sorts: a number in full, else the text itself; undefined values last."""
    if isinstance(value, (int, float)):
        return repr(float(value)) if np.isfinite(value) else "-Infinity"
    return str(value)
