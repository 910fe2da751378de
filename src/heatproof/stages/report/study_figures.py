"""Figures of a study: published beside ours, and the comparisons behind the verdicts."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from textwrap import fill

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from heatproof.base.study import Published, Study
from heatproof.stages.report.claims import Verdict
from heatproof.stages.report.drawing import CONTROL, PAGE, SECOND, STYLE, TESTED, Drawing, drawn, short
from heatproof.stages.report.study_maps import map_drawings
from heatproof.stages.report.study_runs import Runs

ACROSS = 4
LABEL = 60  # characters of a line of a label
LOOK = {"study": (SECOND, "s", "ours, study protocol"), "sound": (TESTED, "o", "ours, sound protocol")}


def drawn_figures(
    study: Study, runs: Runs, frame: pd.DataFrame, verdicts: Sequence[Verdict], folder: Path
) -> list[tuple[str, str, list[Path]]]:
    """Name, caption and files of each figure, saved in `folder`."""
    with matplotlib.rc_context(fname=STYLE):
        return drawn(folder, [*_tables(study, frame), *map_drawings(study, runs), *_claims(verdicts)])


def _tables(study: Study, frame: pd.DataFrame) -> Iterator[Drawing]:
    for table in study.published:
        some = frame[frame["table"] == table.table]
        some = some[some[["study_mean", "sound_mean"]].notna().any(axis=1) | some["published"].notna()]
        if some[["study_mean", "sound_mean"]].notna().any(axis=None):
            yield _table(table, some)


def _table(table: Published, some: pd.DataFrame) -> Drawing:
    """One axes per figure, one row per arm, method or image; published values are open diamonds."""
    label = some[["arm", "method", "image"]].apply(lambda row: " ".join(str(p) for p in row if pd.notna(p)), axis=1)
    some = some.assign(row=label)
    rows, names = list(dict.fromkeys(label)), list(dict.fromkeys(some["figure"]))
    across = min(ACROSS, len(names))
    down = -(-len(names) // across)
    figure = Figure(figsize=(PAGE, (0.17 * len(rows) + 0.65) * down + 0.3))
    grid = figure.subplots(down, across, squeeze=False, sharey=True)
    for axes in grid.flat[len(names) :]:
        axes.set_visible(False)
    for axes, name in zip(grid.flat, names, strict=False):
        part = some[some["figure"] == name]
        place = np.array([rows.index(row) for row in part["row"]])
        for number, (protocol, (colour, mark, text)) in enumerate(LOOK.items()):
            mean, lo, hi = (part[f"{protocol}_{key}"].to_numpy(float) for key in ("mean", "lo", "hi"))
            if np.isfinite(mean).any():
                xerr = np.nan_to_num([mean - lo, hi - mean]).clip(min=0)
                axes.errorbar(mean, place + 0.3 * number - 0.15, xerr=xerr, fmt=mark, markersize=3, linewidth=1,
                              color=colour, label=text)  # fmt: skip
        if part["published"].notna().any():
            axes.plot(part["published"], place, "D", markersize=4.5, markerfacecolor="none", color="black",
                      linewidth=0, label="published")  # fmt: skip
        axes.margins(x=0.1)
        axes.set_title(name, fontsize=6.5)
        axes.xaxis.set_major_locator(MaxNLocator(3, steps=[1, 2, 5, 10]))
        axes.grid(axis="both", color="0.92", linewidth=0.5)
        axes.set_axisbelow(True)
        axes.tick_params(axis="both", labelsize=6)
    grid[0, 0].set_yticks(range(len(rows)), [short(row, LABEL) for row in rows], fontsize=6)
    grid[0, 0].set_ylim(len(rows) - 0.4, -0.6)
    shown = {text: handle for axes in grid.flat for handle, text in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(shown.values(), shown.keys(), loc="outside upper left", ncols=3)
    source = f" ({table.source})" if table.source else ""
    published = f"open diamonds as published{source}, " if some["published"].notna().any() else ""
    return Drawing(
        f"study_{table.table}",
        figure,
        f"{table.title}: {published}orange squares ours under the study's protocol, blue dots under the sound one, "
        "with 95 % intervals.",
    )


def _claims(verdicts: Sequence[Verdict]) -> Iterator[Drawing]:
    """Every comparison with its interval, turned so that the right-hand side is as claimed."""
    rows = [(verdict, one) for verdict in verdicts for one in verdict.outcomes if one.comparison.n]
    if not rows:
        return
    labels = [fill(f"{_numbered(verdict)}{_plain(one.what)}", LABEL) for verdict, one in rows]
    lines = max(label.count("\n") for label in labels) + 1
    figure = Figure(figsize=(PAGE, 0.6 + (0.07 + 0.1 * lines) * len(rows)))
    axes = figure.subplots()
    for place, (_, one) in enumerate(rows):
        scale = _scale(one.comparison.lo, one.comparison.hi, one.comparison.difference)
        mean, lo, hi = (value / scale for value in (one.comparison.difference, one.comparison.lo, one.comparison.hi))
        colour = {1: TESTED, -1: SECOND, 0: CONTROL}[one.state]
        axes.errorbar(mean, place, xerr=np.nan_to_num([[mean - lo], [hi - mean]]).clip(min=0), fmt="o", markersize=3,
                      linewidth=1.2, color=colour)  # fmt: skip
    axes.axvline(0, color="0.4", linewidth=0.7)
    axes.set_yticks(range(len(rows)), labels, fontsize=6)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlim(-1.15, 1.15)
    axes.set_xticks([-1, 0, 1], ["against the claim", "0", "as claimed"])
    yield Drawing(
        "study_claims",
        figure,
        "Every comparison behind the verdicts: paired difference (margin added) with its 95 % interval, each scaled by "
        "its own larger end; right of 0 = as claimed. Blue: shown, orange: shown the other way round, grey: not shown "
        "(adjusted p at least 0.05, or the interval holds 0).",
    )


def _numbered(verdict: Verdict) -> str:
    return "" if verdict.claim.number is None else f"{verdict.claim.number}. "


def _plain(what: str) -> str:
    """A comparison with a control of the same method, without saying its name twice."""
    return re.sub(r"(of (\S+) against blurred)-\2", r"\1", what)


def _scale(*values: float) -> float:
    return max((abs(value) for value in values if np.isfinite(value)), default=1.0) or 1.0
