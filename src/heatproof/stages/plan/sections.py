"""Sections of the config as frozen settings: every key known, every value of its type and in its range."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from heatproof.base import rules, train_rules
from heatproof.base.errors import Faults
from heatproof.base.registry import Choice
from heatproof.base.rules import AT_LEAST_1, BELOW_1, INSIDE_UNIT, NOT_NEGATIVE, POSITIVE, SEED, Rule
from heatproof.base.typed import checked

Settings = TypeVar("Settings")

# Range of a key by its full name, or by its last part for the settings of choices.
RANGES: dict[str, Rule] = {
    "dataset.seed": SEED,
    "dataset.n": AT_LEAST_1,
    "dataset.size": ("8 to 4096 pixels", lambda value: 8 <= value <= 4096),
    "dataset.channels": ("1 or 3", lambda value: value in (1, 3)),
    "dataset.cap": ("at least 1, or 'smallest'", lambda value: value == "smallest" or value >= 1),
    "dataset.near_similarity": ("above 0.6, at most 1", lambda value: 0.6 < value <= 1),
    "dataset.near_distance": ("0 to 24 bits", lambda value: 0 <= value <= 24),
    "dataset.fractions": (
        "not negative, and 1 in sum",
        lambda value: min(value) >= 0 and abs(sum(value) - 1) < 1e-6,
    ),
    **{f"train.{key}": rule for key, rule in train_rules.RANGES.items()},
    "explain.batch": AT_LEAST_1,
    "eval.images": AT_LEAST_1,
    "eval.rerun_images": AT_LEAST_1,
    "eval.shard": NOT_NEGATIVE,
    "eval.shards": AT_LEAST_1,
    "report.alphas": ("numbers from 0 to 1", lambda value: bool(value) and all(0 <= alpha <= 1 for alpha in value)),
    "seed": SEED,
    "q": INSIDE_UNIT,
    "percentile": ("between 0 and 100, both excluded", lambda value: 0 < value < 100),
    "noises": AT_LEAST_1,
    "noise_std": NOT_NEGATIVE,
    "dropout": BELOW_1,
    "width": AT_LEAST_1,
    "stages": AT_LEAST_1,
    "grid": AT_LEAST_1,
    "steps": AT_LEAST_1,
    "subsets": ("at least 3", lambda value: value >= 3),
    "squares": ("at least 3", lambda value: value >= 3),
    "smallest": INSIDE_UNIT,
    "largest": INSIDE_UNIT,
    "mass": INSIDE_UNIT,
    "tolerance": NOT_NEGATIVE,
    "radius": POSITIVE,
    "shares": ("numbers between 0 and 1", lambda value: bool(value) and all(0 < q < 1 for q in value)),
    "thresholds": ("numbers between 0 and 1", lambda value: bool(value) and all(0 < t < 1 for t in value)),
    "samples": ("at least 2", lambda value: value >= 2),
    "patch": AT_LEAST_1,
    "stride": AT_LEAST_1,
    "keep": INSIDE_UNIT,
    "threshold": INSIDE_UNIT,
    "segments": AT_LEAST_1,
    "kernel_width": POSITIVE,
    "background": ("1 to 32", lambda value: 1 <= value <= 32),
    "blur": AT_LEAST_1,
    "sd": POSITIVE,
    "epsilon": NOT_NEGATIVE,
    "fraction": ("above 0, at most 1", lambda value: 0 < value <= 1),
    "factor": POSITIVE,
    "std": POSITIVE,
    "draw": AT_LEAST_1,
    "seeds": AT_LEAST_1,
    "most": ("above 0, at most 180", lambda value: 0 < value <= 180),
    "exponent": POSITIVE,
    "kernel": ("odd and at least 1", lambda value: value >= 1 and value % 2 == 1),
    "brightness": NOT_NEGATIVE,
    "contrast": NOT_NEGATIVE,
    "saturation": NOT_NEGATIVE,
    "gamma": POSITIVE,
    "dx": ("between -1 and 1, both excluded", lambda value: -1 < value < 1),
    "dy": ("between -1 and 1, both excluded", lambda value: -1 < value < 1),
    "noise": NOT_NEGATIVE,
    "residual": BELOW_1,
    "others": AT_LEAST_1,
    "widths": ("numbers from 1 on", lambda value: bool(value) and all(width >= 1 for width in value)),
}
FILLS = ("mean", "black", "gray", "blur", "noise", "road", "normalized_zero", "noise_add", "noise_replace")
# Words that a key may hold.
WORDS: dict[str, tuple[str, ...]] = {
    "stage": ("plan", "load", "train", "predict", "explain", "measure", "report"),
    "precision": ("fp32", "bf16"),
    "protocol": ("sound", "study"),
    "sign": ("signed", "absolute"),
    "eval.split": ("train", "val", "test"),
    "dataset.resize": ("squash", "fit", "crop"),
    "dataset.on_bad_image": ("error", "skip"),
    **{f"train.{key}": words for key, words in train_rules.WORDS.items()},
    "fill": FILLS,
    "values": ("positive", "minmax"),
    "order": ("top_down", "bottom_up", "independent"),
    "blocks": ("coarse", "fine"),
    "similarity": ("spearman", "pearson", "ssim"),
    "scale": ("p99", "minmax", "none"),
}


def section(
    config: Mapping[str, Any], where: str, made: type[Settings], faults: Faults, *, other: Iterable[str] = ()
) -> Settings | None:
    """A section as its dataclass, or None after noting what is wrong; keys in `other` belong to somebody else."""
    if not isinstance(config, Mapping):
        faults.add(where, "a group of keys is expected", got=config)
        return None
    fields = {field.name: str(field.type) for field in dataclasses.fields(made)}  # type: ignore[arg-type]
    known = [*fields, *other]
    before = len(faults.texts)
    for key in config:
        if key not in known:
            faults.add(f"{where}.{key}", "no such key", got=key, choices=known)
    values = {}
    for key, annotation in fields.items():
        if key not in config:
            faults.add(f"{where}.{key}", "the key is missing")
        else:
            values[key] = value_of(config[key], annotation, f"{where}.{key}", faults)
    return made(**values) if len(faults.texts) == before else None


def settings_of(choice: Choice, config: Mapping[str, Any], where: str, faults: Faults) -> dict[str, Any]:
    """The settings of a choice among the keys of its entry, checked; others are for the caller to judge."""
    result = {}
    for name, parameter in choice.parameters.items():
        if name in config:
            result[name] = value_of(config[name], parameter.annotation, f"{where}.{name}", faults)
    return result


def unknown_keys(
    choice: Choice, config: Mapping[str, Any], where: str, faults: Faults, *, other: Iterable[str] = ()
) -> None:
    """Note every key of an entry that neither the choice nor the caller knows."""
    known = [*choice.parameters, *other]
    for key in config:
        if key not in known:
            faults.add(f"{where}.{key}", "no such key", got=key, choices=known)


def value_of(value: Any, annotation: str, where: str, faults: Faults) -> Any:
    """The value as its annotation wants it, in its range and among its words."""
    before = len(faults.texts)
    with faults.gathered():
        value = checked(value, annotation, where)
    if len(faults.texts) == before and value is not None:
        rules.in_range(value, where, faults, ranges=RANGES, words=WORDS)
    return value
