"""Classifiers of several runs side by side, on the same test images, from what the runs left in their folders."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from heatproof.base.errors import HeatproofError, fault
from heatproof.base.merit import Judged, differences
from heatproof.base.study import spoken
from heatproof.stages.report.classified import figure_text
from heatproof.stages.report.drawing import PAGE, STYLE, TESTED, Drawing, save, short
from heatproof.stages.report.tables import write_table

# What is drawn and tabled; comparison.csv has every figure that the runs share.
SHOWN = ("accuracy", "balanced_accuracy", "macro_f1", "sensitivity", "specificity", "roc_auc", "pr_auc", "mcc",
         "brier", "ece")  # fmt: skip
LOWER = ("brier", "ece")
MODEL = ("parameters", "parameters_trained", "training_seconds", "training_images_per_second",
         "prediction_images_per_second")  # fmt: skip
NAME = "comparison"


@dataclass(frozen=True)
class _Run:
    """A run's name, its summary, and its labelled test predictions by image."""

    name: str
    title: str
    summary: Mapping[str, Any]
    table: pd.DataFrame

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(name.removeprefix("p_") for name in self.table.columns if name.startswith("p_"))

    def judged(self, images: Sequence[str]) -> Judged:
        table = self.table.loc[list(images)]
        positive = self.summary.get("positive")
        return Judged(
            table["label"].to_numpy(dtype=np.int64),
            table[[f"p_{name}" for name in self.classes]].to_numpy(dtype=np.float64),
            self.classes,
            table["group"].tolist() if "group" in table else None,
            self.classes.index(positive) if positive in self.classes else None,
        )


def compare_runs(folders: Sequence[Path]) -> tuple[pd.DataFrame, Drawing]:
    """The classifiers of finished runs: one row per run and figure, and bars with intervals.

    Columns: run, title (what of the command is the run's own), figure, value, lo, hi, n (test images of the run),
    difference to the first run with diff_lo, diff_hi over the n_common test images that both have, then parameters,
    parameters_trained, training_seconds, training_images_per_second, prediction_images_per_second of the run. The
    first run is the reference, so that none is chosen by the figures that it is compared in. Differences are paired
    (the same resamples of images, or groups); undefined where the runs share no test image or not the classes.
    Reads summary.json and predictions.parquet alone. Raises: HeatproofError where fewer than two runs have labelled
    test images.
    """
    runs = [run for run in _titled([_read(folder) for folder in folders]) if len(run.table)]
    if len(runs) < 2:
        raise HeatproofError(fault("comparison", "needs two finished runs with labelled test images", got=len(runs)))
    first = runs[0]
    rows = []
    for run in runs:
        images = [image for image in first.table.index if image in run.table.index]
        paired = run is not first and run.classes == first.classes and len(images) > 0
        paired = paired and bool((first.table.loc[images, "label"] == run.table.loc[images, "label"]).all())
        found = differences(run.judged(images), first.judged(images), seed=_seed(first)) if paired else {}
        for figure, value in run.summary["classifier"].items():
            against = found.get(figure, {})
            rows.append(
                {"run": run.name, "title": run.title, "figure": figure}
                | {key: _number(value[key]) for key in ("value", "lo", "hi", "n")}
                | {"difference": against.get("value", np.nan)}
                | {"diff_lo": against.get("lo", np.nan), "diff_hi": against.get("hi", np.nan)}
                | {"n_common": len(images) if paired else np.nan}
                | {name: _number((run.summary.get("model") or {}).get(name)) for name in MODEL}
            )
    frame = pd.DataFrame(rows)
    with matplotlib.rc_context(fname=STYLE):
        return frame, _bars(frame, len(runs))


def write_comparison(folders: Sequence[Path], folder: Path) -> tuple[list[Path], str]:
    """The files comparison.{csv,md,tex,png,pdf} in `folder`, and a line that says so.

    None where fewer than two runs have labelled test images, or all share one classifier: then the line says that.
    """
    runs = [run for run in map(_read, folders) if len(run.table)]
    if len({_content(run) for run in runs}) < 2:
        why = "one classifier" if len(runs) > 1 else "no labelled test images"
        return [], f"comparison of classifiers: none, for the runs have {why}."
    frame, drawing = compare_runs(folders)
    files = write_table(folder, NAME, frame, comparison_text(frame))
    with files[1].open("a", encoding="utf-8") as markdown:
        markdown.write(f"\n{drawing.caption}\n")
    images = [folder / f"{NAME}.{ending}" for ending in ("png", "pdf")]
    with matplotlib.rc_context(fname=STYLE):
        save(drawing.figure, images)
    return [*files, *images], f"comparison of classifiers: {files[1]}"


