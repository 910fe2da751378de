"""One job as Hydra runs it, in whatever process: plan, run, note how it ended."""

from __future__ import annotations

import logging
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from heatproof.base import compose
from heatproof.base.compose import Here
from heatproof.base.disk import Place, disk_errors
from heatproof.base.errors import HeatproofError, fault
from heatproof.base.store import ELSEWHERE, Store
from heatproof.cli.places import job_folders, status_of
from heatproof.stages.plan import COMPLETE, Plan, done_hash, find_done, make_plan, note_done, note_reused

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from heatproof.base.records import Report

# What to do about a disk that takes no results.
FULL = "Free some space, or start the command in another folder; it goes on from what is in the store."
# Launchers that start several jobs on this machine; Slurm gives each job GPUs of its own.
AT_ONCE = ("joblib", "submitit_local")
# How a job ended goes to its run.log alone; the terminal gets it from the command.
outcome = logging.getLogger("heatproof.outcome")


def job(cfg: DictConfig) -> None:
    """One job of a sweep, in whatever process a launcher runs it."""
    here = compose.here()
    assert here.sweep is not None
    failed = [folder.name for folder in job_folders(here.sweep) if status_of(folder) in ("FAILED", "KILLED")]
    if failed and cfg.sweep.fail_fast:
        raise HeatproofError(fault("sweep.fail_fast", f"not started, for job {failed[0]} has failed"))
    with terminable():
        carried_out(cfg)


def carried_out(cfg: DictConfig, *, before_report: Callable[[], None] = lambda: None) -> Report | None:
    """Plan and run one job; what goes wrong is in its log before it is raised. None where an earlier run stands for a
    job of a sweep. `before_report` is called when all but the report is done."""
    here = compose.here()
    compose.prepare()
    try:
        with disk_errors(Place("results", here.folder, FULL), Place("store", Store().root, ELSEWHERE)):
            return _carried_out(cfg, here, before_report)
    except HeatproofError as error:
        text = "\n".join(error.faults)
        _note(text)
        if here.sweep is not None and error.__cause__ is not None:
            print(text, file=sys.stderr)  # a full disk takes no log
        raise
    except KeyboardInterrupt:
        _note("interrupted")
        raise
    except BaseException:
        _note(traceback.format_exc())
        raise


def _note(text: str) -> None:
    """Put how a job ended into its log, where its disk takes it."""
    before = logging.raiseExceptions
    logging.raiseExceptions = False  # else every line that a full disk refuses is a traceback on the terminal
    try:
        outcome.error("%s", text)
    finally:
        logging.raiseExceptions = before


def _carried_out(cfg: DictConfig, here: Here, before_report: Callable[[], None]) -> Report | None:
    from heatproof.flow import run

    plan = make_plan(compose.plain(cfg), here.overrides)
    (here.folder / "config.yaml").write_text(_config_text(plan))
    wanted = done_hash(plan) if plan.stage in COMPLETE else None
    if here.sweep is not None and wanted is not None and not plan.anew:
        earlier = find_done(wanted, [here.sweep.parent, Path("results")])
        if earlier is not None:
            note_reused(here.folder, earlier)
            return None
    with own_gpu(plan, here.launcher) as plan:
        report = run(plan, here.folder, parent=here.sweep, progress=sys.stderr.isatty(), before_report=before_report)
    if wanted is not None:
        note_done(here.folder, wanted, text="\n".join([report.table_text, *report.verdicts]))
    return report


@contextmanager
def own_gpu(plan: Plan, launcher: str | None) -> Iterator[Plan]:
    """The plan, on a GPU that no other job has where a launcher runs several at once on this machine; `device=cuda:1`
    and `device=cpu` stay what they are."""
    if launcher not in AT_ONCE or plan.compute.device not in ("auto", "cuda") or plan.stage == "load":
        yield plan
        return
    from heatproof.base.lease import gpu_ids, leased

    ids = gpu_ids()
    if not ids:
        yield plan
        return
    with leased(ids, Store().root / "locks") as number:
        yield replace(plan, compute=replace(plan.compute, device=f"cuda:{number}"))


def _config_text(plan: Plan) -> str:
    """The composed config as YAML, headed by what made it: enough to run it again."""
    head = [f"# plan {plan.hash}", *(f"# override: {text}" for text in plan.overrides)]
    return "\n".join(head) + "\n" + yaml.safe_dump(dict(plan.config), sort_keys=False, allow_unicode=True)


@contextmanager
def terminable() -> Iterator[None]:
    """SIGTERM ends the block like Ctrl-C does, so that a run stopped by a scheduler is recorded as killed."""

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt("terminated")

    try:
        before = signal.signal(signal.SIGTERM, stop)
    except ValueError:  # not the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
