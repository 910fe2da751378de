"""Leases of GPUs between real processes; the GPUs themselves need not be there."""

import multiprocessing
import os
import signal
import time
from itertools import pairwise
from pathlib import Path

from heatproof.base.lease import leased

IDS = ("first", "second")


def job(folder: Path, log: Path, seconds: float) -> None:
    with leased(IDS, folder) as number:
        start = time.monotonic()
        time.sleep(seconds)
        (log / f"{os.getpid()}").write_text(f"{number} {start} {time.monotonic()}")


def started(*arguments: object) -> multiprocessing.Process:
    process = multiprocessing.get_context("spawn").Process(target=job, args=arguments)
    process.start()
    return process


def test_no_gpu_has_two_jobs_and_all_gpus_work(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.mkdir()
    processes = [started(tmp_path, log, 0.4) for _ in range(5)]
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0] * 5
    held = sorted(tuple(map(float, path.read_text().split())) for path in log.iterdir())
    assert {number for number, _, _ in held} == {0, 1}
    for (one, _, end), (other, start, _) in pairwise(held):
        assert one != other or end <= start


def test_a_job_that_dies_gives_its_gpu_back(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    process = started(tmp_path, tmp_path / "log", 600)
    until = time.monotonic() + 60
    while not list(tmp_path.glob("gpu-first.lock")):
        assert time.monotonic() < until
        time.sleep(0.05)
    with leased(IDS, tmp_path) as number:
        assert number == 1
    os.kill(process.pid, signal.SIGKILL)
    process.join(60)
    with leased(IDS, tmp_path) as number:
        assert number == 0


def test_a_block_that_fails_gives_its_gpu_back(tmp_path: Path) -> None:
    for _ in range(2):
        try:
            with leased(IDS[:1], tmp_path) as number:
                raise RuntimeError("out of memory")
        except RuntimeError:
            assert number == 0
