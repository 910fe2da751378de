import json
import re
import shutil

import fabricated
import matplotlib
import numpy as np
import pandas as pd
import pytest

from heatproof.stages.report import report
from heatproof.stages.report.findings import find
from heatproof.stages.report.tables import agreement_frame, terminal

FEW = fabricated.METRICS[:4]
EVIL = ("<script>alert(1)</script>", "50% & $x_1$ | \\input{a}", "結節 #2")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    return report(
        folder, **fabricated.records(), scores=fabricated.scores(), facts=fabricated.FACTS, seed=0, keep_maps=True
    )


@pytest.fixture(scope="module")
def evil(tmp_path_factory):
    """A run whose classes have names that every format must escape."""
    folder = tmp_path_factory.mktemp("evil")
    facts = fabricated.FACTS | {"name": EVIL[0], "warnings": list(EVIL), "config": EVIL[0]}
    methods = fabricated.METHODS[:2]
    records = fabricated.records(18, classes=EVIL, methods=methods)
    return report(folder, **records, scores=fabricated.scores(18, methods=methods, metrics=FEW), facts=facts, seed=0)


def test_every_file_is_there_and_listed(made):
    names = {str(file.relative_to(made.folder)) for file in made.files}
    on_disk = {str(p.relative_to(made.folder)) for p in made.folder.rglob("*") if p.is_file()}
    assert names == on_disk
    wanted = {
        "summary.json",
        "report.html",
        *(f"{n}.parquet" for n in ("samples", "predictions", "scores", "curves", "pairs")),
    }
    wanted |= {
        f"tables/{n}.{e}" for n in ("metrics", "comparisons", "classifier", "controls") for e in ("csv", "md", "tex")
    }
    wanted |= {
        f"tables/{n}.{e}" for n in ("classification_report", "confusion", "history") for e in ("csv", "md", "tex")
    }
    figures = (
        "training",
        "confusion",
        "roc",
        "pr",
        "reliability",
        "panel",
        "metrics",
        "excess",
        "distributions",
        "ranks",
    )
    wanted |= {f"figures/{n}.{e}" for n in figures for e in ("png", "pdf")}
    assert wanted <= names
    assert {"maps/gradcam.npy", "maps/gradcam__robustcam6.mean_sd.npy"} <= names


def test_summary_has_the_names_that_others_read(made):
    summary = json.loads((made.folder / "summary.json").read_text())
    assert summary == made.summary
    fixed = {"plan_hash", "data_hash", "n_images", "classifier", "methods", "comparisons", "verdicts", "flags"}
    assert fixed | {"passes", "seconds", "warnings"} <= set(summary)
    cell = summary["methods"]["weak"]["loc_acc"]
    assert {"mean", "lo", "hi", "n", "undefined", "better"} <= set(cell)
    assert cell["undefined"] == {"no_mask": 16, "zero": 1}
    assert {"method_a", "method_b", "metric", "difference", "lo", "hi", "p_holm", "d_z"} <= set(
        summary["comparisons"][0]
    )
    assert {"used", "minimum", "estimated"} <= set(summary["passes"])
    assert summary["n_images"] == 48


def test_undefined_reads_null_and_never_zero(made):
    scores = fabricated.scores(6, metrics=FEW)
    rows = scores.table["metric"] == "loc_acc"
    scores.table.loc[rows, "value"] = np.nan
    scores.table.loc[rows, "status"] = "undefined:no_mask"
    found = report(made.folder / "six", **fabricated.records(6), scores=scores, facts={}, seed=0)
    cell = json.loads((found.folder / "summary.json").read_text())["methods"]["gradcam"]["loc_acc"]
    assert (cell["mean"], cell["lo"], cell["n"]) == (None, None, 0)
    assert re.search(r"^gradcam .*–", found.table_text, re.MULTILINE)
    shutil.rmtree(found.folder)


def test_parquet_files_keep_the_tables(made):
    scores = fabricated.scores()
    found = pd.read_parquet(made.folder / "scores.parquet")
    assert list(found.columns) == list(scores.table.columns)
    assert found["value"].dtype == np.float64
    for name in ("image", "method", "column", "status", "value"):
        assert found[name].equals(scores.table[name].astype(found[name].dtype))


def test_tables_of_all_formats_say_the_same(made):
    numbers = pd.read_csv(made.folder / "tables" / "metrics.csv").set_index(["method", "metric"])
    mean = numbers.loc[("gradcam", "faith"), "mean"]
    assert mean == pytest.approx(made.summary["methods"]["gradcam"]["faith"]["mean"])
    markdown = (made.folder / "tables" / "metrics.md").read_text()
    tex = (made.folder / "tables" / "metrics.tex").read_text()
    assert f"{mean:.2f} [" in markdown
    assert f"{mean:.2f} {{[}}" in tex
    assert tex.count("\\toprule") == tex.count("\\bottomrule") == 6
    assert "random" not in markdown
    assert "| random |" in (made.folder / "tables" / "controls.md").read_text()


def test_terminal_table_fits_and_rules_the_controls_off(made):
    lines = made.table_text.splitlines()
    assert max(len(line) for line in lines) <= 120
    first = lines.index(next(line for line in lines if line.startswith("gradcam ")))
    assert lines[first - 1].startswith("──")
    assert lines[first + 3].startswith("──")
    assert lines[first + 4].startswith("random")
    assert re.search(r"^gradcam +0\.\d\d \[0\.\d\d, 0\.\d\d\]", made.table_text, re.MULTILINE)
    assert "faith ↑" in made.table_text
    assert "view_variance ↓" in made.table_text
    assert "over other images" in made.table_text
    assert "undefined: no_mask on 16 images of every method: loc_acc." in made.table_text
    assert "(*) constant by construction" in made.table_text
    assert "shifted-" not in made.table_text


