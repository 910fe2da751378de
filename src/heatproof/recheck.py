"""`show=cell`: one number of an earlier run made again from its image, and the images behind it redrawn.

The run's own config is carried out once more up to the maps, which come from the store as long as it has them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heatproof.base import registry
from heatproof.base.errors import Faults, HeatproofError, fault
from heatproof.base.store import Store
from heatproof.flow import permuted_net

if TYPE_CHECKING:
    import pandas as pd

    from heatproof.stages.plan import Plan

# How far a number may be from itself, as a share of its magnitude where that is above 1.
TOLERANCE = 1e-5
# Names that a message lists at most.
LISTED = 12


@dataclass(frozen=True)
class Rechecked:
    """What is said of a number, the figure of what was run for it, and whether it came out again."""

    text: str
    figure: Path
    same: bool


def recheck(folder: Path, image: str, method: str, metric: str) -> Rechecked:
    """The number of one image, method and metric (or column of one) of the run in `folder`, made again.

    Raises: HeatproofError for a folder that is no run, and for names that it does not have.
    """
    import pandas as pd

    for name in ("config.yaml", "scores.parquet"):
        if not (folder / name).is_file():
            hint = "Take the results folder of a run that came past its measuring; of a sweep, that of one job."
            raise HeatproofError(fault("run", f"holds no {name}", got=str(folder), hint=hint))
    table = pd.read_parquet(folder / "scores.parquet")
    row = _row(table, image, method, metric)
    plan = _plan(folder)
    again, drawn = _again(plan, table, row, folder)
    stored, value = float(row["value"]), again.value
    same = again.status == row["status"] and (
        again.status != "ok" or abs(value - stored) <= TOLERANCE * max(1.0, abs(stored))
    )
    choice = next(one for one in plan.metrics if one.label == row["metric"])
    lines = [
        f"{image}, {method}, {metric}: {choice.metric.choice.doc.splitlines()[0]}",
        f"  {row['identity']}",
        f"  stored      {_said(stored, row['status'])}",
        f"  made again  {_said(value, again.status)}{'' if same else '   <- differs'}",
    ]
    if not same and row["identity"] != choice.identity:
        lines.append(f"  The metric is another one now: {choice.identity}.")
    lines.append(f"  p of the explained class on the image {again.p:.4f}; {len(again.run)} further images were run")
    return Rechecked("\n".join([*lines, f"figure: {drawn}"]), drawn, same)


def _said(value: float, status: str) -> str:
    return f"{value:.6g}" if status == "ok" else status


def _row(table: pd.DataFrame, image: str, method: str, metric: str) -> pd.Series:
    """The row of the scores, or one error that names every unknown part."""
    faults = Faults()
    for key, value, known in (
        ("image", image, table["image"]),
        ("method", method, table["method"]),
        ("metric", metric, table["column"]),
    ):
        names = [str(name) for name in known.unique()]
        if value not in names:
            near = get_close_matches(value, names, n=LISTED, cutoff=0.3)
            some = names if len(names) <= LISTED else near or names[:LISTED]
            faults.add(key, f"the run has no such {key}", got=value, choices=some,
                       hint="" if len(some) == len(names) else f"{len(names)} in all, see scores.parquet.")  # fmt: skip
    faults.raise_any()
    found = table[(table["image"] == image) & (table["method"] == method) & (table["column"] == metric)]
    if found.empty:
        columns = table["column"][table["method"] == method].unique()
        raise HeatproofError(fault("metric", f"{method} has no such number", got=metric, choices=columns))
    return found.iloc[0]


def _plan(folder: Path) -> Plan:
    from heatproof.stages.plan import make_plan

    config = registry.yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    registry.load_plugins()
    return make_plan({**config, "stage": None, "show": None})


def _again(plan: Plan, table: pd.DataFrame, row: pd.Series, folder: Path) -> tuple[Any, Path]:
    """The number made again, and the file of its figure."""
    import numpy as np
    import pandas as pd

    from heatproof.base.device import images_at_once, keep_freed_memory
    from heatproof.base.records import Predictions
    from heatproof.stages.explain import explain
    from heatproof.stages.load import load
    from heatproof.stages.measure.again import measure_again
    from heatproof.stages.report.cell import draw_cell
    from heatproof.stages.train import train

    keep_freed_memory()
    store = Store()
    samples = load(plan.dataset, plan.load, store)
    classifier = train(samples, plan.model, plan.train, plan.compute, store, trained=plan.trained, progress=False)
    images = list(table["image"].unique())
    rows = pd.Index(samples.table["image"]).get_indexer(images)
    if (rows < 0).any():
        lost = [image for image, place in zip(images, rows, strict=True) if place < 0]
        raise HeatproofError(fault("run", "its images are no longer in the data set", got=_some(lost)))
    maps = explain(
        samples, classifier, Predictions(pd.DataFrame(), {}, np.asarray(rows)), plan.methods, plan.explain,
        protocol=plan.measure.protocol, store=store, progress=False,
    )  # fmt: skip
    method = next(one for one in maps.methods if str(one.name) == row["method"])
    choice = next(one for one in plan.metrics if one.label == row["metric"])
    compares = "labels" in choice.metric.facts.get("reruns", ())
    again = measure_again(
        samples, classifier, maps, images.index(row["image"]), method, choice, str(row["column"]), plan.measure,
        plan.eval, batch=plan.explain.batch or images_at_once(classifier.device, plan.load.size),
        target=plan.explain.target,
        permuted=permuted_net(plan, samples, store, progress=False) if compares else None,
    )  # fmt: skip
    drawn = draw_cell(folder / "cells", samples, maps, row, again, float(row["value"]))
    return again, drawn


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
