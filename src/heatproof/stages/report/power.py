"""How many images it takes to show the differences that a run saw."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Any

from heatproof.stages.report.findings import ALPHA
from heatproof.stages.report.merge import stored
from heatproof.stages.report.tables import WIDTH

POWER = 0.8
# More than that is not a number to plan with.
MOST = 1_000_000
# Units that a t test may need above those of the normal approximation.
BEYOND = 100


@dataclass(frozen=True)
class Needed:
    """Units (images, or groups) that show a difference with power 0.8: in a table of all comparisons (`family`), and
    were it the only one (`alone`); `most` and `least` in the table were the difference either end of its interval.
    inf where more than a million are needed."""

    family: float
    alone: float
    least: float
    most: float


def needed(d_z: float, difference: float, lo: float, hi: float, comparisons: int) -> Needed:
    """For an observed mean difference with its interval and d_z = mean / sd.

    Units of a two-sided paired t test at 0.05, or at 0.05 over the number of comparisons, which is the strictest step
    of Holm's rule. Source: Cohen 1988, chapter 2; statsmodels' TTestPower.
    """
    strict = ALPHA / max(1, comparisons)
    ends = sorted(abs(end) for end in (lo, hi))
    near = 0.0 if lo <= 0 <= hi or not math.isfinite(lo) else ends[0]
    scale = abs(d_z / difference) if difference else 0.0
    return Needed(units(d_z, strict), units(d_z, ALPHA), units(ends[1] * scale, strict), units(near * scale, strict))


def units(effect: float, alpha: float) -> float:
    """Units that a two-sided paired t test needs to find an effect (mean / sd) with power 0.8; inf for over a million.

    >>> units(0.5, 0.05)
    34.0
    """
    from statsmodels.stats.power import TTestPower

    test, effect = TTestPower(), abs(effect)
    if not effect > 0:
        return math.inf
    # The normal approximation is too small by a few units at most.
    normal = NormalDist()
    about = ((normal.inv_cdf(1 - alpha / 2) + normal.inv_cdf(POWER)) / effect) ** 2
    if about > MOST:
        return math.inf
    low, high = max(1, math.floor(about) - 1), math.ceil(about) + BEYOND
    while high - low > 1:
        middle = (low + high) // 2
        # Where the power is 1 but for rounding, statsmodels may say that it is not a number.
        low, high = (middle, high) if test.power(effect, middle, alpha) < POWER else (low, middle)
    return float(high)


def power_text(folder: Path) -> str:
    """The differences between methods under test, and of each from its baseline, with the units that show them."""
    summary = stored(folder).summary
    tested = set(summary["tested"])
    comparisons = summary["comparisons"]
    rows = [
        (one, _needed(one, len(comparisons)))
        for one in comparisons
        if one["method_a"] in tested and (one["method_b"] in tested or one["metric"].endswith("_excess"))
        and one["d_z"] is not None and one["difference"]
    ]  # fmt: skip
    if not rows:
        return "No difference between methods under test, or of one from its baseline, is known in this run."
    rows.sort(key=lambda row: (row[1].family, row[1].alone))
    grouped = any(one.get("units", one["n"]) != one["n"] for one, _ in rows)
    unit = "groups of images" if grouped else "images"
    heads = ("difference", "metric", "mean", "d_z", "n", "needed", "alone", "least to most")
    lines = [heads, *(_line(one, found) for one, found in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(heads))]
    table = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    count = len(comparisons)
    note = (
        f"needed: {unit} that show the difference with probability {POWER} beside the {count} comparisons of this run "
        f"(two-sided paired t test at {ALPHA}/{count}, the strictest step of Holm's rule); alone: were it the only "
        f"comparison (at {ALPHA}); least to most: needed, were the difference the far or the near end of its 95 % "
        "interval (no bound: the interval holds 0). Assumed: the true difference is the one seen here, which a small "
        f"sample overstates where it was picked for being large; differences of {unit} are independent and their mean "
        "is about normal."
    )
    return "\n".join([*table, "", textwrap.fill(note, WIDTH, break_on_hyphens=False)])


def _needed(one: Mapping[str, Any], comparisons: int) -> Needed:
    lo, hi = (math.nan if one[end] is None else one[end] for end in ("lo", "hi"))
    return needed(one["d_z"], one["difference"], lo, hi, comparisons)


def _line(one: Mapping[str, Any], found: Needed) -> Sequence[str]:
    opponent = one["method_b"] if not one["metric"].endswith("_excess") else f"over {one['method_b']}"
    return (
        f"{one['method_a']} - {opponent}" if not opponent.startswith("over") else f"{one['method_a']} {opponent}",
        one["metric"],
        f"{one['difference']:+.3g}",
        f"{one['d_z']:+.2f}",
        str(one.get("units", one["n"])),
        _count(found.family),
        _count(found.alone),
        f"{_count(found.least)} to {_count(found.most) if math.isfinite(found.most) else 'no bound'}",
    )


def _count(number: float) -> str:
    return str(int(number)) if math.isfinite(number) else f"> {MOST}"
