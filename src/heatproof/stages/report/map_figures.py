"""Figures of the maps themselves: overlays, ladders of layers, study 5's panel of eight, what views add."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colorbar import Colorbar
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from heatproof.base.records import Classifier, Maps, Method, Predictions, Samples
from heatproof.explainers.votes import HIGH, high_confidence
from heatproof.stages.report.drawing import CONTROL, PAGE, TESTED, Drawing, short
from heatproof.stages.report.shown import (
    HEAT,
    OUTLINE,
    SPREAD,
    bare,
    case_title,
    cases_of,
    held,
    outline,
    show_image,
    unit,
    wrapped,
)
from heatproof.stages.report.views import views_drawing

# Columns of a figure beside the image.
ACROSS = 6
SCALED = "Each map is scaled from its own minimum to its own maximum: brightness does not compare between maps."


@dataclass(frozen=True)
class Run:
    """What figures of maps are drawn from."""

    samples: Samples
    classifier: Classifier
    predictions: Predictions
    maps: Maps

    @property
    def tested(self) -> list[Method]:
        """Methods under test whose maps are there."""
        return [m for m in self.maps.methods if m.control_of is None and str(m.name) in self.maps.files]


def map_drawings(
    samples: Samples,
    classifier: Classifier,
    predictions: Predictions,
    maps: Maps,
    *,
    alphas: Sequence[float],
    seed: int,
) -> Iterator[Drawing]:
    """All figures of maps that there is data for."""
    run = Run(samples, classifier, predictions, maps)
    cases = cases_of(samples, predictions, maps)
    if not cases or not run.tested:
        return
    yield from _overlays(run, cases, alphas)
    yield from _ladders(run, cases)
    yield from _eights(run, cases)
    yield from views_drawing(maps, seed)


# ------------------------------------------------------------------------------------------------- map and overlay


def _overlays(run: Run, cases: Sequence[int], alphas: Sequence[float]) -> Iterator[Drawing]:
    """Image, map and map over the image, the same cases for every method."""
    most = max(1, ACROSS // (1 + len(alphas)))
    for number, start in enumerate(range(0, len(run.tested), most), 1):
        methods = run.tested[start : start + most]
        columns = [column for method in methods for column in map_and_overlays(run, method, alphas)]
        yield Drawing(
            "overlays" if number == 1 else f"overlays_{number}",
            tiles(run, [(case, columns) for case in cases]),
            f"Image, map, and map over the image{_at(alphas)}, for {len(cases)} of {len(run.maps.rows)} explained "
            f"images. {SCALED}{outlined(run)}",
        )


Column = tuple[str, Callable[[Axes, int], AxesImage | None]]


def map_and_overlays(run: Run, method: Method, alphas: Sequence[float]) -> list[Column]:
    """Columns of one method: its map, and the map over the image at each alpha."""
    name = str(method.name)

    def map_alone(axes: Axes, case: int) -> AxesImage | None:
        return _heat(axes, run, name, case)

    def over(alpha: float) -> Callable[[Axes, int], AxesImage | None]:
        def draw(axes: Axes, case: int) -> AxesImage | None:
            show_image(axes, run.samples, int(run.maps.rows[case]))
            return _heat(axes, run, name, case, alpha)

        return draw

    several = len(alphas) > 1
    return [(name, map_alone), *((f"alpha {alpha:g}" if several else "overlay", over(alpha)) for alpha in alphas)]


def spread_column(run: Run, method: Method) -> Column:
    """The standard deviation over the views of a fusion."""

    def draw(axes: Axes, case: int) -> AxesImage | None:
        axes.imshow(held(run.maps.sd_files[str(method.name)])[case], cmap=SPREAD, vmin=0)
        return None

    return "sd over views", draw


def _heat(axes: Axes, run: Run, name: str, case: int, alpha: float = 1.0) -> AxesImage:
    image = axes.imshow(
        unit(np.asarray(run.maps.array(name)[case], np.float64)), cmap=HEAT, vmin=0, vmax=1, alpha=alpha
    )
    state = run.maps.status[name][case]
    if state != "ok":
        axes.text(0.5, 0.5, state, color="white", ha="center", va="center", transform=axes.transAxes)
    return image


def tiles(run: Run, lines: Sequence[tuple[int, Sequence[Column]]], *, titled: bool = False) -> Figure:
    """A line per (case, columns): the image, then what its columns draw; one colour bar for all maps. `titled`: every
    line has titles of its own, else the first one's hold for all."""
    # Placed by hand, in inches: a layout engine shrinks images to make room for long names.
    side, gap, over, head, bar = 1.0, 0.05, 0.62 if titled else 0.30, 0.62, 0.55
    across = 1 + max(len(columns) for _, columns in lines)
    width, height = across * (side + gap) + bar, head + (side + over) * len(lines)
    figure = Figure(figsize=(width, height))
    figure.set_layout_engine("none")
    heat: AxesImage | None = None
    for line, (case, columns) in enumerate(lines):
        row = int(run.maps.rows[case])
        drawers: list[Column] = [("image", lambda axes, _, row=row: show_image(axes, run.samples, row)), *columns]  # type: ignore[misc]
        for place, (title, draw) in enumerate(drawers):
            bottom = height - head - (side + over) * line - side
            left = place * (side + gap)
            axes = figure.add_axes((left / width, bottom / height, side / width, side / height))
            heat = draw(axes, case) or heat
            bare(axes)
            outline(axes, run.samples, row)
            if place == 0:
                axes.set_title(case_title(run.samples, run.predictions, row), fontsize=6, pad=2)
            if (line == 0 or titled) and not (titled and place == 0):
                axes.annotate(
                    wrapped(title), (0.5, 1), (0, 3 if titled else 18), xycoords="axes fraction",
                    textcoords="offset points", ha="center", va="bottom", fontsize=6,
                )  # fmt: skip
    if heat is not None:
        long = min(2.0, 0.8 * height)
        left, bottom = across * (side + gap), height - min(head, height - long) - long
        beside = figure.add_axes((left / width, bottom / height, 0.09 / width, long / height))
        opaque(figure.colorbar(heat, cax=beside, label="map, min to max of each"))
    return figure


