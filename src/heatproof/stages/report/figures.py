"""Figures of a run, each with its caption; the only module that draws."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from math import ceil
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image

from heatproof.base.records import Classifier, Maps, Method, Predictions, Samples, Scores
from heatproof.stages.report import agreement, cost, curves, differences, ranking, sanity
from heatproof.stages.report.drawing import (
    CONTROL,
    PAGE,
    STYLE,
    TESTED,
    Drawing,
    drawn,
)
from heatproof.stages.report.evaluation import classifier_drawings
from heatproof.stages.report.findings import EXCESS, Cell, Column, Findings
from heatproof.stages.report.map_figures import map_drawings
from heatproof.stages.report.shown import HEAT, OUTLINE, SPREAD, case_title, cases_of, held, unit, wrapped
from heatproof.stages.report.tables import ARROWS, BRIEF, blur_notes, common_n

PANEL_METHODS = 3
# Metrics side by side in a figure as wide as a page.
MOST_ACROSS = 6


def draw(
    folder: Path,
    findings: Findings,
    *,
    samples: Samples,
    classifier: Classifier,
    predictions: Predictions,
    maps: Maps,
    scores: Scores,
    alphas: Sequence[float] = (0.4,),
) -> list[tuple[str, str, list[Path]]]:
    """Draw all figures into `folder` as PNG and PDF: (name, caption, files) of each one that there is data for.

    `alphas`: how strongly overlays cover the image, one column for each.
    """
    with matplotlib.rc_context(fname=STYLE):
        drawings = (
            *_panels(samples, predictions, maps),
            *map_drawings(samples, classifier, predictions, maps, alphas=alphas, seed=findings.seed),
            *_metric_figures(findings),
            *differences.drawings(findings),
            *curves.drawings(findings, scores, predictions),
            *ranking.drawings(findings),
            *cost.drawings(findings, samples.pixels.shape[1]),
            *agreement.drawings(scores.pairs),
            *sanity.drawings(findings, scores, samples=samples, classifier=classifier, maps=maps),
            *classifier_drawings(classifier, predictions, seed=findings.seed),
        )
        return drawn(folder, drawings)


# ---------------------------------------------------------------------------------------------------------- panel


def _panels(samples: Samples, predictions: Predictions, maps: Maps) -> Iterator[Drawing]:
    """The same cases for all methods: image with annotation, heat maps, a fusion's spread over its views."""
    cases = cases_of(samples, predictions, maps)
    tested = [method for method in maps.methods if method.control_of is None and str(method.name) in maps.files]
    most = PANEL_METHODS if maps.sd_files else PANEL_METHODS + 2
    for number, start in enumerate(range(0, len(tested), most) if cases else ()):
        chosen = tested[start : start + most]
        name = "panel" if number == 0 else f"panel_{number + 1}"
        yield _panel(name, samples, predictions, maps, chosen, cases)


