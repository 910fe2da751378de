"""Paired differences between methods under test, one axes a metric: how large they are, and whether they are shown."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from math import ceil

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from heatproof.stages.report.drawing import CONTROL, PAGE, TESTED, Drawing, short
from heatproof.stages.report.findings import ALPHA, Findings, Pair

# Pairs in a figure at most; of more methods, those with the first one are shown.
MOST = 15
ACROSS = 5


def drawings(findings: Findings) -> Iterator[Drawing]:
    """The forest plot of all ranked metrics; nothing for fewer than two methods under test."""
    names = [str(method.name) for method in findings.tested]
    couples = list(combinations(names, 2))
    left_out = len(couples) > MOST
    if left_out:
        couples = [couple for couple in couples if couple[0] == names[0]]
    columns = [
        column
        for column in findings.of("main")
        if column.ranked and any(_known(findings.pair(a, b, column.name)) for a, b in couples)
    ]
    if not couples or not columns:
        return
    down = ceil(len(columns) / ACROSS)
    across = ceil(len(columns) / down)
    figure = Figure(figsize=(PAGE, (0.75 + 0.2 * len(couples)) * down + 0.2), layout="constrained")
    grid = figure.subplots(down, across, squeeze=False, sharey=True)
    for axes in grid.flat[len(columns) :]:
        axes.set_axis_off()
    for axes, column in zip(grid.flat, columns, strict=False):
        for place, (a, b) in enumerate(couples):
            pair = findings.pair(a, b, column.name)
            if pair is None or not _known(pair):
                continue
            sign = -1 if column.better == "down" else 1
            ends = sorted((sign * pair.comparison.lo, sign * pair.comparison.hi))
            middle, shown = sign * pair.comparison.difference, pair.winner != 0
            axes.plot(ends, [place, place], color=TESTED if shown else CONTROL, lw=1.2)
            axes.plot(middle, place, "o", ms=3.5, color=TESTED if shown else CONTROL,
                      markerfacecolor=TESTED if shown else "white")  # fmt: skip
        axes.axvline(0, color="0.3", lw=0.6)
        axes.set_title(short(column.name, 20), fontsize=7)
        axes.xaxis.set_major_locator(MaxNLocator(3))
        axes.tick_params(labelsize=6)
    labels = [f"{short(a, 30)}\n- {short(b, 30)}" for a, b in couples]
    for axes in grid[:, 0]:
        axes.set_yticks(range(len(couples)), labels, fontsize=5.5)
        axes.set_ylim(len(couples) - 0.5, -0.5)
    n = max(pair.comparison.n for pair in findings.pairs)
    first = f" Of {len(names)} methods, the pairs with {names[0]} are shown." if left_out else ""
    yield Drawing(
        "differences",
        figure,
        "Mean difference of two methods on the same images, with its 95 % interval; turned so that right is better for "
        f"the first one. Filled: a difference is shown (p < {ALPHA} after Holm's correction over the whole table, the "
        f"interval excludes 0, both are defined on about as many images); grey: none is shown. n = {n} images at "
        f"most.{first}",
    )


def _known(pair: Pair | None) -> bool:
    return pair is not None and pair.comparison.n > 0 and pair.comparison.lo == pair.comparison.lo
