"""The runs of a study by arm and protocol, and any figure of them that a table or a claim names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from typing import Any

import numpy as np
import pandas as pd

from heatproof.base.names import parse
from heatproof.base.study import RELATIVES
from heatproof.stages.report.merge import Stored
from heatproof.stages.report.sweep import merged, range_of


@dataclass(frozen=True)
class Runs:
    """Finished runs of one study. `by`: (arm, protocol) -> its runs, which differ in their seeds."""

    by: Mapping[tuple[str | None, str], tuple[Stored, ...]]

    @property
    def arms(self) -> list[str | None]:
        """The arms in the order of the jobs."""
        return list(dict.fromkeys(arm for arm, _ in self.by))

    @property
    def all(self) -> list[Stored]:
        """Every run."""
        return [run for runs in self.by.values() for run in runs]

    def of(self, arm: str | None, protocol: str) -> tuple[Stored, ...]:
        """The runs of an arm, one per seed."""
        return self.by.get((arm, protocol), ())


def runs_of(found: Sequence[Stored]) -> Runs:
    """The runs in order, by what their configs say of arm and protocol."""
    by: dict[tuple[str | None, str], list[Stored]] = {}
    for run in found:
        config = run.records["config"]
        by.setdefault((config.get("arm"), config["protocol"]), []).append(run)
    return Runs({key: tuple(runs) for key, runs in by.items()})


def methods_matching(run: Stored, pattern: str) -> list[str]:
    """The methods of a run, those under test first, whose names match."""
    tested = run.summary["tested"]
    return [name for name in [*tested, *(m for m in run.summary["methods"] if m not in tested)]
            if fnmatchcase(name, pattern)]  # fmt: skip


def relative(run: Stored, method: str, word: str) -> str | None:
    """The method that `word` names beside `method`: its single view, that blurred, or one by its name or pattern."""
    if word == "single":
        name = str(parse(method).single())
        return name if name in run.summary["methods"] and name != method else None
    if word == "blurred":
        records = run.records["methods"]
        return next((m["name"] for m in records if m["control_of"] == method and m["alter"] == "blurred"), None)
    assert word not in RELATIVES
    return next(iter(methods_matching(run, word)), None)


def figure_of(runs: Sequence[Stored], figure: str, method: str | None, image: str | None) -> dict[str, float] | None:
    """{mean, lo, hi, n} of a figure as its name says (see `base/study.Published`): of one run with its interval over
    images, of several seeds with that over seeds; None where no run has it."""
    place, _, name = figure.rpartition("/")
    found = [one for run in runs if (one := _figure(run, place, name, method, image)) is not None]
    if not found:
        return None
    return merged(found, len(runs), range_of(runs[0].summary, None if place else method, name))


def _figure(run: Stored, place: str, name: str, method: str | None, image: str | None) -> dict[str, Any] | None:
    summary = run.summary
    if place in ("test", "val"):
        found = summary["classifier" if place == "test" else "classifier_val"].get(name)
        return None if found is None else {**found, "mean": found["value"]}
    if place == "model":
        return _alone(run.records["classifier"].get(name, summary["model"].get(name)))
    if place == "image":
        return _alone(_of_image(run, name, image))
    names = methods_matching(run, method) if method else []
    found = summary["methods"][names[0]].get(name) if names else None
    return None if found is None else dict(found)


def _alone(value: float | None) -> dict[str, Any] | None:
    return None if value is None else {"mean": float(value), "lo": np.nan, "hi": np.nan, "n": np.nan}


def _of_image(run: Stored, name: str, image: str | None) -> float | None:
    """What the net says of one image: the probability `p_<class>`, or the `confidence` in the class that it names."""
    table = run.table("predictions")
    row = table[table["image"] == image]
    if row.empty or (name not in row and name != "confidence"):
        return None
    value = row.filter(like="p_").max(axis=1) if name == "confidence" else row[name]
    return float(value.iloc[0])


def values_of(run: Stored, method: str, figure: str) -> pd.Series:
    """The figure by explained image, NaN where it is undefined; empty where the run has none."""
    table = _scores(run)
    some = table[(table["method"] == method) & (table["column"] == figure)]
    fine = some["status"].astype(str) == "ok"
    return pd.Series(np.where(fine, some["value"].to_numpy(float), np.nan), some["image"])


def groups_of(run: Stored, images: Sequence[str]) -> list[Any] | None:
    """The group of each image, None where nobody knows any."""
    first = _scores(run).drop_duplicates("image").set_index("image")["group"].reindex(images)
    return None if first.isna().all() else [None if pd.isna(group) else group for group in first]


def explained_in(run: Stored) -> list[str]:
    """The explained images, in the order of the maps."""
    return sorted(set(_scores(run)["image"]))


def _scores(run: Stored) -> pd.DataFrame:
    return _read(str(run.folder))


@cache
def _read(folder: str) -> pd.DataFrame:
    columns = ["image", "group", "method", "column", "value", "status"]
    return pd.read_parquet(f"{folder}/scores.parquet", columns=columns)


def pairs_of_seeds(one: Sequence[Stored], other: Sequence[Stored]) -> Iterator[tuple[Stored, Stored]]:
    """Runs of two arms with the same seed."""
    for run in one:
        for second in other:
            if run.summary["seed"] == second.summary["seed"]:
                yield run, second
