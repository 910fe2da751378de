"""From the long table of scores to numbers with intervals: cells of methods x columns, and pairs with adjusted p."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from heatproof.base.names import parse
from heatproof.base.records import Method, MetricChoice, Scores
from heatproof.base.stats import RESAMPLES, Comparison, Interval, comparisons, holm, intervals

EXCESS = "_excess"
ALPHA = 0.05
# A winner that is defined on fewer images than the loser may have won by dropping the hard ones.
SHARE_GAP = 0.05


@dataclass(frozen=True)
class Column:
    """A column of the scores: the metric's own value ("main"), its excess over a baseline ("excess"), or one that
    stands beside it ("side"). `baseline` names what the excess is over; `choice` is the metric it belongs to."""

    name: str
    choice: MetricChoice
    part: str
    better: str
    baseline: str | None = None

    @property
    def ranked(self) -> bool:
        return self.better != "neither" and bool(self.choice.metric.facts.get("ranked", True))


@dataclass(frozen=True)
class Cell:
    """One method in one column: its interval, undefined images by reason, and a remark that replaces the number."""

    interval: Interval
    undefined: Mapping[str, int]
    rows: int
    remark: str | None = None


@dataclass(frozen=True)
class Pair:
    """`method_a` against `method_b` in a column; for an excess, `method_b` is the baseline that it is over."""

    method_a: str
    method_b: str
    metric: str
    better: str
    comparison: Comparison
    p_holm: float
    share_a: float
    share_b: float

    @property
    def winner(self) -> int:
        """1 where a is shown to be better, -1 where b is, 0 where no difference is shown."""
        if not self.excludes_zero or not self.p_holm < ALPHA or abs(self.share_a - self.share_b) > SHARE_GAP:
            return 0
        return 1 if (self.comparison.difference > 0) == (self.better == "up") else -1

    @property
    def excludes_zero(self) -> bool:
        return self.comparison.lo > 0 or self.comparison.hi < 0


@dataclass(frozen=True)
class Findings:
    """All that tables, figures and verdicts say. `values`: column -> array (methods, images), NaN where undefined.
    `groups`: of each image, None where nobody knows any."""

    methods: tuple[Method, ...]
    columns: tuple[Column, ...]
    cells: Mapping[tuple[str, str], Cell]
    pairs: tuple[Pair, ...]
    values: Mapping[str, np.ndarray]
    images: tuple[str, ...]
    grouped: bool
    seed: int
    groups: tuple[Any, ...] | None = None

    @property
    def tested(self) -> tuple[Method, ...]:
        """The methods under test."""
        return tuple(method for method in self.methods if method.control_of is None)

    @property
    def controls(self) -> tuple[Method, ...]:
        """The controls that have a row of their own, those of all methods first; shifted copies enter through the
        excess."""
        own = [method for method in self.methods if method.control_of is not None and method.alter != "shifted"]
        return tuple(sorted(own, key=lambda method: method.control_of != "all"))

    def of(self, part: str) -> tuple[Column, ...]:
        """The columns of one part ("main", "excess", "side"), in the metrics' order."""
        return tuple(column for column in self.columns if column.part == part)

    def pair(self, a: str, b: str, metric: str) -> Pair | None:
        """The comparison of a with b, turned round where it was made the other way."""
        for pair in self.pairs:
            if pair.metric == metric and (pair.method_a, pair.method_b) == (a, b):
                return pair
            if pair.metric == metric and (pair.method_a, pair.method_b) == (b, a):
                return _turned(pair)
        return None

    def mark(self, method: str, metric: str) -> Pair | None:
        """The test of a method's excess in a metric against 0."""
        found = (p for p in self.pairs if p.method_a == method and p.metric == metric + EXCESS)
        return next(found, None)


