"""The command at work: one run, a sweep with a failing job, an interrupted run; what they leave and how they end."""

import json
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pandas as pd
import pytest
import yaml
from commands import SMALL, environment, heatproof, user_folder

from heatproof.base.outbox import Outbox
from heatproof.stages.plan import make_plan


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return user_folder(tmp_path_factory.mktemp("conf"))


RUNS = """
select experiments.name, runs.status, above.name
from runs join experiments using (experiment_id)
left join tags on tags.run_uuid = runs.run_uuid and tags.key = 'mlflow.parentRunId'
left join runs as above on above.run_uuid = tags.value
"""


def runs(work: Path) -> dict[str, list[tuple[str, str | None]]]:
    """Experiment -> (status, name of the parent run) of each of its runs, from the store of a folder."""
    with closing(sqlite3.connect(work / "here" / "mlruns" / "mlflow.db")) as store:
        found = store.execute(RUNS).fetchall()
    names = {name for name, _, _ in found}

    def by_parent(run: tuple[str, str | None]) -> tuple[str, str]:
        return run[1] or "", run[0]

    return {name: sorted(((s, above) for n, s, above in found if n == name), key=by_parent) for name in names}


def test_one_run(tmp_path: Path, user: Path) -> None:
    done = heatproof(*SMALL, work=tmp_path, user=user)
    assert done.returncode == 0, done.stderr
    latest = (tmp_path / "here" / "results" / "latest").resolve()
    lines = done.stdout.splitlines()
    assert "loc_acc" in done.stdout
    assert lines[-2] == f"results: {latest}"
    # The command of this environment, which may not be activated.
    assert lines[-1].startswith("MLflow: ")
    store = f"sqlite:///{tmp_path / 'here' / 'mlruns' / 'mlflow.db'}"
    assert lines[-1].endswith(f"mlflow ui --backend-store-uri '{store}'")
    summary = json.loads((latest / "summary.json").read_text())
    assert all(line in done.stdout for line in summary["verdicts"])
    assert Outbox(latest).read().status == "FINISHED"
    assert runs(tmp_path) == {"blobs": [("FINISHED", None)]}
    # The saved config is enough to plan the same run again.
    text = (latest / "config.yaml").read_text()
    assert "# override: dataset=blobs" in text
    assert f"# plan {summary['plan_hash']}" in text
    assert yaml.safe_load(text)["train"]["epochs"] == 1


def test_a_failed_run_says_so_once_and_everywhere(tmp_path: Path, user: Path) -> None:
    done = heatproof(*SMALL, "dataset.broken=true", work=tmp_path, user=user)
    assert done.returncode == 1
    assert done.stderr.count("RuntimeError: the disk is gone") == 1
    latest = tmp_path / "here" / "results" / "latest"
    assert "RuntimeError: the disk is gone" in (latest / "run.log").read_text()
    assert runs(tmp_path) == {"blobs": [("FAILED", None)]}


def test_a_users_fault_found_at_work_has_no_traceback(tmp_path: Path, user: Path) -> None:
    raising = 'raise HeatproofError("dataset: the disk is full")'
    code = "from heatproof.base.errors import HeatproofError\n" + (user / "blobs.py").read_text()
    code = code.replace("if broken:", 'if broken and row.image == "0":').replace('raise RuntimeError("the disk is gone")', raising)  # fmt: skip  # noqa: E501
    other = user_folder(tmp_path / "conf")
    (other / "blobs.py").write_text(code)
    done = heatproof(*SMALL, "dataset.broken=true", work=tmp_path, user=other)
    assert done.returncode == 2
    assert "\n\n  dataset: the disk is full" in done.stderr
    assert "Traceback" not in done.stderr
    assert runs(tmp_path) == {"blobs": [("FAILED", None)]}


@pytest.mark.parametrize("launcher", ["basic", "joblib"])
def test_a_sweep_goes_on_after_a_failed_job(launcher: str, tmp_path: Path, user: Path) -> None:
    done = heatproof("-m", *SMALL, "dataset.broken=true,false", f"hydra/launcher={launcher}", work=tmp_path, user=user)
    assert done.returncode == 1
    assert "   0  FAILED       dataset.broken=True\n      RuntimeError: the disk is gone" in done.stdout
    assert "   1  FINISHED     dataset.broken=False" in done.stdout
    sweep = (tmp_path / "here" / "results" / "latest").resolve()
    assert "RuntimeError: the disk is gone" in (sweep / "0" / "run.log").read_text()
    assert "RuntimeError" not in (sweep / "1" / "run.log").read_text()
    assert (sweep / "1" / "report.html").is_file()
    parent = f"sweep {sweep.name}"
    assert runs(tmp_path) == {"blobs": [("FAILED", None), ("FAILED", parent), ("FINISHED", parent)]}


