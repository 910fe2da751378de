"""Choices: functions marked with `@choice`, found by reading source text, bound to settings, called late.

Conventions: a kind is a folder of the package (`datasets`, `models`, `explainers`, `views`, `metrics`) and of `conf`
(`dataset`, `model`, `explainer`, `view`, `metric`); `fusion` choices live in `views` and say `kind="fusion"`.
A choice's name is its function's name, its settings are the keyword-only parameters, and the numbers stand in
`conf/<kind>/<name>.yaml` alone: a setting that a caller leaves out is filled in from there.
Facts and parameters are read with `ast`, so listing and checking import no choice (importing torch costs seconds).
"""

import ast
import functools
import hashlib
import importlib
import importlib.metadata
import importlib.util
import inspect
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

from heatproof.base.errors import HeatproofError, fault

PACKAGES = {
    "dataset": "datasets",
    "model": "models",
    "explainer": "explainers",
    "view": "views",
    "fusion": "views",
    "metric": "metrics",
}
# The key of a YAML file that names the function (several files may be presets of one function).
FUNCTION_KEY = {
    "dataset": "reader",
    "model": "builder",
    "explainer": "method",
    "view": "view",
    "fusion": "fusion",
    "metric": "metric",
}
# Keys of an explainer's entry that the plan reads: not settings of the function.
ENTRY_KEYS = ("layer", "views", "fusion", "rerun_images", "of")
# Key of a model's file that names the preset: it decides nothing, so that equal nets are one net.
MODEL_KEYS = ("label", "checkpoint")
# Keyword-only parameters that the caller of a choice supplies: neither settings nor YAML keys.
SUPPLIED: dict[str, tuple[str, ...]] = {
    "explainer": ("layer", "seeds", "ids"),
    "dataset": ("size", "channels", "seed", "classes"),
    "model": ("size",),
}


def conf_folder() -> Path:
    """The folder of shipped YAML: inside the package in a wheel, beside `src` in a checkout."""
    inside = Path(__file__).parents[1] / "conf"
    return inside if inside.is_dir() else Path(__file__).parents[3] / "conf"


