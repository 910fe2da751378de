"""The command line: every job of a command is checked before the first one starts; then Hydra runs them.

Exit codes: 0 done, 2 a fault of the user's input, 1 a job failed (its traceback is in its `run.log`), 130 interrupted.
Nothing heavy is imported until work starts, so help, lists, plans and faults answer at once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from heatproof.base import catalogue, compose, registry
from heatproof.base.disk import Place, disk_errors
from heatproof.base.errors import HeatproofError, fault
from heatproof.cli.earlier import ask_of_run, report_earlier, upload
from heatproof.cli.jobs import FULL, terminable
from heatproof.cli.lists import OF_A_RUN, SHOWN, checked, shown
from heatproof.cli.single import run_once, run_single
from heatproof.cli.sweep import job_title, run_sweep
from heatproof.stages.plan import Plan, plan_text

__all__ = ["main", "run_once"]

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
study=NAME dataset.root=FOLDER runs a published study, all its arms (arm=) under its own and the sound protocol
(protocol=), at scale=smoke, small or full, and puts its claims to the test.
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
  heatproof study=robustcam_ct scale=smoke dataset.root=FOLDER given=FILE

A folder named by HEATPROOF_CONF adds options of your own (YAML) and the Python functions behind them.
Results: results/latest, with report.html. Stored work: ~/.cache/heatproof, or HEATPROOF_STORE.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code of a command (`argv` without the program's name)."""
    try:
        with terminable(), disk_errors(Place("results", Path.cwd(), FULL)):
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
        return ask_of_run(about[-1], overrides)
    command = compose.command(overrides, multirun="-m" in flags or "--multirun" in flags, check=checked)
    first = command.jobs[0]
    if first.config.get("show") is not None:
        print(shown(first, command.checked[0]))
        return 0
    plans: tuple[Plan, ...] = command.checked
    if plans[0].stage == "plan":
        for number, plan in enumerate(plans):
            print(job_title(command, number) + plan_text(plan) + ("\n" if number < len(plans) - 1 else ""))
        return 0
    if plans[0].tracking.upload:
        return upload(plans[0].report.runs)
    if plans[0].report.runs is not None:
        return report_earlier(command, plans[0])
    return run_sweep(command) if command.sweep else run_single(command)


def _block(error: HeatproofError) -> str:
    faults = list(dict.fromkeys(error.faults))
    count = "a fault" if len(faults) == 1 else f"{len(faults)} faults"
    return "\n".join([f"heatproof: {count}", "", *(f"  {text}\n" for text in faults)]).rstrip()
