"""Figures of a run, each with its caption; the only module that draws."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from heatproof.base.records import Classifier, Maps, Method, Predictions, Samples
from heatproof.stages.report.findings import EXCESS, Cell, Column, Findings
from heatproof.stages.report.tables import ARROWS, common_n

STYLE = Path(__file__).with_name("style.mplstyle")
# Widths of a page and of a text column, in inches.
PAGE, TEXT_COLUMN = 7.0, 3.4
HEAT, SPREAD = "inferno", "viridis"
TESTED, CONTROL, OUTLINE = "#0072B2", "#9a9a9a", "#00e5ff"
CASES = 4
PANEL_METHODS = 3


@dataclass(frozen=True)
class Drawing:
    """A figure with its file name and the caption that belongs beside it."""

    name: str
    figure: Figure
    caption: str


def draw(
    folder: Path,
    findings: Findings,
    *,
    samples: Samples,
    classifier: Classifier,
    predictions: Predictions,
    maps: Maps,
) -> list[tuple[str, str, list[Path]]]:
    """Draw all figures into `folder` as PNG and PDF: (name, caption, files) of each one that there is data for."""
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    with matplotlib.rc_context(fname=STYLE):
        for drawing in (
            *_panels(samples, predictions, maps),
            *_metric_figures(findings),
            *_training(classifier),
            *_confusion(predictions, samples.classes),
        ):
            files = [folder / f"{drawing.name}.{ending}" for ending in ("png", "pdf")]
            _save(drawing.figure, files)
            made.append((drawing.name, drawing.caption, files))
    return made


def _save(figure: Figure, files: Sequence[Path]) -> None:
    """Laid out once, saved in every format, cropped to what is drawn."""
    with warnings.catch_warnings():
        # A class name in a script that the font lacks is drawn as boxes; the tables carry it in full.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        engine = figure.get_layout_engine()
        if engine is not None:
            engine.execute(figure)
            figure.set_layout_engine("none")
        box = figure.get_tightbbox().padded(0.03)
        for file in files:
            metadata = {"CreationDate": None} if file.suffix == ".pdf" else None
            figure.savefig(file, bbox_inches=box, metadata=metadata)


# ----------------------------------------------------------------------------------------------------- classifier


def _training(classifier: Classifier) -> Iterator[Drawing]:
    history = pd.DataFrame([dict(epoch) for epoch in classifier.history])
    if history.empty or "epoch" not in history:
        return
    figure = Figure(figsize=(PAGE * 0.75, 2.1))
    left, right = figure.subplots(1, 2)
    for axes, columns, label in (
        (left, {"train_loss": "training", "val_loss": "validation"}, "cross-entropy [nat]"),
        (right, {"train_accuracy": "training", "val_accuracy": "validation"}, "accuracy"),
    ):
        for (column, name), color in zip(columns.items(), (TESTED, "#D55E00"), strict=True):
            if column in history and history[column].notna().any():
                axes.plot(history["epoch"], history[column], color=color, label=name, marker=".", markersize=3)
        if classifier.best_epoch is not None:
            axes.axvline(classifier.best_epoch, color="0.4", linewidth=0.8, linestyle=":", label="epoch kept")
        axes.set(xlabel="epoch", ylabel=label)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_ylim(bottom=0)
    right.set_ylim(0, 1.02)
    left.legend()
    kept = "" if classifier.best_epoch is None else f" The weights of epoch {classifier.best_epoch} are kept."
    yield Drawing("training", figure, f"Training of the classifier, one run of {len(history)} epochs.{kept}")


def _confusion(predictions: Predictions, classes: Sequence[str]) -> Iterator[Drawing]:
    table = predictions.table.dropna(subset=["label"])
    split = "test" if (table["split"] == "test").any() else None
    table = table[table["split"] == split] if split else table
    if table.empty:
        return
    counts = np.zeros((len(classes), len(classes)), dtype=np.int64)
    np.add.at(counts, (table["label"].to_numpy(dtype=np.int64), table["predicted"].to_numpy(dtype=np.int64)), 1)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = float(np.clip(1.5 + 0.42 * len(classes), 2.4, PAGE))
    figure = Figure(figsize=(side + 0.5, side))
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if len(classes) <= 20:
        for row, column in np.ndindex(*counts.shape):
            color = "white" if shares[row, column] > 0.55 else "black"
            axes.text(column, row, str(counts[row, column]), ha="center", va="center", color=color, fontsize=7)
    names = [_short(name, 18) for name in classes]
    axes.set_xticks(range(len(classes)), names, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(classes)), names)
    axes.set(xlabel="predicted", ylabel="true")
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    figure.colorbar(image, ax=axes, label="share of the true class", fraction=0.046)
    where = f"{split} split" if split else "evaluated images"
    yield Drawing("confusion", figure, f"Confusion matrix on the {where}, counts of images (n = {len(table)}).")


# ---------------------------------------------------------------------------------------------------------- panel


def _panels(samples: Samples, predictions: Predictions, maps: Maps) -> Iterator[Drawing]:
    """The same cases for all methods: image with annotation, heat maps, a fusion's spread over its views."""
    cases = _cases(samples, predictions, maps)
    tested = [method for method in maps.methods if method.control_of is None and str(method.name) in maps.files]
    most = PANEL_METHODS if maps.sd_files else PANEL_METHODS + 2
    for number, start in enumerate(range(0, len(tested), most) if cases else ()):
        chosen = tested[start : start + most]
        name = "panel" if number == 0 else f"panel_{number + 1}"
        yield _panel(name, samples, predictions, maps, chosen, cases)