def choice(**facts: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Mark a function as a choice with its facts (literals only); missing settings are filled in from its YAML."""

    def mark(function: Callable[..., Any]) -> Callable[..., Any]:
        kind = facts.get("kind") or kind_of_module(function.__module__)
        supplied = SUPPLIED.get(kind, ())
        wanted = tuple(
            name
            for name, p in inspect.signature(function).parameters.items()
            if p.kind is p.KEYWORD_ONLY and name not in supplied
        )

        @functools.wraps(function)
        def call(*args: Any, **settings: Any) -> Any:
            missing = [name for name in wanted if name not in settings]
            if missing:
                defaults = shipped_settings(kind, function.__name__)
                settings |= {name: defaults[name] for name in missing if name in defaults}
            return function(*args, **settings)

        call.facts = MappingProxyType(facts)  # type: ignore[attr-defined]
        return call

    return mark


def kind_of_module(module: str) -> str:
    """The kind of the choices that a module holds, from the folder it lies in."""
    for part in reversed(module.split(".")):
        for kind, package in PACKAGES.items():
            if part == package:
                return kind
    raise HeatproofError(
        fault(
            f"module {module}",
            "a module of choices lies in a folder named after its kind",
            choices=set(PACKAGES.values()),
        )
    )


@dataclass(frozen=True)
class Parameter:
    """A keyword-only parameter as written: its annotation's text and whether it has a default."""

    name: str
    annotation: str
    required: bool
    default: Any = None


@dataclass(frozen=True)
class Choice:
    """What the source text of a choice says of it."""

    kind: str
    name: str
    module: str
    path: Path
    line: int
    doc: str
    parameters: Mapping[str, Parameter]
    supplied: tuple[str, ...]
    facts: Mapping[str, Any]

    @property
    def version(self) -> int:
        return int(self.facts.get("version", 1))

    def load(self) -> Callable[..., Any]:
        """The function itself (imports its module)."""
        try:
            module = importlib.import_module(self.module)
        except ModuleNotFoundError:
            spec = importlib.util.spec_from_file_location(self.module, self.path)
            assert spec is not None
            assert spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            sys.modules[self.module] = module  # so that it is run once and its classes can be pickled
            try:
                spec.loader.exec_module(module)
            except BaseException:
                del sys.modules[self.module]
                raise
        return getattr(module, self.name)


@dataclass(frozen=True)
class Bound:
    """A choice with all its settings: call it like the function, without the settings."""

    choice: Choice
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.choice.name

    @property
    def facts(self) -> Mapping[str, Any]:
        return self.choice.facts

    def identity(self) -> dict[str, Any]:
        """What decides the result: kind, name, version, settings; plain types, ready for `hash_of`."""
        return {
            "kind": self.choice.kind,
            "name": self.name,
            "version": self.choice.version,
            "settings": dict(sorted(self.settings.items())),
        }

    def __call__(self, *args: Any, **more: Any) -> Any:
        return self.choice.load()(*args, **dict(self.settings), **more)


_plugins: list[tuple[str, Path]] = []


def add_plugin(package: str, folder: Path) -> None:
    """Let the Python files in the folders of `folder` that are named after kinds hold choices, too, and those in
    `folder` itself, where each says `kind=`."""
    if (package, folder) not in _plugins:
        _plugins.append((package, folder))
        choices.cache_clear()
        _shipped_file.cache_clear()


def extra_folders() -> tuple[Path | None, tuple[Path, ...]]:
    """Folders of YAML beside the shipped one: the user's (`HEATPROOF_CONF`) or None, and those of plug-ins."""
    user = user_folder()
    return user, tuple(root / "conf" for _, root in _plugins if root != user and (root / "conf").is_dir())


def user_folder() -> Path | None:
    """The folder that `HEATPROOF_CONF` names: the user's own YAML and choices; None where it is not set."""
    named = os.environ.get("HEATPROOF_CONF")
    if not named:
        return None
    folder = Path(named).expanduser().absolute()
    if not folder.is_dir():
        raise HeatproofError(fault("HEATPROOF_CONF", "no such folder", got=named))
    return folder


def source_files() -> list[Path]:
    """Every file of code that a run may use: the package's own, those of plug-ins and of the user."""
    own = Path(__file__).parents[1]
    found = [path for ending in ("py", "html", "mplstyle") for path in own.rglob(f"*.{ending}")]
    for _, root in _plugins:
        found += [
            *root.glob("*.py"),
            *(path for package in PACKAGES.values() for path in (root / package).glob("*.py")),
        ]
    return sorted(set(found))


def load_plugins() -> None:
    """Make known the choices of `HEATPROOF_CONF` and of installed packages (entry points `heatproof.plugins`)."""
    folder = user_folder()
    if folder is not None:
        add_plugin("heatproof_user", folder)
    for entry in importlib.metadata.entry_points(group="heatproof.plugins"):
        spec = importlib.util.find_spec(entry.value)
        if spec is None or not spec.submodule_search_locations:
            raise HeatproofError(fault(f"plug-in {entry.name}", "no such package", got=entry.value))
        add_plugin(entry.value, Path(spec.submodule_search_locations[0]))


def _sources(kind: str) -> Iterator[tuple[str, Path]]:
    package = PACKAGES[kind]
    folder = Path(__file__).parents[1] / package
    for path in sorted(folder.glob("*.py")):
        if path.stem != "__init__":
            yield f"heatproof.{package}.{path.stem}", path
    for name, root in _plugins:
        for path in sorted((root / package).glob("*.py")):
            yield f"{name}.{package}.{path.stem}", path
        for path in sorted(root.glob("*.py")):
            yield f"{name}.{path.stem}", path


@functools.cache
def choices(kind: str) -> Mapping[str, Choice]:
    """All choices of a kind by name, from source text alone."""
    found: dict[str, Choice] = {}
    for module, path in _sources(kind):
        for node in ast.parse(path.read_text()).body:
            if not isinstance(node, ast.FunctionDef):
                continue
            for mark in node.decorator_list:
                if isinstance(mark, ast.Call) and isinstance(mark.func, ast.Name) and mark.func.id == "choice":
                    facts = {str(k.arg): ast.literal_eval(k.value) for k in mark.keywords}
                    in_folder = path.parent.name == PACKAGES[kind] and kind != "fusion"
                    if facts.get("kind", kind if in_folder else None) != kind:
                        continue
                    if node.name in found:
                        raise HeatproofError(
                            fault(f"{kind} {node.name}", f"defined twice: {found[node.name].path} and {path}")
                        )
                    doc = (ast.get_docstring(node) or "").strip()
                    own = _parameters(node)
                    supplied = tuple(name for name in own if name in SUPPLIED.get(kind, ()))
                    settings = MappingProxyType({k: v for k, v in own.items() if k not in supplied})
                    found[node.name] = Choice(
                        kind, node.name, module, path, node.lineno, doc, settings, supplied, MappingProxyType(facts)
                    )
    return MappingProxyType(dict(sorted(found.items())))


def _parameters(node: ast.FunctionDef) -> Mapping[str, Parameter]:
    result = {}
    for argument, default in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True):
        text = ast.unparse(argument.annotation) if argument.annotation else "Any"
        value = ast.literal_eval(default) if default is not None else None
        result[argument.arg] = Parameter(argument.arg, text, default is None, value)
    return MappingProxyType(result)


