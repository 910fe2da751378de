"""Overrides of the command line to composed configs, one per job of the command; all faults of all jobs at once.

With `cli` the only user of hydra and omegaconf. Hydra stops at the first unknown key and names no choices, so a command
that does not compose is taken apart here: groups first, then each key against what the groups brought.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra import main as hydra_main
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.plugins.search_path_plugin import SearchPathPlugin
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from heatproof.base import study
from heatproof.base.errors import HeatproofError, fault
from heatproof.base.registry import conf_folder, extra_folders, load_plugins
from heatproof.base.trained import expanded

CONFIG = "config"
# Keys whose value is a path or a pattern: blanks, commas and brackets in it are meant literally.
PATH_KEY = re.compile(r"(?:.*\.)?(?:root|weights|given|masks|folder|file|runs|image|checkpoint|\w+_pattern)")
PLAIN = re.compile(r"[A-Za-z_./][\w./-]*", re.ASCII)
LITERAL = {"null", "true", "false", "nan", "inf"}

Checked = TypeVar("Checked")


@dataclass(frozen=True)
class Job:
    """One composed config in plain types, the overrides that made it, and the results folders that Hydra would make for
    it alone and for the sweep that it is part of."""

    config: Mapping[str, Any]
    overrides: tuple[str, ...]
    folder: Path
    sweep_folder: Path


@dataclass(frozen=True)
class Command:
    """All jobs of a command and what was made of each; `sweep` also where a study makes it one. `texts`: the overrides
    as Hydra reads them, paths in quotes."""

    texts: tuple[str, ...]
    jobs: tuple[Job, ...]
    sweep: bool
    checked: tuple[Any, ...] = ()


class ConfigFolders(SearchPathPlugin):
    """Puts the user's own folder (`HEATPROOF_CONF`) before the shipped one, and folders of plug-ins after it."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        user, plugins = extra_folders()
        for folder in plugins:
            search_path.append("heatproof.plugins", f"file://{folder}")
        if user is not None:
            search_path.prepend("HEATPROOF_CONF", f"file://{user}")


def prepare() -> None:
    """Make choices and configs of plug-ins and of `HEATPROOF_CONF` known to the registry and to Hydra."""
    load_plugins()
    Plugins.instance().register(ConfigFolders)


def compose(overrides: Sequence[str], *, multirun: bool = False) -> list[Job]:
    """Every job of a command, composed. Raises one HeatproofError with all faults of all jobs."""
    return list(command(overrides, multirun=multirun).jobs)


def command(
    overrides: Sequence[str], *, multirun: bool = False, check: Callable[[Job], Checked] | None = None
) -> Command:
    """The jobs of a command; `check` makes something of each job (a plan) and its faults join those of composition."""
    prepare()
    texts = study.placed(expanded([quoted(text, multirun=multirun) for text in overrides]))
    found: dict[str, list[int]] = {}
    jobs: list[Job] = []
    checked: list[Checked] = []
    with _hydra() as loader:
        parsed = _parsed(texts, loader)
        lists, sweep = _jobs(parsed, loader, multirun=multirun)
        for number, one in enumerate(lists):
            faults: list[str] = []
            job: Job | None = None
            try:
                job = _composed(one)
            except HeatproofError as error:
                faults += error.faults
            except Exception as error:  # Hydra and OmegaConf raise many kinds, all from what the user wrote
                job, faults = _diagnosed(one, loader, error)
            if job is not None and check is not None:
                try:
                    checked.append(check(job))
                except HeatproofError as error:
                    faults += [text for text in error.faults if not _explained(text, faults)]
            if job is not None:
                jobs.append(job)
            for text in faults:
                found.setdefault(text, []).append(number)
    if jobs:
        try:
            study.check_given([job.config for job in jobs])
        except HeatproofError as error:
            found |= {text: list(range(len(lists))) for text in error.faults}
    if found:
        raise HeatproofError(*(_with_jobs(text, numbers, lists) for text, numbers in found.items()))
    return Command(tuple(texts), tuple(jobs), sweep, tuple(checked))


