"""The report of a study: published beside ours under both protocols, what was run, verdicts, figures."""

import json
import re
import shutil
from pathlib import Path

import fabricated
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from heatproof.base import study as studies
from heatproof.base.records import Ended
from heatproof.base.study import Check, Claim, Published, Row, Study
from heatproof.stages.report import report, study_figures, study_maps, study_runs
from heatproof.stages.report import study as study_report
from heatproof.stages.report.merge import Stored, stored
from heatproof.stages.report.sweep import write_sweep

N = 24
METRICS = tuple(m for m in fabricated.METRICS if m.label in ("faith", "stability"))
STUDY = Study(
    "pilot", "A pilot <study>", "Somebody 2020", ("It has a flaw.",), ("It has a remark.",),
    (
        Published("classes", "Classes", ("test/accuracy", "model/best_epoch"), (Row((0.7, 12.0), "first"),), n=99),
        Published("maps", "Maps", ("faith",), (Row((0.31,), "first", "gradcam"),), ("weak",)),
        Published("images", "Fixed images", ("image/confidence",), (Row((0.97,), "first", None, "case_000.png"),)),
    ),
    (
        Claim("Grad-CAM is faithful", 1, (Check("faith_excess", "gradcam", 0),)),
        Claim("weak is faithful", 2, (Check("faith_excess", "weak", 0.3),)),
        Claim("maps are pretty", 3, untested="Nothing measures it."),
    ),
)  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "0"
    hashes = {"plan_hash": "whole", "whole_hash": "whole", "seedless_hash": "seedless", "shard": [0, 1]}
    config = {
        "study": "pilot", "arm": "first", "scale": "smoke", "protocol": "sound", "dataset": {"reader": "phantom"},
        "model": {"builder": "torchvision", "name": "resnet50", "weights": None}, "train": {"policy": "scratch"},
    }  # fmt: skip
    report(folder, **fabricated.records(N), scores=fabricated.scores(N, metrics=METRICS),
           facts={**fabricated.FACTS, **hashes, "config": config}, seed=0)  # fmt: skip
    return folder


@pytest.fixture
def runs(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Stored]:
    """Two arms under the sound protocol, one under the study's."""
    monkeypatch.setattr(study_report, "study_of", lambda _name: STUDY)
    monkeypatch.setattr(study_report, "told", lambda *_: {"train.epochs": 1})
    study_runs._read.cache_clear()
    made = []
    for number, (arm, protocol) in enumerate((("first", "study"), ("first", "sound"), ("second", "sound"))):
        folder = tmp_path / "sweep" / str(number)
        shutil.copytree(finished, folder)
        records = json.loads((folder / "records.json").read_text())
        records["config"] |= {"arm": arm, "protocol": protocol}
        (folder / "records.json").write_text(json.dumps(records))
        summary = json.loads((folder / "summary.json").read_text())
        (folder / "summary.json").write_text(json.dumps({**summary, "plan_hash": f"plan {number}"}))
        made.append(stored(folder))
    return made


def test_published_stands_beside_ours_under_both_protocols(runs: list[Stored]) -> None:
    frame = study_report.published_frame(STUDY, study_runs.runs_of(runs))
    assert list(frame.columns) == [
        "table", "arm", "method", "image", "figure", "published", "published_n",
        "study_mean", "study_lo", "study_hi", "study_n", "sound_mean", "sound_lo", "sound_hi", "sound_n",
    ]  # fmt: skip

    def row(table: str, arm: str, figure: str, method: str | None = None, image: str | None = None) -> pd.Series:
        own = {"table": table, "arm": arm, "figure": figure, "method": method, "image": image}
        some = frame
        for key, value in own.items():
            some = some[some[key].isna() if value is None else some[key] == value]
        assert len(some) == 1
        return some.iloc[0]

    first = runs[1].summary
    found = row("classes", "first", "test/accuracy")
    assert (found["published"], found["published_n"]) == (0.7, 99)
    assert found["sound_mean"] == found["study_mean"] == first["classifier"]["accuracy"]["value"]
    assert (found["sound_lo"], found["sound_n"]) == (first["classifier"]["accuracy"]["lo"], N)
    assert row("classes", "first", "model/best_epoch")["sound_mean"] == 8
    found = row("maps", "first", "faith", "gradcam")
    assert found["published"] == 0.31
    assert found["sound_mean"] == pytest.approx(first["methods"]["gradcam"]["faith"]["mean"])
    unpublished = row("maps", "second", "faith", "weak")
    assert np.isnan(unpublished["published"])
    assert np.isnan(unpublished["study_mean"]), "that arm was not run under it"
    assert np.isfinite(unpublished["sound_mean"])
    chances = runs[1].table("predictions").set_index("image").filter(like="p_").max(axis=1)
    assert row("images", "first", "image/confidence", image="case_000.png")["sound_mean"] == chances["case_000.png"]


def test_a_study_leaves_its_page_tables_and_figures(runs: list[Stored], tmp_path: Path) -> None:
    folder = tmp_path / "sweep"
    failed = Ended(3, "arm=third", "FAILED", None, "no weights could be fetched")
    made = study_report.write_study(runs, folder, command="heatproof study=pilot", failed=[failed])
    assert {file.name for file in made.files} == {
        "study.md", "study.csv", "study.tex", "study_claims.csv",
        *(f"study_{name}.{ending}" for name in ("classes", "maps", "images", "claims") for ending in ("png", "pdf")),
    }  # fmt: skip
    assert all(file.stat().st_size for file in made.files)
    page = (folder / "study.md").read_text()
    for said in (
        "heatproof study=pilot", "| 0.7 |", "ours, study protocol", "ours, sound protocol", "It has a flaw.",
        "It has a remark.", "no results of arm=third: no weights could be fetched", "scale=smoke", "train.epochs=1",
        "Trained from random weights, without pretrained ones: first, second.", "[report](1/report.html)",
        "1. Grad-CAM is faithful: holds.", "2. weak is faithful: does not hold.", "3. maps are pretty: cannot be told.",
    ):  # fmt: skip
        assert said in page, said
    claims = pd.read_csv(folder / "study_claims.csv")
    assert claims["as_claimed"].tolist() == ["yes"] * 2 + ["the other way round"] * 2, "a comparison for each arm"
    assert set(pd.read_csv(folder / "study.csv")["table"]) == {"classes", "maps", "images"}


