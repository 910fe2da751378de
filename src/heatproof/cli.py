"""The command line: every job of a command is checked before the first one starts; then Hydra runs them.

Exit codes: 0 done, 2 a fault of the user's input, 1 a job failed (its traceback is in its `run.log`), 130 interrupted.
Nothing heavy is imported until work starts, so help, lists, plans and faults answer at once.
"""

from __future__ import annotations

import glob
import logging
import os
import shlex
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from heatproof.base import catalogue, compose, registry
from heatproof.base.compose import Command, Job
from heatproof.base.errors import Faults, HeatproofError, fault
from heatproof.base.outbox import Outbox
from heatproof.base.records import Ended
from heatproof.base.study import spoken
from heatproof.stages.plan import (
    COMPLETE,
    Plan,
    done_hash,
    find_done,
    make_plan,
    note_done,
    note_reused,
    plan_text,
    said,
    stands_for,
)

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from heatproof.base.records import Report
    from heatproof.stages.report.study import StudyReport

SHOWN = (*catalogue.KINDS, "layers", "store", "config")
# Lists of an earlier run, and the keys that they take beside `show`.
OF_A_RUN = {"cell": ("run", "image", "method", "metric"), "power": ("run",)}
FLAGS = ("-h", "--help", "-m", "--multirun", "--version")
HELP = """\
heatproof: can this heat map be trusted? Trains or loads an image classifier, explains its predictions, fuses the maps
over views, measures them beside controls, and logs everything to MLflow.

  heatproof [key=value ...]        one run
  heatproof -m key=a,b [...]       a sweep over all combinations

Groups and their options (group=option; explainer and metrics take a list: 'explainer=[gradcam,gradcam_plus_plus]'):
{groups}

Keys of the whole config: heatproof show=config. Settings of a choice: model.width=32, explainer.gradcam.relu=false.
Lists: show={shown}.
show=cell run=FOLDER image=... method=... metric=... makes one number of an earlier run again and draws the images
behind it; show=power run=FOLDER says how many images would show the differences that a run saw.
stage=plan says what would be done and stops; stage=load|train|predict|explain|measure stops after that stage, and the
next run goes on from there. A command that has finished before, and the jobs of a sweep that have, are not run again
(anew=true runs them). stage=report report.runs='results/multirun/NAME' makes the report of earlier runs anew, without a
model, and merges shards (eval.shards=4 eval.shard=0,1,2,3). tracking.upload=true sends to MLflow what runs could not.

Examples:
  heatproof                                                  generated slices, a small CNN, Grad-CAM, nine metrics
  heatproof stage=plan model=resnet18                        what that would take
  heatproof dataset=image_folder dataset.root=FOLDER model=squeezenet1_0 model.weights=FILE train=frozen
  heatproof 'explainer=[gradcam,gradcam_plus_plus]' views=robustcam10 protocol=study
  heatproof -m model=small_cnn,mobilenet_v2 seed=1,2 hydra/launcher=joblib
  heatproof study=robustcam_ct scale=smoke dataset.root=FOLDER model.weights=FILE

A folder named by HEATPROOF_CONF adds options of your own (YAML) and the Python functions behind them.
Results: results/latest, with report.html. Stored work: ~/.cache/heatproof, or HEATPROOF_STORE.
"""