def _with_jobs(text: str, numbers: list[int], lists: Sequence[Sequence[str]]) -> str:
    """The fault, headed by the job that has it where others have not."""
    if len(numbers) == len(lists):
        return text
    swept = [" ".join(study.spoken(o) for o in lists[n] if not all(o in other for other in lists)) for n in numbers]
    names = ", ".join(f"{n} ({what})" for n, what in zip(numbers, swept, strict=True))
    return f"{'job' if len(numbers) == 1 else 'jobs'} {names}: {text}"


def _explained(text: str, faults: Sequence[str]) -> bool:
    """Whether a later fault names the key that an earlier one named already."""
    key = text.partition(":")[0]
    return any(key == known.partition(":")[0] for known in faults)


@contextmanager
def _hydra() -> Iterator[ConfigLoader]:
    before = HydraConfig.instance().cfg
    with initialize_config_dir(str(conf_folder()), job_name="heatproof", version_base="1.3"):
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None
        try:
            yield hydra.config_loader
        finally:
            HydraConfig.instance().cfg = before


def quoted(text: str, *, multirun: bool = False) -> str:
    """The override with the value of a path key in quotes where the parser would take it apart.

    In a sweep a comma separates paths, unless the whole value exists.

    >>> quoted("dataset.root=/data/CT, chest [2024]")
    "dataset.root='/data/CT, chest [2024]'"
    >>> quoted("train.lr=0.1")
    'train.lr=0.1'
    """
    key, equals, value = text.partition("=")
    if not equals or not PATH_KEY.fullmatch(key.lstrip("+")):
        return text
    if value[:1] in ("'", '"') or value.lower() in LITERAL or not value:
        return text
    exists = Path(value).expanduser().exists()
    if not exists and (value.startswith("[") or re.match(r"(?:glob|choice)\(", value)):
        return text
    parts = value.split(",") if multirun and not exists else [value]
    return f"{key}={','.join(_quote(part) for part in parts)}"


def _quote(path: str) -> str:
    path = str(Path(path).expanduser()) if path.startswith("~") else path
    if PLAIN.fullmatch(path) and path.lower() not in LITERAL:
        return path
    # Backslashes count only before a quote or at the end.
    escaped = re.sub(r"(\\*)('|$)", lambda m: m[1] * 2 + ("\\'" if m[2] else ""), path)
    return f"'{escaped}'"


def run_hydra(task: Callable[[DictConfig], Any], texts: Sequence[str], *, multirun: bool) -> None:
    """Let Hydra carry out a command that is known to compose; what a job raises comes out as it is."""
    argv, full_error = sys.argv, os.environ.get("HYDRA_FULL_ERROR")
    sys.argv = ["heatproof", *texts, *(["--multirun"] if multirun else [])]
    os.environ["HYDRA_FULL_ERROR"] = "1"  # else Hydra prints what was raised and exits
    try:
        hydra_main(version_base="1.3", config_path=str(conf_folder()), config_name=CONFIG)(task)()
    finally:
        sys.argv = argv
        if full_error is None:
            del os.environ["HYDRA_FULL_ERROR"]
        else:
            os.environ["HYDRA_FULL_ERROR"] = full_error


@dataclass(frozen=True)
class Here:
    """Where a job that Hydra runs is: its folder, the folder of its sweep and its launcher, or None."""

    folder: Path
    sweep: Path | None
    overrides: tuple[str, ...]
    launcher: str | None


def here() -> Here:
    """The place of the running job."""
    cfg = HydraConfig.get()
    sweep = Path(cfg.sweep.dir).absolute() if cfg.mode == RunMode.MULTIRUN else None
    launcher = cfg.runtime.choices.get("hydra/launcher") if sweep is not None else None
    return Here(Path(cfg.runtime.output_dir), sweep, tuple(cfg.overrides.task), launcher)


