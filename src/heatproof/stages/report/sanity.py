"""Sanity in the report: which methods forget with the net, drawn state by state, and said in one line each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from heatproof.base.depth import weight_blocks
from heatproof.base.records import Classifier, Maps, Method, Samples, Scores
from heatproof.base.stats import Interval, interval, intervals
from heatproof.stages.report.drawing import COLOURS, CONTROL, DASHES, MARKS, PAGE, Drawing, short
from heatproof.stages.report.findings import Column, Findings, decimals
from heatproof.stages.report.shown import HEAT, unit

# A likeness that is less than so much above that of unrelated maps is none (the metric law, section 5).
MARGIN = 0.1
FLOORS = {"networks": "maps of two random nets", "images": "maps of other images"}
MOST_ROWS = 6


@dataclass(frozen=True)
class Outcome:
    """A test of one method: likeness in the last state minus the larger floor, over images where both are known.

    A map of the image alone has floors of 1 itself and would not be above them: so a method whose likeness in the last
    state is not shown to be below 1 - MARGIN does not pass either. `floors`: the mean of each.
    """

    metric: str
    last: Interval
    floor: float
    floor_of: str
    difference: Interval
    floors: Mapping[str, float]

    @property
    def word(self) -> str:
        """ "passes", "fails", or "undecided" where the interval holds the margin."""
        if self.last.lo >= 1 - MARGIN or self.difference.lo >= MARGIN:
            return "fails"
        return "passes" if self.last.hi < 1 - MARGIN and self.difference.hi < MARGIN else "undecided"

    @property
    def draws_the_image(self) -> bool:
        """Whether two random nets give maps of one image that are more alike than maps of different images are."""
        return self.floors.get("networks", -1.0) - self.floors.get("images", 1.0) >= MARGIN


def outcomes(findings: Findings, method: str) -> list[Outcome]:
    """The tests of a method: the metrics that come with floors, one for each measure of likeness."""
    found = []
    for column in _tests(findings):
        floors = {
            kind: findings.values[name][_at(findings, method)]
            for kind in FLOORS
            if (name := f"{column.name}_{kind}") in findings.values and np.isfinite(findings.values[name]).any()
        }
        last = findings.values[column.name][_at(findings, method)]
        known = {kind: values for kind, values in floors.items() if np.isfinite(values - last).any()}
        if not known:
            continue
        kind = max(known, key=lambda name: np.nanmean(np.where(np.isfinite(last), known[name], np.nan)))
        difference = last - known[kind]
        both = np.isfinite(difference)
        found.append(
            Outcome(
                column.name,
                findings.cells[method, column.name].interval,
                float(known[kind][both].mean()),
                FLOORS[kind],
                interval(difference, groups=findings.groups, seed=findings.seed),
                {kind: float(np.nanmean(np.where(both, values, np.nan))) for kind, values in known.items()},
            )
        )
    return found


def lines(findings: Findings) -> Iterator[str]:
    """One verdict line for each method under test, and one for the controls, which show whether the test can fail."""
    for method in findings.tested:
        name = str(method.name)
        found = outcomes(findings, name)
        if found:
            yield f"{name}: {'; '.join(_said(outcome) for outcome in found)}."
    words = {str(m.name): {o.word for o in outcomes(findings, str(m.name))} for m in findings.controls}
    parts = [
        f"{word} for {', '.join(names)}"
        for word in ("fails", "undecided", "passes")
        if (names := [name for name, found in words.items() if found and _worst(found) == word])
    ]
    if parts:
        yield (
            f"Controls of these tests: {'; '.join(parts)}. A map of the image alone must fail; a random one passes, "
            "for passing says only that a map does not stay."
        )


def _worst(words: set[str]) -> str:
    return next(word for word in ("fails", "undecided", "passes") if word in words)


def _said(outcome: Outcome) -> str:
    d, places = outcome.difference, max(2, decimals((outcome.difference.hi - outcome.difference.lo) / 2))
    told = {
        "passes": "its maps forget with the net",
        "fails": "its maps stay when the net forgets",
        "undecided": "not shown whether its maps forget with the net",
    }[outcome.word]
    much = (
        f"; yet two random nets' maps of an image are alike by {outcome.floors['networks']:.2f}, different images' by "
        f"{outcome.floors['images']:.2f}: much of them is the image"
        if outcome.draws_the_image and outcome.word == "passes"
        else ""
    )
    return (
        f"{outcome.metric}: {told} (likeness {outcome.last.mean:.2f} against {outcome.floor:.2f} of "
        f"{outcome.floor_of}: {d.mean:+.{places}f} [{d.lo:.{places}f}, {d.hi:.{places}f}], margin {MARGIN}, "
        f"n = {d.n}{much})"
    )


def _tests(findings: Findings) -> list[Column]:
    """Columns that are tested: of cascades the last state alone counts, and both directions end in the same one."""
    found: dict[object, Column] = {}
    for column in findings.of("main"):
        settings = column.choice.metric.settings
        if settings.get("order") != "independent" and any(
            f"{column.name}_{kind}" in findings.values for kind in FLOORS
        ):
            found.setdefault((column.choice.metric.name, settings.get("similarity"), settings.get("blocks")), column)
    return list(found.values())


def _at(findings: Findings, method: str) -> int:
    return [str(one.name) for one in findings.methods].index(method)


# --------------------------------------------------------------------------------------------------------- figures


def drawings(
    findings: Findings, scores: Scores, *, samples: Samples, classifier: Classifier, maps: Maps
) -> Iterator[Drawing]:
    """The curve of each cascade over the states of the net, and the maps behind them."""
    cascades = [column for column in findings.of("main") if "weights" in column.choice.metric.facts.get("reruns", ())]
    known = scores.curves[scores.curves["metric"].isin([column.name for column in cascades])]
    cascades = [column for column in cascades if (known["metric"] == column.name).any()]
    if cascades:
        yield _curves(findings, known, cascades, _states(cascades, samples, classifier))
    pictured = next((c for c in cascades if any(metric == c.name for _, metric in scores.pictures)), None)
    if pictured is not None:
        names = _states([pictured], samples, classifier)[pictured.name]
        yield _grid(findings, scores, pictured, names, samples, maps)


def _states(columns: Sequence[Column], samples: Samples, classifier: Classifier) -> dict[str, list[str]]:
    """Names of the states: the block that was re-drawn last, or alone; none where the net is not at hand."""
    named: dict[str, list[str]] = {}
    for column in columns:
        settings = column.choice.metric.settings
        named[column.name] = []
        if classifier.module is not None and len(samples.table):
            example = samples.images(np.arange(1)).to(classifier.device)
            blocks = [block.name for block in weight_blocks(classifier.module, example, str(settings["blocks"]))]
            named[column.name] = ["trained", *(blocks if settings.get("order") == "bottom_up" else blocks[::-1])]
    return named


def _curves(
    findings: Findings, curves: pd.DataFrame, columns: Sequence[Column], names: dict[str, list[str]]
) -> Drawing:
    across = min(3, len(columns))
    down = -(-len(columns) // across)
    figure = Figure(figsize=(PAGE, 0.55 + 2.25 * down), layout="constrained")
    axes = figure.subplots(down, across, squeeze=False, sharey=True)
    for place in axes.flat[len(columns) :]:
        place.set_axis_off()
    tested = list(findings.tested)
    drawn = [*tested, *(m for m in findings.controls if m.alter is None)]
    for place, column in zip(axes.flat, columns, strict=False):
        mine = curves[curves["metric"] == column.name]
        for number, method in enumerate(drawn):
            table = mine[mine["method"] == str(method.name)].pivot_table(index="image", columns="x", values="y")
            if table.empty:
                continue
            table = table.reindex(list(findings.images))
            found = intervals(table.to_numpy(), groups=findings.groups, seed=findings.seed)
            x = table.columns.to_numpy()
            control = method.control_of is not None
            colour = CONTROL if control else COLOURS[number % len(COLOURS)]
            place.plot(
                x, [one.mean for one in found], color=colour, lw=1.0 if control else 1.4,
                ls=DASHES[(number - len(tested)) % len(DASHES)] if control else "-",
                marker=None if control else MARKS[number % len(MARKS)], ms=3, label=str(method.name),
            )  # fmt: skip
            if not control:
                place.fill_between(x, [o.lo for o in found], [o.hi for o in found], color=colour, alpha=0.2, lw=0)
                floor = next((o.floor for o in outcomes(findings, str(method.name)) if o.metric == column.name), None)
                if floor is not None:
                    place.plot([x[-1] + 0.15, x[-1] + 0.55], [floor] * 2, color=colour, lw=2.5, solid_capstyle="butt")
        labels = names[column.name] or [str(int(x)) for x in sorted(mine["x"].unique())]
        step = -(-len(labels) // 9)
        place.set_xticks(range(0, len(labels), step), [short(label, 18) for label in labels[::step]], rotation=45,
                         ha="right", fontsize=6)  # fmt: skip
        place.set_title(short(column.name, 34), fontsize=8)
        place.axhline(0, color="black", lw=0.5)
        if place in axes[:, 0]:
            place.set_ylabel("likeness to the map\nof the trained net")
    handles, texts = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, texts, loc="outside lower center", ncols=min(6, len(handles)), fontsize=6.5, frameon=False)
    n = int(curves.groupby(["metric", "method"])["image"].nunique().max())
    return Drawing(
        "randomisation",
        figure,
        f"Likeness of each method's maps to those of the trained net while blocks of weights are re-drawn: mean over "
        f"images and draws with its 95 % interval, n = {n} at most. In a cascade the block under each point is "
        "re-drawn with all before it; 'independent' re-draws that block alone. Thick bars at the right: the larger "
        "floor (maps of two random nets, or of other images); a method passes where its last point is less than "
        f"{MARGIN} above. Controls are grey: a map of the image alone stays at 1.",
    )


def _grid(
    findings: Findings, scores: Scores, column: Column, names: Sequence[str], samples: Samples, maps: Maps
) -> Drawing:
    """The first explained images, each with the maps of the methods under test in every state."""
    methods = [m for m in findings.tested if (str(m.name), column.name) in scores.pictures]
    edge = [m for m in findings.controls if str(m.name) == "edge" and (str(m.name), column.name) in scores.pictures]
    shown: list[Method] = [*methods[: MOST_ROWS - len(edge)], *edge]
    pictures = [scores.pictures[str(m.name), column.name] for m in shown]
    states = len(pictures[0])
    chosen = sorted({0, *np.linspace(0, states - 1, min(states, 8)).round().astype(int).tolist()})
    images = [0, 1][: 1 if len(shown) > 3 else 2][: pictures[0].shape[1]]
    side = PAGE / (len(chosen) + 1) - 0.04
    figure = Figure(figsize=(PAGE, (side + 0.06) * len(shown) * len(images) + 0.35), layout="constrained")
    grid = figure.subplots(len(shown) * len(images), len(chosen) + 1, squeeze=False)
    for axes in grid.flat:
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_visible(False)
    for number, (place, (method, picture)) in enumerate(
        (place, pair) for place in images for pair in zip(shown, pictures, strict=True)
    ):
        pixels = samples.pixels[int(maps.rows[place])]
        grid[number, 0].imshow(pixels[..., 0] if pixels.shape[-1] == 1 else pixels, cmap="gray", vmin=0, vmax=255)
        grid[number, 0].set_ylabel(short(str(method.name), 20), fontsize=6)
        for axes, state in zip(grid[number, 1:], chosen, strict=True):
            one = picture[state, place]
            if np.isfinite(one).all() and np.ptp(one) > 0:
                axes.imshow(unit(one), cmap=HEAT, vmin=0, vmax=1)
            else:
                axes.text(0.5, 0.5, "no map", ha="center", va="center", fontsize=6, transform=axes.transAxes)
    grid[0, 0].set_title("image", fontsize=6)
    for axes, state in zip(grid[0, 1:], chosen, strict=True):
        axes.set_title(short(names[state] if state < len(names) else str(state), 16), fontsize=6)
    return Drawing(
        "randomisation_maps",
        figure,
        f"Maps behind {column.name}: the first of {len(maps.rows)} explained images, by the trained net and after each "
        "block of weights was re-drawn in turn (first draw), each scaled from its own minimum to its own maximum, at "
        "reduced resolution. 'no map': zero everywhere, or undefined.",
    )
