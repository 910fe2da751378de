"""How alike the methods' maps are, pair by pair."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from heatproof.stages.report.drawing import PAGE, Drawing, short
from heatproof.stages.report.tables import agreement_frame

# Methods up to which numbers are written into the cells.
WRITTEN = 12


def drawings(pairs: pd.DataFrame) -> Iterator[Drawing]:
    """A matrix of methods for each metric that compares two of them."""
    frame = agreement_frame(pairs)
    if frame.empty:
        return
    metrics = list(dict.fromkeys(frame["metric"]))
    methods = list(dict.fromkeys(frame["method"]))
    across = min(2, len(metrics))
    down = -(-len(metrics) // across)
    side = PAGE / across
    figure = Figure(figsize=(PAGE, side * 0.9 * down), layout="constrained")
    grid = figure.subplots(down, across, squeeze=False)
    for axes in grid.flat[len(metrics) :]:
        axes.set_axis_off()
    for axes, metric in zip(grid.flat, metrics, strict=False):
        values = frame[frame["metric"] == metric].set_index("method")[methods].reindex(methods).to_numpy(np.float64)
        image = axes.imshow(values, cmap="cividis", vmin=min(0.0, float(np.nanmin(values))), vmax=1)
        if len(methods) <= WRITTEN:
            for (row, place), value in np.ndenumerate(values):
                if np.isfinite(value):
                    colour = "black" if value > 0.55 else "white"
                    axes.text(place, row, f"{value:.2f}", ha="center", va="center", fontsize=5, color=colour)
        names = [short(name, 30) for name in methods]
        axes.set_xticks(range(len(methods)), names, rotation=60, ha="right", fontsize=5.5)
        axes.set_yticks(range(len(methods)), names, fontsize=5.5)
        axes.set_title(metric, fontsize=8)
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
        figure.colorbar(image, ax=axes, shrink=0.7)
    n = int(frame["n"].max())
    yield Drawing(
        "agreement",
        figure,
        f"How alike the maps of two methods are, mean over the images on which both have one (n = {n} at most). "
        "Agreement is no merit: two methods may be wrong together, and wide maps agree more than narrow ones.",
    )