def plain(cfg: DictConfig) -> dict[str, Any]:
    """The config of a job without Hydra's own node, resolved, in plain types: its study, arm and scale by name, without
    what the study published and claimed."""
    chosen = study.chosen(HydraConfig.get().runtime.choices)
    left_out = ("hydra", *(study.ABOUT if chosen["study"] else ()))
    own = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key not in left_out])
    return _tree(own, resolve=True) | chosen


def _tree(cfg: DictConfig, *, resolve: bool = False) -> dict[str, Any]:
    content: Any = OmegaConf.to_container(cfg, resolve=resolve, throw_on_missing=resolve)
    return dict(content)


def _composed(overrides: Sequence[str]) -> Job:
    cfg = hydra_compose(CONFIG, overrides=list(overrides), return_hydra_config=True)
    HydraConfig.instance().set_config(cfg)  # `${hydra:...}` looks there
    return Job(plain(cfg), tuple(overrides), Path(cfg.hydra.run.dir), Path(cfg.hydra.sweep.dir))


def _parsed(texts: Sequence[str], loader: ConfigLoader) -> list[Override]:
    parser = OverridesParser.create(config_loader=loader)
    result: list[Override] = []
    faults = []
    for text in texts:
        try:
            result += parser.parse_overrides([text])
        except HydraException:
            hint = "Write key=value; values with blanks, commas or brackets go in quotes: key=\"'a, b'\"."
            faults.append(fault("command line", "this cannot be read", got=text, hint=hint))
    if faults:
        raise HeatproofError(*faults)
    return result


def _jobs(parsed: list[Override], loader: ConfigLoader, *, multirun: bool) -> tuple[list[list[str]], bool]:
    """The overrides of each job."""
    params, study_sweeps = _sweep_of_study(parsed, loader)
    sweep = multirun or study_sweeps
    lines = [str(o.input_line) for o in parsed]
    if not sweep:
        faults = [
            fault(_key(o), "several values make a sweep, which needs -m", got=o.input_line)
            for o in parsed
            if o.is_sweep_override()
        ]
        if faults:
            raise HeatproofError(*faults)
        return [lines], False
    overrides = OverridesParser.create(config_loader=loader).parse_overrides(params) + parsed
    faults = []
    for override in overrides:
        if override.is_sweep_override() and not override.is_discrete_sweep():
            faults.append(fault(_key(override), "a sweep lists its values", got=override.input_line))
        elif isinstance(override.value(), Glob) and not list(override.sweep_string_iterator()):
            options = loader.get_group_options(override.key_or_group)
            faults.append(
                fault(_key(override), "the pattern matches nothing", got=override.input_line, choices=options)
            )
    if faults:
        raise HeatproofError(*faults)
    return [list(one) for one in BasicSweeper.split_arguments(overrides, None)[0]], True


def _sweep_of_study(parsed: Sequence[Override], loader: ConfigLoader) -> tuple[list[str], bool]:
    """What a study (or hydra.sweeper.params) sweeps over, and whether it says that it is a sweep."""
    if not any(o.key_or_group == "study" or o.key_or_group.startswith("hydra") for o in parsed):
        return [], False
    try:
        single = [str(o.input_line) for o in parsed if not o.is_sweep_override()]
        cfg = loader.load_configuration(CONFIG, single, run_mode=RunMode.RUN)
        params = _tree(cfg.hydra.sweeper.get("params") or OmegaConf.create({}))
    except (HydraException, OmegaConfBaseException):
        return [], any(o.is_sweep_override() for o in parsed)  # the jobs say what is wrong
    # Those that the command line says again, too: Hydra numbers the jobs by where a key stands first.
    return [f"{k}={v}" for k, v in params.items()], cfg.hydra.mode == RunMode.MULTIRUN


def _key(override: Override) -> str:
    return study.spoken(override.key_or_group) + (f"@{override.package}" if override.package else "")


