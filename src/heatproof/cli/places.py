"""Folders of results: where a command writes, how the jobs in it ended, how they reach MLflow."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path

from heatproof.base.outbox import Outbox
from heatproof.stages.plan import stands_for


def new_folder(wanted: Path) -> Path:
    """The folder, made; another name where it is there already, so that no two runs share one."""
    folder, number = wanted.absolute(), 1
    while True:
        try:
            folder.mkdir(parents=True)
            break
        except FileExistsError:
            number += 1
            folder = wanted.absolute().with_name(f"{wanted.name}-{number}")
    lead_latest_to(folder)
    return folder


def lead_latest_to(folder: Path) -> None:
    """Let results/latest lead to a folder of results."""
    results = Path("results").absolute()
    if results in folder.parents:
        temporary = results / f".latest-{os.getpid()}"
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(folder.relative_to(results), target_is_directory=True)
        temporary.replace(results / "latest")


def job_folders(sweep: Path) -> list[Path]:
    return sorted((path for path in sweep.glob("*") if path.name.isdigit()), key=lambda path: int(path.name))


def status_of(folder: Path) -> str:
    outbox = Outbox(folder)
    if stands_for(folder) != folder:
        return "FINISHED"
    return outbox.read().status if outbox.begun else "not started"


def error_line(folder: Path) -> str:
    """The first line of what ended a job."""
    path = folder / "outbox" / "traceback.txt"
    if not path.is_file():
        return "its process died" if status_of(folder) == "KILLED" else ""
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    # The message follows the last frame and may have several lines.
    frames = [number for number, line in enumerate(lines) if line.startswith("  File ")]
    after = lines[frames[-1] + 1 :] if frames else lines
    return next((line for line in after if not line.startswith(" ")), lines[-1] if lines else "")


def near(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def delivered(folders: Sequence[Path], parent: Path | None = None) -> str:
    """Hand outboxes to MLflow; what there is to say about it."""
    from heatproof.stages import track

    return track.send([folder for folder in folders if Outbox(folder).begun], parent=parent).message


def quiet() -> None:
    """Outside of a job, Hydra logs everything to the terminal."""
    for name in ("fontTools", "matplotlib"):
        logging.getLogger(name).setLevel(logging.WARNING)
