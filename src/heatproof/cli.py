"""The command line: every job of a command is checked before the first one starts; then Hydra runs them.

Exit codes: 0 done, 2 a fault of the user's input, 1 a job failed (its traceback is in its `run.log`), 130 interrupted.
Nothing heavy is imported until work starts, so help, lists, plans and faults answer at once.
"""

from __future__ import annotations

import logging
import os
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
from heatproof.base.errors import HeatproofError, fault
from heatproof.base.outbox import Outbox
from heatproof.stages.plan import Plan, make_plan, plan_text

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from heatproof.base.records import Report

SHOWN = (*catalogue.KINDS, "layers", "store", "config")
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
stage=plan says what would be done and stops; stage=load|train|predict|explain|measure stops after that stage, and the
next run goes on from there. tracking.upload=true sends to MLflow what earlier runs could not.

Examples:
  heatproof                                                  generated slices, a small CNN, Grad-CAM, nine metrics
  heatproof stage=plan model=resnet18                        what that would take
  heatproof dataset=image_folder dataset.root=FOLDER model=squeezenet1_0 model.weights=FILE train=frozen
  heatproof 'explainer=[gradcam,gradcam_plus_plus]' views=robustcam10 protocol=study
  heatproof -m model=small_cnn,mobilenet_v2 seed=1,2 hydra/launcher=joblib

A folder named by HEATPROOF_CONF adds options of your own (YAML) and the Python functions behind them.
Results: results/latest, with report.html. Stored work: ~/.cache/heatproof, or HEATPROOF_STORE.
"""

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
        return _upload()
    return _sweep(command) if command.sweep else _single(command)


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
            reports.append(_carried_out(cfg))
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
    failed = [folder.name for folder in _job_folders(here.sweep) if _status(folder) == "FAILED"]
    if failed and cfg.sweep.fail_fast:
        raise HeatproofError(fault("sweep.fail_fast", f"not started, for job {failed[0]} has failed"))
    with _terminable():
        _carried_out(cfg)


def _carried_out(cfg: DictConfig) -> Report:
    """Plan and run one job; what goes wrong is in its log before it is raised."""
    from heatproof.flow import run

    here = compose.here()
    compose.prepare()
    try:
        plan = make_plan(compose.plain(cfg), here.overrides)
        (here.folder / "config.yaml").write_text(_config_text(plan))
        return run(plan, here.folder, parent=here.sweep, progress=sys.stderr.isatty())
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
        raise HeatproofError(fault("show", "no such list", got=show, choices=SHOWN))
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
    report, sent = _run_one(command, command.jobs[0].folder)
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
    outbox.begin(
        tracked["experiment"], f"sweep {folder.name}", {"jobs": len(plans)}, {"sweep": " ".join(command.texts)}
    )
    status, compared = "FAILED", ""
    try:
        try:
            compose.run_hydra(job, [*command.texts, f"hydra.sweep.dir='{folder}'"], multirun=True)
        except Exception:
            if not any(_status(child) == "FAILED" for child in _job_folders(folder)):
                raise  # no job failed, so the launcher did
        found = [_status(folder / str(number)) for number in range(len(plans))]
        status = "FINISHED" if all(one == "FINISHED" for one in found) else "FAILED"
        compared = _compared(folder, outbox)
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    finally:
        outbox.finish(status)
        print("\n".join(text for text in (_sweep_text(command, folder), compared) if text))
        print(_sent(_job_folders(folder), folder))
    return 0 if status == "FINISHED" else 1


def _compared(folder: Path, outbox: Outbox) -> str:
    """What there is to say of the classifiers of the jobs that finished, compared; nothing where no two did."""
    # A sweep that was asked to stop after a stage leaves summaries without predictions.
    wanted = ("summary.json", "predictions.parquet")
    finished = [path for path in _job_folders(folder) if all((path / name).is_file() for name in wanted)]
    if len(finished) < 2:
        return ""
    from heatproof.stages.report.compare import write_comparison

    files, text = write_comparison(finished, folder)
    for file in files:
        outbox.artifact(file.name)
    return text


def _job_folders(sweep: Path) -> list[Path]:
    return sorted((path for path in sweep.glob("*") if path.name.isdigit()), key=lambda path: int(path.name))


def _status(folder: Path) -> str:
    outbox = Outbox(folder)
    return outbox.read().status if outbox.begun else "not started"


def _sweep_text(command: Command, folder: Path) -> str:
    """One line per job: number, what is its own, how it ended."""
    lines = [""]
    for number in range(len(command.jobs)):
        status = _status(folder / str(number))
        lines.append(f"{number:>4}  {status:<11}  {_own(command, number)}")
        error = folder / str(number) / "outbox" / "traceback.txt"
        if status == "FAILED" and error.is_file():
            last = [line for line in error.read_text().splitlines() if line.strip()][-1]
            lines.append(f"      {last[:200]}")
            lines.append(f"      see {folder / str(number) / 'run.log'}")
    return "\n".join([*lines, "", f"results: {folder}"])


def _own(command: Command, number: int) -> str:
    """The overrides of a job that not all jobs of its command have."""
    mine = command.jobs[number].overrides
    return " ".join(text for text in mine if not all(text in other.overrides for other in command.jobs))


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
    results = Path("results").absolute()
    if results in folder.parents:
        temporary = results / f".latest-{os.getpid()}"
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(folder.relative_to(results), target_is_directory=True)
        temporary.replace(results / "latest")
    return folder


def _sent(folders: Sequence[Path], parent: Path | None) -> str:
    """Hand outboxes to MLflow; what there is to say about it."""
    from heatproof.stages import track

    return track.send([folder for folder in folders if Outbox(folder).begun], parent=parent).message


def _upload() -> int:
    """Send what earlier runs under `results` left in their outboxes."""
    folders = sorted({path.parents[1] for path in Path("results").glob("**/outbox/run.json")})
    if not folders:
        raise HeatproofError(fault("tracking.upload", "no run of an earlier command is under results/"))
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
