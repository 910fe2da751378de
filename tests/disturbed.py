"""What a disturbed command leaves, to be compared with an undisturbed one."""

import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pandas as pd
from commands import environment


def started(command: tuple[str, ...], work: Path, user: Path) -> subprocess.Popen:
    """The command in a process group of its own, in the folder `work/here`."""
    (work / "here").mkdir(parents=True, exist_ok=True)
    return subprocess.Popen(
        [sys.executable, "-m", "heatproof", *command], cwd=work / "here", env=environment(work, user),
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


def numbers(work: Path, jobs: int) -> list[pd.DataFrame]:
    """The scores of each job of the last command (of the run, where it is one), wherever they come from."""
    latest = (work / "here" / "results" / "latest").resolve()
    found = []
    for place in [latest] if jobs == 1 else [latest / str(number) for number in range(jobs)]:
        pointer = json.loads((place / "done.json").read_text()).get("reused")
        found.append(pd.read_parquet((place / pointer if pointer else place) / "scores.parquet"))
    return found


def assert_equal(found: list[pd.DataFrame], wanted: list[pd.DataFrame]) -> None:
    """Bit by bit."""
    for one, other in zip(found, wanted, strict=True):
        pd.testing.assert_frame_equal(one, other, check_exact=True)


def in_mlflow(work: Path, status: str) -> int:
    """How many runs of that status are in the store of a folder, parent runs left out."""
    with closing(sqlite3.connect(work / "here" / "mlruns" / "mlflow.db")) as store:
        return store.execute(
            "select count(*) from runs join tags using (run_uuid) where runs.status = ? "
            "and tags.key = 'heatproof.outbox' and tags.value not like 'sweep-%'",
            [status],
        ).fetchone()[0]
