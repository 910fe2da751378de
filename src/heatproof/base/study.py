"""Studies: whole experiments in `conf/study`, what their short keys stand for, what they published and claimed.

Conventions: `conf/study/NAME.yaml` is an ordinary config of Hydra. Beside it, `conf/study/NAME/arm`, `.../protocol` and
`.../scale` are groups of Hydra, too; on the command line `arm=x` is short for `study/NAME/arm=x`. The keys of `ABOUT`
are no settings of a run: they say what the study published and claimed, and are read when its report is made.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from heatproof.base import registry
from heatproof.base.errors import Faults, HeatproofError, fault
from heatproof.base.typed import checked

FACETS = ("arm", "protocol", "scale")
# The key of the file of weights for arms that say `model.weights: ${given}`.
GIVEN = "given"
ABOUT = ("title", "source", "flaws", "remarks", "published", "claims")
# What a claim may be tested against beside a method by its name and a number.
RELATIVES = ("single", "blurred")
# Figures of a published table that are not of a method.
PLACES = ("test", "val", "model", "image")


@dataclass(frozen=True)
class Row:
    """A published row: of which arm, and method or image; `values` in the order of the table's figures, None where
    nothing was published."""

    values: tuple[float | None, ...]
    arm: str | None = None
    method: str | None = None
    image: str | None = None


@dataclass(frozen=True)
class Published:
    """A table as published.

    `figures`: the label of a metric, `test/NAME` or `val/NAME` of the classifier, `model/NAME` of the net,
    `image/NAME` of one image's prediction (`image/p_<class>`, `image/confidence`). `methods`: patterns of further rows,
    which our runs have and nobody published. `complete`: it has no rows of other arms. `n`: images behind the figures,
    where that is known.
    """

    table: str
    title: str
    figures: tuple[str, ...]
    rows: tuple[Row, ...] = ()
    methods: tuple[str, ...] = ()
    source: str | None = None
    n: int | None = None
    complete: bool = False


@dataclass(frozen=True)
class Check:
    """One comparison of a claim: `figure` of `method` (a pattern) in an arm, against a number, another method of the
    run ("single" and "blurred": the fusion's single view, and that blurred) or another arm.

    `expect`: "higher" or "lower". `margin`: how much worse it may be and still count (0: it must be better). `arm`: a
    """

    figure: str
    method: str
    against: float | str | None = None
    expect: str = "higher"
    margin: float = 0.0
    arm: str | None = None
    against_arm: str | None = None
    protocol: str = "sound"


@dataclass(frozen=True)
class Claim:
    """A sentence of a study, and the comparisons that all must come out for it to hold. `untested`: why none is."""

    claim: str
    number: int | None = None
    checks: tuple[Check, ...] = ()
    note: str = ""
    untested: str = ""


@dataclass(frozen=True)
class Study:
    """What is said of a study: `flaws` that its own protocol repeats, what it published and what it claimed."""

    name: str
    title: str
    source: str
    flaws: tuple[str, ...]
    remarks: tuple[str, ...]
    published: tuple[Published, ...]
    claims: tuple[Claim, ...]


def names() -> list[str]:
    """The studies that there are, the user's own among them."""
    return registry.conf_names("study")


def options(study: str, facet: str) -> list[str]:
    """The arms, protocols or scales of a study."""
    return registry.conf_names(f"study/{study}/{facet}")


def placed(overrides: Sequence[str]) -> list[str]:
    """The overrides with `arm=`, `protocol=` and `scale=` as overrides of the study's own groups.

    >>> placed(["study=pneumonia", "scale=smoke", "seed=1"])
    ['study=pneumonia', 'study/pneumonia/scale=smoke', 'seed=1']

    Raises: HeatproofError for a study that there is not, several at once, or an arm, a scale or weights (`given=`)
    without one.
    """
    study = next((text.partition("=")[2].strip("'\"") for text in overrides if _key(text) == "study"), "null")
    short = [text for text in overrides if _key(text) in FACETS]
    if study in ("null", ""):
        owned = (*short, *(text for text in overrides if _key(text) == GIVEN))
        lone = [text for text in owned if _key(text) != "protocol" and text.partition("=")[2] != "null"]
        if lone:
            wrong = "belongs to a study, and none is chosen by study=NAME"
            raise HeatproofError(*(fault(_key(text), wrong, got=text, choices=names()) for text in lone))
        return list(overrides)
    if "," in study or "(" in study:
        raise HeatproofError(fault("study", "one study at a time", got=study, choices=names()))
    if study not in names():
        raise HeatproofError(fault("study", "no such study", got=study, choices=names()))
    result = []
    for text in overrides:
        key, _, value = text.partition("=")
        if text in short and options(study, key):
            result.append(f"study/{study}/{key}={value}")
        elif text in short and key != "protocol" and value != "null":
            raise HeatproofError(fault(key, f"the study {study} has none to choose", got=value))
        else:
            result.append(text)
    return result


def spoken(text: str) -> str:
    """An override as it is written on the command line.

    >>> spoken("study/pneumonia/arm=cnn")
    'arm=cnn'
    """
    parts = text.split("/")
    return "/".join(parts[2:]) if parts[0] == "study" and len(parts) > 2 else text


def chosen(choices: Mapping[str, Any]) -> dict[str, str | None]:
    """The study, its arm and its scale among the choices of a config; None where there is none."""
    study = choices.get("study")
    return {"study": study, **{facet: choices.get(f"study/{study}/{facet}") for facet in ("arm", "scale")}}


def told(study: str, facet: str, option: str) -> dict[str, Any]:
    """Every setting in the file of an arm, a protocol or a scale, by its full key, and the groups that it overrides."""
    content = dict(registry.conf_file(f"study/{study}/{facet}", option) or {})
    groups: dict[str, Any] = {}
    for entry in content.pop("defaults", ()):
        if isinstance(entry, Mapping):
            groups |= {str(key).removeprefix("override ").lstrip("/"): value for key, value in entry.items()}
    return {**groups, **{key: value for key, value in _flat(content) if not key.startswith("hydra.")}}


def takes_given(config: Mapping[str, Any]) -> bool:
    """Whether the arm of a composed config is one of those whose weights are `given=FILE`."""
    name, arm = config.get("study"), config.get("arm")
    return name is not None and arm is not None and told(name, "arm", arm).get("model.weights") == f"${{{GIVEN}}}"


def check_given(configs: Sequence[Mapping[str, Any]]) -> None:
    """Raises: HeatproofError where `given=FILE` is said and none of a command's jobs takes it."""
    said = next((config for config in configs if config.get("study") and config.get(GIVEN)), None)
    if said is None or any(takes_given(config) for config in configs):
        return
    name = str(said["study"])
    takers = [arm for arm in options(name, "arm") if takes_given({"study": name, "arm": arm})]
    raise HeatproofError(
        fault(GIVEN, f"none of these arms of {name} takes a file of weights", got=said[GIVEN],
              hint=f"Ask for one that does: arm={','.join(takers)}." if takers else f"No arm of {name} does.")
    )  # fmt: skip


def study_of(name: str) -> Study:
    """What `conf/study/NAME.yaml` says of a study. Raises: HeatproofError with every fault of it."""
    content = registry.conf_file("study", name)
    if content is None:
        raise HeatproofError(fault("study", "no such study", got=name, choices=names()))
    faults = Faults()
    where = f"study {name}"
    tables = tuple(_table(one, f"{where}: published", faults) for one in _entries(content, "published", where, faults))
    claims = tuple(_claim(one, f"{where}: claims", faults) for one in _entries(content, "claims", where, faults))
    texts = {key: _checked(content.get(key) or [], "tuple[str, ...]", f"{where}: {key}", faults)
             for key in ("flaws", "remarks")}  # fmt: skip
    faults.raise_any()
    return Study(name, str(content.get("title") or name), str(content.get("source") or ""), texts["flaws"],
                 texts["remarks"], tables, claims)  # fmt: skip


def _entries(content: Mapping[str, Any], key: str, where: str, faults: Faults) -> list[Mapping[str, Any]]:
    found = content.get(key) or []
    if not isinstance(found, list) or not all(isinstance(one, Mapping) for one in found):
        faults.add(f"{where}: {key}", "a list of groups of keys is expected", got=found)
        return []
    return found


def _table(entry: Mapping[str, Any], where: str, faults: Faults) -> Published:
    rows = [_made(Row, row, f"{where} {entry.get('table')}", faults) for row in entry.get("rows") or ()]
    made = _made(Published, {**entry, "rows": ()}, where, faults)
    for row in rows:
        if len(row.values) != len(made.figures):
            faults.add(f"{where} {made.table}", f"a row holds one value of each figure, here {len(made.figures)}",
                       got=list(row.values))  # fmt: skip
    for figure in made.figures:
        place = figure.partition("/")[0]
        if "/" in figure and place not in PLACES:
            faults.add(f"{where} {made.table}: {figure}", "no such kind of figure", got=place, choices=PLACES)
    return dataclasses.replace(made, rows=tuple(rows))


def _claim(entry: Mapping[str, Any], where: str, faults: Faults) -> Claim:
    checks = tuple(_made(Check, check, where, faults) for check in entry.get("checks") or ())
    for check in checks:
        if check.expect not in ("higher", "lower"):
            faults.add(f"{where}: expect", "no such word", got=check.expect, choices=("higher", "lower"))
        if check.protocol not in ("sound", "study"):
            faults.add(f"{where}: protocol", "no such word", got=check.protocol, choices=("sound", "study"))
        if check.against is None and check.against_arm is None:
            faults.add(
                f"{where}: against", "a method, a number or an arm to compare with is expected", got=check.figure
            )
    made = dataclasses.replace(_made(Claim, {**entry, "checks": ()}, where, faults), checks=checks)
    if not checks and not made.untested:
        faults.add(where, "a claim has checks, or says why it is untested", got=made.claim)
    return made


def _made(kind: type[Any], entry: Any, where: str, faults: Faults) -> Any:
    """An entry as its record; one that is wrong is noted and made of what is right in it."""
    fields = {field.name: field for field in dataclasses.fields(kind)}
    given = entry if isinstance(entry, Mapping) else {}
    if given is not entry:
        faults.add(where, "a group of keys is expected", got=entry)
    for key in given:
        if key not in fields:
            faults.add(where, "no such key", got=key, choices=fields)
    values = {}
    for name, field in fields.items():
        if name in given:
            values[name] = _checked(given[name], str(field.type), f"{where}: {name}", faults)
        elif field.default is dataclasses.MISSING:
            faults.add(where, f"the key {name!r} is missing")
            values[name] = () if str(field.type).startswith("tuple") else ""
    return kind(**values)


def _checked(value: Any, annotation: str, where: str, faults: Faults) -> Any:
    with faults.gathered():
        return checked(value, annotation, where)
    return value if isinstance(value, tuple) or not annotation.startswith("tuple") else ()


def _key(text: str) -> str:
    return text.lstrip("+~").partition("=")[0]


def _flat(content: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in content.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value