def find(scores: Scores, *, seed: int, size: int | None = None) -> Findings:
    """Intervals of every method and column and paired comparisons, Holm over all pairs x all metrics.

    Pairs: all methods under test among each other, each against the controls that need no model, a fusion against its
    blurred single view, and every excess of a method under test against 0 (the marks). `size`: side of the images, by
    which an explainer is known whose perturbations are those of a metric.
    """
    columns = tuple(_columns(scores))
    names = [str(method.name) for method in scores.methods]
    images, values, status = _arrays(scores.table, names, [column.name for column in columns])
    groups = _groups(scores.table, images)
    cells: dict[tuple[str, str], Cell] = {}
    for kind in (False, True):
        chosen = [c for c in columns if _binary(values[c.name]) == kind]
        if not chosen:
            continue
        table = np.concatenate([values[c.name] for c in chosen]).T
        found = iter(intervals(table, groups=groups, seed=seed, binary=kind))
        for column in chosen:
            for number, method in enumerate(scores.methods):
                reasons = status[column.name][number]
                cells[names[number], column.name] = Cell(
                    _clipped(next(found), column),
                    reasons,
                    int(np.isfinite(values[column.name][number]).sum()) + sum(reasons.values()),
                    _remark(method, column, size),
                )
    made = Findings(
        scores.methods, columns, cells, (), values, tuple(images), groups is not None, seed,
        None if groups is None else tuple(groups),
    )  # fmt: skip
    return replace(made, pairs=tuple(_pairs(made, groups)))


def _columns(scores: Scores) -> Iterator[Column]:
    present = scores.table.groupby("metric", sort=False, observed=True)["column"].unique()
    for choice in scores.metrics:
        facts = choice.metric.facts
        for name in present.get(choice.label, ()):
            if name == choice.label:
                yield Column(name, choice, "main", facts["better"])
            elif name == choice.label + EXCESS:
                yield Column(name, choice, "excess", "up", _baseline(facts))
            else:
                yield Column(name, choice, "side", "neither")


def _baseline(facts: Mapping[str, Any]) -> str:
    if facts.get("floor"):
        return "other images' maps"
    return "its shifted copies" if facts.get("shifted") else "chance"


def _arrays(
    table: pd.DataFrame, names: Sequence[str], columns: Sequence[str]
) -> tuple[list[str], dict[str, np.ndarray], dict[str, list[dict[str, int]]]]:
    """Images in the order they appear; per column the values (methods, images) and undefined images by reason."""
    images = list(pd.unique(table["image"]))
    at_image = pd.Index(images).get_indexer(table["image"])
    at_method = pd.Index(names).get_indexer(table["method"])
    at_column = pd.Index(columns).get_indexer(table["column"])
    number, why = table["value"].to_numpy(dtype=np.float64), table["status"].astype(str).to_numpy()
    known = (at_method >= 0) & (at_column >= 0)
    fine = known & (why == "ok") & np.isfinite(number)
    filled = np.full((len(columns), len(names), len(images)), np.nan)
    filled[at_column[fine], at_method[fine], at_image[fine]] = number[fine]
    status: dict[str, list[dict[str, int]]] = {column: [{} for _ in names] for column in columns}
    lost = known & ~fine
    reasons = [reason.removeprefix("undefined:") if reason != "ok" else "nonfinite" for reason in why[lost]]
    counted = pd.DataFrame({"column": at_column[lost], "method": at_method[lost], "reason": reasons})
    for (column, method, reason), count in counted.groupby(["column", "method", "reason"]).size().items():
        status[columns[column]][method][reason] = int(count)
    return images, dict(zip(columns, filled, strict=True)), status


def _groups(table: pd.DataFrame, images: Sequence[str]) -> list[Any] | None:
    first = table.drop_duplicates("image").set_index("image")["group"].reindex(images)
    return None if first.isna().all() else [None if pd.isna(group) else group for group in first]


def _binary(values: np.ndarray) -> bool:
    """Whether a column holds nothing but 0 and 1 over all methods, both of them."""
    return set(np.unique(values[np.isfinite(values)])) == {0.0, 1.0}


def _clipped(found: Interval, column: Column) -> Interval:
    """The interval within the metric's range: a mean of values of [0, 1] does not leave it."""
    low, high = column.choice.metric.facts.get("range", (None, None)) if column.part == "main" else (None, None)
    lo = found.lo if low is None else max(found.lo, low) if found.lo == found.lo else found.lo
    hi = found.hi if high is None else min(found.hi, high) if found.hi == found.hi else found.hi
    return replace(found, lo=float(lo), hi=float(hi))


