"""A sweep: its jobs, what is said of them together, its exit code and its parent run, also where jobs fail or die."""

from __future__ import annotations

import shlex
import traceback
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from heatproof.base import compose
from heatproof.base.compose import Command
from heatproof.base.errors import HeatproofError, fault
from heatproof.base.outbox import Outbox
from heatproof.base.records import Ended
from heatproof.base.study import spoken
from heatproof.cli.jobs import job
from heatproof.cli.places import delivered, error_line, job_folders, near, new_folder, quiet, status_of
from heatproof.stages.plan import Plan, stands_for

if TYPE_CHECKING:
    from heatproof.stages.report.study import StudyReport

# Classifiers of more runs are not compared at the end of a sweep: a paired bootstrap of each takes 0.15 s.
COMPARED = 50


def run_sweep(command: Command) -> int:
    folder = new_folder(command.jobs[0].sweep_folder)
    outbox = Outbox(folder)
    plans: tuple[Plan, ...] = command.checked
    tracked = plans[0].tracked()
    about = {"sweep": " ".join(command.texts)}
    outbox.begin(tracked["experiment"], f"sweep {folder.name}", {"jobs": len(plans)}, about)
    status, text = "FAILED", ""
    try:
        try:
            compose.run_hydra(job, [*command.texts, f"hydra.sweep.dir='{folder}'"], multirun=True)
        except Exception as error:
            if not any(status_of(child) in ("FAILED", "KILLED") for child in job_folders(folder)):
                raise _of_launcher(error, command, folder) from error
        found = [status_of(folder / str(number)) for number in range(len(plans))]
        status = "FINISHED" if all(one == "FINISHED" for one in found) else "FAILED"
        text = _summed_up(command, folder, outbox)
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    finally:
        with suppress(OSError):  # a full disk does not hide how the jobs ended
            outbox.finish(status)
        print("\n".join(part for part in (_sweep_text(command, folder), text, f"results: {folder}") if part))
        print(_delivered(folder))
    return 0 if status == "FINISHED" else 1


def _of_launcher(error: Exception, command: Command, folder: Path) -> HeatproofError:
    """What to say where no job failed, so that the launcher did; its traceback is kept."""
    (folder / "launcher.log").write_text("".join(traceback.format_exception(error)))
    chosen = [text for text in command.texts if text.startswith("hydra/launcher=")]
    what = (str(error).splitlines() or [type(error).__name__])[0]
    hint = f"Its traceback: {near(folder / 'launcher.log')}. Without hydra/launcher the jobs run here, one by one."
    return HeatproofError(
        fault("hydra/launcher", f"no job failed, but the launcher did: {what}", got=next(iter(chosen), None), hint=hint)
    )


def _delivered(folder: Path) -> str:
    """Hand the jobs to MLflow, and earlier runs that stand for some where a kill came between their end and this."""
    from heatproof.stages import track

    jobs = job_folders(folder)
    earlier = [run for job in jobs if (run := stands_for(job)) != job and track.noted_as_sent(run) is None]
    said = [delivered(jobs, folder), *([delivered(earlier, None)] if earlier else [])]
    return "\n".join(dict.fromkeys(line for text in said for line in text.splitlines()))


def _summed_up(command: Command, folder: Path, outbox: Outbox) -> str:
    """What there is to say of the jobs together: their table, figure and page, and their classifiers compared."""
    ended = [_ended(command, folder, number) for number in range(len(command.jobs))]
    # A sweep that was asked to stop after a stage leaves summaries without predictions.
    finished = [one.results for one in ended if one.results and (one.results / "predictions.parquet").is_file()]
    if not finished:
        return ""
    from heatproof.stages.report.compare import write_comparison
    from heatproof.stages.report.sweep import merged_shards, write_sweep

    plan: Plan = command.checked[0]
    quiet()
    try:
        jobs = merged_shards(ended, folder)
        said = " ".join(["heatproof", *([] if plan.study else ["-m"]), *map(shlex.quote, map(spoken, command.texts))])
        study = study_of(jobs, folder, said)
        files, text = write_sweep(jobs, folder, command=said, figures=plan.report.figures, study=study)
        if study:
            files, text = [*files, *study.files], f"{text}\n\n{study.text}\n"
        if len(finished) > COMPARED:
            text += f"\ncomparison of classifiers: left out for {len(finished)} runs, more than {COMPARED}"
        elif len(finished) > 1:
            more, compared = write_comparison(finished, folder)
            files, text = [*files, *more], f"{text}\n{compared}"
    except HeatproofError as error:  # the runs are there, whatever is wrong with looking at them together
        return "\n".join(error.faults)
    for file in files:
        outbox.artifact(file.name)
    return text


def study_of(jobs: Sequence[Ended], folder: Path, command: str = "") -> StudyReport | None:
    """The report of the study that the finished jobs belong to; None where they belong to none, or explain nothing."""
    from heatproof.stages.report.kept import NAME
    from heatproof.stages.report.merge import stored
    from heatproof.stages.report.study import study_in, write_study

    runs = [stored(job.results) for job in jobs if job.results is not None and (job.results / NAME).is_file()]
    if not runs or study_in(runs) is None:
        return None
    failed = [job for job in jobs if job.status != "FINISHED"]
    return write_study(runs, folder, command=command, failed=failed)


def _ended(command: Command, folder: Path, number: int) -> Ended:
    """How a job ended."""
    place = folder / str(number)
    results = stands_for(place)
    status, logged = status_of(place), place / "run.log"
    return Ended(
        number,
        _own(command, number),
        status,
        results if status == "FINISHED" and (results / "summary.json").is_file() else None,
        "" if status == "FINISHED" else error_line(place),
        logged if logged.is_file() else None,
        results != place,
    )


def _sweep_text(command: Command, folder: Path) -> str:
    """One line per job: number, how it ended, what is its own; failures with their first line and log."""
    lines = [""]
    for number in range(len(command.jobs)):
        job = _ended(command, folder, number)
        earlier = f"  (an earlier run: {near(stands_for(folder / str(number)))})" if job.earlier else ""
        lines.append(f"{number:>4}  {job.status:<11}  {job.title}{earlier}".rstrip())
        if job.error:
            lines.append(f"      {job.error[:200]}")
            lines.append(f"      see {job.log or folder / str(number)}")
    return "\n".join([*lines, ""])


def _own(command: Command, number: int) -> str:
    """The overrides of a job that not all jobs of its command have."""
    mine = command.jobs[number].overrides
    return " ".join(spoken(text) for text in mine if not all(text in other.overrides for other in command.jobs))


def job_title(command: Command, number: int) -> str:
    return f"job {number}: {_own(command, number)}\n" if command.sweep else ""