def test_equal_values_show_no_false_certainty(made):
    lines = [line for line in made.table_text.splitlines() if line.startswith("gradcam ")]
    assert not any("all equal" in line for line in lines)
    scores = fabricated.scores(6, metrics=FEW)
    scores.table.loc[scores.table["column"] == "faith", "value"] = 0.5
    found = terminal(find(scores, seed=0), protocol="sound")
    assert re.search(r"^gradcam +0.50 \[all equal\]", found, re.MULTILINE)


def test_study_protocol_prints_what_does_not_compare(made):
    found = report(
        made.folder / "study",
        **fabricated.records(6),
        scores=fabricated.scores(6, metrics=FEW),
        facts={},
        seed=0,
        protocol="study",
    )
    assert "a view is compared with a mean that contains it" in found.table_text.replace("\n ", "")
    assert "a view is compared with a mean that contains it" in (found.folder / "report.html").read_text()
    assert "contains it" not in made.table_text
    shutil.rmtree(found.folder)


def test_captions_give_n(made):
    captions = (made.folder / "figures" / "captions.md").read_text()
    assert "(n = 48)" in captions
    assert "4 of 48 explained images" in captions


def test_report_is_one_file_that_needs_no_network(made):
    html = (made.folder / "report.html").read_text()
    assert "default-src 'none'" in html
    assert not re.search(r"""(src|href)=["'](?!data:|#)""", html)
    assert "http://" not in html
    assert "https://" not in html
    figures = list((made.folder / "figures").glob("*.png"))
    assert len(figures) >= 10
    assert html.count("data:image/png;base64,") == len(figures)


def test_names_are_escaped_everywhere(evil):
    html = (evil.folder / "report.html").read_text()
    assert "<script>alert" not in html
    assert "&lt;script&gt;alert" in html
    tex = (evil.folder / "tables" / "classifier.tex").read_text()
    assert "\\textbackslash{}input\\{a\\}" in tex
    assert "50\\% \\& \\$x\\_1\\$ \\textbar{}" in tex
    markdown = (evil.folder / "tables" / "classifier.md").read_text()
    assert "<script>" not in markdown
    assert all(len(re.findall(r"(?<!\\)\|", line)) == 7 for line in markdown.splitlines())


def test_names_make_no_formula_and_no_folder(evil):
    assert (evil.folder / "figures" / "confusion.png").stat().st_size > 5000
    assert {p.name for p in evil.folder.iterdir()} <= {
        *("figures", "tables", "paper", "report.html", "summary.json", "samples.parquet", "predictions.parquet"),
        *("scores.parquet", "curves.parquet", "pairs.parquet", "records.json"),
    }


def test_drawing_leaves_the_users_style_alone(tmp_path):
    before = dict(matplotlib.rcParams)
    report(tmp_path, **fabricated.records(6), scores=fabricated.scores(6, metrics=FEW), facts={}, seed=0)
    assert dict(matplotlib.rcParams) == before


def test_two_reports_of_one_run_are_equal(made, tmp_path):
    again = report(tmp_path, **fabricated.records(), scores=fabricated.scores(), facts=fabricated.FACTS, seed=0)
    for name in ("summary.json", "tables/comparisons.csv", "figures/panel.png", "figures/metrics.pdf", "report.html"):
        assert (again.folder / name).read_bytes() == (made.folder / name).read_bytes()


def test_one_method_without_controls_training_or_labels(tmp_path):
    """The least there can be: a folder of images explained by a net that came trained."""
    methods = fabricated.METHODS[:1]
    records = fabricated.records(9, methods=methods)
    records["samples"].table["label"] = None
    records["predictions"].table["label"] = None
    records["classifier"] = type(records["classifier"])(None, fabricated.CLASSES, ("layer",), "c")
    records["predictions"].figures.clear()
    found = report(tmp_path, **records, scores=fabricated.scores(9, methods=methods, metrics=FEW), facts={}, seed=0)
    names = {file.name for file in found.files}
    assert "panel.png" in names
    assert not {"training.png", "confusion.png"} & names
    assert found.table_text.count("──") > 0
    assert found.verdicts[-1].startswith("One seed")


def test_agreement_is_a_matrix_a_metric():
    pairs = pd.DataFrame(
        [
            *(("1", "a", "b", "agreement_iou", 0.5), ("2", "a", "b", "agreement_iou", 0.7)),
            *(("1", "a", "c", "agreement_iou", 0.1), ("2", "a", "c", "agreement_iou", np.nan)),
            *(("1", "b", "c", "agreement_iou", 0.2), ("2", "b", "c", "agreement_iou", 0.4)),
        ],
        columns=["image", "method_a", "method_b", "metric", "value"],
    )
    frame = agreement_frame(pairs)
    assert frame["method"].tolist() == ["a", "b", "c"]
    assert frame["n"].tolist() == [1, 2, 1]
    np.testing.assert_allclose(
        frame[["a", "b", "c"]], [[np.nan, 0.6, 0.1], [0.6, np.nan, 0.3], [0.1, 0.3, np.nan]], atol=1e-12
    )
    assert agreement_frame(pairs.iloc[:0]).empty
