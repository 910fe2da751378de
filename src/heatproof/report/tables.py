"""Tables: one frame each, as csv for machines, markdown for the eye, LaTeX (booktabs) for papers, text for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from heatproof.base.records import Method, Predictions
from heatproof.report.findings import Cell, Column, Findings

WIDTH = 120
ARROWS = {"up": "↑", "down": "↓", "neither": ""}
STUDY_REMARK = (
    "protocol=study: rows of this table see different perturbations; a view is compared with a mean that contains it; "
    "the stability of a fusion is that of its explainer; a constant map scores consistency 1."
)
GROUP_REMARK = (
    "A noise or view counts for a fusion only where its family is absent from the fusion: averaging over a group of "
    "views raises stability under them by construction."
)
CONSTANT_REMARK = "(*) constant by construction: this map is the same on every rerun; it takes no part in verdicts."


def metrics_frame(findings: Findings, methods: Sequence[Method]) -> pd.DataFrame:
    """One row per method and column: numbers, counts of undefined images, direction. All metric tables come from it."""
    rows = []
    for method in methods:
        for column in findings.columns:
            cell = findings.cells[str(method.name), column.name]
            found = cell.interval
            rows.append(
                {
                    "method": str(method.name),
                    "metric": column.name,
                    "part": column.part,
                    "better": column.better,
                    "over": column.baseline,
                    "mean": found.mean,
                    "lo": found.lo,
                    "hi": found.hi,
                    "sd": found.sd,
                    "median": found.median,
                    "n": found.n,
                    "undefined": reasons(cell),
                    "interval": found.kind,
                    "remark": cell.remark,
                }
            )
    return pd.DataFrame(rows)


def comparisons_frame(findings: Findings) -> pd.DataFrame:
    """One row per comparison, with raw and adjusted p values and effect sizes."""
    words = {1: "a", -1: "b", 0: "no difference shown"}
    rows = [
        {
            "method_a": pair.method_a,
            "method_b": pair.method_b,
            "metric": pair.metric,
            "difference": pair.comparison.difference,
            "lo": pair.comparison.lo,
            "hi": pair.comparison.hi,
            "p": pair.comparison.p,
            "p_holm": pair.p_holm,
            "p_wilcoxon": pair.comparison.p_wilcoxon,
            "d_z": pair.comparison.d_z,
            "rank_biserial": pair.comparison.rank_biserial,
            "n": pair.comparison.n,
            "better": words[pair.winner],
        }
        for pair in findings.pairs
    ]
    names = ["method_a", "method_b", "metric", "difference", "lo", "hi", "p", "p_holm", "p_wilcoxon", "d_z"]
    return pd.DataFrame(rows, columns=[*names, "rank_biserial", "n", "better"])


def classifier_frame(predictions: Predictions) -> pd.DataFrame:
    """One row per figure of the classifier on the test split."""
    rows = [{"figure": name, **found} for name, found in predictions.figures.items()]
    return pd.DataFrame(rows, columns=["figure", "value", "lo", "hi", "n"])


def reasons(cell: Cell) -> str:
    """Undefined images by reason, e.g. `no_mask 22`."""
    return ", ".join(f"{why} {count}" for why, count in cell.undefined.items())


def digits(findings: Findings, column: Column) -> int:
    """Decimals that show two figures of a typical interval's half-width: 2 to 4."""
    cells = (findings.cells[str(method.name), column.name].interval for method in findings.methods)
    halves = [half for found in cells if (half := (found.hi - found.lo) / 2) > 0]
    return int(np.clip(1 + np.floor(-np.log10(np.median(halves))), 2, 4)) if halves else 2


def cell_text(cell: Cell, decimals: int, *, common_n: int | None = None) -> str:
    """`0.42 [0.35, 0.49]`, with n where it is not the column's; a dash where nothing is defined."""
    found = cell.interval
    if cell.remark:
        return cell.remark
    if found.n == 0:
        return "–"
    text = f"{found.mean:.{decimals}f}"
    text += f" [{found.lo:.{decimals}f}, {found.hi:.{decimals}f}]" if np.isfinite(found.lo) else " [no interval]"
    # "-0.00" is rounding, not a sign.
    text = text.replace(f"-{0:.{decimals}f}", f"{0:.{decimals}f}")
    return text if found.n == common_n else f"{text} n={found.n}"


