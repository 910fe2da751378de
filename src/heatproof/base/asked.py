"""What a metric costs: images that must pass the network, from its facts `asks` and `reruns`. Imports no choice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from heatproof.base.settings import VALIDATED

if TYPE_CHECKING:
    from heatproof.base.records import Method
    from heatproof.base.registry import Bound


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


def forwards_of(explainer: Bound, size: int) -> int:
    """Forwards an image by an explainer's fact `forwards`: a number, the name of a setting, or "windows" (patch and
    stride); `size` is the side of the image."""
    said = explainer.facts.get("forwards", 0)
    if said == "windows":
        patch, stride = int(explainer.settings["patch"]), int(explainer.settings["stride"])
        return (len(range(0, max(size - patch, 0) + stride, stride))) ** 2
    return int(explainer.settings[said]) if isinstance(said, str) else int(said)


def map_passes(method: Method, size: int) -> int:
    """Images that the net is run on for one map: each view once, or as often as the explainer runs it itself; 0 for
    maps that were made elsewhere."""
    if method.of:
        return sum(map_passes(part, size) for part in method.of)
    if method.explainer is None or not method.remade:
        return 0
    return max(1, len(method.views)) * max(1, forwards_of(method.explainer, size))


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