def _cases(samples: Samples, predictions: Predictions, maps: Maps) -> list[int]:
    """Places (in the maps) of up to four cases: a wrong prediction if there is one, then correct ones of the classes in
    turn, annotated ones first; everything by position, so a rerun shows the same."""
    images = samples.table["image"].iloc[maps.rows].to_numpy()
    known = predictions.table.drop_duplicates("image").set_index("image").reindex(images)
    annotated = samples.table["annotation"].notna().iloc[maps.rows].to_numpy() if samples.masks is not None else None
    labels = known["label"].to_numpy(dtype=np.float64, na_value=np.nan)
    correct = labels == known["predicted"].to_numpy(dtype=np.float64, na_value=np.nan)
    order = np.arange(len(images)) if annotated is None else np.argsort(~annotated, kind="stable")
    wrong = [int(i) for i in order if not correct[i] and np.isfinite(labels[i])][:1]
    by_class: dict[float, list[int]] = {}
    for i in order:
        if int(i) not in wrong:
            by_class.setdefault(float(np.nan_to_num(labels[i], nan=-1)), []).append(int(i))
    right = []
    queues = [by_class[label] for label in sorted(by_class)]
    for turn in range(CASES):
        right += [queue[turn] for queue in queues if turn < len(queue)]
    room = CASES - len(wrong)
    return sorted(right[:room], key=lambda i: (np.nan_to_num(labels[i], nan=-1), i)) + wrong


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
    spreads = {str(m.name): _held(maps.sd_files[str(m.name)])[list(cases)] for m in spread}
    top = max((float(np.nanmax(found, initial=0)) for found in spreads.values()), default=1) or 1
    for line, case in enumerate(cases):
        row = int(maps.rows[case])
        pixels = samples.pixels[row]
        mask = None if samples.masks is None else np.asarray(samples.masks[row])
        first = grid[line, 0]
        first.imshow(pixels[..., 0] if pixels.shape[-1] == 1 else pixels, cmap="gray", vmin=0, vmax=255)
        first.set_title(_case_title(samples, predictions, row), fontsize=6, pad=2)
        for axes, method in zip(grid[line, 1:], methods, strict=False):
            found = np.asarray(maps.array(str(method.name))[case], dtype=np.float64)
            state = maps.status[str(method.name)][case]
            heat = axes.imshow(_unit(found), cmap=HEAT, vmin=0, vmax=1)
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
            _wrapped(text), (0.5, 1), (0, 18), xycoords="axes fraction", textcoords="offset points", ha="center",
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


def _case_title(samples: Samples, predictions: Predictions, row: int) -> str:
    image = samples.table["image"].iloc[row]
    found = predictions.table[predictions.table["image"] == image].iloc[0]
    # Data without labels name no classes: those of the net stand in the columns.
    classes = samples.classes or [str(name)[2:] for name in found.index if str(name).startswith("p_")]
    predicted = classes[int(found["predicted"])]
    text = f"pred. {_short(predicted, 16)} {float(found.get(f'p_{predicted}', np.nan)):.2f}"
    return text if pd.isna(found["label"]) else f"true {_short(classes[int(found['label'])], 16)}\n{text}"


def _held(held: Path | np.ndarray) -> np.ndarray:
    return held if isinstance(held, np.ndarray) else np.asarray(np.load(held, mmap_mode="r"))


