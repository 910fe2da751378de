"""The methods of a plan: explainers at their layers, alone and fused over views, and the controls beside them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from heatproof.base import registry
from heatproof.base.errors import Faults, HeatproofError, fault
from heatproof.base.given import checked_folder
from heatproof.base.names import MethodName
from heatproof.base.records import Method
from heatproof.base.registry import ENTRY_KEYS, Bound, Choice
from heatproof.stages.plan.sections import settings_of, unknown_keys

RESERVED = ("name", "fusion")
ALTERED = ("shifted", "blurred", "other_class", "random_weights")


@dataclass(frozen=True)
class ViewSet:
    """An option of `views`: its name, its views, and the fusions of their maps."""

    name: str
    views: tuple[Bound, ...]
    fusions: tuple[Bound, ...]


def methods_of(config: Mapping[str, Any], faults: Faults) -> tuple[Method, ...]:
    """Methods under test in the order of the config, then shifted and blurred copies, then maps that need no model."""
    study = config.get("protocol") == "study"
    common = view_set(config.get("views") or {}, "views", faults, study=study)
    tested: list[Method] = []
    combined: list[tuple[int, str, Bound, Mapping[str, Any]]] = []
    chosen_controls: dict[str, Bound] = {}
    for label, entry in (config.get("explainer") or {}).items():
        where = f"explainer.{label}"
        if not isinstance(entry, Mapping):
            faults.add(where, "a group of keys is expected", got=entry)
            continue
        with faults.gathered():
            bound = _explainer(label, entry, where, faults)
            if entry.get("of") is not None and not bound.facts.get("combines"):
                faults.add(f"{where}.of", f"{bound.name} is made of no other methods", got=entry["of"])
            if bound.facts.get("control"):
                chosen_controls[label] = bound
            elif bound.facts.get("combines"):
                combined.append((len(tested) + len(combined), label, bound, entry))
            else:
                seen = _views_of(entry, common, where, faults, study=study)
                if bound.facts.get("given"):
                    checked_folder(bound.settings["folder"])
                    seen = _no_views(seen, entry, bound, where, faults)
                for layer in _layers(entry, bound, where, faults):
                    tested += _variants(label, bound, layer, seen)
    plain = {str(method.name): method for method in tested}
    for place, label, bound, entry in combined:
        _no_views(common, entry, bound, f"explainer.{label}", faults)
        of = _parts(entry, f"explainer.{label}", plain, faults)
        tested.insert(place, Method(MethodName(label), bound, of=of))
    if not tested and not chosen_controls and not faults.texts:
        faults.add("explainer", "at least one explainer is needed", choices=explainers())
    named = [str(method.name) for method in tested]
    for name in sorted({name for name in named if named.count(name) > 1}):
        faults.add("explainer", "two methods of one name", got=name)
    return (*tested, *_controls(config.get("controls") or (), tested, chosen_controls, faults))


def _explainer(label: str, entry: Mapping[str, Any], where: str, faults: Faults) -> Bound:
    choice = registry.find("explainer", str(entry.get("method", label)))
    unknown_keys(choice, entry, where, faults, other=("method", *ENTRY_KEYS))
    settings = settings_of(choice, entry, where, faults)
    if entry.get("rerun_images") is not None:
        faults.add(f"{where}.rerun_images", "not per explainer yet", hint="eval.rerun_images holds for all methods.")
    return registry.bind("explainer", choice.name, settings)


def _no_views(seen: ViewSet, entry: Mapping[str, Any], bound: Bound, where: str, faults: Faults) -> ViewSet:
    """No views, after noting where they were asked for."""
    if entry.get("views") not in (None, "none"):
        hint = "Name fused methods in `of` instead." if bound.facts.get("combines") else "They cannot be made on views."
        faults.add(f"{where}.views", f"the maps of {bound.name} are not made anew", got=entry["views"], hint=hint)
    return ViewSet(seen.name, (), ())


def _parts(entry: Mapping[str, Any], where: str, tested: Mapping[str, Method], faults: Faults) -> tuple[Method, ...]:
    """The methods that another one is made of: those of the run by name, else explainers with their own settings."""
    names = entry.get("of")
    if not isinstance(names, (list, tuple)) or len(names) < 2:
        faults.add(f"{where}.of", "a list of at least two methods is expected", got=names)
        return ()
    result = []
    for name in map(str, names):
        own = {n: c for n, c in registry.choices("explainer").items() if not _needs_more(c)}
        if name in tested:
            result.append(tested[name])
        elif name in own:
            result.append(Method(MethodName(name), registry.preset("explainer", name)))
        else:
            faults.add(f"{where}.of", "no such method in this run", got=name, choices=[*tested, *own])
    if len({str(method.name) for method in result}) < len(result):
        faults.add(f"{where}.of", "the same method twice", got=list(names))
    return tuple(result)


def _needs_more(choice: Choice) -> bool:
    """Whether its own settings are not enough: it reads files or is made of others."""
    return bool(choice.facts.get("given") or choice.facts.get("combines") or choice.facts.get("control"))


def explainers() -> list[str]:
    """Names of the explainers that look at a model."""
    return [name for name, choice in registry.choices("explainer").items() if not choice.facts.get("control")]


def _layers(entry: Mapping[str, Any], bound: Bound, where: str, faults: Faults) -> list[str | None]:
    layer = entry.get("layer")
    if layer is None:
        return [None]
    layers = list(layer) if isinstance(layer, (list, tuple)) else [layer]
    if "layer" not in bound.facts.get("needs", ()):
        faults.add(f"{where}.layer", f"{bound.name} looks at no layer", got=layer)
    if not all(isinstance(name, (str, int)) and not isinstance(name, bool) for name in layers):
        faults.add(f"{where}.layer", "a module's name or a list of names is expected", got=layer)
        return [None]
    return [str(name) for name in layers]


def _views_of(entry: Mapping[str, Any], common: ViewSet, where: str, faults: Faults, *, study: bool) -> ViewSet:
    name = entry.get("views")
    seen = (
        common
        if name is None
        else view_set(_view_file(str(name), f"{where}.views"), f"{where}.views", faults, study=study)
    )
    fusion = entry.get("fusion")
    if fusion is not None and seen.views:
        return ViewSet(seen.name, seen.views, _fusions(fusion, f"{where}.fusion", faults, study=study))
    return seen


def _variants(label: str, bound: Bound, layer: str | None, seen: ViewSet) -> list[Method]:
    single = Method(MethodName(label, layer), bound, layer)
    fused = [
        Method(
            MethodName(label, layer, seen.name, fusion.name.removesuffix("_study")), bound, layer, seen.views, fusion
        )
        for fusion in seen.fusions
    ]
    return [single, *(fused if seen.views else [])]


def _view_file(name: str, where: str) -> Mapping[str, Any]:
    """An option of `views` other than the global one: its defaults list of single views, read without Hydra."""
    content = registry.conf_file("views", name)
    if content is None:
        options = registry.conf_names("views")
        raise HeatproofError(fault(where, "no such set of views", got=name, choices=options))
    result: dict[str, Any] = {}
    for line in content.get("defaults", ()):
        if isinstance(line, Mapping):
            for target, option in line.items():
                label = str(target).partition("@")[2] or str(option)
                result[label] = {**(registry.conf_file("view", str(option)) or {}), **(content.get(label) or {})}
    # The defaults first: their order is that of the views, as Hydra has it.
    result |= {key: value for key, value in content.items() if key not in ("defaults", *result)}
    return result


def view_set(config: Mapping[str, Any], where: str, faults: Faults, *, study: bool) -> ViewSet:
    """A set of views from its config; under the study protocol views and fusions that have a study twin become it."""
    views = []
    for label, entry in config.items():
        if label in RESERVED:
            continue
        place = f"{where}.{label}"
        if not isinstance(entry, Mapping):
            faults.add(place, "no such key", got=label, choices=[*RESERVED, "the views of the set"])
            continue
        with faults.gathered():
            choice = registry.find("view", str(entry.get("view", label)))
            unknown_keys(choice, entry, place, faults, other=("view",))
            settings = settings_of(choice, entry, place, faults)
            views.append(
                (_study_view(label, choice, settings) if study else None)
                or registry.bind("view", choice.name, settings)
            )
    fusions = _fusions(config.get("fusion") or (), f"{where}.fusion", faults, study=study)
    if views and not fusions:
        faults.add(f"{where}.fusion", "views need a fusion", choices=registry.conf_names("fusion"))
    return ViewSet(str(config.get("name") or "views"), tuple(views), fusions)


def _study_view(label: str, choice: Choice, settings: Mapping[str, Any]) -> Bound | None:
    """The study's variant of a view, or None: the file `<label>_study`, else the choice `<view>_study` with what was
    changed in the view's settings."""
    if f"{label}_study" in registry.conf_names("view"):
        return registry.preset("view", f"{label}_study")
    twin = registry.choices("view").get(f"{choice.name}_study")
    if twin is None:
        return None
    shipped = registry.bind("view", choice.name).settings
    changed = {k: v for k, v in settings.items() if k in twin.parameters and v != shipped[k]}
    return registry.bind("view", twin.name, changed)


