"""The page of a run that stops before it measures: warnings, figures, tables, how to make it again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from heatproof.stages.report.page import environment, frame_of


@dataclass(frozen=True)
class Table:
    """A table as text; `hidden`: how many more rows the csv file has."""

    title: str
    text: pd.DataFrame
    hidden: int = 0


def render(
    summary: Mapping[str, Any],
    *,
    subject: str,
    heading: str,
    warnings: Sequence[str],
    notes: Sequence[str],
    tables: Sequence[Table],
    figures: Sequence[Mapping[str, str]],
    config: str,
) -> str:
    """One file that works offline; every text in it is escaped. `subject`: what its title says after the run's name."""
    shown = [{**frame_of(one.text), "title": one.title, "hidden": one.hidden} for one in tables if len(one.text)]
    return environment().get_template("plain.html").render(
        summary=summary, subject=subject, heading=heading, warnings=warnings, notes=notes, tables=shown,
        figures=figures, config=config,
    )  # fmt: skip
