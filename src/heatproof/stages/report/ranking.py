"""Where the metrics of a run disagree about its methods, and about whom: table, figure and one line."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from heatproof.base.ranks import concordance, rank_correlation, ranks
from heatproof.stages.report.drawing import PAGE, Drawing, short
from heatproof.stages.report.findings import Column, Findings

# Two methods have one of two orders: agreement says nothing.
LEAST_METHODS = 3


def ranked_columns(findings: Findings) -> list[Column]:
    """The metrics that rank methods: those with a better side, defined for two methods under test at least."""
    return [
        column
        for column in findings.of("main")
        if column.ranked and np.isfinite([_mean(findings, str(m.name), column) for m in findings.tested]).sum() > 1
    ]


def scores_of(findings: Findings, columns: list[Column]) -> np.ndarray:
    """Mean of each method under test by metric, (methods, metrics), turned so that larger is better."""
    table = [
        [_mean(findings, str(method.name), column) * (-1 if column.better == "down" else 1) for column in columns]
        for method in findings.tested
    ]
    return np.array(table, dtype=np.float64).reshape(len(table), len(columns))


def rank_frame(findings: Findings) -> pd.DataFrame:
    """One row per method under test: its rank under each metric, the average, the best and the worst; best average
    first. Empty for fewer than two methods or metrics."""
    columns = ranked_columns(findings)
    if len(findings.tested) < 2 or len(columns) < 2:
        return pd.DataFrame()
    found = ranks(scores_of(findings, columns))
    frame = pd.DataFrame(found, columns=[column.name for column in columns])
    frame.insert(0, "method", [str(method.name) for method in findings.tested])
    for name, of in (("average rank", np.nanmean), ("best", np.nanmin), ("worst", np.nanmax)):
        frame[name] = of(found, axis=1)
    return frame.sort_values("average rank", kind="stable").reset_index(drop=True)


def correlation_frame(findings: Findings) -> pd.DataFrame:
    """Spearman's rho of the methods' ranks between metrics; empty for fewer than three methods or two metrics."""
    columns = ranked_columns(findings)
    if len(findings.tested) < LEAST_METHODS or len(columns) < 2:
        return pd.DataFrame()
    names = [column.name for column in columns]
    frame = pd.DataFrame(rank_correlation(scores_of(findings, columns)), columns=names)
    frame.insert(0, "metric", names)
    return frame


def line(findings: Findings) -> Iterator[str]:
    """Kendall's W over the metrics, and the method on which they differ most; nothing for fewer than three methods."""
    columns = ranked_columns(findings)
    if len(findings.tested) < LEAST_METHODS or len(columns) < 2:
        return
    found = concordance(scores_of(findings, columns))
    frame = rank_frame(findings)
    gap = frame["worst"] - frame["best"]
    most = frame.loc[gap.idxmax()]
    if np.isfinite(found.w):
        yield (
            f"Metrics on the order of {found.methods} methods: Kendall's W = {found.w:.2f} over {found.metrics} "
            f"metrics (1 = one order, p = {found.p:.2g} for orders drawn by chance; metrics are not independent); they "
            f"differ most on {most['method']}, rank {most['best']:g} to {most['worst']:g}."
        )


def drawings(findings: Findings) -> Iterator[Drawing]:
    """Ranks by metric and method beside the correlation between metrics."""
    frame, correlation = rank_frame(findings), correlation_frame(findings)
    if correlation.empty:
        return
    names = [column.name for column in ranked_columns(findings)]
    methods = list(frame["method"])
    height = max(1.6 + 0.17 * len(methods), 1.3 + 0.16 * len(names))
    figure = Figure(figsize=(PAGE, height), layout="constrained")
    left, right = figure.subplots(1, 2)
    shown = frame[[*names, "average rank"]].to_numpy(dtype=np.float64)
    size = 6 if len(names) <= 12 else 4.5
    image = left.imshow(shown, cmap="cividis", vmin=1, vmax=len(methods), aspect="auto")
    _cells(left, shown, "{:.3g}", size, shown > (1 + len(methods)) / 2)
    left.axvline(len(names) - 0.5, color="white", lw=2)
    _axes(left, [*names, "average rank"], methods, size)
    figure.colorbar(image, ax=left, label="rank (1 = best)", shrink=0.8)
    rho = correlation[names].to_numpy(dtype=np.float64)
    image = right.imshow(rho, cmap="PuOr", vmin=-1, vmax=1)
    _cells(right, rho, "{:.1f}", size - 0.5, np.zeros_like(rho) > 0)
    _axes(right, names, names, size)
    figure.colorbar(image, ax=right, label="Spearman's rho of ranks", shrink=0.8)
    found = concordance(scores_of(findings, ranked_columns(findings)))
    yield Drawing(
        "ranks",
        figure,
        "Left: rank of each method under test by its mean, best average first. Right: how alike two metrics order the "
        "methods; white = not at all, orange = the other way round. "
        f"Kendall's W = {found.w:.2f} over {found.metrics} metrics and {found.methods} methods that all of them rank. "
        "Ranks hide how close means are: see the intervals.",
    )


def _cells(axes: Axes, values: np.ndarray, form: str, size: float, dark: np.ndarray) -> None:
    for (row, place), value in np.ndenumerate(values):
        if np.isfinite(value):
            colour = "black" if dark[row, place] or form == "{:.1f}" else "white"
            axes.text(place, row, form.format(value), ha="center", va="center", fontsize=size, color=colour)


def _axes(axes: Axes, across: list[str], down: list[str], size: float) -> None:
    axes.set_xticks(range(len(across)), [short(name, 22) for name in across], rotation=60, ha="right", fontsize=size)
    axes.set_yticks(range(len(down)), [short(name, 26) for name in down], fontsize=size)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)


def _mean(findings: Findings, method: str, column: Column) -> float:
    cell = findings.cells[method, column.name]
    return np.nan if cell.remark else cell.interval.mean