def find(kind: str, name: str) -> Choice:
    """The choice of that name, or a HeatproofError that lists what there is."""
    known = choices(kind)
    if name not in known:
        raise HeatproofError(fault(kind, f"no such {kind}", got=name, choices=known))
    return known[name]


def bind(kind: str, name: str, settings: Mapping[str, Any] | None = None) -> Bound:
    """The choice with its settings, those left out filled in from its YAML; unknown ones are refused."""
    chosen = find(kind, name)
    given = dict(settings or {})
    unknown = [key for key in given if key not in chosen.parameters]
    if unknown:
        raise HeatproofError(
            *(fault(f"{kind} {name}", "no such setting", got=key, choices=chosen.parameters) for key in unknown)
        )
    defaults = shipped_settings(kind, name)
    merged = {}
    for key, parameter in chosen.parameters.items():
        if key in given:
            merged[key] = given[key]
        elif key in defaults:
            merged[key] = defaults[key]
        elif parameter.required:
            raise HeatproofError(fault(f"{kind} {name}", f"the setting {key!r} is missing"))
        else:
            merged[key] = parameter.default
    return Bound(chosen, MappingProxyType(merged))


@functools.cache
def _shipped_file(kind: str, name: str) -> Mapping[str, Any]:
    for folder in _conf_folders():
        path = folder / kind / f"{name}.yaml"
        if path.is_file():
            return MappingProxyType(yaml.safe_load(path.read_text()) or {})
    return MappingProxyType({})


def shipped_settings(kind: str, name: str) -> Mapping[str, Any]:
    """The settings in a choice's own YAML file, without the key that names the function and the plan's own keys."""
    known = find(kind, name).parameters
    return {k: v for k, v in _shipped_file(kind, name).items() if k in known}


def preset(kind: str, name: str) -> Bound:
    """A YAML file of `conf/<kind>` by its name, bound: the file names the function and its settings."""
    content = dict(_shipped_file(kind, name))
    if not content:
        raise HeatproofError(fault(kind, f"no such file in conf/{kind}", got=name, choices=conf_names(kind)))
    function = content.pop(FUNCTION_KEY[kind], name)
    known = find(kind, function).parameters
    return bind(kind, function, {k: v for k, v in content.items() if k in known})


def conf_file(group: str, name: str) -> Mapping[str, Any] | None:
    """The content of an option of a config group, or None where there is no such file."""
    return _shipped_file(group, name) or None


def conf_names(group: str) -> list[str]:
    """The options of a config group, those of the user and of plug-ins included."""
    return sorted({path.stem for folder in _conf_folders() for path in (folder / group).glob("*.yaml")})


def _conf_folders() -> list[Path]:
    return [conf_folder(), *(root / "conf" for _, root in _plugins), *(root for _, root in _plugins)]


def hash_of(content: Any) -> str:
    """A stable 16-digit hash of plain content (JSON, sorted keys): the key of the store and of the plan."""
    text = json.dumps(content, sort_keys=True, default=_plain, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _plain(value: Any) -> Any:
    if isinstance(value, Bound):
        return value.identity()
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, (set, frozenset, tuple)):
        return sorted(value) if isinstance(value, (set, frozenset)) else list(value)
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no place in a hash: {value!r}")
