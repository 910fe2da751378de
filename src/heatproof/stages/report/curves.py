"""Curves behind the metrics of faithfulness: the explained class's probability as the image is perturbed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from heatproof.base.records import Method, Predictions, Scores
from heatproof.base.stats import intervals
from heatproof.stages.report.drawing import COLOURS, CONTROL, DASHES, PAGE, Drawing, short
from heatproof.stages.report.findings import Column, Findings

# Metrics whose curve is p_c over the share of the image that is perturbed, or has come back (insertion).
CURVED = ("aopc_morf", "aopc_lerf", "deletion", "insertion", "road_morf", "road_lerf")
# Points of a band at most, and resamples of each: bands are looked at, not printed.
POINTS, RESAMPLES = 21, 2000
# Groups of images, and methods, that a figure by group shows at most.
GROUPS, METHODS = 4, 6


@dataclass(frozen=True)
class _Part:
    """Some of the images: those of a class, or with an outcome."""

    title: str
    images: np.ndarray


def drawings(findings: Findings, scores: Scores, predictions: Predictions) -> Iterator[Drawing]:
    """All curves over all images, then per class and per outcome, for the metrics that have one."""
    known = scores.curves[["metric"]].drop_duplicates()["metric"].tolist()
    columns = [c for c in findings.of("main") if c.choice.metric.name in CURVED and c.name in known]
    if not columns:
        return
    curves = {
        (str(metric), str(method)): found.pivot_table(index="image", columns="x", values="y").reindex(findings.images)
        for (metric, method), found in scores.curves.groupby(["metric", "method"], sort=False)
        if metric in {column.name for column in columns}
    }
    everyone = _Part("", np.ones(len(findings.images), dtype=bool))
    controls = [m for m in findings.controls if m.alter is None]
    yield Drawing(
        "curves",
        _multiples(findings, curves, columns, [*findings.tested, *controls], everyone),
        "Probability of the explained class over the share of the image that is perturbed (insertion: that has come "
        f"back), by each method's own order. Mean over the images that are defined (n = {_n(curves)} at most) with its "
        "pointwise 95 % band; dashed and dotted: controls. A good map falls fast where it is followed from its highest "
        "values on, slowly from its lowest, and rises fast under insertion. What is put in the place of pixels decides "
        "much of a curve: compare curves of one axes alone.",
    )
    for name, title, parts in (
        ("curves_by_class", "class", _classes(findings, scores, predictions)),
        ("curves_by_outcome", "outcome of the prediction", _outcomes(findings, predictions)),
    ):
        if len(parts) > 1:
            yield Drawing(
                name,
                _grid(findings, curves, columns, findings.tested[:METHODS], parts),
                f"The curves of the methods under test by {title}: mean over its images with the pointwise 95 % band. "
                "n = images, of which a method may be undefined on some; few images make wide bands.",
            )


def _classes(findings: Findings, scores: Scores, predictions: Predictions) -> list[_Part]:
    """The true classes with most images."""
    label = _of_images(scores.table, findings, "label")
    names = [str(name)[2:] for name in predictions.table.columns if str(name).startswith("p_")]
    found = [_Part(names[c] if c < len(names) else str(c), label == c) for c in _values(label)]
    return sorted(found, key=lambda part: -part.images.sum())[:GROUPS]


def _outcomes(findings: Findings, predictions: Predictions) -> list[_Part]:
    """TP, TN, FP and FN of two classes; right and wrong predictions of more."""
    if "outcome" not in predictions.table:
        return []
    outcome = _of_images(predictions.table, findings, "outcome")
    if pd.isna(outcome).all():
        outcome = np.where(_of_images(predictions.table, findings, "correct") == True, "right", "wrong")  # noqa: E712
    return [_Part(str(one), outcome == one) for one in _values(outcome)]


def _of_images(table: pd.DataFrame, findings: Findings, name: str) -> np.ndarray:
    return np.asarray(table.drop_duplicates("image").set_index("image")[name].reindex(findings.images), dtype=object)


def _values(found: np.ndarray) -> list:
    return sorted({value for value in found if not pd.isna(value)})


def _multiples(
    findings: Findings, curves: dict, columns: Sequence[Column], methods: Sequence[Method], part: _Part
) -> Figure:
    across = min(3, len(columns))
    down = -(-len(columns) // across)
    figure = Figure(figsize=(PAGE if across > 1 else PAGE / 2, 0.5 + 2.0 * down), layout="constrained")
    axes = figure.subplots(down, across, squeeze=False, sharey=True)
    for place in axes.flat[len(columns) :]:
        place.set_axis_off()
    for place, column in zip(axes.flat, columns, strict=False):
        _curves(place, findings, curves, column, methods, part)
        place.set_title(short(column.name, 30), fontsize=8)
    _finish(figure, axes)
    return figure


def _grid(
    findings: Findings, curves: dict, columns: Sequence[Column], methods: Sequence[Method], parts: Sequence[_Part]
) -> Figure:
    """A row per metric, a column per group of images."""
    figure = Figure(figsize=(PAGE, 0.5 + 1.6 * len(columns)), layout="constrained")
    axes = figure.subplots(len(columns), len(parts), squeeze=False, sharey=True, sharex=True)
    for row, column in zip(axes, columns, strict=True):
        for place, part in zip(row, parts, strict=True):
            _curves(place, findings, curves, column, methods, part)
        row[0].set_ylabel(short(column.name, 22), fontsize=7)
    for place, part in zip(axes[0], parts, strict=True):
        place.set_title(f"{short(part.title, 22)}\nn = {part.images.sum()}", fontsize=7)
    _finish(figure, axes, labelled=False)
    return figure


def _curves(
    axes: Axes, findings: Findings, curves: dict, column: Column, methods: Sequence[Method], part: _Part
) -> None:
    tested = [method for method in methods if method.control_of is None]
    for number, method in enumerate(methods):
        table = curves.get((column.name, str(method.name)))
        if table is None or not np.isfinite(table.to_numpy()[part.images]).any():
            continue
        x, y = _thinned(table)
        control = method.control_of is not None
        groups = None if findings.groups is None else list(np.array(findings.groups, dtype=object)[part.images])
        found = intervals(y[part.images], groups=groups, seed=findings.seed, resamples=RESAMPLES)
        colour = CONTROL if control else COLOURS[number % len(COLOURS)]
        dash = DASHES[(number - len(tested)) % len(DASHES)] if control else "-"
        axes.plot(x, [one.mean for one in found], color=colour, lw=1.0 if control else 1.3, ls=dash,
                  label=str(method.name))  # fmt: skip
        if not control:
            axes.fill_between(x, [o.lo for o in found], [o.hi for o in found], color=colour, alpha=0.15, lw=0)
    axes.set(xlim=(0, 1), ylim=(-0.02, 1.02))


def _thinned(table: pd.DataFrame) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, "images n"]]:
    """A curve's points, at most POINTS of them, both ends among them."""
    chosen = np.unique(np.linspace(0, table.shape[1] - 1, min(POINTS, table.shape[1])).round().astype(int))
    return table.columns.to_numpy(np.float64)[chosen], table.to_numpy(np.float64)[:, chosen]


def _finish(figure: Figure, axes: np.ndarray, *, labelled: bool = True) -> None:
    for place in axes[-1]:
        place.set_xlabel("share of the image", fontsize=7)
    if labelled:
        for place in axes[:, 0]:
            place.set_ylabel("p of the explained class", fontsize=7)
    handles, texts = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, texts, loc="outside lower center", ncols=min(5, max(1, len(handles))), fontsize=6.5)


def _n(curves: dict) -> int:
    return max(int(np.isfinite(table.to_numpy()).all(1).sum()) for table in curves.values())