def opaque(bar: Colorbar) -> None:
    """A bar in full colour beside a map that the image shines through."""
    assert bar.solids is not None
    bar.solids.set_alpha(1)


def _at(alphas: Sequence[float]) -> str:
    return f" (alpha {', '.join(f'{alpha:g}' for alpha in alphas)})"


def outlined(run: Run) -> str:
    """What a caption says of outlines."""
    return " The outline is the annotation." if run.samples.masks is not None else ""


# ---------------------------------------------------------------------------------------------------------- layers


def _ladders(run: Run, cases: Sequence[int]) -> Iterator[Drawing]:
    """The same explainer at its layers, in the order of the configuration."""
    number = 0
    for columns in ladders(run):
        for start in range(0, len(columns), ACROSS):
            number += 1
            some = [map_and_overlays(run, method, ())[0] for method in columns[start : start + ACROSS]]
            yield Drawing(
                "layers" if number == 1 else f"layers_{number}",
                tiles(run, [(case, some) for case in cases]),
                f"One explainer at several layers of the net, for {len(cases)} of {len(run.maps.rows)} explained "
                f"images. "
                f"{SCALED}{outlined(run)}",
            )


def ladders(run: Run) -> list[list[Method]]:
    """Methods that differ by their layer alone, two or more."""
    found: dict[tuple[str, str | None, str | None], list[Method]] = {}
    for method in run.tested:
        if method.layer is not None:
            found.setdefault((method.name.label, method.name.views, method.name.fusion), []).append(method)
    return [methods for methods in found.values() if len(methods) > 1]


# ----------------------------------------------------------------------------------------------------------- eight