def comparison_text(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per run: figures with intervals, below them the difference to the first run; size and speed."""
    rows = []
    for name, run in frame.groupby("run", sort=False):
        one = run.iloc[0]
        known = run.set_index("figure")
        row = {"run": f"{name} {one['title']}".strip()}
        for figure in [figure for figure in SHOWN if figure in set(frame["figure"])]:
            cell = known.loc[figure] if figure in known.index else None
            row[figure] = figure_text(None if cell is None else cell.to_dict())
            if cell is not None and np.isfinite(cell["difference"]):
                moved = {"value": cell["difference"], "lo": cell["diff_lo"], "hi": cell["diff_hi"]}
                row[figure] += f" ({'+' if moved['value'] > 0 else ''}{figure_text(moved)})"
        row["images"] = f"{known.loc['accuracy', 'n']:.0f}"
        for column, title in (("parameters", "parameters"), ("training_seconds", "training s"),
                              ("prediction_images_per_second", "images/s")):  # fmt: skip
            row[title] = f"{one[column]:,.0f}" if np.isfinite(one[column]) else "–"
        rows.append(row)
    return pd.DataFrame(rows)


def _bars(frame: pd.DataFrame, count: int) -> Drawing:
    shown = [figure for figure in SHOWN if frame.loc[frame["figure"] == figure, "value"].notna().any()]
    across = min(5, len(shown))
    down = -(-len(shown) // across)
    figure = Figure(figsize=(PAGE, (0.19 * count + 0.65) * down))
    grid = figure.subplots(down, across, squeeze=False, sharey=True)
    for axes in grid.flat[len(shown) :]:
        axes.set_visible(False)
    names = [f"{run} {short(title, 28)}".strip() for run, title in frame[["run", "title"]].drop_duplicates().to_numpy()]
    runs = list(dict.fromkeys(frame["run"]))
    for axes, name in zip(grid.flat, shown, strict=False):
        for _, row in frame[frame["figure"] == name].iterrows():
            if not np.isfinite(row["value"]):
                axes.text(0.03, runs.index(row["run"]), "undefined", transform=axes.get_yaxis_transform(),
                          va="center", fontsize=5.5, color="0.35")  # fmt: skip
                continue
            ends = np.nan_to_num([[row["value"] - row["lo"]], [row["hi"] - row["value"]]]).clip(min=0)
            excluded = row["diff_lo"] > 0 or row["diff_hi"] < 0
            axes.barh(runs.index(row["run"]), row["value"], height=0.66, color=TESTED, alpha=1 if excluded else 0.45)
            axes.errorbar(row["value"], runs.index(row["run"]), xerr=ends, color="black", linewidth=0.9, capsize=1.8)
        axes.set_title(f"{name} {'↓' if name in LOWER else '↑'}", fontsize=6.5)
        axes.axvline(0, color="0.3", linewidth=0.6)
        axes.xaxis.set_major_locator(MaxNLocator(2, steps=[1, 2, 5, 10]))
        axes.tick_params(axis="x", labelsize=6)
        axes.tick_params(axis="y", length=0)
    grid[0, 0].set_yticks(range(len(names)), names, fontsize=6.5)
    grid[0, 0].set_ylim(len(names) - 0.4, -0.6)
    sizes = sorted({int(n) for n in frame.loc[frame["figure"] == "accuracy", "n"]})
    n = f"n = {sizes[0]}" if len(sizes) == 1 else f"n = {sizes[0]} to {sizes[-1]}"
    caption = (
        f"Classifiers of {count} runs on their test images ({n}), with 95 % intervals. Full colour: the paired "
        f"difference to run {runs[0]} on the test images that both have excludes 0 (95 %, one training run each, not "
        "adjusted for the number of runs and figures); in brackets in the table. ↑ larger is better, ↓ smaller."
    )
    return Drawing(NAME, figure, caption)


def _read(folder: Path) -> _Run:
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    table = pd.read_parquet(folder / "predictions.parquet")
    table = table[table["split"] == "test"].dropna(subset=["label"]).set_index("image")
    return _Run(folder.name, str(summary.get("name") or ""), summary, table)


def _titled(runs: Sequence[_Run]) -> list[_Run]:
    """Runs titled by the overrides that not all of them have; by their names where there are none. Folders of one name,
    as job 0 of two sweeps, take the place in the list for their name."""
    if len({run.name for run in runs}) < len(runs):
        runs = [replace(run, name=str(number)) for number, run in enumerate(runs)]
    overrides = [list(run.summary.get("overrides") or ()) for run in runs]
    own = [" ".join(spoken(o) for o in mine if not all(o in other for other in overrides)) for mine in overrides]
    return [replace(run, title=title or run.title) for run, title in zip(runs, own, strict=True)]


def _content(run: _Run) -> tuple[str, ...]:
    """What two runs of one classifier have in common: the data, and every probability."""
    p = run.table[[f"p_{name}" for name in run.classes]]
    return (str(run.summary.get("data_hash")), *run.classes, str(pd.util.hash_pandas_object(p).sum()))


def _seed(run: _Run) -> int:
    return int(run.summary.get("seed") or 0)


def _number(value: Any) -> float:
    return float("nan") if value is None else float(value)
