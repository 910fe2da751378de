"""Tables, figures and pages from what runs left in their folders: no model, no images; shards become one run."""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from heatproof.base.errors import HeatproofError, fault
from heatproof.base.records import Maps, Method, Predictions, Report, Samples, Scores
from heatproof.stages.report.kept import NAME, classifier_of, methods_of, metrics_of

# Figures that show maps: they cannot be drawn anew without them.
OF_MAPS = ("panel", "overlays", "layers", "eight", "randomisation_maps")


@dataclass(frozen=True)
class Stored:
    """The results folder of a finished run, and the two files that say what it is."""

    folder: Path
    summary: Mapping[str, Any]
    records: Mapping[str, Any]

    @property
    def whole(self) -> str:
        """What the shards of one run have in common: the plan without its shard, the data, the net and the arm."""
        known = self.summary.get("whole_hash") or self.summary["plan_hash"]
        config = self.records.get("config")
        arm = config.get("arm") if isinstance(config, Mapping) else None
        return f"{known} {self.summary['data_hash']} {self.records['classifier']['identity']} {arm}"

    @property
    def shard(self) -> tuple[int, int]:
        """Number of the shard, and of how many."""
        number, shards = self.summary.get("shard") or (0, 1)
        return int(number), int(shards)

    def table(self, name: str) -> pd.DataFrame:
        """One of the run's parquet files."""
        return pd.read_parquet(self.folder / f"{name}.parquet")


