"""What a map costs against what it is worth."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FixedLocator, MaxNLocator, NullLocator

from heatproof.base.asked import map_passes
from heatproof.stages.report.drawing import COLOURS, MARKS, PAGE, Drawing, short
from heatproof.stages.report.findings import Findings
from heatproof.stages.report.ranking import rank_frame, ranked_columns
from heatproof.stages.report.tables import title as titled

# Metrics beside the average rank.
BESIDE = 3


def drawings(findings: Findings, size: int) -> Iterator[Drawing]:
    """Average rank and the first ranked metrics over the images that a map takes; nothing where all cost the same.

    `size`: side of the images.
    """
    known = {str(method.name): map_passes(method, size) for method in findings.tested}
    # Maps that were made elsewhere cost nothing here, which says nothing.
    names, costs = [name for name, cost in known.items() if cost], [cost for cost in known.values() if cost]
    ranks = rank_frame(findings)
    if len(set(costs)) < 2 or ranks.empty:
        return
    columns = ranked_columns(findings)[:BESIDE]
    average = ranks.set_index("method")["average rank"]
    figure = Figure(figsize=(PAGE, 2.6), layout="constrained")
    first, *others = figure.subplots(1, 1 + len(columns))
    for number, (name, cost) in enumerate(zip(names, costs, strict=True)):
        look = {"color": COLOURS[number % len(COLOURS)], "marker": MARKS[number % len(MARKS)], "ms": 4, "ls": "none"}
        first.plot(cost, average[name], label=short(name, 36), **look)
        for axes, column in zip(others, columns, strict=True):
            found = findings.cells[name, column.name]
            if found.remark or not found.interval.n:
                continue
            ends = np.nan_to_num([found.interval.mean - found.interval.lo, found.interval.hi - found.interval.mean])
            axes.errorbar(cost, found.interval.mean, yerr=ends.clip(0)[:, None], lw=1, capsize=1.5, **look)
    first.invert_yaxis()
    ticks = _apart(costs)
    for axes, title in zip((first, *others), ("average rank (1 = best)", *map(titled, columns)), strict=True):
        axes.set_xscale("log")
        axes.set_xlim(min(costs) / 2, max(costs) * 2)
        axes.xaxis.set_major_locator(FixedLocator(ticks))
        axes.xaxis.set_major_formatter(FixedFormatter([str(tick) for tick in ticks]))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_title(short(title, 24), fontsize=7)
        axes.set_xlabel("images run for a map", fontsize=7)
        axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.tick_params(labelsize=6)
    figure.legend(*first.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=6)
    n = max(findings.cells[name, column.name].interval.n for name in names for column in columns)
    yield Drawing(
        "cost",
        figure,
        "What a map costs against what it is worth: images that the net is run on for one map (a gradient adds about "
        f"two forward passes to one of them), average rank over {len(ranked_columns(findings))} metrics, and the first "
        f"metrics with their 95 % intervals (n = {n} images at most). Left is cheap; arrows point to the better side.",
    )


def _apart(costs: Sequence[int]) -> list[int]:
    """Those costs, lowest first, whose labels have room beside each other on a logarithmic axis."""
    room = math.log(4 * max(costs) / min(costs)) / 7
    kept = [min(costs)]
    for cost in sorted(set(costs)):
        if math.log(cost / kept[-1]) >= room:
            kept.append(cost)
    return kept