# Classifiers of more runs are not compared at the end of a sweep: a paired bootstrap of each takes 0.15 s.
COMPARED = 50
log = logging.getLogger("heatproof")
# How a job ended goes to its run.log alone; the terminal gets it from the command.
outcome = logging.getLogger("heatproof.outcome")


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code of a command (`argv` without the program's name)."""
    try:
        with _terminable():
            return _main(list(sys.argv[1:] if argv is None else argv))
    except HeatproofError as error:
        print(_block(error), file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:
        print("heatproof: interrupted; the same command goes on from what is stored.", file=sys.stderr)
        return 143 if stop.args == ("terminated",) else 130
    except BrokenPipeError:  # `heatproof show=config | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _main(arguments: list[str]) -> int:
    flags = [text for text in arguments if text.startswith("-")]
    overrides = [text for text in arguments if not text.startswith("-")]
    unknown = [text for text in flags if text not in FLAGS]
    if unknown:
        raise HeatproofError(*(fault("command line", "no such flag", got=text, choices=FLAGS) for text in unknown))
    if "-h" in flags or "--help" in flags:
        registry.load_plugins()
        print(HELP.format(groups=catalogue.groups_text(), shown="|".join(SHOWN)), end="")
        return 0
    if "--version" in flags:
        from importlib.metadata import version

        print(f"heatproof {version('heatproof')}")
        return 0
    about = [text.partition("=")[2] for text in overrides if text.partition("=")[0] == "show"]
    if about and about[-1] in OF_A_RUN:
        return _of_a_run(about[-1], overrides)
    command = compose.command(overrides, multirun="-m" in flags or "--multirun" in flags, check=_checked)
    first = command.jobs[0]
    if first.config.get("show") is not None:
        print(_shown(first, command.checked[0]))
        return 0
    plans: tuple[Plan, ...] = command.checked
    if plans[0].stage == "plan":
        for number, plan in enumerate(plans):
            print(_job_title(command, number) + plan_text(plan) + ("\n" if number < len(plans) - 1 else ""))
        return 0
    if plans[0].tracking.upload:
        return _upload(plans[0].report.runs)
    if plans[0].report.runs is not None:
        return _reported(command, plans[0])
    return _sweep(command) if command.sweep else _single(command)


def _of_a_run(show: str, overrides: Sequence[str]) -> int:
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

    _quiet()
    found = recheck(folders[0], given["image"], given["method"], given["metric"])
    print(found.text)
    return 0 if found.same else 1


def run_once(overrides: Sequence[str]) -> Report:
    """The report of one run, made as the command line would make it; raises what the run raises."""
    command = compose.command(overrides, check=_checked)
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


def _run_one(command: Command, wanted: Path) -> tuple[Report | Exception, str]:
    """The report of a single run or what it raised, and what there is to say of its delivery to MLflow."""
    folder = _new_folder(wanted)
    reports: list[Report | Exception] = []

    def task(cfg: DictConfig) -> None:
        try:
            report = _carried_out(cfg)
            assert report is not None
            reports.append(report)
        except Exception as error:  # Hydra would report it in its own way
            reports.append(error)

    try:
        compose.run_hydra(task, [*command.texts, f"hydra.run.dir='{folder}'"], multirun=False)
    finally:
        sent = _sent([folder], None)
    return reports[0], sent


def job(cfg: DictConfig) -> None:
    """One job of a sweep, in whatever process a launcher runs it."""
    here = compose.here()
    assert here.sweep is not None
    failed = [folder.name for folder in _job_folders(here.sweep) if _status(folder) in ("FAILED", "KILLED")]
    if failed and cfg.sweep.fail_fast:
        raise HeatproofError(fault("sweep.fail_fast", f"not started, for job {failed[0]} has failed"))
    with _terminable():
        _carried_out(cfg)


def _carried_out(cfg: DictConfig) -> Report | None:
    """Plan and run one job; what goes wrong is in its log before it is raised. None where an earlier run stands for a
    job of a sweep."""
    from heatproof.flow import run

    here = compose.here()
    compose.prepare()
    try:
        plan = make_plan(compose.plain(cfg), here.overrides)
        (here.folder / "config.yaml").write_text(_config_text(plan))
        wanted = done_hash(plan) if plan.stage in COMPLETE else None
        if here.sweep is not None and wanted is not None and not plan.anew:
            earlier = find_done(wanted, [here.sweep.parent, Path("results")])
            if earlier is not None:
                note_reused(here.folder, earlier)
                return None
        report = run(plan, here.folder, parent=here.sweep, progress=sys.stderr.isatty())
        if wanted is not None:
            note_done(here.folder, wanted, text="\n".join([report.table_text, *report.verdicts]))
        return report
    except HeatproofError as error:
        outcome.error("%s", "\n".join(error.faults))
        raise
    except KeyboardInterrupt:
        outcome.error("interrupted")
        raise
    except BaseException:
        outcome.error("%s", traceback.format_exc())
        raise


def _config_text(plan: Plan) -> str:
    """The composed config as YAML, headed by what made it: enough to run it again."""
    head = [f"# plan {plan.hash}", *(f"# override: {text}" for text in plan.overrides)]
    return "\n".join(head) + "\n" + yaml.safe_dump(dict(plan.config), sort_keys=False, allow_unicode=True)


# ---- before work starts ----------------------------------------------------------------------------------------------


def _checked(job: Job) -> Plan | None:
    """The plan of a job; None where the command asks for a list that needs none."""
    show = job.config.get("show")
    if show is not None and show not in SHOWN:
        raise HeatproofError(fault("show", "no such list", got=show, choices=(*SHOWN, *OF_A_RUN)))
    return None if show is not None and show != "layers" else make_plan(job.config, job.overrides)


def _shown(job: Job, plan: Plan | None) -> str:
    show = job.config["show"]
    if show == "config":
        return yaml.safe_dump({**job.config, "show": None}, sort_keys=False, allow_unicode=True).rstrip()
    if show == "store":
        return _store_text()
    if show == "layers":
        assert plan is not None
        return _layers_text(plan)
    return catalogue.choices_text(show)


def _layers_text(plan: Plan) -> str:
    import torch

    from heatproof.base.layers import explanation_layers, spatial_layers
    from heatproof.base.nets import build_net, untrained

    size, channels = plan.load.size, plan.load.channels
    classes = next(iter(plan.counts.values()), {})
    module = build_net(untrained(plan.model), max(2, len(classes)), channels, size)
    example = torch.rand(1, channels, size, size)
    names, found = explanation_layers(module, example), spatial_layers(module, example)
    head = (
        f"layers of {plan.model_name} on {channels} x {size} x {size} px, shallow to deep, as channels x rows x columns"
    )
    if not names:
        return f"{head}: none, no layer of this net has places in the image"
    width = max(map(len, names))
    lines = []
    for name in names:
        layer = found[name]
        prefix = layer.layout.prefix
        tokens = f", {prefix} token{'s' if prefix > 1 else ''} beside them" if prefix else ""
        automatic = "   <- automatic" if name == names[-1] else ""
        lines.append(
            f"  {name:<{width}}  {layer.channels} x {layer.layout.rows} x {layer.layout.cols}{tokens}{automatic}"
        )
    note = "explainer.gradcam.layer=NAME takes one of them, or a module inside one; null takes the automatic one."
    return "\n".join([f"{head}:", *lines, note])


def _store_text() -> str:
    from heatproof.base.store import Store

    store = Store()
    entries = store.entries()
    total = sum(entry.num_bytes for entry in entries)
    lines = [f"{entry.num_bytes / 1e6:10.1f} MB  {entry.kind:<12} {entry.key}  {entry.what}" for entry in entries]
    return "\n".join([*lines, f"{total / 1e6:10.1f} MB  in {len(entries)} entries of {store.root}"])


# ---- running ---------------------------------------------------------------------------------------------------------


def _single(command: Command) -> int:
    plan: Plan = command.checked[0]
    wanted = command.jobs[0].folder
    earlier = None
    if plan.stage in COMPLETE and not plan.anew:
        earlier = find_done(done_hash(plan), [wanted.parent, Path("results")])
    if earlier is not None:
        _latest(earlier)
        print("\n".join([said(earlier), "", f"results: {earlier} (of an earlier run; anew=true runs it again)"]))
        from heatproof.stages import track

        noted = track.noted_as_sent(earlier)
        print(noted.message if noted else _sent([earlier], None))
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


def _sweep(command: Command) -> int:
    folder = _new_folder(command.jobs[0].sweep_folder)
    outbox = Outbox(folder)
    plans: tuple[Plan, ...] = command.checked
    tracked = plans[0].tracked()
    about = {"sweep": " ".join(command.texts)}
    outbox.begin(tracked["experiment"], f"sweep {folder.name}", {"jobs": len(plans)}, about)
    status, text = "FAILED", ""
    try:
        try:
            compose.run_hydra(job, [*command.texts, f"hydra.sweep.dir='{folder}'"], multirun=True)
        except Exception:
            if not any(_status(child) in ("FAILED", "KILLED") for child in _job_folders(folder)):
                raise  # no job failed, so the launcher did
        found = [_status(folder / str(number)) for number in range(len(plans))]
        status = "FINISHED" if all(one == "FINISHED" for one in found) else "FAILED"
        text = _summed_up(command, folder, outbox)
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    finally:
        outbox.finish(status)
        print("\n".join(part for part in (_sweep_text(command, folder), text, f"results: {folder}") if part))
        print(_sent(_job_folders(folder), folder))
    return 0 if status == "FINISHED" else 1


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
    _quiet()
    try:
        jobs = merged_shards(ended, folder)
        said = " ".join(["heatproof", *([] if plan.study else ["-m"]), *map(shlex.quote, map(spoken, command.texts))])
        of_study = _of_study(jobs, folder, said)
        files, text = write_sweep(jobs, folder, command=said, figures=plan.report.figures, study=of_study)
        if of_study:
            files, text = [*files, *of_study.files], f"{text}\n\n{of_study.text}\n"
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


def _of_study(jobs: Sequence[Ended], folder: Path, command: str = "") -> StudyReport | None:
    """The report of the study that the finished jobs belong to; None where they belong to none, or explain nothing."""
    from heatproof.stages.report.kept import NAME
    from heatproof.stages.report.merge import stored
    from heatproof.stages.report.study import study_in, write_study

    runs = [stored(job.results) for job in jobs if job.results is not None and (job.results / NAME).is_file()]
    if not runs or study_in(runs) is None:
        return None
    failed = [job for job in jobs if job.status != "FINISHED"]
    return write_study(runs, folder, command=command, failed=failed)


def _quiet() -> None:
    """Outside of a job, Hydra logs everything to the terminal."""
    for name in ("fontTools", "matplotlib"):
        logging.getLogger(name).setLevel(logging.WARNING)


def _ended(command: Command, folder: Path, number: int) -> Ended:
    """How a job ended."""
    place = folder / str(number)
    results = stands_for(place)
    status, logged = _status(place), place / "run.log"
    return Ended(
        number,
        _own(command, number),
        status,
        results if status == "FINISHED" and (results / "summary.json").is_file() else None,
        "" if status == "FINISHED" else _error_line(place),
        logged if logged.is_file() else None,
        results != place,
    )


def _error_line(folder: Path) -> str:
    """The first line of what ended a job."""
    path = folder / "outbox" / "traceback.txt"
    if not path.is_file():
        return "its process died" if _status(folder) == "KILLED" else ""
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    # The message follows the last frame and may have several lines.
    frames = [number for number, line in enumerate(lines) if line.startswith("  File ")]
    after = lines[frames[-1] + 1 :] if frames else lines
    return next((line for line in after if not line.startswith(" ")), lines[-1] if lines else "")


def _reported(command: Command, plan: Plan) -> int:
    """Tables, figures and pages of earlier runs made anew, shards merged."""
    folders = _earlier(plan.report.runs)
    from heatproof.stages.report.merge import rebuild, stored, wholes
    from heatproof.stages.report.sweep import merged_shards, write_sweep

    finished = [folder for folder in folders if (folder / "summary.json").is_file()]
    groups = wholes([stored(folder) for folder in finished or folders])  # none finished: say what is wrong with them
    folder = _new_folder(command.jobs[0].folder)
    jobs = _as_jobs(folders, {run.folder for group in groups for run in group})
    if len(groups) == 1:
        report = rebuild(groups[0], folder)
        print("\n".join([report.table_text, *report.verdicts]))
        of_study = _of_study([Ended(0, "", "FINISHED", folder)], folder)
    else:
        jobs = merged_shards(jobs, folder)
        of_study = _of_study(jobs, folder)
        print(write_sweep(jobs, folder, figures=plan.report.figures, study=of_study)[1])
    if of_study:
        print(f"\n{of_study.text}")
    lines = [f"left out, for it has no results: {one} ({_status(one)})" for one in folders if one not in finished]
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
                    "FINISHED" if done else _status(folder),
                    folder if done else None,
                    "" if done else _error_line(folder),
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
            jobs = _job_folders(folder)
            found += [stands_for(one.absolute()) for one in jobs or [folder]]
    if faults:
        raise HeatproofError(*faults)
    return list(dict.fromkeys(path.resolve() for path in found))


def _job_folders(sweep: Path) -> list[Path]:
    return sorted((path for path in sweep.glob("*") if path.name.isdigit()), key=lambda path: int(path.name))


def _status(folder: Path) -> str:
    outbox = Outbox(folder)
    if stands_for(folder) != folder:
        return "FINISHED"
    return outbox.read().status if outbox.begun else "not started"


def _sweep_text(command: Command, folder: Path) -> str:
    """One line per job: number, how it ended, what is its own; failures with their first line and log."""
    lines = [""]
    for number in range(len(command.jobs)):
        job = _ended(command, folder, number)
        earlier = f"  (an earlier run: {_near(stands_for(folder / str(number)))})" if job.earlier else ""
        lines.append(f"{number:>4}  {job.status:<11}  {job.title}{earlier}".rstrip())
        if job.error:
            lines.append(f"      {job.error[:200]}")
            lines.append(f"      see {job.log or folder / str(number)}")
    return "\n".join([*lines, ""])


def _near(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _own(command: Command, number: int) -> str:
    """The overrides of a job that not all jobs of its command have."""
    mine = command.jobs[number].overrides
    return " ".join(spoken(text) for text in mine if not all(text in other.overrides for other in command.jobs))


def _job_title(command: Command, number: int) -> str:
    return f"job {number}: {_own(command, number)}\n" if command.sweep else ""


def _new_folder(wanted: Path) -> Path:
    """The folder, made; another name where it is there already, so that no two runs share one."""
    folder, number = wanted.absolute(), 1
    while True:
        try:
            folder.mkdir(parents=True)
            break
        except FileExistsError:
            number += 1
            folder = wanted.absolute().with_name(f"{wanted.name}-{number}")
    _latest(folder)
    return folder


def _latest(folder: Path) -> None:
    """Let results/latest lead to a folder of results."""
    results = Path("results").absolute()
    if results in folder.parents:
        temporary = results / f".latest-{os.getpid()}"
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(folder.relative_to(results), target_is_directory=True)
        temporary.replace(results / "latest")


def _sent(folders: Sequence[Path], parent: Path | None) -> str:
    """Hand outboxes to MLflow; what there is to say about it."""
    from heatproof.stages import track

    return track.send([folder for folder in folders if Outbox(folder).begun], parent=parent).message


def _upload(runs: str | list[str] | None) -> int:
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


@contextmanager
def _terminable() -> Iterator[None]:
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


def _block(error: HeatproofError) -> str:
    faults = list(dict.fromkeys(error.faults))
    count = "a fault" if len(faults) == 1 else f"{len(faults)} faults"
    return "\n".join([f"heatproof: {count}", "", *(f"  {text}\n" for text in faults)]).rstrip()
