"""What of a run goes to MLflow: names of metrics, artifacts, description."""

import contextlib
import getpass
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from heatproof.base.outbox import Outbox
from heatproof.base.records import Classifier, Predictions, Report

FACTS = ("plan_hash", "data_hash", "split_kind", "protocol", "device", "n_images")
ARTIFACTS = (
    "report.html",
    "data.html",
    "classifier.html",
    "predictions.parquet",
    "samples.parquet",
    "config.yaml",
    "summary.json",
    "run.log",
    "tables",
    "figures",
)


def collect(
    folder: Path,
    *,
    experiment: str,
    run_name: str,
    params: Mapping[str, Any],
    tags: Mapping[str, Any],
    report: Report | None = None,
    classifier: Classifier | None = None,
    predictions: Predictions | None = None,
) -> None:
    """Write what a run has to say into its outbox; the outbox stays open (`Outbox.finish` closes it).

    Metrics: `<method>/<metric>` with `_lo`, `_hi`, `_n`; `train/loss`, `val/loss`, `val/accuracy`, ... with step =
    epoch; `test/<figure>` and `val/<figure>` of the kept weights with `_lo`, `_hi`, `_n` (`val/kept_<figure>` where the
    epochs have a series of that name); `passes/*` and `seconds/*`. Tags: hashes, split, protocol, device,
    commit. Description: the verdict lines.
    """
    outbox = Outbox(folder)
    found = {key: value for key, value in tags.items() if value is not None}
    if report is not None:
        found = {key: report.summary[key] for key in FACTS if report.summary.get(key) is not None} | found
        found |= {"mlflow.note.content": "\n\n".join(report.verdicts)} if report.verdicts else {}
    outbox.begin(experiment, run_name, params, _origin(run_name) | found)
    if report is not None:
        outbox.metrics(dict(_scores(report.summary)))
    if predictions is not None:
        for name, figure in predictions.figures.items():
            outbox.metrics(dict(_estimate(f"test/{name}", figure, value="value")))
        series = {_epoch_name(key) for epoch in (classifier.history if classifier else ()) for key in epoch}
        for name, figure in predictions.val_figures.items():
            # An epoch series of that name ends with the last epoch, not with the one that is kept.
            full = f"val/kept_{name}" if f"val/{name}" in series else f"val/{name}"
            outbox.metrics(dict(_estimate(full, figure, value="value")))
    if classifier is not None:
        for number, epoch in enumerate(classifier.history, 1):
            values = {_epoch_name(k): float(v) for k, v in epoch.items() if k != "epoch"}
            outbox.metrics(values, step=int(epoch.get("epoch", number)))
    for name in ARTIFACTS:
        if (folder / name).exists():
            outbox.artifact(name, name if (folder / name).is_dir() else None)


def _epoch_name(key: str) -> str:
    """`val_loss` as val/loss, all else under train/."""
    part, _, rest = key.partition("_")
    return f"{part}/{rest}" if part in ("train", "val") and rest else f"train/{key}"


def _scores(summary: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Each metric's own column and its excess; what stands beside them (areas, ties) is in the tables alone, for MLflow
    makes a column of the experiment's page of every name."""
    main = summary.get("main")
    for method, metrics in summary.get("methods", {}).items():
        for metric, figure in metrics.items():
            if not main or metric.removesuffix("_excess") in main:
                yield from _estimate(f"{method}/{metric}", figure, value="mean")
    for group in ("passes", "seconds", "data", "model"):
        for name, number in (summary.get(group) or {}).items():
            if isinstance(number, (int, float)):
                yield f"{group}/{name}", float(number)


def _estimate(name: str, figure: Mapping[str, Any], *, value: str) -> Iterator[tuple[str, float]]:
    for key, suffix in ((value, ""), ("lo", "_lo"), ("hi", "_hi"), ("n", "_n")):
        if key in figure:
            number = figure[key]
            yield name + suffix, float("nan") if number is None else float(number)


def _origin(run_name: str) -> dict[str, str]:
    tags = {"mlflow.source.name": f"heatproof {run_name}", "mlflow.source.type": "LOCAL"}
    with contextlib.suppress(KeyError, OSError):  # a container's user may have no name
        tags["mlflow.user"] = getpass.getuser()
    commit = git_commit(Path.cwd())
    if commit:
        tags["mlflow.source.git.commit"] = commit
    return tags


def git_commit(folder: Path) -> str | None:
    """The commit that is checked out in a folder, or None where there is no git repository."""
    try:
        answer = subprocess.run(
            ["git", "-C", str(folder), "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() or None
