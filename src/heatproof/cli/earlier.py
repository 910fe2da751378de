"""What can be done with the results of earlier commands: report them anew, send them to MLflow."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from pathlib import Path

from heatproof.base.compose import Command
from heatproof.base.errors import Faults, HeatproofError, fault
from heatproof.base.outbox import Outbox
from heatproof.base.records import Ended
from heatproof.base.study import spoken
from heatproof.cli.lists import OF_A_RUN
from heatproof.cli.places import error_line, job_folders, new_folder, quiet, status_of
from heatproof.cli.sweep import study_of
from heatproof.stages.plan import Plan, stands_for


def report_earlier(command: Command, plan: Plan) -> int:
    """Tables, figures and pages of earlier runs made anew, shards merged."""
    folders = _earlier(plan.report.runs)
    from heatproof.stages.report.merge import rebuild, stored, wholes
    from heatproof.stages.report.sweep import merged_shards, write_sweep

    finished = [folder for folder in folders if (folder / "summary.json").is_file()]
    groups = wholes([stored(folder) for folder in finished or folders])  # none finished: say what is wrong with them
    folder = new_folder(command.jobs[0].folder)
    jobs = _as_jobs(folders, {run.folder for group in groups for run in group})
    if len(groups) == 1:
        report = rebuild(groups[0], folder)
        print("\n".join([report.table_text, *report.verdicts]))
        study = study_of([Ended(0, "", "FINISHED", folder)], folder)
    else:
        jobs = merged_shards(jobs, folder)
        study = study_of(jobs, folder)
        print(write_sweep(jobs, folder, figures=plan.report.figures, study=study)[1])
    if study:
        print(f"\n{study.text}")
    lines = [f"left out, for it has no results: {one} ({status_of(one)})" for one in folders if one not in finished]
    print("\n".join(["", *lines, f"results: {folder}"]))
    return 0


def _as_jobs(folders: Sequence[Path], used: set[Path]) -> list[Ended]:
    """Earlier runs as jobs of one sweep, titled by the overrides that not all of them have."""
    overrides = []
    for folder in folders:
        made = folder / "config.yaml"
        lines = made.read_text(encoding="utf-8").splitlines() if made.is_file() else []
        overrides.append([line.removeprefix("# override: ") for line in lines if line.startswith("# override: ")])
    jobs = []
    for number, (folder, mine) in enumerate(zip(folders, overrides, strict=True)):
        title = " ".join(spoken(one) for one in mine if not all(one in other for other in overrides))
        log = folder / "run.log"
        done = (folder / "summary.json").is_file()
        if folder in used or not done:
            jobs.append(
                Ended(
                    number,
                    title,
                    "FINISHED" if done else status_of(folder),
                    folder if done else None,
                    "" if done else error_line(folder),
                    log if log.is_file() else None,
                    True,
                )
            )
    return jobs


def _earlier(runs: str | list[str] | None, where: str = "report.runs") -> list[Path]:
    """The results folders that the key `where` names; of a sweep's folder, those of its jobs."""
    found: list[Path] = []
    faults = []
    for pattern in [runs] if isinstance(runs, str) else runs or []:
        # Path.glob takes no absolute pattern.
        paths = sorted(map(Path, glob.glob(str(Path(pattern).expanduser()))))  # noqa: PTH207
        folders = [path for path in paths if path.is_dir() and not path.is_symlink()]
        folders = folders or [path.resolve() for path in paths if path.is_dir()]  # results/latest
        if not folders:
            known = sorted(str(path.parent) for path in Path("results").glob("*/summary.json"))[-8:]
            faults.append(fault(where, "no such results folder", got=pattern, choices=known))
        for folder in folders:
            jobs = job_folders(folder)
            found += [stands_for(one.absolute()) for one in jobs or [folder]]
    if faults:
        raise HeatproofError(*faults)
    return list(dict.fromkeys(path.resolve() for path in found))


def ask_of_run(show: str, overrides: Sequence[str]) -> int:
    """What is asked of an earlier run; a number that does not come out again is an error."""
    keys = OF_A_RUN[show]
    given: dict[str, str] = {}
    faults = Faults()
    for text in overrides:
        key, _, value = text.partition("=")
        if key not in ("show", *keys):
            faults.add(f"show={show}", "no such key", got=key, choices=keys)
        given[key] = value
    for key in keys:
        if not given.get(key):
            faults.add(key, f"is missing; show={show} takes {', '.join(f'{name}=' for name in keys)}")
    faults.raise_any()
    folders = _earlier(given["run"], "run")
    if len(folders) > 1:
        raise HeatproofError(fault("run", "one run is meant, these are several", got=given["run"], choices=folders))
    if show == "power":
        from heatproof.stages.report.power import power_text

        print(power_text(folders[0]))
        return 0
    from heatproof.recheck import recheck

    quiet()
    found = recheck(folders[0], given["image"], given["method"], given["metric"])
    print(found.text)
    return 0 if found.same else 1


def upload(runs: str | list[str] | None) -> int:
    """Send what earlier runs (None: all under `results`) left in their outboxes."""
    if runs is None:
        folders = sorted({path.parents[1] for path in Path("results").glob("**/outbox/run.json")})
    else:
        folders = [folder for folder in _earlier(runs) if Outbox(folder).begun]
    if not folders:
        where = "results/" if runs is None else str(runs)
        raise HeatproofError(fault("tracking.upload", f"no run of an earlier command is under {where}"))
    from heatproof.stages import track

    sent = track.send(folders)
    print(sent.message)
    return 1 if sent.failed else 0