def _fusions(names: Any, where: str, faults: Faults, *, study: bool) -> tuple[Bound, ...]:
    result = []
    for name in [names] if isinstance(names, str) else names:
        with faults.gathered():
            twin = f"{name}_study"
            result.append(
                registry.bind("fusion", twin)
                if study and twin in registry.choices("fusion")
                else registry.preset("fusion", str(name))
            )
    return tuple(result)


def _controls(names: Iterable[str], tested: list[Method], chosen: Mapping[str, Bound], faults: Faults) -> list[Method]:
    names = [name for name in names if isinstance(name, str)]
    result = []
    if "shifted" in names:
        result += [
            replace(method, name=method.name.prefixed("shifted"), control_of=str(method.name), alter="shifted")
            for method in tested
        ]
    if "blurred" in names:
        result += [
            Method(
                method.name.prefixed("blurred"),
                method.explainer,
                method.layer,
                control_of=str(method.name),
                alter="blurred",
            )
            for method in tested
            if method.views
        ]
    for alter in ("other_class", "random_weights"):
        if alter in names:
            result += [
                replace(method, name=method.name.prefixed(alter), control_of=str(method.name), alter=alter)
                for method in tested
                if (method.remade if alter == "other_class" else method.takes_any_net)
            ]
    maps = dict(chosen)
    known = [name for name, choice in registry.choices("explainer").items() if choice.facts.get("control")]
    for name in names:
        if name in known and name not in maps:
            maps[name] = registry.preset("explainer", name)
        elif name not in (*known, *ALTERED):
            faults.add("controls", "no such control", got=name, choices=[*known, *ALTERED])
    return [*result, *(Method(MethodName(name), bound, control_of="all") for name, bound in maps.items())]


def families(methods: Iterable[Method]) -> set[str]:
    """The families of views that the fusions of a run use, but identity."""
    return {str(view.facts.get("family")) for method in methods for view in method.views} - {"identity"}
