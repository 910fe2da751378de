"""A single run: from the command line, and from Python."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from heatproof.base import compose
from heatproof.base.compose import Command
from heatproof.base.errors import HeatproofError, fault
from heatproof.cli.jobs import carried_out
from heatproof.cli.lists import checked
from heatproof.cli.places import delivered, lead_latest_to, new_folder
from heatproof.stages.plan import COMPLETE, Plan, done_hash, find_done, said

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from heatproof.base.records import Report

log = logging.getLogger("heatproof")


def run_once(overrides: Sequence[str]) -> Report:
    """The report of one run, made as the command line would make it; raises what the run raises."""
    command = compose.command(overrides, check=checked)
    if command.sweep:
        raise HeatproofError(fault("run", "this is a sweep; one run is expected", got=list(overrides),
                                   hint="Start it on the command line with -m."))  # fmt: skip
    (job,), (plan,) = command.jobs, command.checked
    if not isinstance(plan, Plan) or plan.stage == "plan":
        raise HeatproofError(fault("run", "show= and stage=plan are for the command line", got=list(overrides)))
    report, sent = _run_one(command, job.folder)
    if sent:
        log.info("%s", sent)
    if isinstance(report, Exception):
        raise report
    return report


def run_single(command: Command) -> int:
    plan: Plan = command.checked[0]
    wanted = command.jobs[0].folder
    earlier = None
    if plan.stage in COMPLETE and not plan.anew:
        earlier = find_done(done_hash(plan), [wanted.parent, Path("results")])
    if earlier is not None:
        lead_latest_to(earlier)
        print("\n".join([said(earlier), "", f"results: {earlier} (of an earlier run; anew=true runs it again)"]))
        from heatproof.stages import track

        noted = track.noted_as_sent(earlier)
        print(noted.message if noted else delivered([earlier]))
        return 0
    report, sent = _run_one(command, wanted)
    if isinstance(report, HeatproofError):
        raise report
    if isinstance(report, Exception):
        traceback.print_exception(report)
    else:
        print("\n".join([report.table_text, *report.verdicts, "", f"results: {report.folder}"]))
    print(sent)
    return 1 if isinstance(report, Exception) else 0


def _run_one(command: Command, wanted: Path) -> tuple[Report | Exception, str]:
    """The report of a single run or what it raised, and what there is to say of its delivery to MLflow."""
    from heatproof.stages.track import Courier

    folder, courier = new_folder(wanted), Courier()
    reports: list[Report | Exception] = []

    def task(cfg: DictConfig) -> None:
        try:
            report = carried_out(cfg, before_report=courier.start)
            assert report is not None
            reports.append(report)
        except Exception as error:  # Hydra would report it in its own way
            reports.append(error)

    try:
        compose.run_hydra(task, [*command.texts, f"hydra.run.dir='{folder}'"], multirun=False)
    finally:
        sent = courier.send([folder]).message
    return reports[0], sent
