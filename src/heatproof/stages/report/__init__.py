"""Stage `report`: from scores to tables, figures, verdicts and one page that stands alone."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from heatproof.base import notes
from heatproof.base.records import Classifier, Maps, Predictions, Report, Samples, Scores


def report(
    folder: Path,
    *,
    samples: Samples,
    classifier: Classifier,
    predictions: Predictions,
    maps: Maps,
    scores: Scores,
    facts: Mapping[str, Any],
    seed: int,
    keep_maps: bool = False,
    protocol: str = "sound",
    carried: Sequence[tuple[str, str, Sequence[Path]]] = (),
    alphas: Sequence[float] = (0.4,),
) -> Report:
    """Everything that a run leaves in its folder, and what the terminal prints of it.

    Writes summary.json, {samples,predictions,scores,curves,pairs}.parquet, records.json (what `merge` needs beside
    them), tables/, figures/, paper/, report.html, and maps/ (one .npy per method) where `keep_maps`. `facts`: name,
    overrides, plan_hash, whole_hash, seedless_hash, shard, seconds per stage, passes, warnings, device, versions,
    config (a mapping, or text). `carried`: figures that are there already, (name, caption, files) each.
    """
    from heatproof.stages.report import figures, page, tables
    from heatproof.stages.report.findings import find
    from heatproof.stages.report.kept import kept
    from heatproof.stages.report.paper import write_paper
    from heatproof.stages.report.summary import summarise
    from heatproof.stages.report.uncertainty import error_frame
    from heatproof.stages.report.uncertainty import lines as error_lines
    from heatproof.stages.report.verdicts import verdicts
    from heatproof.stages.report.viewer import viewer
    from heatproof.stages.report.views import views_frame

    folder.mkdir(parents=True, exist_ok=True)
    findings = find(scores, seed=seed, size=samples.pixels.shape[1])
    lines = verdicts(findings, predictions, tuple(error_lines(findings, scores)))
    config = dict(facts["config"]) if isinstance(facts.get("config"), Mapping) else None
    files = []
    for name, frame in (
        ("samples", samples.table),
        ("predictions", predictions.table),
        ("scores", scores.table),
        ("curves", scores.curves),
        ("pairs", scores.pairs),
    ):
        files.append(folder / f"{name}.parquet")
        frame.to_parquet(files[-1], index=False)
    files += tables.write(findings, predictions, classifier, folder / "tables", scores.pairs)
    views = views_frame(maps, findings.seed)
    if len(views):
        files += tables.write_table(folder / "tables", "views", views, tables.rounded(views))
    errors = error_frame(findings, scores)
    if len(errors):
        files += tables.write_table(folder / "tables", "uncertainty_error_auc", errors, tables.rounded(errors))
    drawn = [*carried, *figures.draw(
        folder / "figures", findings, samples=samples, classifier=classifier, predictions=predictions, maps=maps,
        alphas=alphas,
        scores=scores,
    )]  # fmt: skip
    files += [file for _, _, made in drawn for file in made]
    files.append(_text(folder / "figures" / "captions.md", figures.captions(drawn)))
    summary = summarise(
        findings,
        samples=samples,
        classifier=classifier,
        predictions=predictions,
        scores=scores,
        facts=facts,
        verdicts=lines,
        protocol=protocol,
        notes=facts.get("notes") or notes.summary(maps.notes),
    )
    html = page.render(
        findings,
        summary=summary,
        samples=samples,
        predictions=predictions,
        classes=classifier.classes,
        figures=figures.inlined(drawn),
        config=yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
        if config
        else str(facts.get("config") or ""),
        protocol=protocol,
        views=tables.rounded(views),
        viewer=viewer(samples, predictions, maps),
    )
    files.append(_text(folder / "report.html", html))
    files += write_paper(
        folder / "paper", findings, summary=summary, samples=samples, predictions=predictions,
        classes=classifier.classes, config=config, drawn=drawn,
    )  # fmt: skip
    if keep_maps:
        files += _maps(maps, folder / "maps")
    files.append(_text(folder / "records.json", json.dumps(kept(classifier, predictions, scores, facts))))
    # Last, so that a summary says that the rest is complete.
    files.append(_text(folder / "summary.json", json.dumps(summary, indent=1, ensure_ascii=False, allow_nan=False)))
    # What puts the data in doubt puts every verdict in doubt.
    told = (*samples.audit.lines, *lines) if samples.audit else lines
    return Report(folder, summary, tables.terminal(findings, protocol=protocol), told, tuple(files))


def _text(path: Path, content: str) -> Path:
    path.write_text(content, encoding="utf-8")
    return path


def _maps(maps: Maps, folder: Path) -> list[Path]:
    """One .npy per method, its spread and what it was made from beside it; `:` is not legal in every file system."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    kinds = dict.fromkeys(kind for found in maps.parts.values() for kind in found)
    made = {f"_{kind}": {name: found[kind] for name, found in maps.parts.items() if kind in found} for kind in kinds}
    for ending, sources in {"": maps.files, "_sd": maps.sd_files, **made}.items():
        for name, source in sources.items():
            files.append(folder / f"{name.replace(':', '__')}{ending}.npy")
            np.save(files[-1], source if isinstance(source, np.ndarray) else np.load(source, mmap_mode="r"))
    return files
