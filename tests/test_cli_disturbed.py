"""What happens to the best of commands: Ctrl-C, disks that are full or read-only, broken files, a clock that goes back.
Afterwards the same command ends with the numbers of an undisturbed run, bit by bit."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from commands import SMALL, heatproof, user_folder
from disturbed import assert_equal, in_mlflow, numbers, started

from heatproof.base.outbox import Outbox
from heatproof.base.store import Store

pytestmark = pytest.mark.slow
RUN = (*SMALL, "seed=1", "deterministic=true")
SWEEP = ("-m", *SMALL, "seed=1,2", "deterministic=true")
# A clock that loses an hour whenever it is asked.
BACKWARDS = """
import itertools, time
went_back = itertools.count(1)
real, real_ns = time.time, time.time_ns
time.time = lambda: real() - 3600 * next(went_back)
time.time_ns = lambda: real_ns() - 3600 * 10**9 * next(went_back)
"""


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return user_folder(tmp_path_factory.mktemp("conf"))


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory, user: Path) -> list[pd.DataFrame]:
    """The numbers of the run that nothing disturbed."""
    work = tmp_path_factory.mktemp("calm")
    done = heatproof(*RUN, work=work, user=user)
    assert done.returncode == 0, done.stderr
    return numbers(work, 1)


class Disk:
    """A file system in memory that can be made small, large or read-only."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)], capture_output=True)
        if done.returncode:
            pytest.skip(f"no small file system can be mounted here: {done.stderr.decode().strip()}")

    def remount(self, options: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{options}", str(self.folder)], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    made = Disk(tmp_path / "disk")
    try:
        yield made
    finally:
        subprocess.run(["umount", str(made.folder)], check=True)


@pytest.mark.parametrize("launcher", ["basic", "joblib"])
def test_an_interrupted_sweep_reads_killed_and_goes_on(
    launcher: str, tmp_path: Path, user: Path, calm: list[pd.DataFrame]
) -> None:
    # A shell gives background jobs an ignored SIGINT, and the suite may run in one.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = started((*SWEEP, f"hydra/launcher={launcher}"), tmp_path, user)
    signal.signal(signal.SIGINT, before)
    until = time.monotonic() + 120
    while not list(tmp_path.glob("here/results/multirun/*/0/samples.parquet")) and process.poll() is None:
        assert time.monotonic() < until
        if list(tmp_path.glob("here/results/multirun/*/0/outbox/run.json")):
            break
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal sends it: to the command and all its processes
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "heatproof: interrupted; the same command goes on from what is stored." in err
    sweep = (tmp_path / "here" / "results" / "latest").resolve()
    assert Outbox(sweep).read().status == "KILLED"
    assert Outbox(sweep / "0").read().status == "KILLED"
    assert in_mlflow(tmp_path, "FINISHED") == 0
    done = heatproof(*SWEEP, work=tmp_path, user=user)
    assert done.returncode == 0, done.stderr
    assert_equal(numbers(tmp_path, 2)[:1], calm)
    assert in_mlflow(tmp_path, "FINISHED") == 2


@pytest.mark.parametrize(("full", "what"), [("here", "results"), ("store", "store")])
@pytest.mark.parametrize("room", ["100k", "300k"])
def test_a_full_disk_is_told_and_lost_nothing(
    full: str, what: str, room: str, tmp_path: Path, user: Path, disk: Disk, calm: list[pd.DataFrame]
) -> None:
    (tmp_path / full).symlink_to(disk.folder, target_is_directory=True)
    disk.remount(f"size={room}")
    stopped = heatproof(*RUN, work=tmp_path, user=user)
    assert stopped.returncode == 2, stopped.stderr
    assert f"{what}: no space left on the disk" in stopped.stderr
    assert "Traceback" not in stopped.stderr
    disk.remount("size=100m")
    done = heatproof(*RUN, work=tmp_path, user=user)
    assert done.returncode == 0, done.stderr
    assert_equal(numbers(tmp_path, 1), calm)


def test_a_full_disk_in_a_sweep_is_told_of_each_job(tmp_path: Path, user: Path, disk: Disk) -> None:
    (tmp_path / "here").symlink_to(disk.folder, target_is_directory=True)
    disk.remount("size=300k")
    stopped = heatproof(*SWEEP, work=tmp_path, user=user)
    assert stopped.returncode == 1, stopped.stderr
    assert "results: no space left on the disk" in stopped.stderr
    disk.remount("size=100m")
    done = heatproof(*SWEEP, work=tmp_path, user=user)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", [RUN, SWEEP], ids=["run", "sweep"])
def test_a_folder_that_takes_no_results(command: tuple[str, ...], tmp_path: Path, user: Path, disk: Disk) -> None:
    (tmp_path / "here").symlink_to(disk.folder, target_is_directory=True)
    disk.remount("ro")
    stopped = heatproof(*command, work=tmp_path, user=user)
    assert stopped.returncode == 2
    assert "results: the disk is read-only at " in stopped.stderr
    assert "start the command in another folder" in stopped.stderr
    assert "Traceback" not in stopped.stderr


def test_broken_entries_of_the_store_are_made_again(tmp_path: Path, user: Path, calm: list[pd.DataFrame]) -> None:
    assert heatproof(*RUN, work=tmp_path, user=user).returncode == 0
    store = tmp_path / "store"
    entries = {entry.path for entry in Store(store).entries()}
    broken = 0
    for entry in entries:
        for number, file in enumerate(sorted(path for path in entry.rglob("*") if path.name != "manifest.json")):
            content = bytearray(file.read_bytes())
            content[len(content) // 2] ^= 255
            file.write_bytes(content if number % 2 == 0 else content[: len(content) // 2])
            broken += 1
    assert broken > 5
    done = heatproof(*RUN, "anew=true", work=tmp_path, user=user)
    assert done.returncode == 0, done.stderr
    log = (tmp_path / "here" / "results" / "latest" / "run.log").read_text()
    assert "fails its checksums" in log + done.stderr
    assert_equal(numbers(tmp_path, 1), calm)
    assert entries == {entry.path for entry in Store(store).entries()}


def test_a_clock_that_goes_back(tmp_path: Path, calm: list[pd.DataFrame]) -> None:
    user = user_folder(tmp_path / "conf")
    with (user / "blobs.py").open("a") as file:
        file.write(BACKWARDS)
    done = heatproof(*SWEEP, work=tmp_path, user=user)
    assert done.returncode == 0, done.stderr
    assert_equal(numbers(tmp_path, 2)[:1], calm)
    sweep = (tmp_path / "here" / "results" / "latest").resolve()
    for folder in (sweep, sweep / "0", sweep / "1"):
        content = Outbox(folder).read()
        assert content.status == "FINISHED"
        assert content.end_time is not None
        assert content.end_time >= content.start_time
    again = heatproof(*SWEEP, work=tmp_path, user=user)
    assert again.stdout.count("(an earlier run: ") == 2
    assert in_mlflow(tmp_path, "FINISHED") == 2