def test_nets_that_learnt_nothing_are_named(runs: list[Stored], tmp_path: Path) -> None:
    said = "Not shown to beat naming the most frequent class, so that their maps explain little: second (sound)."
    by = study_runs.runs_of(runs)
    for run, lo in ((run, 0.99 if arm == "first" else 0.1) for (arm, _), some in by.by.items() for run in some):
        run.summary["classifier"]["accuracy"]["lo"] = lo
    assert said in list(study_report.remarks(STUDY, by))
    (tmp_path / "sweep").mkdir(exist_ok=True)
    assert study_report.write_study(runs, tmp_path / "sweep").lines[-1] == said, "below the verdicts in the terminal"


def test_settings_of_a_scale_that_an_arm_replaces_are_not_told(runs: list[Stored]) -> None:
    by = study_runs.runs_of(runs)
    assert any("train.epochs=1" in line for line in study_report.remarks(STUDY, by))
    for run in runs:
        run.records["config"]["train"]["epochs"] = 7
    assert not any("train.epochs" in line for line in study_report.remarks(STUDY, by))


def test_rows_of_long_names_stay_apart_and_legends_hold_what_is_there() -> None:
    names = [f"gradcam.features.12:robustcam10.{fusion}" for fusion in ("mean", "median")]
    ours = {f"{p}_{key}": 0.5 if p == "sound" else np.nan for p in ("study", "sound") for key in ("mean", "lo", "hi")}
    some = pd.DataFrame([{"arm": "given", "method": name, "image": None, "figure": "faith", "published": np.nan, **ours}
                         for name in names])  # fmt: skip
    drawing = study_figures._table(Published("maps", "Maps", ("faith",)), some)
    (axes,) = drawing.figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == [f"given {name}" for name in names]
    assert [text.get_text() for text in drawing.figure.legends[0].get_texts()] == ["ours, sound protocol"]
    assert "published" not in drawing.caption
    plain = study_figures._plain(f"stability of {names[0]} against blurred-{names[0]}, arm given")
    assert plain == f"stability of {names[0]} against blurred, arm given"


def test_the_page_of_the_sweep_leads_to_it(runs: list[Stored], tmp_path: Path) -> None:
    folder = tmp_path / "sweep"
    made = study_report.write_study(runs, folder)
    jobs = [Ended(number, f"job {number}", "FINISHED", run.folder) for number, run in enumerate(runs)]
    write_sweep(jobs, folder, study=made)
    html = (folder / "sweep.html").read_text()
    assert "A pilot &lt;study&gt;" in html, "escaped"
    assert re.search(r'<a href="study.md">', html)
    assert "1. Grad-CAM is faithful: holds." in html


def test_runs_of_no_study_or_of_several_have_no_report(runs: list[Stored], finished: Path) -> None:
    assert study_report.study_in(runs) == "pilot"
    other = Stored(finished, runs[0].summary, {"config": {"study": "another"}})
    assert study_report.study_in([*runs, other]) is None
    assert study_report.study_in([Stored(finished, {}, {"config": "as text"})]) is None
    assert set(studies.ABOUT) >= {"published", "claims", "flaws"}


def test_maps_of_all_arms_stand_beside_each_other(runs: list[Stored], tmp_path: Path) -> None:
    """Arms that kept their maps, on the study's own images, one image of each outcome, and images that they miss."""
    images = sorted(runs[0].table("samples")["image"])
    Image.new("L", (40, 40), 90).save(tmp_path / "picture.png")
    for run in runs:
        (run.folder / "maps").mkdir()
        np.save(run.folder / "maps" / "gradcam.npy", np.random.default_rng(0).random((N, 32, 32), np.float32))
        run.table("samples").assign(path=str(tmp_path / "picture.png")).to_parquet(run.folder / "samples.parquet")
        table = run.table("predictions")
        table.assign(outcome=np.where(table["correct"], "TP", "FN")).to_parquet(run.folder / "predictions.parquet")
    made = {drawing.name: drawing for drawing in study_maps.map_drawings(STUDY, study_runs.runs_of(runs))}
    assert set(made) == {"study_images", "study_outcomes", "study_wrong"}
    assert len(made["study_images"].figure.axes) == 1 * (1 + 2 * 2), "one image, map and overlay of two arms"
    titles = [axes.get_title() for axes in made["study_outcomes"].figure.axes]
    assert [title[:3] for title in titles[::3]] == ["TP:", "FN:"] * 2, "of each arm"
    wrong = runs[0].table("predictions")
    missed = {Path(image).stem for image in wrong.loc[~wrong["correct"], "image"]}
    shown = [axes.get_title() for axes in made["study_wrong"].figure.axes][::3]
    assert set(shown) <= missed
    assert len(shown) == 2 * min(3, len(missed))
    assert images == study_runs.explained_in(runs[0])
    for run in runs:
        shutil.rmtree(run.folder / "maps")
    assert not list(study_maps.map_drawings(STUDY, study_runs.runs_of(runs))), "nobody kept maps"
