"""Report of a data set: what `stage=load` leaves in its folder."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd

from heatproof.base.records import Audit, Report, Samples
from heatproof.stages.report import figures, plain, tables
from heatproof.stages.report.data_figures import drawings
from heatproof.stages.report.drawing import STYLE, drawn

# Pairs shown on the page; the csv holds all.
SHOWN_PAIRS = 50
TITLES = {
    "counts": "Images per split and class",
    "sizes": "Width and height as stored, in pixels",
    "greys": "Mean grey value and contrast (standard deviation within an image), per class",
    "masks": "Annotations: images, empty ones, share of the image (0 to 1) that the others take",
    "clues": "Properties of files that tell the class",
    "pairs": "Exact copies and near-duplicates: different labels first, then across splits, then the most alike",
    "curve": "Pairs, images and leaks by threshold",
}


def data_report(
    folder: Path,
    *,
    samples: Samples,
    preview: Mapping[str, Sequence[np.ndarray]] | None = None,
    preview_caption: str = "",
    facts: Mapping[str, Any],
) -> Report:
    """Everything that is known of the data before a net has seen them, and what the terminal prints of it.

    Writes samples.parquet, tables/data_*.{csv,md,tex}, figures/data_*.{png,pdf}, data.html and summary.json. `preview`:
    class -> an image and changed copies of it as training makes them, with its caption. `facts`: name, overrides,
    plan_hash, device, warnings, config (text).
    """
    folder.mkdir(parents=True, exist_ok=True)
    audit = samples.audit or Audit((), (), {})
    frames = {**_frames(samples), **audit.tables}
    files = [folder / "samples.parquet"]
    samples.table.to_parquet(files[0], index=False)
    for name, frame in frames.items():
        files += _write(folder / "tables", f"data_{name}", frame)
    with matplotlib.rc_context(fname=STYLE):
        made = drawn(folder / "figures", drawings(samples, audit, preview, preview_caption))
    files += [file for _, _, saved in made for file in saved]
    summary = _summary(samples, audit, facts)
    page = _page(samples, audit, frames, figures.inlined(made), summary, str(facts.get("config") or ""))
    for name, text in (
        ("data.html", page),
        ("figures/captions.md", figures.captions(made)),
        ("summary.json", json.dumps(summary, indent=1, ensure_ascii=False, allow_nan=False)),
    ):
        files.append(folder / name)
        files[-1].write_text(text, encoding="utf-8")
    return Report(folder, summary, _terminal(samples, audit), audit.lines, tuple(files))


def _frames(samples: Samples) -> dict[str, pd.DataFrame]:
    """Sizes and grey values, described per class."""
    table = samples.table.assign(label_name=samples.table["label_name"].fillna("unlabelled"))
    sizes = table.groupby("label_name", sort=False)[["width", "height"]].describe().stack(level=0)
    sizes = (
        sizes.rename_axis(["class", "side"]).reset_index().astype({"count": int}).rename(columns={"count": "images"})
    )
    means = np.array([pixels.mean() for pixels in samples.pixels])
    spreads = np.array([pixels.std() for pixels in samples.pixels])
    greys = pd.DataFrame({"label_name": table["label_name"], "mean": means, "contrast": spreads})
    greys = greys.groupby("label_name", sort=False).agg(["median", "min", "max"])
    greys.columns = [f"{what}_{figure}" for what, figure in greys.columns]
    return {"sizes": sizes, "greys": greys.rename_axis("class").reset_index()}


def _write(folder: Path, name: str, frame: pd.DataFrame) -> list[Path]:
    """One table as csv in full; as markdown and LaTeX rounded, without row numbers, at most SHOWN_PAIRS rows."""
    folder.mkdir(parents=True, exist_ok=True)
    text = _shown(frame)
    contents = {"csv": frame.to_csv(index=False), "md": tables.markdown(text), "tex": tables.latex(text)}
    files = []
    for ending, content in contents.items():
        files.append(folder / f"{name}.{ending}")
        files[-1].write_text(content, encoding="utf-8")
    return files


def _shown(frame: pd.DataFrame) -> pd.DataFrame:
    kept = _short(frame).head(SHOWN_PAIRS)
    return kept.apply(lambda column: column.map(_text)) if len(kept) else kept


def _short(frame: pd.DataFrame) -> pd.DataFrame:
    """A table as a page has room for: what both images of a pair share is said once, their groups and the text of a
    clue, which stands among the warnings, are left to the csv."""
    if "image_a" not in frame:
        return frame.drop(columns="text", errors="ignore")
    both = {}
    for name in ("class", "split"):
        one, other = (frame[f"{name}_{letter}"].map(_text) for letter in "ab")
        both[name] = one.where(one == other, one + " / " + other)
    columns = frame[["image_a", "image_b"]].assign(**both).join(frame[["similarity", "distance", "exact"]])
    return columns.rename(columns={"distance": "dHash bits", "exact": "same file"})


def _text(value: object) -> str:
    if value is None or value is pd.NA or (isinstance(value, float) and not np.isfinite(value)):
        return "–"
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _summary(samples: Samples, audit: Audit, facts: Mapping[str, Any]) -> dict[str, Any]:
    counts = audit.tables["counts"] if "counts" in audit.tables else pd.DataFrame({"split": []})
    pairs = audit.tables.get("pairs", pd.DataFrame({"exact": [], "across": [], "conflict": []}))
    return {
        "stage": "load",
        "name": facts.get("name"),
        "overrides": list(facts.get("overrides") or ()),
        "plan_hash": facts.get("plan_hash"),
        "data_hash": samples.data_hash,
        "split_kind": samples.split_kind,
        "device": facts.get("device"),
        "n_images": len(samples.table),
        "counts": {
            row["split"]: {str(k): int(v) for k, v in row.items() if k != "split"} for row in counts.to_dict("records")
        },
        "data": {
            "images": len(samples.table),
            "pairs": len(pairs),
            "exact_copies": int(pairs["exact"].sum()),
            "pairs_across_splits": int(pairs["across"].sum()),
            "label_conflicts": int(pairs["conflict"].sum()),
        },
        "audit": list(audit.warnings),
        "notes": list(audit.notes),
        "warnings": list(facts.get("warnings") or ()),
    }


def _page(
    samples: Samples,
    audit: Audit,
    frames: Mapping[str, pd.DataFrame],
    figures: Sequence[Mapping[str, str]],
    summary: Mapping[str, Any],
    config: str,
) -> str:
    shown = [
        plain.Table(TITLES[name], _shown(frames[name]), max(0, len(frames[name]) - SHOWN_PAIRS))
        for name in TITLES
        if name in frames and len(frames[name])
    ]
    return plain.render(
        summary, subject="the data", heading="What is in the data?", warnings=audit.warnings, notes=audit.notes,
        tables=shown, figures=figures, config=config,
    )  # fmt: skip


def _terminal(samples: Samples, audit: Audit) -> str:
    counts = audit.tables.get("counts")
    lines = [
        f"stage=load: {len(samples.table)} images, split {samples.split_kind}; the next run goes on from here.",
        "",
    ]
    if counts is not None:
        lines += [counts.to_string(index=False), ""]
    remarks = [f"note: {text}" for text in dict.fromkeys(samples.remarks) if text not in audit.warnings]
    return "\n".join([*lines, *audit.notes, *remarks])
