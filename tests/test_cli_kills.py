"""Sweeps and runs killed at random moments, or two at once on one store: nothing is lost or counted twice, and the
numbers are those of an undisturbed command, bit by bit."""

import os
import random
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
from commands import SMALL, heatproof, user_folder
from disturbed import assert_equal, in_mlflow, numbers, started


@dataclass(frozen=True)
class Disturbed:
    """A command, the number of its jobs, and how often it is killed."""

    command: tuple[str, ...]
    jobs: int
    kills: int


SWEEP = Disturbed(("-m", *SMALL, "seed=1,2", "deterministic=true"), jobs=2, kills=20)
RUN = Disturbed((*SMALL, "seed=1", "deterministic=true"), jobs=1, kills=12)


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


@pytest.mark.slow
@pytest.mark.parametrize("disturbed", [SWEEP, RUN], ids=["sweep", "run"])
def test_killed_at_random_moments_it_ends_with_the_same_numbers(
    disturbed: Disturbed, tmp_path: Path, user: Path, calm: tuple[list[pd.DataFrame], float]
) -> None:
    wanted, seconds = calm
    seconds *= disturbed.jobs / SWEEP.jobs
    moments = random.Random(0)
    killed, folder = 0, 0
    while killed < disturbed.kills:
        start = time.monotonic()
        process = started(disturbed.command, tmp_path / str(folder), user)
        try:
            process.communicate(timeout=moments.uniform(0.05, 0.8) * seconds)
            folder += 1  # it got to its end: the next one starts afresh, and is killed sooner
            seconds = min(seconds, time.monotonic() - start)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate(timeout=60)
            killed += 1
    for work in sorted(tmp_path.iterdir()):
        done = heatproof(*disturbed.command, work=work, user=user)
        assert done.returncode == 0, done.stderr
        assert_equal(numbers(work, disturbed.jobs), wanted[: disturbed.jobs])
        assert in_mlflow(work, "FINISHED") == disturbed.jobs
        if disturbed.jobs > 1:
            table = pd.read_csv((work / "here" / "results" / "latest" / "sweep.csv").resolve())
            assert table["n"].max() == disturbed.jobs  # seeds, however often they were started


@pytest.mark.slow
def test_two_sweeps_at_once_on_one_store(tmp_path: Path, user: Path, calm: tuple[list[pd.DataFrame], float]) -> None:
    processes = [started(SWEEP.command, tmp_path, user) for _ in range(2)]
    assert [process.communicate(timeout=600) and process.returncode for process in processes] == [0, 0]
    assert_equal(numbers(tmp_path, 2), calm[0])
