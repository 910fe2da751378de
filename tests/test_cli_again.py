"""The same command again: what is done is not run again, what is not is finished; sweeps sum up; shards are merged."""

import json
import os
from pathlib import Path

import pandas as pd
import pytest
from commands import SMALL, heatproof, user_folder

from heatproof import cli
from heatproof.base.compose import compose
from heatproof.base.outbox import Outbox
from heatproof.cli.places import error_line
from heatproof.stages.plan import done_hash, find_done, make_plan, note_done
from heatproof.stages.plan.done import stands_for


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return user_folder(tmp_path_factory.mktemp("conf"))


def latest(work: Path) -> Path:
    return (work / "here" / "results" / "latest").resolve()


def test_a_sweep_command_again_finishes_what_is_not_done(tmp_path: Path, user: Path) -> None:
    alone = heatproof(*SMALL, "seed=1", work=tmp_path, user=user)
    assert alone.returncode == 0, alone.stderr
    one = latest(tmp_path)
    again = heatproof(*SMALL, "seed=1", work=tmp_path, user=user)
    assert again.returncode == 0
    assert again.stdout.splitlines()[-2] == f"results: {one} (of an earlier run; anew=true runs it again)"
    assert again.stdout.splitlines()[:20] == alone.stdout.splitlines()[:20]

    swept = heatproof("-m", *SMALL, "seed=1,2", "dataset.broken=false,true", work=tmp_path, user=user)
    assert swept.returncode == 1
    sweep = latest(tmp_path)
    assert f"   0  FINISHED     seed=1 dataset.broken=False  (an earlier run: results/{one.name})" in swept.stdout
    assert (
        "   1  FAILED       seed=1 dataset.broken=True\n      RuntimeError: the disk is gone\n      see "
        in swept.stdout
    )
    assert stands_for(sweep / "0") == one
    assert not (sweep / "0" / "outbox").exists()  # one run in MLflow, not two
    table = pd.read_csv(sweep / "sweep.csv").set_index("figure")
    assert (table.loc["loc_acc", "level"], table.loc["loc_acc", "n"]) == ("seeds", 2)
    means = [json.loads((path / "summary.json").read_text())["methods"]["gradcam"]["loc_acc"]["mean"] for path in (one, sweep / "2")]  # fmt: skip  # noqa: E501
    assert table.loc["loc_acc", "mean"] == pytest.approx(sum(means) / 2)
    assert "the disk is gone" in (sweep / "sweep.html").read_text()
    assert "sweep.html" in {path.name for path, _ in Outbox(sweep).read().artifacts}

    last = heatproof("-m", *SMALL, "seed=1,2", work=tmp_path, user=user)
    assert last.returncode == 0, last.stderr
    assert last.stdout.count("(an earlier run: ") == 2


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HEATPROOF_CONF", str(user_folder(tmp_path / "conf")))
    return tmp_path


def plan(*overrides: str):
    (job,) = compose([*SMALL, *overrides])
    return make_plan(job.config, job.overrides)


def test_what_a_finished_run_must_share(here: Path) -> None:
    first = done_hash(plan())
    assert done_hash(plan("report.runs=null", "name=other", "anew=true")) == first
    for other in ("seed=1", "device=cpu", "report.maps=true", "tracking.experiment=mine", "eval.images=5"):
        assert done_hash(plan(other)) != first, other
    with (here / "conf" / "blobs.py").open("a") as file:
        file.write("# another line of the user's code\n")
    assert done_hash(plan()) != first


def test_changed_images_are_another_run(here: Path) -> None:
    from PIL import Image

    root = here / "data"
    for name in ("a", "b"):
        (root / name).mkdir(parents=True)
        for number in range(6):
            Image.new("L", (8, 8), 20 * number).save(root / name / f"{number}.png")

    def found() -> str:
        (job,) = compose(["dataset=image_folder", f"dataset.root={root}", "dataset.size=16"])
        return done_hash(make_plan(job.config, job.overrides))

    before = found()
    assert found() == before
    os.utime(root / "a" / "0.png", (1, 1))
    assert found() != before


def test_only_a_finished_run_stands_for_another(here: Path) -> None:
    run = here / "results" / "multirun" / "sweep" / "3"
    run.mkdir(parents=True)
    note_done(run, "abc", text="hello")
    assert find_done("abc", [here / "results"]) is None  # its summary is gone
    (run / "summary.json").write_text("{}")
    assert find_done("abc", [here / "results"]) == run
    assert find_done("abc", [run.parents[1]]) == run
    assert find_done("abd", [here / "results"]) is None
    (run / "done.json").write_text("{")
    assert find_done("abc", [here / "results"]) is None


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            'Traceback (most recent call last):\n  File "a.py", line 1, in f\n    f()\nValueError: one\ntwo\n',
            "ValueError: one",
        ),
        ("interrupted by the user", "interrupted by the user"),
        (
            '  File "a.py", line 1\nOSError: x\n\nDuring handling:\n\n  File "b.py", line 2\n    ~~^^^\nKeyError: 3',
            "KeyError: 3",
        ),
    ],
)
def test_the_first_line_of_an_error(text: str, line: str, tmp_path: Path) -> None:
    (tmp_path / "outbox").mkdir()
    (tmp_path / "outbox" / "traceback.txt").write_text(text)
    assert error_line(tmp_path) == line


@pytest.mark.slow
def test_shards_of_a_sweep_give_the_numbers_of_one_run(tmp_path: Path, user: Path) -> None:
    keys = ("dataset=blobs", "dataset.num_images=700", "views=none", "metrics=[nine]", "train.epochs=1", "eval.images=130", "model.width=2", "model.stages=2")  # fmt: skip  # noqa: E501
    assert heatproof(*keys, work=tmp_path, user=user).returncode == 0
    whole = pd.read_parquet(latest(tmp_path) / "scores.parquet")
    verdicts = json.loads((latest(tmp_path) / "summary.json").read_text())["verdicts"]
    done = heatproof("-m", *keys, "eval.shard=0,1,2", "eval.shards=3", work=tmp_path, user=user)
    assert done.returncode == 0, done.stderr
    sweep = latest(tmp_path)
    pd.testing.assert_frame_equal(pd.read_parquet(sweep / "merged-0" / "scores.parquet"), whole, check_exact=True)
    made = heatproof("stage=report", f"report.runs={sweep}", work=tmp_path, user=user)
    assert made.returncode == 0, made.stderr
    assert latest(tmp_path) != sweep
    pd.testing.assert_frame_equal(pd.read_parquet(latest(tmp_path) / "scores.parquet"), whole, check_exact=True)
    assert json.loads((latest(tmp_path) / "summary.json").read_text())["verdicts"] == verdicts


def test_earlier_runs_that_are_not_there(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["stage=report", "report.runs=results/multirun/2026*"]) == 2
    assert "report.runs: no such results folder, got 'results/multirun/2026*'" in capsys.readouterr().err
    (here / "results" / "one").mkdir(parents=True)
    assert cli.main(["stage=report", "report.runs=results/one"]) == 2
    assert "no finished run, for summary.json is missing" in capsys.readouterr().err
    assert [path.name for path in (here / "results").iterdir()] == ["one"]
