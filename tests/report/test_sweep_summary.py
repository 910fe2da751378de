"""One table, one figure, one page of a sweep: seeds merged, failures named, everything escaped."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from heatproof.base.errors import HeatproofError
from heatproof.base.records import Ended
from heatproof.stages.report.sweep import over_seeds, sweep_frame, sweep_text, write_sweep


def summary(model, seed, *, faith=0.5, tested=("gradcam", "lime"), accuracy=0.9):
    cell = {"lo": faith - 0.1, "hi": faith + 0.1, "n": 40, "better": "up", "undefined": {}}
    return {
        "plan_hash": f"{model}{seed}",
        "seedless_hash": model,
        "data_hash": "data",
        "classifier": {name: {"value": accuracy, "lo": 0.8, "hi": 0.95, "n": 60} for name in ("accuracy", "ece")},
        "tested": list(tested),
        "main": ["faith"],
        "ranges": {"faith": [-1, 0.75]},
        "methods": {
            name: {"faith": cell | {"mean": None if faith is None else faith}, "faith_excess": cell | {"mean": 0.1}}
            for name in (*tested, "random")
        },
    }


def job(root, number, title, found=None, **more):
    if found is None:
        return Ended(number, title, **{"status": "FAILED", **more})
    folder = root / str(number)
    folder.mkdir(parents=True)
    (folder / "summary.json").write_text(json.dumps(found))
    return Ended(number, title, "FINISHED", folder)


def test_seeds_of_a_configuration_are_one_row_with_students_interval(tmp_path):
    values = (0.2, 0.3, 0.7)
    jobs = [job(tmp_path, i, f"model=a seed={i}", summary("a", i, faith=v)) for i, v in enumerate(values)]
    jobs.append(job(tmp_path, 3, "model=b seed=0", summary("b", 0, faith=0.4)))
    frame = sweep_frame(jobs).set_index(["configuration", "method", "figure"])
    found = frame.loc[("model=a", "lime", "faith")]
    wanted = stats.t.interval(0.95, 2, np.mean(values), stats.sem(values))
    assert (found["mean"], found["lo"], found["hi"]) == pytest.approx((np.mean(values), wanted[0], 0.75))
    assert wanted[1] > 0.75
    assert (found["n"], found["level"], found["jobs"]) == (3, "seeds", "0 1 2")
    alone = frame.loc[("model=b seed=0", "gradcam", "faith")]
    assert (alone["mean"], alone["lo"], alone["n"], alone["level"]) == (0.4, pytest.approx(0.3), 40, "images")
    assert set(frame.index.get_level_values("figure")) == {"accuracy", "faith"}
    assert "random" not in frame.index.get_level_values("method")


def test_the_same_plan_twice_is_no_second_seed(tmp_path):
    jobs = [job(tmp_path, i, "seed=1", summary("a", 1)) for i in range(2)]
    assert sweep_frame(jobs)["level"].unique().tolist() == ["images"]


def test_equal_seeds_have_no_interval_and_undefined_ones_are_counted(tmp_path):
    assert over_seeds(np.array([0.5, 0.5]))[0] == 0.5
    assert np.isnan(over_seeds(np.array([0.5, 0.5]))[1:]).all()
    assert np.isnan(over_seeds(np.array([]))).all()
    jobs = [job(tmp_path, i, f"seed={i}", summary("a", i, tested=("gradcam",))) for i in range(3)]
    broken = json.loads((tmp_path / "2" / "summary.json").read_text())
    broken["methods"]["gradcam"]["faith"] |= {"mean": None, "lo": None, "hi": None, "n": 0}
    (tmp_path / "2" / "summary.json").write_text(json.dumps(broken))
    frame = sweep_frame(jobs)
    assert frame.loc[frame["figure"] == "faith", ["n", "undefined"]].to_numpy().tolist() == [[2, 1]]
    text = sweep_text(frame)
    assert text["faith ↑"].tolist() == ["0.50 [all equal] n=2"]
    assert text["runs"].tolist() == ["3 seeds"]


def test_files_and_page_with_failures_first(tmp_path):
    evil = '<script>alert("x")</script>'
    log = tmp_path / "1" / "run.log"
    jobs = [job(tmp_path, 0, f"name={evil}", summary("a", 0)),
            job(tmp_path, 1, "model=b", status="FAILED", error=f"ValueError: {evil}", log=log),
            job(tmp_path, 2, "model=c", status="KILLED", error="its process died")]  # fmt: skip
    log.parent.mkdir()
    log.write_text("")
    files, text = write_sweep(jobs, tmp_path, command="heatproof -m model=a,b,c")
    assert {file.name for file in files} == {f"sweep.{e}" for e in ("csv", "md", "tex", "png", "pdf", "html")}
    assert all(file.stat().st_size for file in files)
    assert str(tmp_path / "sweep.html") in text
    assert max(map(len, text.splitlines())) <= 120
    html = (tmp_path / "sweep.html").read_text()
    assert "<script>alert" not in html
    assert html.index("its process died") < html.index("All configurations")
    assert 'href="1/run.log"' in html
    assert not re.findall(r'(?:src|href)="(?:https?:)?//', html)
    markdown = (tmp_path / "sweep.md").read_text()
    assert "- job 1 (model=b): FAILED: ValueError: " in markdown
    assert len(pd.read_csv(tmp_path / "sweep.csv")) == 3  # accuracy, and faith of two methods


def test_figures_are_chosen_and_misspelt_ones_refused(tmp_path):
    jobs = [job(tmp_path, 0, "", summary("a", 0))]
    assert set(sweep_frame(jobs, ["ece", "faith_excess"])["figure"]) == {"ece", "faith_excess"}
    with pytest.raises(HeatproofError, match=r"report.figures: no run has it, got 'fiath'. Did you mean 'faith'\?"):
        sweep_frame(jobs, ["fiath"])


def test_a_sweep_without_results_still_has_its_page(tmp_path):
    files, _ = write_sweep([job(tmp_path, 0, "model=b", error="boom")], tmp_path)
    assert [file.name for file in files] == ["sweep.html"]
    assert "boom" in files[0].read_text()
