"""What the views of a fusion add: table and figure of the notes that the explain stage made of each fusion."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from heatproof.base.records import Maps
from heatproof.base.stats import interval
from heatproof.stages.report.drawing import PAGE, Drawing

# Notes with a view in their name, e.g. `round_trip_3_rotate`.
BY_VIEW = ("round_trip", "leave_one_out")
WHOLE = ("coefficient_of_variation", "common_area", "high_confidence_area")
COLUMNS = ("method", "quantity", "view", "mean", "lo", "hi", "n")


def views_frame(maps: Maps, seed: int) -> pd.DataFrame:
    """Mean over images with its 95 % interval of every figure of a fusion, one a row; `view`: number and name, for a
    dose how many of the first views are fused."""
    rows = []
    for method, said in maps.notes.items():
        for name, values in said.items():
            named = _named(name)
            if named is not None and np.isfinite(values).any():
                found = interval(values, seed=seed)
                rows.append((method, *named, found.mean, found.lo, found.hi, found.n))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def views_drawing(maps: Maps, seed: int) -> Iterator[Drawing]:
    """The dose curve of each fusion, and what a view does: its warp alone, and the fusion without it."""
    frame = views_frame(maps, seed)
    doses = frame[frame["quantity"] == "dose"]
    if doses.empty:
        return
    figure = Figure(figsize=(PAGE, 2.4))
    curve, *others = figure.subplots(1, 3)
    for number, (method, part) in enumerate(doses.groupby("method", sort=False)):
        x = part["view"].astype(int)
        curve.plot(x, part["mean"], marker=".", label=str(method), color=f"C{number % 7}")
        curve.fill_between(x, part["lo"], part["hi"], alpha=0.2, linewidth=0, color=f"C{number % 7}")
    curve.set(xlabel="first views fused", ylabel="r with the map of all views")
    curve.xaxis.set_major_locator(MaxNLocator(integer=True))
    for axes, quantity, label in zip(
        others, BY_VIEW, ("round trip: share of the map's range", "r of the map without it"), strict=True
    ):
        _by_view(axes, frame[frame["quantity"] == quantity], label)
    figure.legend(*curve.get_legend_handles_labels(), loc="outside upper left", ncols=2)
    yield Drawing(
        "views",
        figure,
        "What the views of a fusion add. Left: Pearson's r of the map fused over the first views, in their order, with "
        "the map fused over all of them; where the curve is flat, more views add nothing. Middle: what each view's "
        "warp alone does to the fused map, there and back (mean difference as a share of the map's range). Right: r of "
        "the map fused without that view with the map of all; low = much hangs on that view. Means over "
        f"{doses['n'].max()} images with 95 % intervals.",
    )


def _by_view(axes: Axes, frame: pd.DataFrame, label: str) -> None:
    views = list(dict.fromkeys(frame["view"]))
    methods = list(dict.fromkeys(frame["method"]))
    for number, method in enumerate(methods):
        part = frame[frame["method"] == method]
        place = np.array([views.index(view) for view in part["view"]]) + 0.6 * (number + 0.5) / len(methods) - 0.3
        ends = np.nan_to_num([part["mean"] - part["lo"], part["hi"] - part["mean"]]).clip(0)
        axes.errorbar(part["mean"], place, xerr=ends, fmt="o", markersize=3, linewidth=1, color=f"C{number % 7}")
    axes.set_yticks(range(len(views)), [str(view).partition(" ")[2] for view in views])
    axes.set_ylim(len(views) - 0.5, -0.5)
    axes.set_xlabel(label)
    axes.xaxis.set_major_locator(MaxNLocator(3))


def _named(name: str) -> tuple[str, str] | None:
    """Quantity and view of a note's name; None for what is not said of views."""
    for quantity in BY_VIEW:
        if name.startswith(f"{quantity}_"):
            number, _, view = name.removeprefix(f"{quantity}_").partition("_")
            return quantity, f"{number} {view}"
    if name.startswith("dose_"):
        return "dose", name.removeprefix("dose_")
    return (name, "") if name in WHOLE else None