def _remark(method: Method, column: Column, size: int | None) -> str | None:
    if column.part != "side" and _same_perturbation(method, column, size):
        return "shares the perturbation"
    constant = method.control_of == "all" and method.explainer is not None and method.explainer.facts.get("constant")
    # That a map stays when the net changes is what tests of sanity find out: there the number is said.
    if constant and {"noise", "view"} & set(column.choice.metric.facts.get("reruns", ())) and column.part != "side":
        return "constant by construction"
    return None


def _same_perturbation(method: Method, column: Column, size: int | None) -> bool:
    """Whether an explainer covers the very cells with the very fill that a metric judges it by (`same_as`): it scores
    well by construction."""
    explainer, metric = method.explainer, column.choice.metric
    if explainer is None or size is None or explainer.name != metric.facts.get("same_as"):
        return False
    asked, made = metric.settings, explainer.settings
    return made["fill"] == asked["fill"] and made["patch"] * asked["grid"] == made["stride"] * asked["grid"] == size


def _pairs(findings: Findings, groups: list[Any] | None) -> Iterator[Pair]:
    wanted = [(a, b, column) for a, b in _opponents(findings) for column in findings.of("main") if column.ranked]
    wanted = [w for w in wanted if not any(findings.cells[name, w[2].name].remark for name in w[:2])]
    marks = [(str(m.name), c) for m in findings.tested for c in findings.of("excess")]
    marks = [(name, c) for name, c in marks if not findings.cells[name, c.name].remark]
    family = len(wanted) + len(marks)
    if family == 0:
        return
    at = {str(method.name): number for number, method in enumerate(findings.methods)}
    first = [findings.values[column.name][at[a]] for a, _, column in wanted]
    second = [findings.values[column.name][at[b]] for _, b, column in wanted]
    for name, column in marks:
        first.append(findings.values[column.name][at[name]])
        second.append(np.zeros(len(findings.images)))
    resamples = max(RESAMPLES, 200 * family)
    found = comparisons(np.array(first).T, np.array(second).T, groups=groups, seed=findings.seed, resamples=resamples)
    adjusted = holm(np.array([comparison.p for comparison in found]))
    for (a, b, column), comparison, p in zip(wanted, found, adjusted, strict=False):
        shares = (_share(findings.cells[name, column.name]) for name in (a, b))
        yield Pair(a, b, column.name, column.better, comparison, float(p), *shares)
    for (a, column), comparison, p in zip(marks, found[len(wanted) :], adjusted[len(wanted) :], strict=True):
        share = _share(findings.cells[a, column.name])
        yield Pair(a, str(column.baseline), column.name, "up", comparison, float(p), share, share)


def _opponents(findings: Findings) -> Iterator[tuple[str, str]]:
    tested = [str(method.name) for method in findings.tested]
    yield from combinations(tested, 2)
    for name in tested:
        for control in findings.controls:
            if control.control_of == "all" or (control.control_of == name and control.alter == "blurred"):
                yield name, str(control.name)


def single_of(method: Method, methods: Sequence[Method]) -> Method | None:
    """The single-view method that a fusion is made from, where it is under test, too."""
    if not method.views:
        return None
    single = str(parse(str(method.name)).single())
    return next((other for other in methods if str(other.name) == single), None)


def blurred_of(method: Method, methods: Sequence[Method]) -> Method | None:
    """The blurred single view that a fusion must beat."""
    return next((o for o in methods if o.alter == "blurred" and o.control_of == str(method.name)), None)


def decimals(half: float) -> int:
    """Decimals that show two figures of an interval of that half-width: 2 to 4.

    >>> [decimals(half) for half in (0.2, 0.07, 0.004)]
    [2, 2, 3]
    """
    return int(np.clip(1 + np.floor(-np.log10(half)), 2, 4)) if half > 0 else 2


def _share(cell: Cell) -> float:
    return cell.interval.n / cell.rows if cell.rows else 0.0


def _turned(pair: Pair) -> Pair:
    c = pair.comparison
    turned = replace(c, difference=-c.difference, lo=-c.hi, hi=-c.lo, d_z=-c.d_z, rank_biserial=-c.rank_biserial)
    return replace(
        pair,
        method_a=pair.method_b,
        method_b=pair.method_a,
        comparison=turned,
        share_a=pair.share_b,
        share_b=pair.share_a,
    )