def common_n(findings: Findings, column: Column) -> int | None:
    """The number of images most methods are defined on in this column."""
    sizes = [cell.interval.n for (_, name), cell in findings.cells.items() if name == column.name and not cell.remark]
    return max(set(sizes), key=sizes.count) if sizes else None


def title(column: Column) -> str:
    """Heading of a column: the metric with an arrow in its better direction."""
    name = column.name.removesuffix("_excess") if column.part == "excess" else column.name
    return f"{name} {ARROWS[column.better]}".strip()


def wide(findings: Findings, methods: Sequence[Method], columns: Sequence[Column]) -> pd.DataFrame:
    """Methods x columns as text, with a row of n on top."""
    frame = pd.DataFrame({"method": ["n", *(str(method.name) for method in methods)]})
    for column in columns:
        size, decimals = common_n(findings, column), digits(findings, column)
        cells = [findings.cells[str(method.name), column.name] for method in methods]
        heading = f"{title(column)} over {column.baseline}" if column.part == "excess" else title(column)
        frame[heading] = [str(size or 0), *(cell_text(cell, decimals, common_n=size) for cell in cells)]
    return frame


# ------------------------------------------------------------------------------------------------------- terminal


def terminal(findings: Findings, *, protocol: str) -> str:
    """The table as the terminal shows it: values, then excesses, in blocks of at most 120 columns, then the notes."""
    parts = [f"Mean over {len(findings.images)} images [95 % interval]; the arrow points to the better side."]
    parts += _blocks(findings, findings.of("main"))
    excess = findings.of("excess")
    if excess:
        over = {base: [c for c in excess if c.baseline == base] for base in dict.fromkeys(c.baseline for c in excess)}
        parts.append("\nExcess: what is left after the baseline; 0 = no better than it, up is better.")
        for base, columns in over.items():
            parts.append(f"over {base}:")
            parts += _blocks(findings, columns)
    return "\n".join([*parts, *notes(findings, protocol=protocol)])


def _blocks(findings: Findings, columns: Sequence[Column]) -> Iterator[str]:
    tested, controls = findings.tested, findings.controls
    if not columns:
        return
    first = max([len(str(method.name)) for method in (*tested, *controls)] + [len("method")])
    texts = {
        column.name: [text.replace("constant by construction", "(*)") for text in wide(findings, (*tested, *controls), [column]).iloc[:, 1]]
        for column in columns
    }
    widths = {c.name: max(len(title(c)), *(len(text) for text in texts[c.name][1:]), len(texts[c.name][0]) + 4) for c in columns}
    for block in _fitting(columns, widths, WIDTH - first):
        lines = ["".join(["method".ljust(first), *("  " + title(c).ljust(widths[c.name]) for c in block)])]
        lines.append("".join([" " * first, *("  " + f"n = {texts[c.name][0]}".ljust(widths[c.name]) for c in block)]))
        rule = "─" * (first + sum(2 + widths[c.name] for c in block))
        for number, method in enumerate((*tested, *controls), start=1):
            if number in (1, len(tested) + 1):
                lines.append(rule)
            cells = ("  " + texts[c.name][number].ljust(widths[c.name]) for c in block)
            lines.append("".join([str(method.name).ljust(first), *cells]))
        yield "\n".join(line.rstrip() for line in lines) + "\n"


def _fitting(columns: Sequence[Column], widths: Mapping[str, int], room: int) -> Iterator[list[Column]]:
    block: list[Column] = []
    for column in columns:
        if block and sum(2 + widths[c.name] for c in (*block, column)) > room:
            yield block
            block = []
        block.append(column)
    yield block


def notes(findings: Findings, *, protocol: str) -> list[str]:
    """Remarks that a reader of the table needs: what is undefined and why, what is constant, what does not compare."""
    lines = []
    lost: dict[str, list[str]] = {}
    shown = (*findings.tested, *findings.controls)
    for column in findings.of("main"):
        by_method = {str(m.name): reasons(findings.cells[str(m.name), column.name]) for m in shown}
        for why in dict.fromkeys(by_method.values()):
            names = [name for name, found in by_method.items() if found == why]
            who = "every method" if len(names) == len(shown) else ", ".join(names)
            if why:
                lost.setdefault(f"{why} ({who})", []).append(column.name)
    lines += [f"undefined: {', '.join(columns)}: {why}" for why, columns in lost.items()]
    if any(cell.remark for cell in findings.cells.values()):
        lines.append(CONSTANT_REMARK)
    if any(method.views for method in findings.tested) and any(c.choice.metric.facts.get("reruns") for c in findings.columns):
        lines.append(GROUP_REMARK)
    if protocol == "study" or any(column.choice.protocol == "study" for column in findings.columns):
        lines.append(STUDY_REMARK)
    return lines


