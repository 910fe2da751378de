"""The end of a sweep: one table, one figure, one page of all its configurations, from their summaries alone."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from scipy import stats

from heatproof.base.errors import HeatproofError, fault
from heatproof.base.records import Ended
from heatproof.stages.report.classified import figure_text
from heatproof.stages.report.drawing import PAGE, SECOND, STYLE, TESTED, Drawing, save, short
from heatproof.stages.report.page import environment, frame_of
from heatproof.stages.report.tables import ARROWS, write_table

if TYPE_CHECKING:
    from heatproof.stages.report.study import StudyReport

NAME = "sweep"
# Of the classifier only this is shown unless more is asked for: all its figures are in `comparison.csv`.
CLASSIFIER = ("accuracy",)
# Keys that tell repetitions of one configuration apart, and the shards of one run.
REPEATED = ("seed", "train.seed", "explain.seed", "eval.shard", "eval.shards")
MOST_ACROSS = 5


def sweep_frame(jobs: Sequence[Ended], figures: Sequence[str] | None = None) -> pd.DataFrame:
    """One row per configuration, method under test and figure: mean with its 95 % interval and what n counts.

    Columns: configuration, method (None for a figure of the classifier), figure, better, mean, lo, hi, n, level
    ("images": one run, its interval over images or groups; "seeds": the mean over the runs of n seeds, Student's
    interval with n - 1 degrees of freedom, cut at the figure's range, undefined for n = 1 and where all are equal),
    undefined (runs in which the figure is), jobs (their numbers). `figures`: which; None = accuracy and every main
    column of the metrics. Raises: HeatproofError for a figure that no run has.
    """
    rows: list[dict[str, Any]] = []
    configurations = list(_configurations(jobs))
    for title, runs, numbers in configurations:
        for method, figure, better in _figures(runs, figures):
            found = [one for run in runs if (one := _figure(run, method, figure)) is not None]
            rows.append(
                {"configuration": title, "method": method, "figure": figure, "better": better}
                | merged(found, len(runs), range_of(runs[0], method, figure))
                | {"undefined": len(runs) - sum(_defined(one) for one in found), "jobs": " ".join(map(str, numbers))}
            )
    frame = pd.DataFrame(rows, columns=["configuration", "method", "figure", "better", "mean", "lo", "hi", "n",
                                        "level", "undefined", "jobs"])  # fmt: skip
    missing = [figure for figure in figures or () if configurations and figure not in set(frame["figure"])]
    if missing:
        known = sorted({name for _, runs, _ in configurations for _, name, _ in _figures(runs, None)})
        raise HeatproofError(*(fault("report.figures", "no run has it", got=one, choices=known) for one in missing))
    return frame


def write_sweep(
    jobs: Sequence[Ended],
    folder: Path,
    *,
    command: str = "",
    figures: Sequence[str] | None = None,
    study: StudyReport | None = None,
) -> tuple[list[Path], str]:
    """The files sweep.{csv,md,tex,png,pdf,html} in `folder`, and what the terminal shows of them. `study`: the report
    of the study that the jobs belong to, which the page begins with."""
    frame = sweep_frame(jobs, figures)
    failures = [job for job in jobs if job.status != "FINISHED"]
    page = folder / f"{NAME}.html"
    if frame.empty:
        files: list[Path] = []
        text, drawing = pd.DataFrame(), None
    else:
        text = sweep_text(frame)
        with matplotlib.rc_context(fname=STYLE):
            drawing = _drawing(frame)
            files = [*write_table(folder, NAME, frame, text), *(folder / f"{NAME}.{end}" for end in ("png", "pdf"))]
            save(drawing.figure, files[-2:])
        with files[1].open("a", encoding="utf-8") as markdown:
            markdown.write(f"\n{drawing.caption}\n" + "".join(f"\n- {line}" for line in _failures(failures)))
    image = base64.b64encode((folder / f"{NAME}.png").read_bytes()).decode() if drawing else ""
    template = environment().get_template("sweep.html")
    html = template.render(
        title=folder.name,
        study=study,
        command=command,
        table=frame_of(text),
        image=image,
        caption=drawing.caption if drawing else "",
        failures=[{"job": job, "log": _relative(job.log, folder)} for job in failures],
        jobs=[{"job": job, "page": _relative(_page(job), folder)} for job in jobs],
    )
    page.write_text(html, encoding="utf-8")
    return [*files, page], "\n".join([*_blocks(text), f"sweep: {page}"])


def sweep_text(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per configuration and method, one column per figure: `mean [lo, hi]`, with the seeds where there are
    several."""
    shown = [(name, str(some["better"].iloc[0])) for name, some in frame.groupby("figure", sort=False)]
    rows = []
    for (title, method), some in frame[frame["method"].notna()].groupby(["configuration", "method"], sort=False):
        own = frame[(frame["configuration"] == title) & frame["method"].isna()]
        rows.append(_row(str(title), str(method), pd.concat([own, some]), shown))
    for title, some in frame.groupby("configuration", sort=False):  # runs that explain nothing
        if some["method"].isna().all():
            rows.append(_row(str(title), "–", some, shown))
    return pd.DataFrame(rows)


def _row(title: str, method: str, some: pd.DataFrame, shown: Sequence[tuple[str, str]]) -> dict[str, str]:
    row = {"configuration": title or "–", "method": method}
    seeds = some.loc[some["level"] == "seeds", "n"]
    row["runs"] = f"{int(seeds.max())} seeds" if len(seeds) else "1"
    known = some.set_index("figure")
    for name, better in shown:
        found = known.loc[name].to_dict() if name in known.index else None
        text = figure_text(None if found is None else {**found, "value": found["mean"]})
        if found is not None and found["level"] == "seeds" and found["n"] > 1:
            text = text.replace("[no interval]", "[all equal]")
        if found is not None and found["undefined"] and found["level"] == "seeds":
            text += f" n={int(found['n'])}"
        row[f"{name} {ARROWS[better]}".strip()] = text
    return row


def _configurations(jobs: Sequence[Ended]) -> Iterator[tuple[str, list[Mapping[str, Any]], list[int]]]:
    """Title, summaries and job numbers of each configuration: runs that differ in their seeds alone are one."""
    groups: dict[str, dict[str, tuple[Ended, Mapping[str, Any]]]] = {}
    for job in jobs:
        if job.results is not None:
            found = json.loads((job.results / "summary.json").read_text(encoding="utf-8"))
            if "methods" in found:
                key = f"{found.get('seedless_hash') or found.get('plan_hash')} {found.get('data_hash')}"
                # The same plan twice is no second seed.
                groups.setdefault(key, {}).setdefault(str(found.get("plan_hash")), (job, found))
    for runs in groups.values():
        titles = [_without(job.title, REPEATED if len(runs) > 1 else ("eval.shards",)) for job, _ in runs.values()]
        yield titles[0], [found for _, found in runs.values()], [job.number for job, _ in runs.values()]


def _without(title: str, keys: Sequence[str]) -> str:
    return " ".join(part for part in title.split() if part.lstrip("+").partition("=")[0] not in keys)


def _figures(runs: Sequence[Mapping[str, Any]], wanted: Sequence[str] | None) -> list[tuple[str | None, str, str]]:
    """(method, figure, better): those of the classifier, then those of every method under test."""
    found: dict[tuple[str | None, str, str], None] = {}
    for run in runs:
        for name in run["classifier"]:
            if name in (wanted if wanted is not None else CLASSIFIER):
                found[None, name, "down" if name in ("brier", "ece") else "up"] = None
        main = run.get("main") or ()
        for method in run.get("tested") or run["methods"]:
            for name, figure in run["methods"][method].items():
                if name in (wanted if wanted is not None else main):
                    found[method, name, figure["better"]] = None
    return list(found)


def _figure(run: Mapping[str, Any], method: str | None, figure: str) -> Mapping[str, Any] | None:
    if method is None:
        found = run["classifier"].get(figure)
        return None if found is None else {**found, "mean": found["value"]}
    found = run["methods"].get(method, {}).get(figure)
    return None if found is None else dict(found)


def _defined(found: Mapping[str, Any]) -> bool:
    return found["mean"] is not None and bool(np.isfinite(found["mean"]))


def range_of(run: Mapping[str, Any], method: str | None, figure: str) -> tuple[float, float]:
    """What a figure cannot leave."""
    if method is None:
        return (-1.0, 1.0) if figure == "mcc" else (0.0, 1.0)
    low, high = (run.get("ranges") or {}).get(figure) or (None, None)
    return -np.inf if low is None else low, np.inf if high is None else high


def merged(found: Sequence[Mapping[str, Any]], runs: int, within: tuple[float, float]) -> dict[str, Any]:
    """One run as it is; of several the mean over seeds and Student's interval, cut at what the figure cannot leave."""
    if runs == 1:
        one = {name: np.nan if found[0][name] is None else found[0][name] for name in ("mean", "lo", "hi", "n")}
        return one | {"level": "images"}
    values = np.array([one["mean"] for one in found if _defined(one)], dtype=np.float64)
    mean, lo, hi = over_seeds(values)
    lo, hi = (float(np.clip(end, *within)) for end in (lo, hi))
    return {"mean": mean, "lo": lo, "hi": hi, "n": len(values), "level": "seeds"}


def over_seeds(values: np.ndarray) -> tuple[float, float, float]:
    """Mean of the runs of several seeds and its 95 % interval: mean +- t(0.975, n - 1) sd / sqrt(n).

    NaN for no value; no interval for one, nor where all are equal: they have no spread to make one of.

    >>> [round(number, 3) for number in over_seeds(np.array([0.8, 0.9, 1.0]))]
    [0.9, 0.652, 1.148]
    """
    n = len(values)
    if n < 2 or (values == values[0]).all():
        return (float(values[0]) if n else float("nan")), float("nan"), float("nan")
    mean = float(values.mean())
    half = float(stats.t.ppf(0.975, n - 1) * values.std(ddof=1) / np.sqrt(n))
    return mean, mean - half, mean + half


def _drawing(frame: pd.DataFrame) -> Drawing:
    """Points with intervals: one row per configuration and method, one axes per figure, the classifier's first."""
    names = list(dict.fromkeys(frame["figure"]))
    per_method = frame[frame["method"].notna()]
    rows = list(dict.fromkeys(zip(per_method["configuration"], per_method["method"], strict=True)))
    rows = rows or [(title, None) for title in dict.fromkeys(frame["configuration"])]
    methods = {method for _, method in rows}
    # A blank in front: text is a little wider in the file than in the layout, and would be cut there.
    told = [(title, method if len(methods) > 1 or not title else "") for title, method in rows]
    labels = [f" {short(' '.join(part for part in parts if part), 44)}" for parts in told]
    across = min(MOST_ACROSS, len(names))
    down = -(-len(names) // across)
    figure = Figure(figsize=(PAGE, (0.16 * len(rows) + 0.75) * down))
    grid = figure.subplots(down, across, squeeze=False, sharey=True)
    for axes in grid.flat[len(names) :]:
        axes.set_visible(False)
    for axes, name in zip(grid.flat, names, strict=False):
        some = frame[frame["figure"] == name]
        known = {(one["configuration"], None if pd.isna(one["method"]) else one["method"]): one
                 for one in some.to_dict("records")}  # fmt: skip
        points: dict[str, list[tuple[int, dict[str, Any]]]] = {}
        for place, (title, method) in enumerate(rows):
            found = known.get((title, method)) or known.get((title, None))
            if found is None:
                continue
            if np.isfinite(found["mean"]):
                points.setdefault(found["level"], []).append((place, found))
                continue
            axes.text(0.03, place, "undefined", transform=axes.get_yaxis_transform(), va="center", fontsize=5.5,
                      color="0.35")  # fmt: skip
        for level, drawn in points.items():
            means, lows, highs = (np.array([found[key] for _, found in drawn]) for key in ("mean", "lo", "hi"))
            axes.errorbar(means, [place for place, _ in drawn], fmt="o", markersize=3, linewidth=1, capsize=1.6,
                          xerr=np.nan_to_num([means - lows, highs - means]).clip(min=0),
                          color=SECOND if level == "seeds" else TESTED)  # fmt: skip
        axes.set_title(f"{name} {ARROWS[some['better'].iloc[0]]}".strip(), fontsize=6.5)
        axes.xaxis.set_major_locator(MaxNLocator(2, steps=[1, 2, 5, 10]))
        axes.grid(axis="both", color="0.92", linewidth=0.5)
        axes.set_axisbelow(True)
        axes.tick_params(axis="x", labelsize=6)
        axes.tick_params(axis="y", length=0, labelsize=6)
    grid[0, 0].set_yticks(range(len(rows)), labels, fontsize=6)
    grid[0, 0].set_ylim(len(rows) - 0.4, -0.6)
    return Drawing(NAME, figure, _caption(frame, len(rows)))


def _caption(frame: pd.DataFrame, rows: int) -> str:
    levels = set(frame["level"])
    parts = []
    if "images" in levels:
        n = sorted({int(n) for n in frame.loc[frame["level"] == "images", "n"] if np.isfinite(n)})
        sizes = f"n = {n[0]}" if len(n) == 1 else f"n = {n[0]} to {n[-1]}" if n else "n = 0"
        parts.append(f"blue: one run, 95 % interval over its images ({sizes})")
    if "seeds" in levels:
        n = sorted({int(n) for n in frame.loc[frame["level"] == "seeds", "n"]})
        sizes = f"{n[0]}" if len(n) == 1 else f"{n[0]} to {n[-1]}"
        parts.append(f"orange: mean over {sizes} seeds, 95 % interval over seeds (Student)")
    method = frame["method"].dropna().unique()
    one = f" All rows explain by {method[0]}." if len(method) == 1 else ""
    return (
        f"{rows} rows: configuration and method under test; {'; '.join(parts)}. ↑ larger is better, ↓ smaller. Rows "
        f"are not tested against each other here; within a run see its report.{one}"
    )


def _failures(jobs: Sequence[Ended]) -> Iterator[str]:
    for job in jobs:
        why = f": {job.error}" if job.error else ""
        yield f"job {job.number} ({job.title or '–'}): {job.status}{why}" + (f"; see {job.log}" if job.log else "")


def _page(job: Ended) -> Path | None:
    """The page of a run; one that stopped after its predictions has none of its maps."""
    pages = [] if job.results is None else [job.results / name for name in ("report.html", "classifier.html")]
    return next((page for page in pages if page.is_file()), None)


def _relative(path: Path | None, folder: Path) -> str:
    if path is None or not path.exists():
        return ""
    return Path(os.path.relpath(path, folder)).as_posix()


def _blocks(text: pd.DataFrame, width: int = 118) -> list[str]:
    """The table for a terminal, in blocks of columns that fit it."""
    from tabulate import tabulate

    if text.empty:
        return []
    own, figures = list(text.columns[:3]), list(text.columns[3:])
    known = text.assign(configuration=[short(one, 40) for one in text["configuration"]])
    made, block = [], list(own)
    for name in figures:
        if len(block) > len(own) and _width(known, [*block, name]) > width:
            made.append(block)
            block = list(own)
        block.append(name)
    return [tabulate(known[one], headers="keys", tablefmt="simple", showindex=False, disable_numparse=True) + "\n"
            for one in [*made, block]]  # fmt: skip


def _width(text: pd.DataFrame, names: Sequence[str]) -> int:
    return sum(2 + max(len(name), *(len(str(cell)) for cell in text[name])) for name in names)


def merged_shards(jobs: Sequence[Ended], folder: Path) -> list[Ended]:
    """The jobs with the shards of one run as one job, whose report is made in `folder/merged-<first job>`."""
    from heatproof.stages.report.kept import NAME as RECORDS
    from heatproof.stages.report.merge import rebuild, stored, wholes

    runs = [stored(job.results) for job in jobs if job.results is not None and (job.results / RECORDS).is_file()]
    by_folder = {job.results: job for job in jobs}
    made = {job.number: job for job in jobs}
    for group in wholes([run for run in runs if run.shard[1] > 1]):
        parts = [by_folder[run.folder] for run in group]
        first = parts[0]
        rebuild(group, folder / f"merged-{first.number}")
        for part in parts[1:]:
            made[part.number] = replace(part, results=None)
        title = _without(first.title, ("eval.shard", "eval.shards"))
        made[first.number] = replace(first, title=title, results=folder / f"merged-{first.number}")
    return list(made.values())
