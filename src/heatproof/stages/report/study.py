"""The report of a study at the end of its sweep: published beside ours under both protocols, a verdict per claim."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from heatproof.base.records import Ended
from heatproof.base.study import Published, Row, Study, study_of, told
from heatproof.stages.report import study_figures
from heatproof.stages.report.claims import Verdict, judge, outcomes_frame
from heatproof.stages.report.classified import figure_text, most_frequent
from heatproof.stages.report.merge import Stored
from heatproof.stages.report.study_runs import Runs, figure_of, methods_matching, runs_of
from heatproof.stages.report.tables import latex, markdown, rounded

NAME = "study"
PROTOCOLS = {"study": "study protocol", "sound": "sound protocol"}
# Overrides that change no number, or that the table of runs shows.
UNTOLD = ("study", "dataset.root", "model.weights", "given", "device", "tracking", "report", "hydra", "seed", "name",
          "sweep")  # fmt: skip


@dataclass(frozen=True)
class StudyReport:
    """What was written, and what there is to say of it."""

    title: str
    files: tuple[Path, ...]
    lines: tuple[str, ...]

    @property
    def text(self) -> str:
        """For a terminal."""
        return "\n".join([self.title, *(f"  {line}" for line in self.lines), f"study: {self.files[0]}"])


def study_in(runs: Sequence[Stored]) -> str | None:
    """The study that all these runs belong to, or None."""
    configs = [run.records.get("config") for run in runs]
    found = {config.get("study") if isinstance(config, Mapping) else None for config in configs}
    return next(iter(found)) if len(found) == 1 else None


def write_study(
    runs: Sequence[Stored], folder: Path, *, command: str = "", failed: Sequence[Ended] = ()
) -> StudyReport:
    """The files study.{md,csv,tex}, study_claims.csv and the figures study_*.{png,pdf} in `folder`.

    `runs`: finished runs of one study, shards merged; `failed`: its jobs without results.
    """
    study = study_of(str(study_in(runs)))
    by = runs_of(runs)
    verdicts = judge(study.claims, by, seed=int(runs[0].summary["seed"]))
    frame = published_frame(study, by)
    figures = study_figures.drawn_figures(study, by, frame, verdicts, folder)
    made = runs_frame(by, folder)
    csv, claims = folder / f"{NAME}.csv", folder / f"{NAME}_claims.csv"
    csv.write_text(frame.to_csv(index=False), encoding="utf-8")
    claims.write_text(outcomes_frame(verdicts).to_csv(index=False), encoding="utf-8")
    tex = folder / f"{NAME}.tex"
    tex.write_text("\n\n".join(latex(text, most=9) for _, text in _tables(study, frame)), encoding="utf-8")
    page = folder / f"{NAME}.md"
    parts = _page(study, by, verdicts, frame, made, figures, command, failed)
    page.write_text("\n".join(parts), encoding="utf-8")
    files = (page, csv, tex, claims, *(file for _, _, drawn in figures for file in drawn))
    return StudyReport(study.title, files, (*(verdict.line for verdict in verdicts), *_unlearnt(by)))


def published_frame(study: Study, runs: Runs) -> pd.DataFrame:
    """One row per figure of the published tables: table, arm, method, image, figure, published, published_n, then
    `<protocol>_mean`, `_lo`, `_hi`, `_n` of our runs under both protocols, NaN where there is none. Rows of arms that
    nobody published follow those of their table."""
    rows = []
    for table in study.published:
        for row in (*table.rows, *_unpublished(table, runs)):
            for figure, value in zip(table.figures, row.values, strict=True):
                found: dict[str, Any] = {
                    "table": table.table, "arm": row.arm, "method": row.method, "image": row.image, "figure": figure,
                    "published": np.nan if value is None else value,
                    "published_n": np.nan if value is None or table.n is None else table.n,
                }  # fmt: skip
                for protocol in PROTOCOLS:
                    own = figure_of(runs.of(row.arm, protocol), figure, row.method, row.image) or {}
                    found |= {f"{protocol}_{key}": own.get(key, np.nan) for key in ("mean", "lo", "hi", "n")}
                rows.append(found)
    ran = {arm for arm, _ in runs.by}
    rows.sort(key=lambda row: row["arm"] not in ran)
    columns = ["table", "arm", "method", "image", "figure", "published", "published_n",
               *(f"{protocol}_{key}" for protocol in PROTOCOLS for key in ("mean", "lo", "hi", "n"))]  # fmt: skip
    return pd.DataFrame(rows, columns=columns)


def _unpublished(table: Published, runs: Runs) -> Iterator[Row]:
    """Rows of our runs that the table has not: other arms, and methods of `table.methods`."""
    nothing = (None,) * len(table.figures)
    images = list(dict.fromkeys(row.image for row in table.rows))
    for arm in () if table.complete else runs.arms:
        some = [run for protocol in PROTOCOLS for run in runs.of(arm, protocol)]
        known = [row.method for row in table.rows if row.arm == arm]
        if table.methods:
            names = dict.fromkeys(name for pattern in table.methods for run in some
                                  for name in methods_matching(run, pattern))  # fmt: skip
            for name in names:
                if name not in known:
                    yield Row(nothing, arm, name)
        elif not known:
            yield from (Row(nothing, arm, None, image) for image in images or [None])


def runs_frame(runs: Runs, folder: Path) -> pd.DataFrame:
    """One row per run: arm, protocol, seed, net, weights, training, split, images (train / val / test), explained,
    seconds, and where its report is."""
    rows = []
    for (arm, protocol), found in runs.by.items():
        for run in found:
            config, summary = run.records["config"], run.summary
            counts = run.table("samples")["split"].value_counts()
            weights = config["model"].get("weights")
            epochs = summary["model"].get("training_epochs")
            rows.append(
                {
                    "arm": arm or "–",
                    "protocol": protocol,
                    "seed": summary["seed"],
                    "net": config["model"].get("label") or config["model"].get("name") or config["model"]["builder"],
                    "weights": Path(weights).name if weights else "random",
                    "training": config["train"]["policy"] + (f", {epochs} epochs" if epochs else ""),
                    "split": summary["split_kind"],
                    "train / val / test": " / ".join(str(counts.get(name, 0)) for name in ("train", "val", "test")),
                    "explained": summary["n_images"],
                    "seconds": round(sum(summary["seconds"].values())),
                    "report": Path(os.path.relpath(run.folder / "report.html", folder)).as_posix(),
                }
            )
    return pd.DataFrame(rows)


def _page(
    study: Study,
    runs: Runs,
    verdicts: Sequence[Verdict],
    frame: pd.DataFrame,
    made: pd.DataFrame,
    figures: Sequence[tuple[str, str, Sequence[Path]]],
    command: str,
    failed: Sequence[Ended],
) -> Iterator[str]:
    """The lines of study.md."""
    yield f"# {study.title}\n"
    yield f"Published: {study.source}\n"
    if command:
        yield f"    {command}\n"
    yield "## Verdicts\n"
    for verdict in verdicts:
        yield f"- {verdict.line}" + (f" *{verdict.claim.note}*" if verdict.claim.note else "")
    yield "\n## What was run\n"
    linked = made.assign(report=[f"[report]({path})" for path in made["report"]])
    yield markdown(linked.astype(str))
    yield from (f"- {line}" for line in remarks(study, runs))
    yield from (f"- no results of {one.title or one.number}: {one.error or one.status}" for one in failed)
    if study.flaws:
        yield "\n## Flaws of the study that `protocol=study` repeats\n"
        yield from (f"- {flaw}" for flaw in study.flaws)
    for table, text in _tables(study, frame):
        yield f"\n## {table.title}\n"
        if text.empty:
            yield "Nothing published, and no run of it."
            continue
        published = frame.loc[frame["table"] == table.table, "published"].notna().any()
        source = f"Published: {table.source or study.source}." if published else "Nothing published."
        yield f"{source} Ours: mean [95 % interval], n.\n"
        yield markdown(text)
    for name, caption, files in figures:
        yield f"\n![{name}]({files[0].name})\n\n{caption}\n"
    outcomes = outcomes_frame(verdicts)
    if len(outcomes):
        yield "\n## Comparisons behind the verdicts\n"
        yield "p adjusted (Holm) over all comparisons of all claims.\n"
        shown = ["number", "comparison", "expected", "protocol", "difference", "lo", "hi", "margin", "n", "p_holm",
                 "as_claimed"]  # fmt: skip
        yield markdown(rounded(outcomes[shown]).assign(number=_numbers(outcomes["number"])))


def _numbers(numbers: pd.Series) -> list[str]:
    """Numbers of claims as text; claims of nobody have none."""
    return ["–" if pd.isna(number) else f"{number:.0f}" for number in numbers]


def remarks(study: Study, runs: Runs) -> Iterator[str]:
    """What a reader must know of the data and the settings before the figures."""
    yield from study.remarks
    first = runs.all[0].records["config"]
    scales = list(dict.fromkeys(run.records["config"].get("scale") for run in runs.all))
    for scale in scales:
        own = [run.records["config"] for run in runs.all if run.records["config"].get("scale") == scale]
        said = {key: value for key, value in (told(study.name, "scale", scale) if scale else {}).items()
                if any(_value_of(config, key) in (None, value) for config in own)}  # fmt: skip
        if said:
            yield f"scale={scale} in place of the study's own settings: {_settings(said)}."
    overrides = list(dict.fromkeys(text for run in runs.all for text in run.summary["overrides"]))
    own = [text for text in overrides if not text.lstrip("+~").startswith(UNTOLD)]
    if own:
        yield f"Set on the command line: {', '.join(own)}."
    random = sorted({str(run.records["config"].get("arm")) for run in runs.all
                     if run.records["config"]["train"]["policy"] == "scratch"
                     and "weights" in run.records["config"]["model"]})  # fmt: skip
    if random:
        yield f"Trained from random weights, without pretrained ones: {', '.join(random)}."
    yield from _unlearnt(runs)
    yield f"Data: {first['dataset']['reader']}, {len(runs.all[0].table('samples'))} images."
    for warning in dict.fromkeys(text for run in runs.all for text in run.summary.get("audit", ())):
        yield f"Warning of the data's audit: {warning}"


def _unlearnt(runs: Runs) -> Iterator[str]:
    """A warning of nets that are not shown to beat naming the most frequent class."""
    weak = [f"{arm or 'net'} ({protocol})" for (arm, protocol), found in runs.by.items() for run in found
            if (figure := run.summary["classifier"].get("accuracy"))
            and figure["lo"] <= most_frequent(run.table("predictions"))]  # fmt: skip
    if weak:
        names = ", ".join(dict.fromkeys(weak))
        yield f"Not shown to beat naming the most frequent class, so that their maps explain little: {names}."


def _value_of(config: Mapping[str, Any], key: str) -> Any:
    """The value of a full key; None for one that is a group or is not there."""
    found: Any = config
    for part in key.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return None if isinstance(found, Mapping) else found


def _settings(said: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={str(value).replace(' ', '')}" for key, value in said.items())


def _tables(study: Study, frame: pd.DataFrame) -> Iterator[tuple[Published, pd.DataFrame]]:
    """Each published table for readers: published | ours, study protocol | ours, sound protocol."""
    for table in study.published:
        some = frame[frame["table"] == table.table]
        has = some[["published", "study_mean", "sound_mean"]].notna().any(axis=1)
        yield table, _text(some[has])


def _text(some: pd.DataFrame) -> pd.DataFrame:
    shown = pd.DataFrame({"arm": some["arm"].fillna("–")})
    for name in ("method", "image"):
        if some[name].notna().any():
            shown[name] = some[name].fillna("–")
    shown["figure"] = some["figure"]
    shown["published"] = ["–" if np.isnan(value) else f"{value:g}" for value in some["published"]]
    for protocol, title in PROTOCOLS.items():
        ends = zip(*(some[f"{protocol}_{key}"] for key in ("mean", "lo", "hi")), strict=True)
        shown[f"ours, {title}"] = [_cell(mean, lo, hi) for mean, lo, hi in ends]
        shown[f"n {title.split()[0]}"] = ["–" if np.isnan(n) else f"{n:.0f}" for n in some[f"{protocol}_n"]]
    return shown


def _cell(mean: float, lo: float, hi: float) -> str:
    if np.isfinite(mean) and not np.isfinite(lo):
        return f"{mean:.4g}"
    return figure_text({"value": mean, "lo": lo, "hi": hi})