def _panel(
    name: str, samples: Samples, predictions: Predictions, maps: Maps, methods: Sequence[Method], cases: Sequence[int]
) -> Drawing:
    spread = [method for method in methods if str(method.name) in maps.sd_files]
    # Placed by hand, in inches: a layout engine shrinks images to make room for long names.
    side, gap, bar, over = 1.05, 0.06, 0.62, 0.30
    groups = [1, len(methods), len(spread)] if spread else [1, len(methods)]
    lefts: list[float] = []
    bars: list[float] = []
    at = 0.0
    for number, count in enumerate(groups):
        for _ in range(count):
            lefts.append(at)
            at += side + gap
        if number:
            bars.append(at)
            at += bar
    width, height = at, 0.5 + (side + over) * len(cases)
    figure = Figure(figsize=(width, height))
    figure.set_layout_engine("none")
    grid = np.empty((len(cases), len(lefts)), dtype=object)
    for line in range(len(cases)):
        for place, left in enumerate(lefts):
            bottom = height - 0.5 - (side + over) * line - side
            grid[line, place] = figure.add_axes((left / width, bottom / height, side / width, side / height))
    titles = ["image", *(str(m.name) for m in methods), *(f"sd of {m.name}" for m in spread)]
    heat = sd_image = None
    spreads = {str(m.name): held(maps.sd_files[str(m.name)])[list(cases)] for m in spread}
    top = max((float(np.nanmax(found, initial=0)) for found in spreads.values()), default=1) or 1
    for line, case in enumerate(cases):
        row = int(maps.rows[case])
        pixels = samples.pixels[row]
        mask = None if samples.masks is None else np.asarray(samples.masks[row])
        first = grid[line, 0]
        first.imshow(pixels[..., 0] if pixels.shape[-1] == 1 else pixels, cmap="gray", vmin=0, vmax=255)
        first.set_title(case_title(samples, predictions, row), fontsize=6, pad=2)
        for axes, method in zip(grid[line, 1:], methods, strict=False):
            found = np.asarray(maps.array(str(method.name))[case], dtype=np.float64)
            state = maps.status[str(method.name)][case]
            heat = axes.imshow(unit(found), cmap=HEAT, vmin=0, vmax=1)
            if state != "ok":
                axes.text(0.5, 0.5, state, color="white", ha="center", va="center", transform=axes.transAxes)
        for axes, method in zip(grid[line, 1 + len(methods) :], spread, strict=True):
            sd_image = axes.imshow(spreads[str(method.name)][line], cmap=SPREAD, vmin=0, vmax=top)
        for axes in grid[line]:
            axes.set_xticks([])
            axes.set_yticks([])
            axes.spines[:].set_visible(False)
            if mask is not None and mask.any():
                axes.contour(mask, levels=[0.5], colors=[OUTLINE], linewidths=0.8)
    for axes, text in zip(grid[0], titles, strict=True):
        axes.annotate(
            wrapped(text), (0.5, 1), (0, 18), xycoords="axes fraction", textcoords="offset points", ha="center",
            va="bottom", fontsize=6.5,
        )  # fmt: skip
    for left, image, label in zip(bars, (heat, sd_image), ("map, min to max of each", "sd over views"), strict=False):
        if image is not None:
            beside = figure.add_axes((left / width, 0.25, 0.09 / width, 0.5))
            figure.colorbar(image, cax=beside, label=label)
    outline = " The outline is the annotation." if samples.masks is not None else ""
    caption = (
        f"{len(cases)} of {len(maps.rows)} explained images, the same for every method. Each map is scaled from its "
        f"own minimum to its own maximum: brightness does not compare between maps.{outline}"
    )
    if spread:
        caption += " sd: standard deviation per pixel over the aligned views of a fusion, one scale for all."
    return Drawing(name, figure, caption)


# -------------------------------------------------------------------------------------------------------- metrics


def _metric_figures(findings: Findings) -> Iterator[Drawing]:
    """Means with intervals, excesses, distributions: small multiples, one axes per metric."""
    main, excess = findings.of("main"), findings.of("excess")
    everyone = (*findings.tested, *findings.controls)
    if main:
        yield Drawing(
            "metrics",
            _multiples(findings, main, everyone, _bars),
            f"Mean over images with its 95 % interval; arrows point to the better side; controls are grey and hatched, "
            f"below the dotted line; n = images that most methods are defined on. {_remarks(findings)}",
        )
        yield Drawing(
            "distributions",
            _multiples(findings, main, everyone, _dots),
            f"Each dot is one image, the black bar their mean with its 95 % interval; controls are grey, below the "
            f"dotted line; n = images that most methods are defined on. {_remarks(findings)}",
        )
    if excess:
        yield Drawing(
            "excess",
            _multiples(findings, excess, findings.tested, _points),
            "Mean excess over the baseline in each title (the controls of this figure: shifted copies of the method's "
            "own maps, chance, maps of other images) with its 95 % interval; 0 = no better than the baseline, right is "
            "better; n = images that most methods are defined on.",
        )


