"""`paper/`: written from the plan, escaped, complete, bold only where the test says so, and LaTeX takes it."""

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import fabricated
import pandas as pd
import pytest

from heatproof.base import registry
from heatproof.stages.report import report
from heatproof.stages.report.cited import BIBLIOGRAPHY, ENTRY, bibliography, cite, works
from heatproof.stages.report.findings import find
from heatproof.stages.report.tables import bold_cells, latex, markdown, tex, wide
from heatproof.stages.report.verdicts import best

EVIL = ("50% & $x_1$ | \\input{a}", "結節 #2~^", '<b>&"x')
CONFIG = {
    "dataset": {"reader": "phantom", "size": 32},
    "model": {"builder": "small_cnn"},
    "train": {"policy": "scratch", "epochs": 12, "lr": 0.001},
    "controls": ["random", "centre", "edge", "shifted", "blurred"],
}


@pytest.fixture(scope="module")
def paper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The paper of a run whose classes have names that LaTeX must not read."""
    folder = tmp_path_factory.mktemp("run")
    facts = fabricated.FACTS | {"config": CONFIG, "versions": {"torch": "2.15", "python": "3.11"}}
    report(folder, **fabricated.records(48, classes=EVIL), scores=fabricated.scores(48), facts=facts, seed=0)
    return folder / "paper"


def text_of(paper: Path) -> str:
    """All LaTeX of the paper, as main.tex reads it."""

    def included(match: re.Match) -> str:
        return (paper / f"{match[1]}.tex").read_text()

    return re.sub(r"\\input\{([^}]+)\}", included, (paper / "main.tex").read_text())


def test_everything_that_it_names_is_there(paper: Path) -> None:
    text = text_of(paper)
    assert {"metrics", "controls", "classifier"} == {path.stem for path in (paper / "tables").iterdir()}
    pictures = re.findall(r"\\includegraphics\[[^]]*\]\{([^}]+)\}", text)
    assert "figures/panel" in pictures
    for name in pictures:
        assert (paper / f"{name}.pdf").stat().st_size
        assert (paper / f"{name}.png").stat().st_size
    labels = re.findall(r"\\label\{([^}]+)\}", text)
    tables = [label for label in labels if label.startswith("tab:")]
    assert len(labels) == len(set(labels)) == len(pictures) + len(tables)
    assert {"tab:heatproof-metrics", "tab:heatproof-controls", "tab:heatproof-classifier"} <= set(tables)
    keys = {key for keys in re.findall(r"\\cite\{([^}]+)\}", text) for key in keys.split(",")}
    assert keys == set(re.findall(r"@\w+\{([^,]+),", (paper / "refs.bib").read_text()))
    assert {"holm1979", "wilson1927", "efron1993", "simonyan2015"} <= keys


def test_latex_can_read_it(paper: Path) -> None:
    """Braces and environments closed, nothing special left as it is, no letter that T1 fonts lack."""
    text = text_of(paper)
    bare = re.sub(r"\\.", "", text)  # escaped braces are text
    assert bare.count("{") == bare.count("}")
    opened: list[str] = []
    for what, name in re.findall(r"\\(begin|end)\{(\w+)\}", text):
        if what == "begin":
            opened.append(name)
        else:
            assert opened.pop() == name
    assert not opened
    body = text.partition("\\begin{document}")[2]
    assert not re.search(r"(?<!\\)[%#^~]", re.sub(r"~\\(?:cite|ref)", "", body))
    outside = re.sub(r"\\(?:label|cite|ref|includegraphics|bibliography)(?:\[[^]]*\])?\{[^}]*\}", "", body)
    assert not re.search(r"(?<!\\)_", outside)
    assert all(letter <= "\u017f" for letter in body)
    for table in (paper / "tables").iterdir():
        rows = [line for line in table.read_text().splitlines() if line.endswith("\\\\")]
        whole = re.sub(r"\\begin\{tabular\}\[t\].*?\\end\{tabular\}", "", table.read_text())  # cells of several lines
        for columns, part in re.findall(r"\\begin\{tabular\}\{(l+)\}(.*?)\\end\{tabular\}", whole, re.S):
            assert {len(re.findall(r"(?<!\\)&", line)) + 1 for line in part.splitlines() if line.endswith("\\\\")} == {len(columns)}  # fmt: skip  # noqa: E501
        assert rows


def test_the_methods_say_what_was_done(paper: Path) -> None:
    text = (paper / "methods.tex").read_text()
    for part in ("phantom", "small\\_cnn", "epochs} = 12", "gradcam:robustcam6.mean", "larger is better", "48 images",
                 "a central map", "torch 2.15", "$p$ values of all 158 comparisons"):  # fmt: skip
        assert part in text, part
    assert tex(EVIL[0]) in text


def wide_paper(folder: Path) -> Path:
    """The paper of ten methods with long names in twelve metrics with their excesses."""
    names = [f"gradcam_plus_plus.layer{i}.1:robustcam10.agreement_weighted" for i in range(1, 10)]
    own = tuple(fabricated.method(name) for name in [*names, "gradcam"])
    few = fabricated.scores(20)
    known = few.table[few.table["method"] == "gradcam"]
    table = pd.concat([known.assign(method=str(method.name)) for method in own], ignore_index=True)
    scores = replace(few, table=table, methods=own, curves=few.curves.iloc[:0], pairs=few.pairs.iloc[:0])
    records = fabricated.records(20)
    same = {str(method.name): records["maps"].files["gradcam"] for method in own}
    ok = dict.fromkeys(same, ("ok",) * 20)
    records["maps"] = replace(records["maps"], methods=own, files=same, sd_files={}, parts={}, status=ok)
    report(folder, **records, scores=scores, facts=fabricated.FACTS | {"config": CONFIG}, seed=0)
    return folder / "paper"


@pytest.mark.skipif(not (shutil.which("pdflatex") or shutil.which("tectonic")), reason="no pdflatex and no tectonic")
@pytest.mark.parametrize("wide_one", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["few", "many"])
def test_the_document_class_article_compiles(paper: Path, wide_one: bool, tmp_path: Path) -> None:
    """Also ten methods with long names: nothing wider than the page, every citation and reference known."""
    paper = wide_paper(tmp_path) if wide_one else paper
    if shutil.which("tectonic"):
        commands = [["tectonic", "main.tex"]]
    else:
        run = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "main.tex"]
        commands = [run, ["bibtex", "main"], run, run]
    for command in commands:
        done = subprocess.run(command, cwd=paper, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stdout[-3000:]
    assert (paper / "main.pdf").stat().st_size > 10_000
    log = (paper / "main.log").read_text(errors="replace") if (paper / "main.log").exists() else done.stderr
    assert not re.findall(r".*(?:undefined|Overfull|multiply defined|Missing character).*", log)
    assert not wide_one or r"\ref{tab:heatproof-metrics}, continued" in (paper / "tables" / "metrics.tex").read_text()


def test_bold_is_who_beats_every_other_one(paper: Path) -> None:
    findings = find(fabricated.scores(48), seed=0, size=fabricated.SIDE)
    winners = best(findings)
    assert winners["consist_iou"] == fabricated.FUSED
    assert "faith" not in winners
    text = wide(findings, findings.tested, findings.of("main"))
    for row, place in bold_cells(findings):
        assert text.iloc[row, 0] == winners[findings.of("main")[place - 1].name]
    for made, mark in (((paper / "tables" / "metrics.tex").read_text(), r"\\textbf\{([^}]*)\}"),
                       ((paper.parent / "tables" / "metrics.md").read_text(), r"\*\*([^*]*)\*\*")):  # fmt: skip
        assert len(re.findall(mark, made.replace("{[}", "[").replace("{]}", "]"))) == len(winners) == 6
    assert "textbf" not in (paper / "tables" / "controls.tex").read_text()


def test_no_bold_where_nothing_is_shown() -> None:
    findings = find(fabricated.scores(6), seed=0, size=fabricated.SIDE)
    assert bold_cells(findings) == frozenset()


def test_bold_cells_of_tables_in_blocks() -> None:
    frame = pd.DataFrame([[f"{row}{place}" for place in range(6)] for row in range(2)], columns=list("abcdef"))
    assert re.findall(r"textbf\{(\d\d)\}", latex(frame, most=2, bold=frozenset({(1, 4)}))) == ["14"]
    assert "**14**" in markdown(frame, bold=frozenset({(1, 4)})).splitlines()[-1]


def test_letters_that_no_font_has_are_told_apart() -> None:
    assert tex("結é") == "\\texttt{U+7D50}é"


def test_every_source_that_names_a_work_is_known() -> None:
    known = {match[1] for match in ENTRY.finditer(BIBLIOGRAPHY.read_text())}
    assert len(known) == len(ENTRY.findall(BIBLIOGRAPHY.read_text()))
    unknown = set()
    for kind in ("dataset", "model", "explainer", "view", "fusion", "metric"):
        for choice in registry.choices(kind).values():
            source = choice.facts.get("source")
            named = works(source)
            assert named or not re.search(r"[A-Z]\w+ (?:et al\. )?(?:19|20)\d\d\b", source or ""), source
            unknown |= set(named) - known
            assert set(re.findall(r"@\w+\{([^,]+),", bibliography([source]))) == set(named)
            assert cite([source]).count(",") == max(0, len(named) - 1)
    assert not unknown


def test_a_work_that_is_not_known_is_kept_in_words() -> None:
    assert bibliography(["Nobody 2031, Eq. 4"]) == (
        "@misc{nobody2031, author={{Nobody}}, title={Nobody 2031, Eq. 4}, year={2031}}\n"
    )