def _unit(found: np.ndarray) -> np.ndarray:
    low, high = np.nanmin(found), np.nanmax(found)
    return (found - low) / (high - low) if high > low else np.zeros_like(found)


# -------------------------------------------------------------------------------------------------------- metrics


def _metric_figures(findings: Findings) -> Iterator[Drawing]:
    """Means with intervals, excesses, distributions: small multiples, one axes per metric."""
    main, excess = findings.of("main"), findings.of("excess")
    everyone = (*findings.tested, *findings.controls)
    if main:
        yield Drawing(
            "metrics",
            _multiples(findings, main, everyone, _bars),
            "Metrics with 95 % intervals; arrows point to the better side; controls are grey and hatched, below "
            "the dotted line; n = images that most methods are defined on.",
        )
        yield Drawing(
            "distributions",
            _multiples(findings, main, everyone, _dots),
            "Each dot is one image, the black bar their mean with its 95 % interval; controls are grey, below the "
            "dotted line; n = images that most methods are defined on.",
        )
    if excess:
        yield Drawing(
            "excess",
            _multiples(findings, excess, findings.tested, _points),
            "Excess over the baseline in each title, with 95 % intervals; 0 = no better than the baseline; "
            "n = images that most methods are defined on.",
        )


def _multiples(
    findings: Findings,
    columns: Sequence[Column],
    methods: Sequence[Method],
    plot: Callable[[Axes, Findings, Column, Sequence[Method]], None],
) -> Figure:
    across = min(3, len(columns))
    down = ceil(len(columns) / across)
    names = [_short(str(method.name), 34) for method in methods]
    label = 0.055 * max(len(name) for name in names)
    height = 0.17 * len(methods) + (0.75 if columns[0].part == "excess" else 0.62)
    figure = Figure(figsize=(PAGE if across > 1 else TEXT_COLUMN + label, height * down + 0.1))
    grid = figure.subplots(down, across, squeeze=False, sharey=True)
    for axes in grid.flat[len(columns) :]:
        axes.set_visible(False)
    for axes, column in zip(grid.flat, columns, strict=False):
        plot(axes, findings, column, methods)
        n = common_n(findings, column) or 0
        if column.part == "excess":
            axes.set_title(f"{column.name.removesuffix(EXCESS)} (n = {n})\nover {column.baseline}", fontsize=7)
        else:
            axes.set_title(f"{column.name} {ARROWS[column.better]} (n = {n})", fontsize=7)
        if 0 < len(findings.tested) < len(methods):
            axes.axhline(len(findings.tested) - 0.5, color="0.3", linewidth=0.6, linestyle=":")
        for place, method in enumerate(methods):
            _blank(axes, findings.cells[str(method.name), column.name], place)
        axes.axvline(0, color="0.3", linewidth=0.6, zorder=0)
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.grid(axis="x", color="0.9", linewidth=0.5)
        axes.set_axisbelow(True)
        axes.tick_params(axis="y", length=0)
    # Shared by all axes, so once is enough.
    grid[0, 0].set_yticks(range(len(methods)), names)
    grid[0, 0].set_ylim(len(methods) - 0.4, -0.6)
    return figure


def _blank(axes: Axes, cell: Cell, place: int) -> None:
    """Why there is nothing to see in a row, where there is nothing."""
    if cell.remark or not np.isfinite(cell.interval.mean):
        why = cell.remark or "undefined"
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


def _short(text: str, most: int) -> str:
    text = " ".join(str(text).split())
    return text if len(text) <= most else text[: most - 1] + "…"


def _wrapped(text: str) -> str:
    """A method's name on several lines, broken at its parts."""
    parts = text.replace(":", ":\n").replace("sd of ", "sd of\n").split("\n")
    return "\n".join(part if len(part) <= 16 else part.replace(".", ".\n", 1) for part in parts)


def captions(drawn: Sequence[tuple[str, str, Any]]) -> str:
    """The captions as markdown, one paragraph per figure."""
    return "\n\n".join(f"**{name}**: {caption}" for name, caption, _ in drawn) + "\n"


def inlined(drawn: Sequence[tuple[str, str, Sequence[Path]]]) -> list[Mapping[str, str]]:
    """Figures for a page that stands alone: name, caption and the PNG as base64."""
    import base64

    return [
        {"name": name, "caption": caption, "png": base64.b64encode(files[0].read_bytes()).decode()}
        for name, caption, files in drawn
    ]