def stored(folder: Path) -> Stored:
    """A finished run. Raises: HeatproofError where a file of it is missing or cannot be read."""
    found = {}
    for name in ("summary.json", NAME):
        try:
            found[name] = json.loads((folder / name).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            why = "is missing" if isinstance(error, FileNotFoundError) else f"cannot be read ({error})"
            stage = found.get("summary.json", {}).get("stage")
            why = f"it stopped after stage={stage}" if stage else f"{name} {why}"
            hint = "The command that made it goes on from what is stored."
            wrong = fault("report.runs", f"no finished run, for {why}", got=str(folder), hint=hint)
            raise HeatproofError(wrong) from error
    return Stored(folder, found["summary.json"], found[NAME])


def wholes(runs: Sequence[Stored]) -> list[list[Stored]]:
    """The runs with the shards of one run together, in their order; a run that is there twice counts once.

    Raises: HeatproofError where the shards of a run are cut differently.
    """
    together: dict[str, dict[tuple[int, int], Stored]] = {}
    for run in runs:
        together.setdefault(run.whole, {}).setdefault(run.shard, run)
    groups = []
    for found in together.values():
        cuts = sorted({shards for _, shards in found})
        if len(cuts) > 1:
            names = ", ".join(str(run.folder) for run in found.values())
            raise HeatproofError(fault("report.runs", f"shards of one run that are cut into {cuts}, so they overlap",
                                       got=names, hint="Name those of one cut."))  # fmt: skip
        groups.append([found[key] for key in sorted(found)])
    return groups


def rebuild(runs: Sequence[Stored], folder: Path) -> Report:
    """The report of one run from its folder, or from those of its shards, written to `folder`.

    Scores, curves and pairs are those of all shards in the order of an unsharded run; intervals, tests, verdicts,
    tables, figures and the page are made anew. Shards that are missing are the first warning. Figures of maps are
    taken over from the first shard. What a shard finds for itself stays its own: how strongly its blurred controls are
    blurred, and the baseline of other images' maps where a shard is less than a block of images.
    """
    from heatproof.stages.report import report

    first = runs[0]
    scores = _scores(runs)
    classifier = classifier_of(first.records["classifier"])
    said = first.records["predictions"]
    table = first.table("predictions")
    predictions = Predictions(table, said["figures"], np.arange(0), said["val_figures"], said["positive"],
                              said["seconds"])  # fmt: skip
    samples = Samples(
        first.table("samples"), np.empty((0, 1, 1, 1), np.uint8), None, classifier.classes,
        str(first.summary["data_hash"]), str(first.summary["split_kind"]), None,
    )  # fmt: skip
    none = np.empty(0, np.int64)
    return report(
        folder,
        samples=samples,
        classifier=classifier,
        predictions=predictions,
        maps=Maps(none, none, none, scores.methods, {}, {}, {}),
        scores=scores,
        facts=_facts(runs),
        seed=int(first.summary["seed"]),
        protocol=str(first.summary["protocol"]),
        carried=_panels(first.folder, folder / "figures"),
    )


def _scores(runs: Sequence[Stored]) -> Scores:
    table = _ordered(pd.concat([run.table("scores") for run in runs], ignore_index=True))
    flags: dict[str, Counter[str]] = {}
    for run in runs:
        for method, counts in run.summary["flags"].items():
            flags.setdefault(method, Counter()).update(counts)
    return Scores(
        table,
        pd.concat([run.table("curves") for run in runs], ignore_index=True),
        pd.concat([run.table("pairs") for run in runs], ignore_index=True),
        tuple(_blurred([methods_of(run.records["methods"]) for run in runs])),
        metrics_of(runs[0].records["metrics"]),
        {},
        {method: dict(counts) for method, counts in flags.items()},
    )


def _ordered(table: pd.DataFrame) -> pd.DataFrame:
    """Rows as one run writes them: cell by cell, in each the images by id. Raises: HeatproofError for an image that two
    shards hold."""
    cell = table.groupby(["method", "metric", "column"], sort=False).ngroup().to_numpy()
    image = table["image"].rank(method="dense").to_numpy()
    order = np.lexsort((image, cell))
    both = pd.DataFrame({"cell": cell, "image": table["image"]}).duplicated()
    if both.any():
        raise HeatproofError(fault("report.runs", "an image is in more than one shard",
                                   got=str(table["image"][both].iloc[0])))  # fmt: skip
    return table.iloc[order].reset_index(drop=True)


def _blurred(of_runs: Sequence[Sequence[Method]]) -> list[Method]:
    """The methods, each blurred control with the mean blur of the shards."""
    made = []
    for same in zip(*of_runs, strict=True):
        found = [method.blur_px for method in same if method.blur_px is not None]
        made.append(replace(same[0], blur_px=round(float(np.mean(found)), 3)) if found else same[0])
    return made


def _facts(runs: Sequence[Stored]) -> dict[str, Any]:
    summaries = [run.summary for run in runs]
    first = summaries[0]
    shards = runs[0].shard[1]
    warnings = []
    missing = sorted(set(range(shards)) - {run.shard[0] for run in runs})
    if missing:
        warnings.append(f"{len(missing)} of {shards} shards are missing: {', '.join(map(str, missing))}")
    blurs: dict[str, set[float]] = {}
    for run in runs:
        for method in run.records["methods"]:
            if method["blur_px"] is not None:
                blurs.setdefault(method["name"], set()).add(method["blur_px"])
    for name, found in blurs.items():
        if len(found) > 1:
            warnings.append(f"{name}: each shard found its own blur, {min(found):.3g} to {max(found):.3g} px")
    warnings += [text for summary in summaries for text in summary["warnings"]]
    drop = ("eval.shard=", "eval.shards=") if shards > 1 else ()
    return {
        "name": first["name"],
        "overrides": [text for text in first["overrides"] if not text.startswith(drop)] if drop else first["overrides"],
        "plan_hash": first["whole_hash"] if not missing and shards > 1 else first["plan_hash"],
        "whole_hash": first.get("whole_hash"),
        "seedless_hash": first.get("seedless_hash"),
        "shard": [0, 1] if not missing else first.get("shard"),
        "seconds": _summed([summary["seconds"] for summary in summaries]),
        "passes": _summed([summary["passes"] for summary in summaries]),
        "warnings": list(dict.fromkeys(warnings)),
        "device": first["device"],
        "versions": first.get("versions"),
        "config": runs[0].records["config"],
        "model": first["model"],
        "notes": _notes([summary.get("notes") or {} for summary in summaries]),
    }


def _summed(parts: Sequence[Mapping[str, float]]) -> dict[str, float]:
    names = dict.fromkeys(name for part in parts for name in part)
    return {name: round(sum(part.get(name) or 0 for part in parts), 2) for name in names}


def _notes(parts: Sequence[Mapping[str, Mapping[str, Mapping[str, float]]]]) -> dict[str, dict[str, dict[str, float]]]:
    together: dict[str, dict[str, dict[str, float]]] = {}
    for part in parts:
        for method, said in part.items():
            for name, new in said.items():
                old = together.setdefault(method, {}).setdefault(name, {"mean": 0.0, "lowest": new["lowest"], "n": 0})
                n = old["n"] + new["n"]
                old["mean"] += (new["mean"] - old["mean"]) * new["n"] / n if n else 0.0
                old["lowest"], old["n"] = min(old["lowest"], new["lowest"]), n
    return together


def _panels(source: Path, folder: Path) -> list[tuple[str, str, list[Path]]]:
    """The figures of maps of a run, copied, with their captions."""
    text = source / "figures" / "captions.md"
    captions = dict(re.findall(r"^\*\*(.+?)\*\*: (.*)$", text.read_text("utf-8"), re.M)) if text.is_file() else {}
    made = []
    paths = [path for name in OF_MAPS for path in sorted((source / "figures").glob(f"{name}*.png"))]
    for path in paths:
        folder.mkdir(parents=True, exist_ok=True)
        files = [folder / f"{path.stem}.{ending}" for ending in ("png", "pdf")]
        for file in files:
            if (path.with_suffix(file.suffix)).is_file() and file.parent != path.parent:
                shutil.copyfile(path.with_suffix(file.suffix), file)
        made.append((path.stem, captions.get(path.stem, ""), [file for file in files if file.is_file()]))
    return made
