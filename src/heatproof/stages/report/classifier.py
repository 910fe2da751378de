"""Report of the classifier alone: what `stage=predict` leaves in its folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd

from heatproof.base.records import Classifier, Predictions, Report, Samples
from heatproof.stages.report import figures, plain, tables
from heatproof.stages.report.classified import overall_frame, report_frame, report_text
from heatproof.stages.report.drawing import STYLE, drawn
from heatproof.stages.report.evaluation import classifier_drawings
from heatproof.stages.report.summary import summarise_classifier


def classifier_report(
    folder: Path,
    *,
    samples: Samples,
    classifier: Classifier,
    predictions: Predictions,
    facts: Mapping[str, Any],
    seed: int,
) -> Report:
    """All that a run with heat maps says of its classifier, and what the terminal prints of it.

    Writes {samples,predictions}.parquet, tables/{classification_report,classifier,confusion,history}.{csv,md,tex},
    figures/ (training, confusion, ROC, precision over recall, reliability; png and pdf), classifier.html and
    summary.json. `facts`: as for `report`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / "samples.parquet", folder / "predictions.parquet"]
    for file, table in zip(files, (samples.table, predictions.table), strict=True):
        table.to_parquet(file, index=False)
    files += tables.write_tables(folder / "tables", tables.classifier_tables(predictions, classifier))
    with matplotlib.rc_context(fname=STYLE):
        made = drawn(folder / "figures", classifier_drawings(classifier, predictions, seed=seed))
    files += [file for _, _, saved in made for file in saved]
    summary = summarise_classifier(samples, classifier, predictions, facts, seed)
    overall = overall_frame(predictions, classifier.classes)
    page = plain.render(
        summary,
        subject="the classifier",
        heading="How good is the classifier?",
        warnings=summary["audit"],
        notes=samples.audit.notes if samples.audit else (),
        tables=[
            plain.Table("Figures of merit with 95 % intervals", overall),
            plain.Table("Per class", report_text(report_frame(predictions, classifier.classes))),
        ],
        figures=figures.inlined(made),
        config=str(facts.get("config") or ""),
    )
    for name, text in (
        ("classifier.html", page),
        ("figures/captions.md", figures.captions(made)),
        ("summary.json", json.dumps(summary, indent=1, ensure_ascii=False, allow_nan=False)),
    ):
        files.append(folder / name)
        files[-1].parent.mkdir(parents=True, exist_ok=True)
        files[-1].write_text(text, encoding="utf-8")
    lines = (*(samples.audit.lines if samples.audit else ()), *classifier.remarks)
    return Report(folder, summary, _terminal(overall, len(predictions.table)), lines, tuple(files))


def _terminal(overall: pd.DataFrame, num: int) -> str:
    lines = [f"stage=predict: {num} predictions; the next run goes on from here."]
    if len(overall):
        lines += ["", overall.to_string(index=False)]
    return "\n".join(lines)
