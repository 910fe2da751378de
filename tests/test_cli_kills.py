"""A sweep killed at random moments, or two at once on one store: nothing is lost or counted twice, equal numbers."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from commands import SMALL, environment, heatproof, user_folder

KILLS = 30
SWEEP = ("-m", *SMALL, "seed=1,2", "deterministic=true")


def numbers(work: Path) -> list[pd.DataFrame]:
    """The scores of each job of the last sweep, wherever they come from."""
    sweep = (work / "here" / "results" / "latest").resolve()
    found = []
    for number in range(2):
        pointer = json.loads((sweep / str(number) / "done.json").read_text()).get("reused")
        folder = (sweep / str(number) / pointer).resolve() if pointer else sweep / str(number)
        found.append(pd.read_parquet(folder / "scores.parquet"))
    return found


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return user_folder(tmp_path_factory.mktemp("conf"))


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory, user: Path) -> tuple[list[pd.DataFrame], float]:
    """What the sweep gives undisturbed, and how long it takes."""
    work = tmp_path_factory.mktemp("calm")
    start = time.monotonic()
    done = heatproof(*SWEEP, work=work, user=user)
    assert done.returncode == 0, done.stderr
    return numbers(work), time.monotonic() - start


def started(work: Path, user: Path) -> subprocess.Popen:
    (work / "here").mkdir(exist_ok=True)
    return subprocess.Popen(
        [sys.executable, "-m", "heatproof", *SWEEP], cwd=work / "here", env=environment(work, user),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip


@pytest.mark.slow
def test_a_sweep_killed_at_random_moments_ends_with_the_same_numbers(
    tmp_path: Path, user: Path, calm: tuple[list[pd.DataFrame], float]
) -> None:
    wanted, seconds = calm
    moments = random.Random(0)
    for number in range(KILLS):
        work = tmp_path / str(number % 10)  # ten sweeps, each killed three times
        work.mkdir(exist_ok=True)
        process = started(work, user)
        time.sleep(moments.uniform(0.1, 0.9) * seconds)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(60)
    for number in range(10):
        work = tmp_path / str(number)
        done = heatproof(*SWEEP, work=work, user=user)
        assert done.returncode == 0, done.stderr
        for found, truth in zip(numbers(work), wanted, strict=True):
            pd.testing.assert_frame_equal(found, truth, check_exact=True)
        table = pd.read_csv((work / "here" / "results" / "latest" / "sweep.csv").resolve())
        assert table["n"].max() == 2  # two seeds, however often they were started


@pytest.mark.slow
def test_two_sweeps_at_once_on_one_store(tmp_path: Path, user: Path, calm: tuple[list[pd.DataFrame], float]) -> None:
    processes = [started(tmp_path, user) for _ in range(2)]
    assert [process.wait(600) for process in processes] == [0, 0]
    for found, truth in zip(numbers(tmp_path), calm[0], strict=True):
        pd.testing.assert_frame_equal(found, truth, check_exact=True)
