"""`paper/`: what of a run goes into a paper: methods, references, tables and figures, ready to include."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image

from heatproof.base.records import Method, Predictions, Samples
from heatproof.stages.report.cited import bibliography, cite
from heatproof.stages.report.classified import report_frame, report_text
from heatproof.stages.report.findings import Findings
from heatproof.stages.report.tables import blur_notes, bold_cells, tabulars, tex, wide

# What the statistics rest on (`base/stats.py`).
STATISTICS = ("Efron & Tibshirani 1993", "Wilson 1927", "Holm 1979")
# Keys of `train` that a reader wants to know first.
TRAINING = ("policy", "epochs", "optimizer", "lr", "batch", "augment", "seed")
DIRECTIONS = {"up": "larger is better", "down": "smaller is better", "neither": "neither direction is better"}
CONTROLS = {
    "random": "random maps",
    "centre": "a central map",
    "edge": "the edges of the image",
    "shifted": "shifted copies of the method's own maps",
    "blurred": "the single view's map, blurred until it is as smooth as the fusion's",
    "random_pixels": "random pixels",
    "prior": "the mean annotation of the training images",
    "other_class": "the map of the most probable other class",
}
MAIN = r"""\documentclass{article}
\usepackage[utf8]{inputenc}
\usepackage[T1]{fontenc}
\usepackage{booktabs,graphicx}
\usepackage[margin=2cm]{geometry}
\begin{document}
\input{methods}
\clearpage
%(tables)s
\clearpage
\input{figures}
\bibliographystyle{plain}
\bibliography{refs}
\end{document}
"""


def write_paper(
    folder: Path,
    findings: Findings,
    *,
    summary: Mapping[str, Any],
    samples: Samples,
    predictions: Predictions,
    classes: Sequence[str],
    config: Mapping[str, Any] | None,
    drawn: Sequence[tuple[str, str, Sequence[Path]]],
) -> list[Path]:
    """The files of `folder`: methods.tex (sections), refs.bib, tables/*.tex (each a table with caption and label),
    figures.tex with figures/*.{pdf,png}, and main.tex, an article that includes all of them.

    Written from what the run recorded; names are escaped. Bold is the best method of a column where it beats every
    other one after correction, and nothing else.
    """
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    (folder / "tables").mkdir(exist_ok=True)
    dataset, model = _bound(config, "dataset", "reader"), _bound(config, "model", "builder")
    sources = [*_sources(findings), _source(dataset), _source(model), *STATISTICS]
    tables = dict(_tables(findings, predictions, classes))
    texts = {
        "methods.tex": "\n\n".join(_methods(findings, summary, samples, config, dataset, model)) + "\n",
        "refs.bib": bibliography(sources),
        "figures.tex": "\n".join(_figures(drawn)),
        "main.tex": MAIN % {"tables": "\n".join(f"\\input{{tables/{name}}}" for name in tables)},
        **{f"tables/{name}.tex": text for name, text in tables.items()},
    }
    files = []
    for name, text in texts.items():
        files.append(folder / name)
        files[-1].write_text(text, encoding="utf-8")
    for file in (file for _, _, made in drawn for file in made):
        files.append(folder / "figures" / file.name)
        shutil.copyfile(file, files[-1])
    return files


# --------------------------------------------------------------------------------------------------------- methods


def _methods(
    findings: Findings,
    summary: Mapping[str, Any],
    samples: Samples,
    config: Mapping[str, Any] | None,
    dataset: tuple[str, str | None] | None,
    model: tuple[str, str | None] | None,
) -> Iterator[str]:
    """Paragraphs of LaTeX."""
    config = config or {}
    yield "\\subsection*{Data}"
    counts = samples.table["split"].value_counts()
    sizes = ", ".join(f"{counts[split]} for {split}" for split in ("train", "val", "test") if split in counts)
    named = f" of \\texttt{{{tex(dataset[0])}}}{cite([dataset[1]])}" if dataset else ""
    size = config.get("dataset", {}).get("size")
    classes = f" ({tex(', '.join(samples.classes))})" if samples.classes else ""
    yield (
        f"We used {len(samples.table)} images{named} in {len(samples.classes) or 'no'} classes"
        f"{classes}: "
        f"{sizes} (split: {tex(summary.get('split_kind'))}){f', resized to {size} pixels a side' if size else ''}. "
        f"{summary['n_images']} of them were explained."
    )
    yield "\\subsection*{Classifier}"
    train = config.get("train", {})
    figure = summary["classifier"].get("accuracy")
    accuracy = (
        f" Its accuracy on {figure['n']:.0f} test images was {figure['value']:.2f} [{figure['lo']:.2f}, "
        f"{figure['hi']:.2f}]." if figure else ""
    )  # fmt: skip
    said = {key: train[key] for key in TRAINING if key in train}
    yield (
        f"The classifier was {f'{_code(model[0])}{cite([model[1]])}' if model else 'given'}"
        f"{f', trained with {_settings(said)}' if said else ''}.{tex(accuracy)}"
    )
    yield "\\subsection*{Explanations}"
    yield _items(_explained(method) for method in findings.tested)
    controls = [CONTROLS.get(name, name) for name in config.get("controls") or ()]
    if controls:
        yield f"Controls that know nothing of the model, or of where the map lies: {tex('; '.join(controls))}."
    for line in blur_notes(findings):
        yield tex(line)
    yield "\\subsection*{Metrics}"
    yield _items(_measured(findings))
    yield "\\subsection*{Statistics}"
    unit = "groups (patients)" if findings.grouped else "images"
    yield (
        f"Intervals are 95\\,\\% intervals over {unit}: bootstrap-t below 100 of them, else the bias-corrected and "
        f"accelerated bootstrap{cite(STATISTICS[:1])}, and Wilson's interval for shares{cite(STATISTICS[1:2])}. "
        "Methods were compared in pairs on the same images by sign-flip permutation tests, and the $p$ values of all "
        f"{len(findings.pairs)} comparisons adjusted together{cite(STATISTICS[2:])}. A method is called better, and "
        "set in bold, only where the adjusted $p$ is below 0.05 and the interval of the paired difference excludes 0. "
        f"Values that are undefined were left out and counted, never set to 0. Seed: {summary.get('seed')}."
    )
    if summary.get("versions"):
        versions = ", ".join(f"{name} {value}" for name, value in summary["versions"].items())
        yield f"Software: {tex(versions)}. Plan {_code(summary.get('plan_hash'))}, data {_code(summary['data_hash'])}."


def _explained(method: Method) -> str:
    explainer = method.explainer
    text = f"{_code(method.name)}: "
    if explainer is None:
        return text + "maps made elsewhere"
    text += _cited(explainer.choice.doc, explainer.facts.get("source"))
    text += f" Layer {_code(method.layer)}." if method.layer else ""
    text += f" Settings: {_settings(explainer.settings)}." if explainer.settings else ""
    if method.views and method.fusion is not None:
        views = ", ".join(f"{_code(view.choice.name)} ({_settings(view.settings)})" if view.settings
                          else _code(view.choice.name) for view in method.views)  # fmt: skip
        text += f" Fused by {_code(method.fusion.choice.name)}{cite([method.fusion.facts.get('source')])} over {views}."
    return text


def _measured(findings: Findings) -> Iterator[str]:
    for choice in {column.choice.label: column.choice for column in findings.of("main")}.values():
        metric = choice.metric
        better = DIRECTIONS.get(str(metric.facts.get("better")), "")
        settings = f"; {_settings(metric.settings)}" if metric.settings else ""
        said = _cited(metric.choice.doc, metric.facts.get("source"))
        yield f"{_code(choice.label)}: {said} ({better}{settings})"


def _prose(doc: str) -> str:
    """The first paragraph of a docstring, code between backticks as such."""
    first = " ".join(doc.strip().split("\n\n")[0].split())
    parts = re.split(r"`([^`]*)`", first)
    return "".join(_code(part) if number % 2 else tex(part) for number, part in enumerate(parts))


def _cited(doc: str, source: str | None) -> str:
    """The first paragraph of a docstring with its source before the full stop."""
    text = _prose(doc)
    return f"{text.removesuffix('.')}{cite([source])}{'.' if text.endswith('.') else ''}"


def _settings(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{_code(name)} = {tex(_said(value))}" for name, value in settings.items())


def _said(value: object) -> str:
    """A setting in words: what a list holds, "none" where it is empty."""
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value)) or "none"
    return {True: "yes", False: "no", None: "none"}[value] if value is None or isinstance(value, bool) else str(value)


def _code(text: object) -> str:
    return f"\\texttt{{{tex(text)}}}"


def _items(items: Iterator[str]) -> str:
    lines = [f"  \\item {item}" for item in items]
    return "\n".join(["\\begin{itemize}", *lines, "\\end{itemize}"]) if lines else "None."


def _sources(findings: Findings) -> Iterator[str | None]:
    for method in findings.tested:
        for bound in (method.explainer, method.fusion):
            if bound is not None:
                yield bound.facts.get("source")
    for column in findings.of("main"):
        yield column.choice.metric.facts.get("source")


def _bound(config: Mapping[str, Any] | None, group: str, key: str) -> tuple[str, str | None] | None:
    """Name and source of the choice of a group of the config, where it is known here."""
    from heatproof.base import registry

    found = (config or {}).get(group, {}).get(key)
    if found is None:
        return None
    known = registry.choices(group)
    name = str((config or {})[group].get("name") or found)
    return name, known[found].facts.get("source") if found in known else None


def _source(found: tuple[str, str | None] | None) -> str | None:
    return None if found is None else found[1]


# ------------------------------------------------------------------------------------------------ tables and figures


def _tables(findings: Findings, predictions: Predictions, classes: Sequence[str]) -> Iterator[tuple[str, str]]:
    columns = [*findings.of("main"), *findings.of("excess")]
    n = len(findings.images)
    if columns:
        text = wide(findings, findings.tested, columns)
        caption = (
            f"Mean over at most {n} images [95 % interval]; n in the first row. Bold: better than every other method."
        )
        yield "metrics", _table("metrics", text, caption, bold=bold_cells(findings))
    if columns and findings.controls:
        caption = f"Controls: mean over at most {n} images [95 % interval]; n in the first row."
        yield "controls", _table("controls", wide(findings, findings.controls, columns), caption)
    classified = report_frame(predictions, classes)
    if len(classified):
        yield "classifier", _table("classifier", report_text(classified), "The classifier [95 % interval].", keys=2)


def _table(
    name: str, text: pd.DataFrame, caption: str, bold: frozenset[tuple[int, int]] = frozenset(), keys: int = 1
) -> str:
    """Floats that fill at most a page each; the columns stand in blocks, one below the other."""
    pages: list[list[str]] = [[]]
    for block in tabulars(text, most=4 - keys, keys=keys, rows=LINES - BESIDE, bold=bold):
        if pages[-1] and sum(_height(one) for one in (*pages[-1], block)) > LINES:
            pages.append([])
        pages[-1].append(block.strip())
    return "\n".join(_float(name, number, blocks, caption) for number, blocks in enumerate(pages, 1))


# Lines of a page, and what the head and the rules of a block take of them.
LINES, BESIDE = 62, 5


def _height(block: str) -> int:
    """Lines of a block; a row is as high as its highest cell."""
    rows = [row.removesuffix("\\\\").split(" & ") for row in block.splitlines() if row.endswith("\\\\")]
    return sum(1 + max(cell.count("\\\\") for cell in row) for row in rows) + BESIDE - 2


def _float(name: str, number: int, blocks: Sequence[str], caption: str) -> str:
    label = name.replace("_", "-") + ("" if number == 1 else f"-{number}")
    said = tex(caption) if number == 1 else f"Table~\\ref{{tab:heatproof-{name.replace('_', '-')}}}, continued."
    return "\n".join(
        [
            "\\begin{table}[p]",
            "\\centering\\footnotesize",
            "\n\n\\medskip\n\n".join(blocks),
            f"\\caption{{{said}}}\\label{{tab:heatproof-{label}}}",
            "\\end{table}",
            "",
        ]
    )


# Figures until LaTeX is told to set what waits: it keeps no more than 18 in its oldest versions.
TOGETHER = 8
# Width of a page's text in inches: what is narrower is not made larger.
TEXT_WIDTH = 6.5


def _figures(drawn: Sequence[tuple[str, str, Sequence[Path]]]) -> Iterator[str]:
    for number, (name, caption, files) in enumerate(drawn, 1):
        inches = _inches(files)
        width = "\\linewidth" if inches is None or inches >= TEXT_WIDTH else f"{inches:.2f}in"
        yield "\n".join(
            [
                "\\begin{figure}[p]",
                "\\centering",
                f"\\includegraphics[width={width},height=.8\\textheight,keepaspectratio]{{figures/{name}}}",
                f"\\caption{{{tex(caption)}}}\\label{{fig:heatproof-{name.replace('_', '-')}}}",
                "\\end{figure}",
                *(["\\clearpage"] if number % TOGETHER == 0 or number == len(drawn) else []),
                "",
            ]
        )


def _inches(files: Sequence[Path]) -> float | None:
    """How wide a figure was drawn."""
    for file in files:
        if file.suffix == ".png":
            with Image.open(file) as image:
                return float(image.width / image.info["dpi"][0]) if "dpi" in image.info else None
    return None