def test_fail_fast_starts_no_job_after_a_failed_one(tmp_path: Path, user: Path) -> None:
    done = heatproof("-m", *SMALL, "dataset.broken=true,false", "sweep.fail_fast=true", work=tmp_path, user=user)
    assert done.returncode == 1
    assert "   1  not started  dataset.broken=False" in done.stdout
    assert not (tmp_path / "here" / "results" / "latest" / "1" / "samples.parquet").exists()


def test_a_users_study_is_a_sweep(tmp_path: Path, user: Path) -> None:
    done = heatproof("study=squares", "stage=load", work=tmp_path, user=user)
    assert done.returncode == 0, done.stderr
    assert "   0  FINISHED     seed=1\n   1  FINISHED     seed=2" in done.stdout
    assert [status for status, _ in runs(tmp_path)["blobs"]] == ["FINISHED"] * 3


@pytest.mark.slow
def test_a_sweep_ends_with_its_classifiers_compared(tmp_path: Path, user: Path) -> None:
    done = heatproof("-m", *SMALL, "seed=1,2", "eval.positive=dark", work=tmp_path, user=user)
    assert done.returncode == 0, done.stderr
    sweep = (tmp_path / "here" / "results" / "latest").resolve()
    assert f"comparison of classifiers: {sweep / 'comparison.md'}" in done.stdout
    names = {f"comparison.{ending}" for ending in ("csv", "md", "tex", "png", "pdf")}
    assert {path.name for path in sweep.glob("comparison.*")} == names
    table = pd.read_csv(sweep / "comparison.csv")
    assert table["title"].unique().tolist() == ["seed=1", "seed=2"]
    assert table.loc[table["run"] == 1, "n_common"].notna().all()
    assert json.loads((sweep / "1" / "summary.json").read_text())["positive"] == "dark"
    assert names <= {path.name for path, _ in Outbox(sweep).read().artifacts}


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)], ids=lambda value: str(value))
def test_an_interrupted_run_reads_killed(sent: signal.Signals, code: int, tmp_path: Path, user: Path) -> None:
    here = tmp_path / "here"
    here.mkdir()
    command = [sys.executable, "-m", "heatproof", *SMALL, "dataset.num_images=2000", "train.epochs=5000", "train.patience=5000"]  # fmt: skip  # noqa: E501
    # A shell gives background jobs an ignored SIGINT, and the suite may run in one.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(command, cwd=here, env=environment(tmp_path, user), stderr=subprocess.PIPE, text=True)
    signal.signal(signal.SIGINT, before)
    scratch = tmp_path / "store"
    until = time.monotonic() + 120
    while not list(scratch.rglob("*.safetensors")) and time.monotonic() < until and process.poll() is None:
        time.sleep(0.1)  # until the first epoch's checkpoint is there
    process.send_signal(sent)
    _, err = process.communicate(timeout=120)
    assert process.returncode == code
    assert "heatproof: interrupted; the same command goes on from what is stored." in err
    assert "Traceback" not in err
    assert runs(tmp_path) == {"blobs": [("KILLED", None)]}


@pytest.mark.slow
def test_eight_runs_at_once_on_a_fresh_store(tmp_path: Path, user: Path) -> None:
    here = tmp_path / "here"
    here.mkdir()
    command = [sys.executable, "-m", "heatproof", *SMALL, "stage=load"]
    environments = environment(tmp_path, user)
    processes = [subprocess.Popen(command, cwd=here, env=environments, stdout=subprocess.DEVNULL) for _ in range(8)]
    assert [process.wait(timeout=300) for process in processes] == [0] * 8
    folders = [path for path in (here / "results").iterdir() if path.is_dir() and not path.is_symlink()]
    assert len(folders) == 8
    assert runs(tmp_path) == {"blobs": [("FINISHED", None)] * 8}


def test_the_saved_config_gives_the_same_plan(tmp_path: Path) -> None:
    done = heatproof("dataset.num_images=60", "stage=load", "target=true", work=tmp_path)
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "here" / "results" / "latest" / "config.yaml").read_text()
    assert f"# plan {make_plan(yaml.safe_load(text)).hash}" == text.splitlines()[0]