def _remarks(findings: Findings) -> str:
    """What the short words in a figure mean."""
    found = {cell.remark for cell in findings.cells.values()}
    remarks = ["constant: the same map on every rerun by construction."] if "constant by construction" in found else []
    remarks += ["shares: the method perturbs as the metric does."] if "shares the perturbation" in found else []
    remarks += ["px: sd of the blur."] if any(m.blur_px is not None for m in findings.controls) else []
    return " ".join([*remarks, *blur_notes(findings, unblurred=True)])


def _multiples(
    findings: Findings,
    columns: Sequence[Column],
    methods: Sequence[Method],
    plot: Callable[[Axes, Findings, Column, Sequence[Method]], None],
) -> Figure:
    """Narrow axes side by side, one per metric, with the methods' names once per bank: fits the width of a page."""
    down = ceil(len(columns) / MOST_ACROSS)
    across = ceil(len(columns) / down)
    names = [_label(method) for method in methods]
    lines = max(name.count("\n") + 1 for name in names)
    label = 0.05 * max(len(line) for name in names for line in name.split("\n"))
    height = (0.1 + 0.085 * lines) * len(methods) + 0.85
    width = PAGE if across > 2 else label + 1.6 * across
    figure = Figure(figsize=(width, height * down))
    grid = figure.subplots(down, across, squeeze=False, sharey=True)
    for axes in grid.flat[len(columns) :]:
        axes.set_visible(False)
    for axes, column in zip(grid.flat, columns, strict=False):
        plot(axes, findings, column, methods)
        axes.set_title(f"{_broken(column)}\nn = {common_n(findings, column) or 0}", fontsize=6.5)
        if 0 < len(findings.tested) < len(methods):
            axes.axhline(len(findings.tested) - 0.5, color="0.3", linewidth=0.6, linestyle=":")
        for place, method in enumerate(methods):
            _blank(axes, findings.cells[str(method.name), column.name], place)
        axes.axvline(0, color="0.3", linewidth=0.6, zorder=0)
        axes.xaxis.set_major_locator(MaxNLocator(2, steps=[1, 2, 5, 10]))
        axes.grid(axis="x", color="0.9", linewidth=0.5)
        axes.set_axisbelow(True)
        axes.tick_params(axis="y", length=0, labelsize=6.5)
        axes.tick_params(axis="x", labelsize=6)
    # Shared by all axes, so once is enough.
    grid[0, 0].set_yticks(range(len(methods)), names)
    grid[0, 0].set_ylim(len(methods) - 0.4, -0.6)
    return figure


def _label(method: Method) -> str:
    """A method's name on as many lines as a narrow column needs, a blurred control with its blur."""
    blur = "" if method.blur_px is None else f" ({method.blur_px:g} px)"
    text = f"{method.name}{blur}"
    return text if len(text) <= 24 else text.replace(":", ":\n", 1)


def _broken(column: Column) -> str:
    """A metric's name on two lines where it is long, with its arrow or what its excess is over."""
    name = column.name.removesuffix(EXCESS) if column.part == "excess" else f"{column.name} {ARROWS[column.better]}"
    first, _, rest = name.strip().partition("_")
    name = f"{first}_\n{rest}" if rest and len(name) > 12 else name.strip()
    return f"{name}\nover {BRIEF[str(column.baseline)]}" if column.part == "excess" else name


def _blank(axes: Axes, cell: Cell, place: int) -> None:
    """Why there is nothing to see in a row, where there is nothing."""
    if cell.remark or not np.isfinite(cell.interval.mean):
        why = (cell.remark or "undefined").split()[0]
        axes.text(0.03, place, why, transform=axes.get_yaxis_transform(), va="center", fontsize=5.5, color="0.35")


def _ends(findings: Findings, column: Column, method: Method) -> tuple[float, np.ndarray] | None:
    """Mean and distances to the interval's ends, or None where there is no number to show."""
    cell = findings.cells[str(method.name), column.name]
    if cell.remark or not np.isfinite(cell.interval.mean):
        return None
    found = cell.interval
    return found.mean, np.nan_to_num([[max(0, found.mean - found.lo)], [max(0, found.hi - found.mean)]])


