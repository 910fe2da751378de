"""Whether the claims of a study hold: its comparisons on the same images, paired, corrected for their number.

A claim holds where each of its comparisons comes out as expected (interval of the paired difference beyond the margin,
adjusted p below 0.05), does not hold where one comes out the other way round, and cannot be told otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

import numpy as np
import pandas as pd

from heatproof.base.stats import Comparison, compare, holm, seeds_interval
from heatproof.base.study import Check, Claim
from heatproof.stages.report.findings import ALPHA, decimals
from heatproof.stages.report.merge import Stored
from heatproof.stages.report.study_runs import (
    Runs,
    groups_of,
    methods_matching,
    pairs_of_seeds,
    relative,
    values_of,
)

HOLDS, FAILS, OPEN = "holds", "does not hold", "cannot be told"


@dataclass(frozen=True)
class Outcome:
    """One comparison as it came out. `comparison`: of the figure less what it is compared with, turned so that more is
    as expected, and with the margin added: above 0 = as expected. `level`: what the interval covers."""

    check: Check
    what: str
    comparison: Comparison
    level: str
    p_holm: float = np.nan

    @property
    def state(self) -> int:
        """1 as expected, -1 the other way round, 0 not shown."""
        c = self.comparison
        if not self.p_holm < ALPHA:
            return 0
        return 1 if c.lo > 0 else -1 if c.hi < 0 else 0

    @property
    def plain(self) -> tuple[float, float, float]:
        """The difference as it is, without turn and margin, and its interval."""
        c, sign = self.comparison, 1 if self.check.expect == "higher" else -1
        lo, mean, hi = ((value - self.check.margin) * sign for value in (c.lo, c.difference, c.hi))
        return mean, min(lo, hi), max(lo, hi)


@dataclass(frozen=True)
class Verdict:
    """A claim, what is to be said of it, and the comparisons behind that."""

    claim: Claim
    said: str
    outcomes: tuple[Outcome, ...]
    why: str

    @property
    def line(self) -> str:
        """One sentence for a reader."""
        head = f"{self.claim.number}. " if self.claim.number is not None else ""
        return f"{head}{self.claim.claim.rstrip('.')}: {self.said}. {self.why}"


def judge(claims: Sequence[Claim], runs: Runs, *, seed: int) -> list[Verdict]:
    """A verdict for each claim; p values are adjusted (Holm) over all comparisons of all claims."""
    found = [(claim, [one for check in claim.checks for one in _outcomes(check, runs, seed)]) for claim in claims]
    everything = [one for _, outcomes in found for one in outcomes]
    adjusted = iter(holm(np.array([one.comparison.p for one in everything])))
    result = []
    for claim, outcomes in found:
        tested = tuple(replace(one, p_holm=float(next(adjusted))) for one in outcomes)
        said, why = _said(claim, tested)
        result.append(Verdict(claim, said, tested, why))
    return result


def _said(claim: Claim, outcomes: Sequence[Outcome]) -> tuple[str, str]:
    """The verdict, and the figure that decides it: the weakest where it holds, the clearest where it does not."""
    if not claim.checks:
        return OPEN, claim.untested
    if not outcomes:
        wanted = "; ".join(dict.fromkeys(f"{c.figure} of {c.method}" + (f" in {c.arm}" if c.arm else "")
                                         for c in claim.checks))  # fmt: skip
        return OPEN, f"No finished run holds what it is about ({wanted})."
    states = [one.state for one in outcomes]
    if -1 in states:
        said, deciding = FAILS, min((o for o in outcomes if o.state == -1), key=lambda o: o.comparison.hi)
    elif all(states):
        said, deciding = HOLDS, min(outcomes, key=lambda o: o.comparison.lo)
    else:
        said, deciding = OPEN, max((o for o in outcomes if o.state == 0), key=lambda o: np.nan_to_num(o.p_holm, nan=2))
    share = f" As claimed in {states.count(1)} of {len(states)} comparisons." if len(states) > 1 else ""
    few = _too_few(outcomes) if said == OPEN else ""
    return said, f"{outcome_text(deciding)}.{share}{few}"


def _too_few(outcomes: Sequence[Outcome]) -> str:
    least = min((one.comparison.smallest_p for one in outcomes if one.comparison.n), default=0.0)
    return " So few images cannot show any difference." if least * len(outcomes) >= ALPHA else ""


def outcome_text(one: Outcome) -> str:
    """`faith of shap over random_pixels, arm given: +0.02 [-0.05, 0.08], n = 6, adjusted p = 0.9`."""
    c = one.comparison
    if not c.n:
        return f"{one.what}: undefined on every image"
    mean, lo, hi = one.plain
    places = decimals((hi - lo) / 2)
    ends = f"[{lo:.{places}f}, {hi:.{places}f}]" if np.isfinite(lo) else "[no interval]"
    margin = f", margin {one.check.margin:g}" if one.check.margin else ""
    text = f"{mean:+.{places}f} {ends}{margin}, n = {c.n}{one.level}"
    return f"{one.what}: {text}, adjusted p = {one.p_holm:.2g}"


def outcomes_frame(verdicts: Sequence[Verdict]) -> pd.DataFrame:
    """One row per comparison: number, claim, verdict, comparison, figure, expected, difference, lo, hi, margin, n, p,
    p_holm, as_claimed."""
    rows = []
    for verdict in verdicts:
        for one in verdict.outcomes:
            mean, lo, hi = one.plain
            rows.append(
                {"number": verdict.claim.number, "claim": verdict.claim.claim, "verdict": verdict.said,
                 "comparison": one.what, "figure": one.check.figure, "expected": one.check.expect,
                 "protocol": one.check.protocol, "difference": mean, "lo": lo, "hi": hi, "margin": one.check.margin,
                 "n": one.comparison.n, "p": one.comparison.p, "p_holm": one.p_holm,
                 "as_claimed": {1: "yes", -1: "the other way round", 0: "not shown"}[one.state]}
            )  # fmt: skip
    return pd.DataFrame(rows)


def _outcomes(check: Check, runs: Runs, seed: int) -> Iterator[Outcome]:
    """The comparison of a check in every arm that it is about."""
    for arm in runs.arms:
        if check.arm is not None and (arm is None or not fnmatchcase(arm, check.arm)):
            continue
        own = runs.of(arm, check.protocol)
        if not own:
            continue
        for method in methods_matching(own[0], check.method):
            if check.against_arm is None:
                yield from _within(check, arm, own, method, seed)
            else:
                yield from _across(check, arm, own, runs, method, seed)


def _within(check: Check, arm: str | None, own: Sequence[Stored], method: str, seed: int) -> Iterator[Outcome]:
    against = check.against
    other = relative(own[0], method, against) if isinstance(against, str) else None
    if isinstance(against, str) and (other is None or other == method):
        return
    differences = []
    for run in own:
        values = values_of(run, method, check.figure)
        if values.empty:
            return
        second = values_of(run, other, check.figure).reindex(values.index) if other else against
        differences.append(values - second)
    title = other if other else f"{against:g}"
    where = f", arm {arm}" if arm else ""
    yield _outcome(check, f"{check.figure} of {method} against {title}{where}", differences, own[0], seed)


def _across(
    check: Check, arm: str | None, own: Sequence[Stored], runs: Runs, method: str, seed: int
) -> Iterator[Outcome]:
    against = check.against if isinstance(check.against, str) else check.method
    for name in runs.arms:
        if name is None or name == arm or not fnmatchcase(name, str(check.against_arm)):
            continue
        pairs = list(pairs_of_seeds(own, runs.of(name, check.protocol)))
        others = methods_matching(pairs[0][1], against) if pairs else []
        if not others:
            continue
        differences = []
        for run, second in pairs:
            values = values_of(run, method, check.figure)
            common = values_of(second, others[0], check.figure)
            images = values.index.intersection(common.index)
            differences.append(values[images] - common[images])
        if len(differences[0]):
            what = f"{check.figure} of {method}, arm {arm} against {name}"
            yield _outcome(check, what, differences, own[0], seed)


def _outcome(check: Check, what: str, differences: Sequence[pd.Series], run: Stored, seed: int) -> Outcome:
    sign = 1 if check.expect == "higher" else -1
    images = list(dict.fromkeys(image for one in differences for image in one.index))
    table = np.array([sign * one.reindex(images).to_numpy(float) + check.margin for one in differences])
    groups = groups_of(run, images)
    mean = np.full(table.shape[1], np.nan)
    some = np.isfinite(table).any(0)
    mean[some] = np.nanmean(table[:, some], axis=0)
    comparison = compare(mean, np.zeros_like(mean), groups=groups, seed=seed)
    if len(table) == 1:
        return Outcome(check, what, comparison, "")
    over = seeds_interval(table, groups=groups, seed=seed)
    p = max(comparison.p, _p_of_seeds(np.nanmean(table, axis=1)))
    level = f" images x {len(table)} seeds"
    return Outcome(check, what, replace(comparison, difference=over.mean, lo=over.lo, hi=over.hi, p=p), level)


def _p_of_seeds(means: np.ndarray) -> float:
    """Two-sided p of Student's test of the seeds' means against 0; 1 where they have no spread to test by."""
    from scipy.stats import ttest_1samp

    return float(ttest_1samp(means, 0.0).pvalue) if len(means) > 1 and np.ptp(means) > 0 else 1.0