# ---------------------------------------------------------------------------------------------------------- files


def write(findings: Findings, predictions: Predictions, folder: Path) -> list[Path]:
    """Write tables/{metrics,controls,comparisons,classifier}.{csv,md,tex}."""
    folder.mkdir(parents=True, exist_ok=True)
    columns = [*findings.of("main"), *findings.of("excess")]
    comparisons, classifier = comparisons_frame(findings), classifier_frame(predictions)
    tables = {
        "metrics": (metrics_frame(findings, findings.tested), wide(findings, findings.tested, columns)),
        "controls": (metrics_frame(findings, findings.controls), wide(findings, findings.controls, columns)),
        "comparisons": (comparisons, _rounded(comparisons)),
        "classifier": (classifier, _rounded(classifier)),
    }
    files = []
    for name, (numbers, text) in tables.items():
        for ending, content in (
            ("csv", numbers.to_csv(index=False)),
            ("md", markdown(text)),
            ("tex", latex(text)),
        ):
            path = folder / f"{name}.{ending}"
            path.write_text(content, encoding="utf-8")
            files.append(path)
    return files


def _rounded(frame: pd.DataFrame) -> pd.DataFrame:
    """Numbers as text: three significant figures, whole numbers as they are, a dash for what is undefined."""
    shown = frame.copy()
    for name in shown.columns:
        if pd.api.types.is_float_dtype(shown[name]):
            whole = name == "n"
            shown[name] = [_number(value, whole) for value in shown[name]]
    return shown.astype(str)


def _number(value: float, whole: bool) -> str:
    if not np.isfinite(value):
        return "–"
    return str(round(value)) if whole else f"{value:.3g}"


def markdown(frame: pd.DataFrame) -> str:
    """A pipe table; a `|` in a name is escaped."""
    escaped = [[_pipe(cell) for cell in row] for row in [list(frame.columns), *frame.to_numpy().tolist()]]
    head, *body = ["| " + " | ".join(row) + " |" for row in escaped]
    return "\n".join([head, "|" + " --- |" * len(frame.columns), *body]) + "\n"


def _pipe(text: object) -> str:
    return str(text).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


def latex(frame: pd.DataFrame, *, most: int = 4) -> str:
    """booktabs tables of at most `most` columns beside the first, one below the other; all text is escaped."""
    columns = list(frame.columns)
    if len(columns) <= most + 1 or "method_a" in columns:
        return _tabular(frame)
    blocks = [columns[i : i + most] for i in range(1, len(columns), most)]
    return "\n\\medskip\n\n".join(_tabular(frame[[columns[0], *block]]) for block in blocks)


def _tabular(frame: pd.DataFrame) -> str:
    lines = [f"\\begin{{tabular}}{{{'l' * len(frame.columns)}}}", "\\toprule"]
    lines.append(" & ".join(tex(name) for name in frame.columns) + " \\\\")
    lines.append("\\midrule")
    lines += [" & ".join(tex(cell) for cell in row) + " \\\\" for row in frame.to_numpy().tolist()]
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}"]) + "\n"


_TEX = {
    "\\": "\\textbackslash{}",
    "{": "\\{",
    "}": "\\}",
    "$": "\\$",
    "&": "\\&",
    "#": "\\#",
    "%": "\\%",
    "_": "\\_",
    "^": "\\textasciicircum{}",
    "~": "\\textasciitilde{}",
    "<": "\\textless{}",
    ">": "\\textgreater{}",
    "|": "\\textbar{}",
    "↑": "$\\uparrow$",
    "↓": "$\\downarrow$",
    "–": "--",
    "\n": " ",
    # A cell that begins with a bracket would be read as the optional argument of the line break before it.
    "[": "{[}",
    "]": "{]}",
}


def tex(text: object) -> str:
    r"""Text that LaTeX prints as it is.

    >>> tex("50% of a_b")
    '50\\% of a\\_b'
    """
    return "".join(_TEX.get(letter, letter) for letter in str(text))
