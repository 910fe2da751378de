"""What training images go through, read from names: `conf/augment` holds an effect or a set of them per file."""

from collections.abc import Callable, Mapping, Sequence

from heatproof.base.errors import Faults, HeatproofError, fault
from heatproof.base.registry import conf_file, conf_names

Recipe = dict[str, float | str]
Rule = tuple[str, Callable[[float], bool]]

BORDERS = ("mirror", "edge", "black")
UNIT: Rule = ("between 0 and 1", lambda value: 0 <= value <= 1)
BELOW_ONE: Rule = ("0 or more and below 1", lambda value: 0 <= value < 1)
NOT_NEGATIVE: Rule = ("0 or more", lambda value: value >= 0)
# Effects in the order in which a recipe lists them; their numbers are explained in the file of the same name.
EFFECTS: Mapping[str, Rule] = {
    "flip": UNIT,
    "vertical_flip": UNIT,
    "rotate": ("0 to 180 degrees", lambda value: 0 <= value <= 180),
    "shift": BELOW_ONE,
    "shear": ("0 or more and below 90 degrees", lambda value: 0 <= value < 90),
    "zoom": BELOW_ONE,
    "crop": ("above 0, at most 1", lambda value: 0 < value <= 1),
    "brightness": NOT_NEGATIVE,
    "contrast": NOT_NEGATIVE,
    "saturation": NOT_NEGATIVE,
    "noise": NOT_NEGATIVE,
}


def recipe(names: Sequence[str]) -> Recipe:
    """Effect -> number, and `border` where a set names it, in the order of `EFFECTS`; a later name wins.

    A name is a file of `conf/augment` (an effect, or a set such as `pneumonia`), or `effect:number`, as in
    `rotate:20`. Raises one HeatproofError with every name that is unknown and every number out of range.

    >>> recipe(["flip", "rotate:20"])
    {'flip': 0.5, 'rotate': 20.0}
    """
    faults = Faults()
    found: dict[str, object] = {}
    for name in names:
        with faults.gathered():
            found |= _entry(str(name))
    for effect, value in found.items():
        with faults.gathered():
            _check(effect, value)
    faults.raise_any()
    ordered = [effect for effect in (*EFFECTS, "border") if effect in found]
    return {effect: found[effect] if effect == "border" else float(found[effect]) for effect in ordered}  # type: ignore[arg-type, misc]


def _entry(name: str) -> Mapping[str, object]:
    effect, colon, number = name.partition(":")
    if not colon:
        content = conf_file("augment", name)
        if content is None:
            raise HeatproofError(fault("train.augment", "no such option", got=name, choices=conf_names("augment")))
        return content
    if effect not in EFFECTS:
        raise HeatproofError(fault("train.augment", "no such effect", got=effect, choices=EFFECTS))
    try:
        return {effect: float(number)}
    except ValueError:
        raise HeatproofError(fault("train.augment", f"{effect}: takes a number", got=number)) from None


def _check(effect: str, value: object) -> None:
    if effect == "border":
        if value not in BORDERS:
            raise HeatproofError(fault("train.augment", "no such border", got=value, choices=BORDERS))
        return
    if effect not in EFFECTS:
        raise HeatproofError(fault("train.augment", "no such effect", got=effect, choices=(*EFFECTS, "border")))
    text, holds = EFFECTS[effect]
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not holds(value):
        raise HeatproofError(fault("train.augment", f"{effect} must be {text}", got=value))