def _eights(run: Run, cases: Sequence[int]) -> Iterator[Drawing]:
    """Study 5's panel of eight for each case: image, a single map, its fusion, the fusion's uncertainty; two further
    explainers, votes, the confidence in each class."""
    votes = next((m for m in run.tested if m.explainer and m.explainer.name == "votes"), None)
    fused = next((m for m in run.tested if str(m.name) in run.maps.sd_files), None)
    names = {str(method.name) for method in run.tested}
    if votes is None or fused is None or str(fused.name.single()) not in names:
        return
    single = str(fused.name.single())
    others = [str(m.name) for m in (*votes.of, *run.tested) if str(m.name) in names and not m.of and not m.views]
    others = [name for name in dict.fromkeys(others) if name != single][:2]
    for number, case in enumerate(cases, 1):
        yield Drawing(
            f"eight_{number}",
            _eight(run, case, single, fused, others, votes),
            f"Image {run.samples.table['image'].iloc[int(run.maps.rows[case])]}: {single}, its fusion, the standard "
            f"deviation over the views; {', '.join(others) or 'no other explainer'}, the votes of "
            f"{len(votes.of)} explainers with the outline of at least {HIGH} votes, the probability of each class. "
            f"{SCALED}",
        )


def _eight(run: Run, case: int, single: str, fused: Method, others: Sequence[str], votes: Method) -> Figure:
    row = int(run.maps.rows[case])
    figure = Figure(figsize=(PAGE, 3.9))
    grid = figure.subplots(2, 4)
    for axes in grid.flat:
        axes.set_visible(False)

    def cell(line: int, place: int, title: str) -> Axes:
        axes: Axes = grid[line, place]
        axes.set_visible(True)
        axes.set_title(wrapped(title), fontsize=6.5)
        return axes

    first = cell(0, 0, "")
    first.set_title(case_title(run.samples, run.predictions, row), fontsize=6.5)
    show_image(first, run.samples, row)
    outline(first, run.samples, row)
    for line, place, name in (
        (0, 1, single),
        (0, 2, str(fused.name)),
        *((1, i, name) for i, name in enumerate(others)),
    ):
        axes = cell(line, place, name)
        show_image(axes, run.samples, row)
        heat = _heat(axes, run, name, case, 0.5)
        opaque(figure.colorbar(heat, ax=axes, shrink=0.75, ticks=[0, 1]))
    axes = cell(0, 3, f"sd of {fused.name}")
    spread = axes.imshow(held(run.maps.sd_files[str(fused.name)])[case], cmap=SPREAD, vmin=0)
    figure.colorbar(spread, ax=axes, shrink=0.75)
    bare(axes)
    axes = cell(1, 2, f"{votes.name} of {len(votes.of)}")
    counted = np.asarray(run.maps.array(str(votes.name))[case]) * len(votes.of)
    levels = axes.imshow(counted, cmap="cividis", vmin=0, vmax=len(votes.of))
    figure.colorbar(levels, ax=axes, shrink=0.75, ticks=range(len(votes.of) + 1))
    sure = high_confidence(torch.from_numpy(counted.round())[None], HIGH)[0].numpy()
    if sure.any() and not sure.all():
        axes.contour(sure, levels=[0.5], colors=[OUTLINE], linewidths=0.8)
    bare(axes)
    _confidence(cell(1, 3, "probability"), run, row)
    return figure


def _confidence(axes: Axes, run: Run, row: int) -> None:
    found: Mapping[str, float] = run.predictions.table.loc[row].to_dict()
    p = {name: float(found[f"p_{name}"]) for name in run.classifier.classes}
    shown = sorted(p, key=lambda name: -p[name])[:8]
    top = shown[0]
    axes.barh([short(name, 16) for name in shown], [p[name] for name in shown],
              color=[TESTED if name == top else CONTROL for name in shown])  # fmt: skip
    axes.set_xlim(0, 1)
    axes.invert_yaxis()
    axes.tick_params(labelsize=6)
