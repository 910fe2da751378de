"""Sweeps and runs killed at random moments, or two at once on one store: nothing is lost or counted twice, and the
numbers are those of an undisturbed command, bit by bit."""

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
from commands import SMALL, environment, heatproof, user_folder


@dataclass(frozen=True)
class Disturbed:
    """A command, the number of its jobs, and how often it is killed in how many folders."""

    command: tuple[str, ...]
    jobs: int
    kills: int
    folders: int


SWEEP = Disturbed(("-m", *SMALL, "seed=1,2", "deterministic=true"), jobs=2, kills=20, folders=4)
RUN = Disturbed((*SMALL, "seed=1", "deterministic=true"), jobs=1, kills=15, folders=3)


def numbers(work: Path, jobs: int) -> list[pd.DataFrame]:
    """The scores of each job of the last command, wherever they come from."""
    latest = (work / "here" / "results" / "latest").resolve()
    found = []
    for place in [latest] if jobs == 1 else [latest / str(number) for number in range(jobs)]:
        pointer = json.loads((place / "done.json").read_text()).get("reused")
        found.append(pd.read_parquet((place / pointer if pointer else place) / "scores.parquet"))
    return found


def finished(work: Path) -> list[str]:
    """The results folders' ids of the finished runs in MLflow, the parent runs of sweeps left out."""
    with closing(sqlite3.connect(work / "here" / "mlruns" / "mlflow.db")) as store:
        return store.execute(
            "select tags.value from runs join tags using (run_uuid) where runs.status = 'FINISHED' "
            "and tags.key = 'heatproof.outbox' and tags.value not like 'sweep-%'"
        ).fetchall()


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return user_folder(tmp_path_factory.mktemp("conf"))


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory, user: Path) -> tuple[list[pd.DataFrame], float]:
    """What the sweep gives undisturbed, and how long it takes."""
    work = tmp_path_factory.mktemp("calm")
    start = time.monotonic()
    done = heatproof(*SWEEP.command, work=work, user=user)
    assert done.returncode == 0, done.stderr
    return numbers(work, 2), time.monotonic() - start


def started(disturbed: Disturbed, work: Path, user: Path) -> subprocess.Popen:
    (work / "here").mkdir(parents=True, exist_ok=True)
    return subprocess.Popen(
        [sys.executable, "-m", "heatproof", *disturbed.command], cwd=work / "here", env=environment(work, user),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("disturbed", [SWEEP, RUN], ids=["sweep", "run"])
def test_killed_at_random_moments_it_ends_with_the_same_numbers(
    disturbed: Disturbed, tmp_path: Path, user: Path, calm: tuple[list[pd.DataFrame], float]
) -> None:
    wanted, seconds = calm
    seconds *= disturbed.jobs / SWEEP.jobs
    moments = random.Random(0)
    killed = 0
    for number in range(disturbed.kills):
        work = tmp_path / str(number % disturbed.folders)
        process = started(disturbed, work, user)
        time.sleep(moments.uniform(0.1, 0.9) * seconds)
        killed += process.poll() is None
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(60)
    assert killed > disturbed.kills / 2  # it was killed at work, not after its end
    for number in range(disturbed.folders):
        work = tmp_path / str(number)
        done = heatproof(*disturbed.command, work=work, user=user)
        assert done.returncode == 0, done.stderr
        for found, truth in zip(numbers(work, disturbed.jobs), wanted, strict=False):
            pd.testing.assert_frame_equal(found, truth, check_exact=True)
        if disturbed.jobs > 1:
            table = pd.read_csv((work / "here" / "results" / "latest" / "sweep.csv").resolve())
            assert table["n"].max() == disturbed.jobs  # seeds, however often they were started
        sent = heatproof("tracking.upload=true", work=work, user=user)
        assert sent.returncode == 0, sent.stdout
        assert len(finished(work)) == disturbed.jobs


@pytest.mark.slow
def test_two_sweeps_at_once_on_one_store(tmp_path: Path, user: Path, calm: tuple[list[pd.DataFrame], float]) -> None:
    processes = [started(SWEEP, tmp_path, user) for _ in range(2)]
    assert [process.wait(600) for process in processes] == [0, 0]
    for found, truth in zip(numbers(tmp_path, 2), calm[0], strict=True):
        pd.testing.assert_frame_equal(found, truth, check_exact=True)
