"""What values a key of the config may hold: ranges and words, the same for the plan and for whoever calls a stage."""

from collections.abc import Callable, Mapping
from typing import Any

from heatproof.base.errors import Faults

Rule = tuple[str, Callable[[Any], bool]]

AT_LEAST_1: Rule = ("at least 1", lambda value: value >= 1)
NOT_NEGATIVE: Rule = ("not negative", lambda value: value >= 0)
POSITIVE: Rule = ("above 0", lambda value: value > 0)
INSIDE_UNIT: Rule = ("between 0 and 1, both excluded", lambda value: 0 < value < 1)
SEED: Rule = ("0 to 2^63 - 1", lambda value: 0 <= value < 2**63)
BELOW_1: Rule = ("0 or more and below 1", lambda value: 0 <= value < 1)


def in_range(
    value: Any, where: str, faults: Faults, *, ranges: Mapping[str, Rule], words: Mapping[str, tuple[str, ...]]
) -> None:
    """Note a value outside the range or the words of its key, found by its full name or by the last part of it."""
    last = where.rpartition(".")[2]
    known = words.get(where) or (words.get(last) if "." in where else None)
    if known is not None:
        for one in value if isinstance(value, (list, tuple)) else [value]:
            if isinstance(one, str) and one not in known:
                faults.add(where, "no such option", got=one, choices=known)
    rule = ranges.get(where) or (ranges.get(last) if "." in where else None)
    if rule is not None:
        text, holds = rule
        try:
            good = holds(value)
        except TypeError:
            good = False
        if not good:
            faults.add(where, f"must be {text}", got=value)