def _diagnosed(overrides: Sequence[str], loader: ConfigLoader, error: Exception) -> tuple[Job | None, list[str]]:
    """What is wrong with overrides that do not compose, and the job without them."""
    parsed = OverridesParser.create(config_loader=loader).parse_overrides(list(overrides))
    groups = [o for o in parsed if loader.get_group_options(o.key_or_group) and not isinstance(o.value(), Mapping)]
    values = [o for o in parsed if o not in groups]
    faults: list[str] = []
    good: list[str] = []
    wrong_groups = set()
    for override in groups:
        found = _wrong_options(override, loader)
        faults += found
        if found:
            wrong_groups.add(override.key_or_group)
        else:
            good.append(str(override.input_line))
    try:
        cfg = hydra_compose(CONFIG, overrides=good, return_hydra_config=True)
    except Exception as cause:
        return None, [*faults, fault("config", _first_line(cause))]
    HydraConfig.instance().set_config(cfg)
    tree = _tree(cfg)
    unsure: list[Override] = []
    for override in values:
        key = override.key_or_group
        if key.split(".")[0] in wrong_groups:
            continue  # its keys came with the option that does not exist
        text = None if override.is_add() or override.is_force_add() else _unknown_key(key, tree, loader)
        if text is None:
            unsure.append(override)
        else:
            faults.append(text)
    try:
        return _composed([*good, *(str(o.input_line) for o in unsure)]), faults
    except Exception:
        pass  # some of them are wrong in another way: one at a time
    for override in unsure:
        try:
            _composed([*good, str(override.input_line)])
            good.append(str(override.input_line))
        except Exception as cause:
            faults.append(fault(override.key_or_group, _first_line(cause), got=override.input_line))
    if not faults:
        faults.append(fault("config", _first_line(error)))
    try:
        return _composed(good), faults
    except Exception:
        return None, faults


def _wrong_options(override: Override, loader: ConfigLoader) -> list[str]:
    options = loader.get_group_options(override.key_or_group)
    value = override.value()
    wanted = value if isinstance(value, list) else [value]
    return [
        fault(_key(override), "no such option", got=str(one), choices=options)
        for one in wanted
        if one is not None and str(one) not in options
    ]


def _unknown_key(key: str, tree: Mapping[str, Any], loader: ConfigLoader) -> str | None:
    """What is wrong with a key that the config does not have, or None."""
    node: Any = tree
    above: list[str] = []
    for part in key.split("."):
        if not isinstance(node, Mapping):
            return fault(key, f"{'.'.join(above)} is a value and has no keys", got=part)
        if part not in node:
            return _missing_key(key, part, above, node, tree, loader)
        node = node[part]
        above.append(part)
    return None


def _missing_key(
    key: str, part: str, above: list[str], node: Mapping[str, Any], tree: Mapping[str, Any], loader: ConfigLoader
) -> str:
    if above == ["explainer"] and part in loader.get_group_options("explainer"):
        chosen = ",".join([*map(str, node), part])
        return fault(
            key,
            f"a setting of an explainer that is not chosen; chosen: {', '.join(map(str, node)) or 'none'}",
            hint=f"To choose it: 'explainer=[{chosen}]'.",
        )
    if above == ["metrics"] and part in loader.get_group_options("metrics"):
        chosen = ",".join([*map(str, node), part])
        return fault(key, "a setting of a suite that is not chosen", hint=f"To choose it: 'metrics=[{chosen}]'.")
    choices = [name for name in map(str, node) if name != "hydra"]
    if not get_close_matches(part, choices, n=1, cutoff=0.75):
        elsewhere = [place for place in _paths(tree) if place.rpartition(".")[2] == key.rpartition(".")[2]]
        if elsewhere:
            return fault(key, "no such key", hint=f"Did you mean {' or '.join(map(repr, elsewhere[:3]))}?")
    return fault(key, "no such key", got=part, choices=choices)


def _paths(node: Mapping[str, Any], above: str = "") -> Iterator[str]:
    for name, value in node.items():
        if name == "hydra" and not above:
            continue
        yield f"{above}{name}"
        if isinstance(value, Mapping):
            yield from _paths(value, f"{above}{name}.")


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].rstrip(".") if lines else type(error).__name__
