"""Names of methods, `label[.layer][:views.fusion]`: made and parsed here and nowhere else.

A control that changes another method's maps carries a prefix: `shifted-gradcam:robustcam6.mean`.
"""

import re
from dataclasses import dataclass, replace

from heatproof.base.errors import HeatproofError, fault

PART = re.compile(r"[A-Za-z0-9_-]+")
LAYER = re.compile(r"[A-Za-z0-9_.-]+")


@dataclass(frozen=True)
class MethodName:
    """The parts of a method's name; `str()` gives the name."""

    label: str
    layer: str | None = None
    views: str | None = None
    fusion: str | None = None

    def __post_init__(self) -> None:
        for part, pattern, value in (
            ("label", PART, self.label),
            ("layer", LAYER, self.layer),
            ("views", PART, self.views),
            ("fusion", PART, self.fusion),
        ):
            if value is not None and not pattern.fullmatch(value):
                dots = " and '.'" if part == "layer" else ""
                raise HeatproofError(
                    fault(f"{part} of a method's name", f"only letters, digits, '_', '-'{dots} are legal", got=value)
                )
        if (self.views is None) != (self.fusion is None):
            raise HeatproofError(
                fault("method's name", "views and fusion come together", got=(self.views, self.fusion))
            )

    def __str__(self) -> str:
        layer = f".{self.layer}" if self.layer else ""
        fused = f":{self.views}.{self.fusion}" if self.views else ""
        return f"{self.label}{layer}{fused}"

    def single(self) -> "MethodName":
        """The same method without views."""
        return replace(self, views=None, fusion=None)

    def prefixed(self, prefix: str) -> "MethodName":
        """The name of a control made from this method, e.g. `shifted-gradcam`."""
        return replace(self, label=f"{prefix}-{self.label}")


def parse(name: str) -> MethodName:
    """The parts of a method's name.

    >>> parse("gradcam.layer4.1:robustcam6.mean")
    MethodName(label='gradcam', layer='layer4.1', views='robustcam6', fusion='mean')
    """
    single, _, fused = name.partition(":")
    label, _, layer = single.partition(".")
    views, _, fusion = fused.partition(".")
    return MethodName(label, layer or None, views or None, fusion or None)