def _bars(axes: Axes, findings: Findings, column: Column, methods: Sequence[Method]) -> None:
    for place, method in enumerate(methods):
        found = _ends(findings, column, method)
        if found is not None:
            control = method.control_of is not None
            axes.barh(
                place,
                found[0],
                height=0.66,
                color="#d9d9d9" if control else TESTED,
                edgecolor="#777777" if control else TESTED,
                hatch="/////" if control else None,
                linewidth=0.5,
            )
            axes.errorbar(found[0], place, xerr=found[1], color="black", linewidth=0.9, capsize=1.8, capthick=0.8)


def _points(axes: Axes, findings: Findings, column: Column, methods: Sequence[Method]) -> None:
    for place, method in enumerate(methods):
        found = _ends(findings, column, method)
        if found is not None:
            color = TESTED if method.control_of is None else "#555555"
            axes.errorbar(found[0], place, xerr=found[1], color=color, fmt="o", markersize=3, linewidth=1, capsize=2)


def _dots(axes: Axes, findings: Findings, column: Column, methods: Sequence[Method]) -> None:
    at = {str(method.name): number for number, method in enumerate(findings.methods)}
    for place, method in enumerate(methods):
        if findings.cells[str(method.name), column.name].remark:
            continue
        values = findings.values[column.name][at[str(method.name)]]
        values = values[np.isfinite(values)]
        jitter = np.random.default_rng(place).uniform(-0.28, 0.28, len(values))
        axes.scatter(
            values,
            place + jitter,
            s=4 if len(values) <= 300 else 1,
            color=TESTED if method.control_of is None else CONTROL,
            alpha=0.35,
            linewidths=0,
            rasterized=len(values) > 300,
        )
        found = _ends(findings, column, method)
        if found is not None:
            axes.errorbar(
                found[0], place, xerr=found[1], color="black", fmt="|", markersize=7, linewidth=0.9, capsize=1.5
            )


def captions(drawn: Sequence[tuple[str, str, Any]]) -> str:
    """The captions as markdown, one paragraph per figure."""
    return "\n\n".join(f"**{name}**: {caption}" for name, caption, _ in drawn) + "\n"


# What the figures of a page may take, as base64, and from which size on a figure is shown in a lossy copy.
PAGE_BYTES, LARGE_BYTES = 5_000_000, 150_000
# Quality and scale of those copies: the first ones that fit; the files beside the page stay as they are.
COPIES = ((85, 1.0), (70, 0.7), (50, 0.5), (30, 0.35))


def inlined(drawn: Sequence[tuple[str, str, Sequence[Path]]]) -> list[Mapping[str, str]]:
    """Figures for a page that stands alone: name, caption, the picture as an address that holds it, width on the page.

    Where all of them take more than `PAGE_BYTES`, large ones are shown as WebP, as coarse as it takes.
    """
    contents = [files[0].read_bytes() for _, _, files in drawn]
    # A PNG says its width in bytes 16 to 19; 200 dots an inch are too many for a screen.
    widths = [int.from_bytes(content[16:20]) * 7 // 10 for content in contents]
    sources = [_address("png", content) for content in contents]
    for quality, scale in COPIES:
        if sum(map(len, sources)) <= PAGE_BYTES:
            break
        sources = [_address("webp", _copy(content, quality, scale)) if len(content) > LARGE_BYTES else source
                   for content, source in zip(contents, sources, strict=True)]  # fmt: skip
    return [
        {"name": name, "caption": caption, "source": source, "width": str(width)}
        for (name, caption, _), source, width in zip(drawn, sources, widths, strict=True)
    ]


def _address(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _copy(content: bytes, quality: int, scale: float) -> bytes:
    picture = Image.open(io.BytesIO(content)).convert("RGB")
    picture = picture.resize((max(1, round(picture.width * scale)), max(1, round(picture.height * scale))))
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=quality, method=2)
    return buffer.getvalue()
