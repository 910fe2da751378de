"""What the numbers allow to say, one sentence each, and no more.

Nobody is named better unless the p value adjusted over the whole table is below 0.05, the interval of the paired
difference excludes 0 and both are defined on about the same share of the images.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby

from heatproof.base.records import Method, Predictions
from heatproof.stages.report import ranking, sanity
from heatproof.stages.report.classified import most_frequent
from heatproof.stages.report.findings import ALPHA, EXCESS, Column, Findings, Pair, blurred_of, decimals, single_of


def verdicts(findings: Findings, predictions: Predictions | None = None, more: Sequence[str] = ()) -> tuple[str, ...]:
    """The verdict lines: classifier, then each method against its controls, `more`, then methods against each other."""
    lines = list(_classifier(predictions)) if predictions is not None else []
    for method in findings.tested:
        lines += _faithfulness(findings, method)
        lines += _localisation(findings, method)
        lines += _floor(findings, method)
        lines += _fusion(findings, method)
    lines += [*more, *sanity.lines(findings)]
    lines += _winners(findings)
    lines += ranking.line(findings)
    lines += _too_few(findings)
    drawn = "groups of images" if findings.grouped else "images"
    lines.append(f"One seed (seed = {findings.seed}): the intervals cover {drawn}, not training runs or random draws.")
    return tuple(lines)


def _classifier(predictions: Predictions) -> Iterator[str]:
    figure = predictions.figures.get("accuracy")
    if not figure:
        return
    line = (
        f"Classifier: accuracy {figure['value']:.2f} [{figure['lo']:.2f}, {figure['hi']:.2f}], n = {int(figure['n'])}"
    )
    most = most_frequent(predictions.table)
    if figure["lo"] <= most:
        line += f"; not shown to beat naming the most frequent class ({most:.2f}): its maps explain little"
    yield line + "."


def _faithfulness(findings: Findings, method: Method) -> Iterator[str]:
    """Excess over the shifted copies and over a central map, per metric; the fills of a metric must agree."""
    name = str(method.name)
    filled = [c for c in findings.of("main") if "fill" in c.choice.metric.settings and c.ranked]
    filled = [c for c in filled if findings.mark(name, c.name) and not c.choice.metric.facts.get("floor")]
    for metric, group in groupby(sorted(filled, key=lambda c: c.choice.metric.name), lambda c: c.choice.metric.name):
        columns = list(group)
        fills = [str(column.choice.metric.settings["fill"]) for column in columns]
        sizes = {findings.cells[name, column.name].interval.n for column in columns}
        n = " to ".join(str(size) for size in sorted({min(sizes), max(sizes)}))
        yield f"{name}: {metric} {_agreed(fills, [_passes(findings, name, c) for c in columns])}, n = {n}."


def _passes(findings: Findings, name: str, column: Column) -> dict[str, Pair]:
    """Opponent -> the comparison with it."""
    found = {}
    for title, pair in (
        ("its own shifted map", findings.mark(name, column.name)),
        ("a central map", _against(findings, name, "centre", column.name)),
        ("the mean annotation", _against(findings, name, "prior", column.name)),
    ):
        if pair is not None:
            found[title] = pair
    return found


def _agreed(fills: Sequence[str], outcomes: Sequence[Mapping[str, Pair]]) -> str:
    parts = []
    undecided = False
    for title in outcomes[0]:
        pairs = [(fill, o[title]) for fill, o in zip(fills, outcomes, strict=True) if title in o]
        numbers = "; ".join(f"{fill} {_numbers(pair)}" for fill, pair in pairs)
        ranks = [pair.winner for _, pair in pairs]
        if len(set(ranks)) > 1:
            undecided = True
            parts.append(f"undecided against {title}, the fills disagree ({numbers})")
        else:
            crosses = any(not pair.excludes_zero for _, pair in pairs)
            parts.append(f"{_rank(ranks[0], crosses)} {title} ({numbers})")
    text = ", ".join(parts)
    if len(fills) == 1 and not undecided:
        text += f"; on one fill alone ({fills[0]}), which is no verdict"
    return text


def _rank(mark: int, crosses_zero: bool) -> str:
    if mark:
        return "better than" if mark > 0 else "worse than"
    return "not better than" if crosses_zero else "not shown to be better than"


def _localisation(findings: Findings, method: Method) -> Iterator[str]:
    name = str(method.name)
    for column in findings.of("main"):
        if "mask" not in column.choice.metric.facts.get("needs", ()) or not column.ranked:
            continue
        if findings.cells[name, column.name].interval.n == 0:
            reasons = ", ".join(findings.cells[name, column.name].undefined) or "no image"
            yield f"{name}: {column.name} undefined on every image ({reasons})."
            continue
        parts = []
        for control, title in (("random", "random"), ("centre", "a central map"), ("prior", "the mean annotation")):
            pair = _against(findings, name, control, column.name)
            if pair is not None:
                parts.append(f"{_rank(pair.winner, not pair.excludes_zero)} {title} ({_numbers(pair)})")
        if parts:
            yield f"{name}: {column.name} {', '.join(parts)}, n = {findings.cells[name, column.name].interval.n}."


def _floor(findings: Findings, method: Method) -> Iterator[str]:
    """Which figures of stability are more than any two maps of this method share."""
    name = str(method.name)
    columns = [c for c in findings.of("main") if c.choice.metric.facts.get("floor")]
    marks = [(c.name, mark) for c in columns if (mark := findings.mark(name, c.name)) and mark.comparison.n > 0]
    above = [label for label, mark in marks if mark.winner == 1]
    below = [label for label, mark in marks if mark.winner != 1]
    if above:
        yield f"{name}: steadier than the floor of other images' maps in {', '.join(above)}."
    if below:
        yield f"{name}: not shown to be steadier than other images' maps in {', '.join(below)}."


def _fusion(findings: Findings, method: Method) -> Iterator[str]:
    """A fusion against its single view and against that view blurred to the same smoothness."""
    name = str(method.name)
    for other, title in (
        (single_of(method, findings.tested), "its single view"),
        (blurred_of(method, findings.controls) if method.views else None, "its blurred single view"),
    ):
        if other is None:
            continue
        if other.blur_px == 0:
            yield (
                f"{name} against {title}: blur 0 px, for the fusion is no smoother than its single view; this control "
                "is the single view itself."
            )
            continue
        columns = [c for c in findings.of("main") if c.choice.metric.facts.get("reruns") and c.ranked]
        pairs = [p for c in columns if (p := findings.pair(name, str(other.name), c.name)) and p.comparison.n > 0]
        if pairs:
            yield f"{name} against {title}: {_sorted(pairs)}."


def _sorted(pairs: Sequence[Pair]) -> str:
    """Metrics in which the first is better, worse, not shown to differ, with the numbers of those that differ."""
    parts = []
    for mark, title in ((1, "better in"), (-1, "worse in"), (0, "no difference shown in")):
        chosen = [p for p in pairs if p.winner == mark]
        if chosen and mark:
            parts.append(f"{title} {', '.join(f'{p.metric} ({_numbers(p)})' for p in chosen)}")
        elif chosen:
            sizes = sorted({p.comparison.n for p in chosen})
            n = f"n = {sizes[0]}" if len(sizes) == 1 else f"n = {sizes[0]} to {sizes[-1]}"
            parts.append(f"{title} {', '.join(p.metric for p in chosen)} ({n})")
    return "; ".join(parts)


def best(findings: Findings) -> dict[str, str]:
    """Main column -> the method under test that beats every other one in it and in the metric's other fills; columns
    without one are left out, and all where there is one method."""
    names = [str(method.name) for method in findings.tested]
    columns = [column for column in findings.of("main") if column.ranked]
    if len(names) < 2:
        return {}
    first = {column.name: _best(findings, names, column) for column in columns}
    found = {}
    for column in columns:
        siblings = {first[c.name] for c in columns if c.choice.metric.name == column.choice.metric.name}
        winner = first[column.name]
        if winner is not None and siblings == {winner}:
            found[column.name] = winner
    return found


def _winners(findings: Findings) -> Iterator[str]:
    """Metric by metric, the method under test that beats every other one; the fills of a metric must agree."""
    names = [str(method.name) for method in findings.tested]
    columns = [column for column in findings.of("main") if column.ranked]
    if len(names) < 2:
        return
    winners = best(findings)
    won: dict[str, list[str]] = {}
    undecided: dict[int, list[str]] = {}
    for column in columns:
        winner = winners.get(column.name)
        if winner is None:
            n = min((p.comparison.n for p in _among(findings, names, column)), default=0)
            undecided.setdefault(n, []).append(column.name)
            continue
        others = [p for other in names if other != winner and (p := findings.pair(winner, other, column.name))]
        closest = min(others, key=lambda p: abs(p.comparison.difference))
        text = f"{column.name} ({_numbers(closest)} over {closest.method_b}, n = {closest.comparison.n}"
        mark = findings.mark(winner, column.name)
        if mark is not None and mark.winner != 1:
            text += f"; yet not better than {mark.method_b}"
        blurred = _blurred_pair(findings, winner, column)
        if blurred is not None and blurred.winner != 1:
            text += "; yet not better than its blurred single view"
        won.setdefault(winner, []).append(text + ")")
    for winner, metrics in won.items():
        yield f"Best of {len(names)} methods: {winner} in {', '.join(metrics)}."
    for n, labels in undecided.items():
        whole = "no difference shown" if len(names) == 2 else f"no best of {len(names)} methods shown"
        yield f"Between methods under test: {whole} in {', '.join(labels)} (n = {n})."


def _blurred_pair(findings: Findings, name: str, column: Column) -> Pair | None:
    method = next(m for m in findings.tested if str(m.name) == name)
    blurred = blurred_of(method, findings.controls)
    return None if blurred is None else findings.pair(name, str(blurred.name), column.name)


def _too_few(findings: Findings) -> Iterator[str]:
    """Whether the images are too few for any comparison to pass, whatever the maps are like."""
    family = len(findings.pairs)
    least = min((pair.comparison.smallest_p for pair in findings.pairs if pair.comparison.n), default=0.0)
    if least * family >= ALPHA:
        what = "groups" if findings.grouped else "images"
        units = max(pair.comparison.units for pair in findings.pairs)
        yield (
            f"Too few {what} (n = {units}): with {family} comparisons in the table the least adjusted p is "
            f"{min(1.0, least * family):.2g}, so no difference can be shown; explain more."
        )


def _among(findings: Findings, names: Sequence[str], column: Column) -> list[Pair]:
    return [p for p in findings.pairs if p.metric == column.name and p.method_a in names and p.method_b in names]


def _best(findings: Findings, names: Sequence[str], column: Column) -> str | None:
    for name in names:
        pairs = [findings.pair(name, other, column.name) for other in names if other != name]
        if all(pair is not None and pair.winner == 1 for pair in pairs):
            return name
    return None


def _against(findings: Findings, name: str, control: str, metric: str) -> Pair | None:
    """The comparison with a control by its explainer's name."""
    for other in findings.controls:
        if other.control_of == "all" and other.explainer is not None and other.explainer.name == control:
            return findings.pair(name, str(other.name), metric)
    return None


def _numbers(pair: Pair) -> str:
    c = pair.comparison
    places = decimals((c.hi - c.lo) / 2)
    text = f"{c.difference:+.{places}f} [{c.lo:.{places}f}, {c.hi:.{places}f}]"
    if pair.excludes_zero and not pair.winner:
        why = f"adjusted p = {pair.p_holm:.2g}" if not pair.p_holm < ALPHA else "defined on different shares of images"
        text += f", {why}"
    return text


def marks(findings: Findings, method: str) -> tuple[str, ...]:
    """Marks of a row: controls that the method does not pass, for a footnote."""
    found = []
    for column in findings.of("excess"):
        metric = column.name.removesuffix(EXCESS)
        mark = findings.mark(method, metric)
        if mark is not None and mark.comparison.n and mark.winner != 1:
            found.append(f"{metric}: {_rank(mark.winner, not mark.excludes_zero)} {mark.method_b}")
    return tuple(found)
