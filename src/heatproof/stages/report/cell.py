"""Everything that was run for one number, in one figure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import matplotlib
import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from heatproof.base.records import Maps, Samples
from heatproof.stages.report.drawing import PAGE, STYLE, save, short
from heatproof.stages.report.shown import HEAT, bare, outline, show_image, unit

ACROSS = 6
# Images in a figure at most; of more, as many are shown evenly spaced.
MOST = 34


class Run(Protocol):
    """An image that was run (`stages.measure.again.Run`)."""

    @property
    def what(self) -> str: ...
    @property
    def image(self) -> Float[np.ndarray, "c h w"]: ...
    @property
    def p(self) -> float | None: ...
    @property
    def map(self) -> Float[np.ndarray, "h w"] | None: ...


class Again(Protocol):
    """A number made again (`stages.measure.again.Again`)."""

    @property
    def value(self) -> float: ...
    @property
    def p(self) -> float: ...
    @property
    def run(self) -> Sequence[Run]: ...


def draw_cell(folder: Path, samples: Samples, maps: Maps, row: pd.Series, again: Again, stored: float) -> Path:
    """The PNG of a number: image, map, then each image that was run with what came out, in the order of running."""
    folder.mkdir(parents=True, exist_ok=True)
    places = samples.table["image"].iloc[maps.rows].tolist()
    place = places.index(row["image"])
    own = str(row["method"])
    shown = [again.run[i] for i in _spread(len(again.run))]
    with matplotlib.rc_context(fname=STYLE):
        figure = _figure(samples, maps, place, own, shown, again, _title(row, stored, again.value, len(again.run)))
        path = folder / f"{_file_name(row)}.png"
        save(figure, [path])
    return path


def _figure(
    samples: Samples, maps: Maps, place: int, method: str, shown: Sequence[Run], again: Again, title: str
) -> Figure:
    panels = [one for run in shown for one in ([run] if run.map is None else [run, run])]
    down = -(-(2 + len(panels)) // ACROSS)
    figure = Figure(figsize=(PAGE, 0.45 + 1.38 * down), layout="constrained")
    grid = figure.subplots(down, ACROSS, squeeze=False).ravel()
    for axes in grid:
        bare(axes)
    row = int(maps.rows[place])
    show_image(grid[0], samples, row)
    outline(grid[0], samples, row)
    grid[0].set_title(f"image\np = {again.p:.4f}", fontsize=6)
    if method in maps.files:
        grid[1].imshow(unit(np.asarray(maps.array(method)[place], np.float64)), cmap=HEAT, vmin=0, vmax=1)
        grid[1].set_title(f"map\n{short(method, 24)}", fontsize=6)
    seen: list[int] = []
    for axes, run in zip(grid[2:], panels, strict=False):
        second = id(run) in seen
        seen.append(id(run))
        if second and run.map is not None:
            axes.imshow(unit(run.map.astype(np.float64)), cmap=HEAT, vmin=0, vmax=1)
            axes.set_title("its map", fontsize=6)
        else:
            _pixels(axes, run.image)
            axes.set_title(short(run.what, 26) + ("" if run.p is None else f"\np = {run.p:.4f}"), fontsize=6)
    figure.suptitle(title, fontsize=7)
    return figure


def _pixels(axes: Axes, image: Float[np.ndarray, "c h w"]) -> None:
    """An image that may leave [0, 1], as noise is not clipped."""
    pixels = np.clip(np.moveaxis(image, 0, -1), 0, 1)
    axes.imshow(pixels[..., 0] if pixels.shape[-1] == 1 else pixels, cmap="gray", vmin=0, vmax=1)


def _spread(count: int) -> list[int]:
    if count <= MOST:
        return list(range(count))
    return sorted({int(i) for i in np.linspace(0, count - 1, MOST).round()})


def _title(row: pd.Series, stored: float, value: float, count: int) -> str:
    images = f"{count} images were run" + (f", {MOST} of them shown" if count > MOST else "")
    number = f"{row['column']} of {row['method']} on {short(row['image'], 50)}"
    return f"{number}: {stored:.6g} stored, {value:.6g} made again; {images}"


def _file_name(row: pd.Series) -> str:
    """A name that every file system takes, told apart by a hash of what it stands for."""
    parts = [str(row[key]) for key in ("image", "method", "column")]
    told = "_".join(re.sub(r"[^A-Za-z0-9.-]+", "-", part)[-40:] for part in parts)
    return f"{told}_{hashlib.sha256(chr(0).join(parts).encode()).hexdigest()[:6]}"
