"""Tables from one frame each: csv for machines, markdown for the eye, LaTeX (booktabs) for papers, terminal text."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from heatproof.base.names import parse
from heatproof.base.records import Classifier, Method, Predictions
from heatproof.base.stats import Interval
from heatproof.stages.report.classified import (
    classifier_frame,
    confusion_frame,
    history_frame,
    report_frame,
    report_text,
)
from heatproof.stages.report.findings import Cell, Column, Findings, decimals
from heatproof.stages.report.ranking import correlation_frame, rank_frame
from heatproof.stages.report.verdicts import best

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
CONSTANT_REMARK = "constant by construction: this map is the same on every rerun; it takes no part in verdicts."
SHARED_REMARK = (
    "shares the perturbation: this method covers what the metric judges it by, so it scores well by construction; it "
    "takes no part in verdicts."
)


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


def reasons(cell: Cell) -> str:
    """Undefined images by reason, e.g. `no_mask 22`."""
    return ", ".join(f"{why} {count}" for why, count in cell.undefined.items())


def digits(findings: Findings, column: Column) -> int:
    """Decimals of a column, from its typical interval."""
    cells = (findings.cells[str(method.name), column.name].interval for method in findings.methods)
    halves = [half for found in cells if (half := (found.hi - found.lo) / 2) > 0]
    return decimals(float(np.median(halves))) if halves else 2


def cell_text(cell: Cell, decimals: int, *, common_n: int | None = None) -> str:
    """`0.42 [0.35, 0.49]`, with n where it is not the column's; a dash where nothing is defined.

    Equal values have no spread to make an interval of: `[all equal]`, never a false certainty.
    """
    found = cell.interval
    if cell.remark:
        return cell.remark
    if found.n == 0:
        return "–"
    text = f"{found.mean:.{decimals}f}"
    if found.kind == "constant":
        text += " [all equal]"
    elif np.isfinite(found.lo):
        text += f" [{found.lo:.{decimals}f}, {found.hi:.{decimals}f}]"
    else:
        text += " [no interval]"
    # "-0.00" is rounding, not a sign.
    text = text.replace(f"-{0:.{decimals}f}", f"{0:.{decimals}f}")
    return text if found.n == common_n else f"{text} n={found.n}"


def common_n(findings: Findings, column: Column) -> int | None:
    """The number of images most methods are defined on in this column, of those that are defined at all."""
    sizes = [found.n for found in _intervals(findings, column)]
    return max(set(sizes), key=sizes.count) if sizes else None


def _intervals(findings: Findings, column: Column) -> list[Interval]:
    cells = (cell for (_, name), cell in findings.cells.items() if name == column.name)
    return [cell.interval for cell in cells if cell.interval.n and not cell.remark]


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


def bold_cells(findings: Findings) -> frozenset[tuple[int, int]]:
    """Row and column in `wide` of the cells of methods that beat every other one; its first row is n."""
    names = [str(method.name) for method in findings.tested]
    main = [column.name for column in findings.of("main")]
    return frozenset((names.index(name) + 1, main.index(column) + 1) for column, name in best(findings).items())


# ------------------------------------------------------------------------------------------------------- terminal


def terminal(findings: Findings, *, protocol: str) -> str:
    """The table as the terminal shows it: values, then excesses, in blocks of at most 120 columns, then the notes."""
    parts = [f"Mean over {len(findings.images)} images [95 % interval]; the arrow points to the better side.\n"]
    parts += _blocks(findings, findings.of("main"))
    if findings.of("excess"):
        parts.append("Excess: what is left after the baseline; 0 = no better than it, up is better.\n")
        parts += _blocks(findings, findings.of("excess"))
    for note in notes(findings, protocol=protocol):
        note = f"(*) {note}" if note in (CONSTANT_REMARK, SHARED_REMARK) else note
        parts.append(textwrap.fill(note, WIDTH, subsequent_indent="  ", break_on_hyphens=False))
    return "\n".join(parts)


@dataclass(frozen=True)
class _Strip:
    """One column as lines of text: headings, then a cell for each method."""

    heads: tuple[str, ...]
    cells: tuple[str, ...]

    @property
    def width(self) -> int:
        return max(len(line) for line in (*self.heads, *self.cells))


def _blocks(findings: Findings, columns: Sequence[Column]) -> Iterator[str]:
    if not columns:
        return
    shown = (*findings.tested, *findings.controls)
    names = _Strip(("method", *[""] * (2 if columns[0].baseline else 1)), tuple(str(m.name) for m in shown))
    strips = [_strip(findings, column, shown) for column in columns]
    for block in _fitting(strips, WIDTH - names.width):
        row = [names, *block]
        rule = "─" * (names.width + sum(2 + strip.width for strip in block))
        lines = ["  ".join(strip.heads[i].ljust(strip.width) for strip in row) for i in range(len(names.heads))]
        for place in range(len(shown)):
            # A control that has nothing in this block would be a line of dashes.
            if place >= len(findings.tested) and all(strip.cells[place] == "–" for strip in block):
                continue
            if place == 0 or (place >= len(findings.tested) and lines.count(rule) < 2):
                lines.append(rule)
            lines.append("  ".join(strip.cells[place].ljust(strip.width) for strip in row))
        yield "\n".join(line.rstrip() for line in lines) + "\n"


def _strip(findings: Findings, column: Column, methods: Sequence[Method]) -> _Strip:
    places = digits(findings, column)
    cells = [findings.cells[str(method.name), column.name] for method in methods]
    # n that differs stands in the heading as a range: the notes say whose images are undefined and why.
    texts = ("(*)" if cell.remark else cell_text(cell, places, common_n=cell.interval.n) for cell in cells)
    sizes = [found.n for found in _intervals(findings, column)]
    n = f"n = {min(sizes, default=0)}" + (f" to {max(sizes)}" if len(set(sizes)) > 1 else "")
    over = (f"over {BRIEF[column.baseline]}",) if column.baseline else ()
    return _Strip((title(column), *over, n), tuple(texts))


BRIEF = {"its shifted copies": "shifted", "chance": "chance", "other images' maps": "other images"}


def _fitting(strips: Sequence[_Strip], room: int) -> Iterator[list[_Strip]]:
    """Strips packed into blocks that fit the terminal, each at least one strip wide."""
    block: list[_Strip] = []
    for strip in strips:
        if block and sum(2 + other.width for other in (*block, strip)) > room:
            yield block
            block = []
        block.append(strip)
    yield block


def blur_notes(findings: Findings, *, unblurred: bool = False) -> list[str]:
    """How strongly each blurred control is blurred; `unblurred`: only of those that are not blurred at all."""
    lines = []
    for method in findings.controls:
        if method.blur_px is None or (unblurred and method.blur_px > 0):
            continue
        single = parse(str(method.control_of)).single()
        if method.blur_px == 0:
            text = f"{method.name} is {single} itself (blur 0 px): the fusion is no smoother than its single view."
        else:
            text = f"{method.name} is {single} blurred with a Gaussian of sd {method.blur_px:g} px."
        lines.append(text)
    return lines


def notes(findings: Findings, *, protocol: str) -> list[str]:
    """Remarks that a reader of the table needs: what is undefined and why, what is constant, what does not compare."""
    lines = []
    lost: dict[str, list[str]] = {}
    shown = [str(method.name) for method in (*findings.tested, *findings.controls)]
    for column in findings.of("main"):
        counts = {name: findings.cells[name, column.name].undefined for name in shown}
        for why, count in dict.fromkeys(item for found in counts.values() for item in found.items()):
            names = [name for name in shown if counts[name].get(why) == count]
            who = "every method" if len(names) == len(shown) else ", ".join(names)
            lost.setdefault(f"{why} on {count} image{'s' if count > 1 else ''} of {who}", []).append(column.name)
    lines += [f"undefined: {why}: {', '.join(columns)}." for why, columns in lost.items()]
    remarks = {cell.remark for cell in findings.cells.values() if cell.remark}
    lines += [note for note in (CONSTANT_REMARK, SHARED_REMARK) if note.partition(":")[0] in remarks]
    if any(method.views for method in findings.tested) and any(
        c.choice.metric.facts.get("reruns") for c in findings.columns
    ):
        lines.append(GROUP_REMARK)
    lines += blur_notes(findings)
    if protocol == "study" or any(column.choice.protocol == "study" for column in findings.columns):
        lines.append(STUDY_REMARK)
    return lines


# ---------------------------------------------------------------------------------------------------------- files


def agreement_frame(pairs: pd.DataFrame) -> pd.DataFrame:
    """Mean over images of how two methods agree, a matrix for each metric: a row per method, a column per method, and
    the number of images of the pair that fewest are defined on."""
    frames = []
    for metric, found in pairs.dropna(subset="value").groupby("metric", sort=False):
        turned = found.rename(columns={"method_a": "method_b", "method_b": "method_a"})
        both = pd.concat([found, turned]).groupby(["method_a", "method_b"], sort=False)["value"]
        names = list(dict.fromkeys([*found["method_a"], *found["method_b"]]))
        matrix = both.mean().unstack().reindex(index=names, columns=names)
        count = both.count().groupby("method_a").min().reindex(names)
        frames.append(matrix.assign(n=count).rename_axis(index="method", columns=None).reset_index())
        frames[-1].insert(0, "metric", metric)
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def write(
    findings: Findings,
    predictions: Predictions,
    classifier: Classifier,
    folder: Path,
    pairs: pd.DataFrame | None = None,
) -> list[Path]:
    """Write tables/NAME.{csv,md,tex}: metrics, controls, comparisons, ranks and their correlations, classifier,
    classification_report, confusion, history, and agreement where methods were compared with each other."""
    columns = [*findings.of("main"), *findings.of("excess")]
    comparisons = comparisons_frame(findings)
    tables = {
        "metrics": (metrics_frame(findings, findings.tested), wide(findings, findings.tested, columns)),
        "controls": (metrics_frame(findings, findings.controls), wide(findings, findings.controls, columns)),
        "comparisons": (comparisons, rounded(comparisons)),
        **classifier_tables(predictions, classifier),
        **{
            name: (frame, rounded(frame))
            for name, frame in {
                "agreement": pd.DataFrame() if pairs is None else agreement_frame(pairs),
                "ranks": rank_frame(findings),
                "rank_correlations": correlation_frame(findings),
            }.items()
        },
    }
    return write_tables(folder, tables, {"metrics": bold_cells(findings)})


def classifier_tables(predictions: Predictions, classifier: Classifier) -> dict[str, tuple[pd.DataFrame, pd.DataFrame]]:
    """Name -> (numbers, text) of what is tabled of a classifier: classification_report, classifier, confusion,
    history."""
    classified = report_frame(predictions, classifier.classes)
    frames = {
        "classifier": classifier_frame(predictions),
        "confusion": confusion_frame(predictions, classifier.classes),
        "history": history_frame(classifier),
    }
    made = {name: (frame, rounded(frame)) for name, frame in frames.items()}
    return {"classification_report": (classified, report_text(classified)), **made}


def write_tables(
    folder: Path,
    tables: Mapping[str, tuple[pd.DataFrame, pd.DataFrame]],
    bold: Mapping[str, frozenset[tuple[int, int]]] | None = None,
) -> list[Path]:
    """Name -> (numbers, text) as files; a table without columns has none. `bold`: name -> cells of the text."""
    folder.mkdir(parents=True, exist_ok=True)
    return [
        file
        for name, (numbers, text) in tables.items()
        if len(numbers.columns)
        for file in write_table(folder, name, numbers, text, (bold or {}).get(name, frozenset()))
    ]


def write_table(
    folder: Path,
    name: str,
    numbers: pd.DataFrame,
    text: pd.DataFrame,
    bold: frozenset[tuple[int, int]] = frozenset(),
) -> list[Path]:
    """One table as csv (numbers) and as markdown and LaTeX (text), where the cells of `bold` are bold."""
    files = []
    for ending, content in (
        ("csv", numbers.to_csv(index=False)),
        ("md", markdown(text, bold=bold)),
        ("tex", latex(text, bold=bold)),
    ):
        files.append(folder / f"{name}.{ending}")
        files[-1].write_text(content, encoding="utf-8")
    return files


def rounded(frame: pd.DataFrame) -> pd.DataFrame:
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


def markdown(frame: pd.DataFrame, *, bold: frozenset[tuple[int, int]] = frozenset()) -> str:
    """A pipe table; a `|` in a name is escaped. `bold`: row and column of the cells that are."""
    escaped = [[_pipe(cell) for cell in row] for row in [list(frame.columns), *frame.to_numpy().tolist()]]
    for row, place in bold:
        escaped[row + 1][place] = f"**{escaped[row + 1][place]}**"
    head, *body = ["| " + " | ".join(row) + " |" for row in escaped]
    return "\n".join([head, "|" + " --- |" * len(frame.columns), *body]) + "\n"


def _pipe(text: object) -> str:
    return str(text).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


def latex(frame: pd.DataFrame, *, most: int = 4, bold: frozenset[tuple[int, int]] = frozenset()) -> str:
    """booktabs tables of at most `most` columns beside the first, one below the other; all text is escaped. `bold`: row
    and column of the cells that are."""
    return "\n\\medskip\n\n".join(tabulars(frame, most=most, bold=bold))


def tabulars(
    frame: pd.DataFrame,
    *,
    most: int,
    keys: int = 1,
    rows: int | None = None,
    bold: frozenset[tuple[int, int]] = frozenset(),
) -> list[str]:
    """The parts of `latex`: at most `most` columns beside the first `keys`, which every part repeats, and at most
    `rows` rows."""
    cells = [[_lines(cell, MOST_IN_CELL) for cell in row] for row in frame.to_numpy().tolist()]
    for row, place in bold:
        cells[row][place] = f"\\textbf{{{cells[row][place]}}}"
    heads = [_lines(name, MOST_IN_HEAD) for name in frame.columns]
    whole = len(heads) <= most + keys or "method_a" in frame.columns
    step = len(heads) if whole else most
    return [
        _tabular(
            [heads[i] for i in block], [[row[i] for i in block] for row in cells[top : top + (rows or len(cells))]]
        )
        for start in range(keys, len(heads), step)
        for block in [[*range(keys), *range(start, min(start + step, len(heads)))]]
        for top in range(0, max(1, len(cells)), rows or max(1, len(cells)))
    ]


# Letters of a line, in a cell and in the head of a column: three columns of `0.41 [0.38, 0.44] n=47` beside a method
# are as wide as a page.
MOST_IN_CELL, MOST_IN_HEAD = 36, 22


def _lines(text: object, most: int) -> str:
    """Text for LaTeX, broken after spaces and the joints of a method's name where it is longer than `most`."""
    said = str(text)
    if len(said) <= most:
        return tex(said)
    lines, broken = [""], " \\\\ "
    for part in re.split(r"(?<=[ :@._-])", said):
        if lines[-1] and len(lines[-1]) + len(part.rstrip()) > most:
            lines.append("")
        lines[-1] += part
    return f"\\begin{{tabular}}[t]{{@{{}}l@{{}}}}{broken.join(tex(line.rstrip()) for line in lines)}\\end{{tabular}}"


def _tabular(heads: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    lines = [f"\\begin{{tabular}}{{{'l' * len(heads)}}}", "\\toprule", " & ".join(heads) + " \\\\", "\\midrule"]
    lines += [" & ".join(row) + " \\\\" for row in cells]
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
    "±": "$\\pm$",
    "×": "$\\times$",
    "≥": "$\\geq$",
    "≤": "$\\leq$",
    "−": "$-$",
    "→": "$\\rightarrow$",
    "…": "\\ldots{}",
    "’": "'",
    "“": "``",
    "”": "''",
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
    return "".join(_TEX.get(letter) or _typeset(letter) for letter in str(text))


def _typeset(letter: str) -> str:
    """A letter that pdfLaTeX knows as it is, any other one by its number: a name is told apart and stops nothing."""
    # Latin letters with accents; T1 fonts have no others.
    return letter if " " <= letter <= "~" or "\u00a1" <= letter <= "\u017f" else f"\\texttt{{U+{ord(letter):04X}}}"
