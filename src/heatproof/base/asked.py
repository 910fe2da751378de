"""What a metric costs: images that must pass the network, from its facts `asks` and `reruns`. Imports no choice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from heatproof.base.settings import VALIDATED


@dataclass(frozen=True)
class Asked:
    """Perturbed images that a metric asks for an image and map: of which kind, how many, and whether they are the same
    for all methods (`shared`)."""

    kind: str
    count: int
    shared: bool


def perturbed(facts: Mapping[str, Any], settings: Mapping[str, Any]) -> tuple[Asked, ...]:
    """What the fact `asks` comes to: each count is a formula of the settings, such as `grid**2`."""
    return tuple(
        Asked(kind, int(eval(count, {"__builtins__": {}, "len": len}, dict(settings))), "shared" in more)
        for kind, count, *more in facts.get("asks", ())
    )


def reruns(facts: Mapping[str, Any], settings: Mapping[str, Any]) -> int | None:
    """How often the whole method is run again an image, or None where that depends on the net."""
    kinds = set(facts.get("reruns", ()))
    if not kinds <= {"noise", "view", "weighted"}:
        return None
    each = {"noise": int(settings.get("noises", 0)), "view": len(settings.get("views", ())), "weighted": 1}
    return sum(each[kind] for kind in kinds)


def in_words(facts: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    """The cost of a metric an image, in words.

    >>> in_words({"asks": (("cells", "grid**2", "shared"),)}, {"grid": 4})
    '16 perturbed images (the same for all methods)'
    """
    return "; ".join(_parts(facts, settings)) or "no pass"


def _parts(facts: Mapping[str, Any], settings: Mapping[str, Any]) -> Iterator[str]:
    for shared, note in ((False, ""), (True, " (the same for all methods)")):
        count = sum(one.count for one in perturbed(facts, settings) if one.shared == shared)
        if count:
            yield f"{count} perturbed image{'s' if count > 1 else ''}{note}"
    again = reruns(facts, settings)
    if again is None:
        yield "the method again on every state of the net"
    elif again:
        yield f"the method again {again} time{'s' if again > 1 else ''}"
    if "validation" in facts.get("needs", ()):
        yield f"the method on {VALIDATED} validation images, once a run"
