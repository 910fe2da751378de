"""The net of an earlier run: what its results folder says of it, so that another run can take it as it is.

Conventions: the weights stay in the store (or in the file that `model.weights` named); the results folder holds what
it takes to build the net around them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from heatproof.base.errors import HeatproofError, fault

NAME = "classifier.json"
# Keys of `dataset` that say how the images of the net look.
LOOK = ("size", "channels", "resize")


@dataclass(frozen=True)
class Trained:
    """`model`: the section of the config. `look`: `dataset.size`, `channels` and `resize` that the net was trained at.
    `weights`: a file of the whole state, None where `model.weights` is all. `identity`: of the classifier."""

    name: str
    model: Mapping[str, Any]
    look: Mapping[str, Any]
    classes: tuple[str, ...]
    weights: str | None
    identity: str
    train_mean: tuple[float, ...] | None

    def write(self, folder: Path) -> None:
        """Leave the record in a results folder."""
        (folder / NAME).write_text(json.dumps(asdict(self), indent=1, ensure_ascii=False), encoding="utf-8")


def trained_in(folder: str | Path) -> Trained:
    """The net of the run whose results lie in `folder`. Raises HeatproofError where there is none, or its weights are
    gone."""
    root = Path(folder).expanduser()
    where = "model.checkpoint"
    if not root.is_dir():
        there = sorted(path.name for path in root.parent.glob("*") if (path / NAME).is_file())
        raise HeatproofError(
            fault(where, "no such folder; the results folder of a run is expected", got=str(folder), choices=there)
        )
    path = root / NAME
    if not path.is_file():
        hint = "Take one whose run came past its training; of a sweep, the folder of one job."
        raise HeatproofError(fault(where, f"holds no {NAME}, so no net of a run", got=str(folder), hint=hint))
    held = json.loads(path.read_text(encoding="utf-8"))
    found = Trained(**{**held, "classes": tuple(held["classes"]), "train_mean": _tuple(held["train_mean"])})
    if found.weights is not None and not Path(found.weights).is_file():
        hint = "Run it again with its config.yaml, or set HEATPROOF_STORE to the store that it used."
        raise HeatproofError(fault(where, f"its weights are no longer at {found.weights}", got=str(folder), hint=hint))
    return found


def expanded(overrides: Sequence[str]) -> list[str]:
    """The overrides with what `image=`, `model.checkpoint=` and `stage=report` stand for; what is said stays.

    A picture takes the place of the data set, a checkpoint that of the training, and both together need no more. A
    report of earlier runs has a name of its own.

    >>> expanded(["image=a.png", "views=none"])[-3:]
    ['metrics=[]', 'controls=[]', 'eval.images=null']
    >>> expanded(["stage=report", "report.runs=old"])[-1]
    'name=report'
    """
    said = {text.lstrip("+~").partition("=")[0]: text.partition("=")[2] for text in overrides}
    more: list[str] = []
    if said.get("image", "null") != "null":
        for key, why in (("dataset", "a picture takes the place of a data set"), ("metrics", "one picture is shown")):
            if key in said:
                raise HeatproofError(
                    fault(
                        "image",
                        f"{why}, and {key} is given, too",
                        got=said[key],
                        hint="Leave one; dataset=images dataset.root=FOLDER measures unlabelled images.",
                    )
                )
        more += ["dataset=images", "dataset.root=${image}", "train=none", "metrics=[]", "controls=[]"]
        more += ["eval.images=null"]
    if said.get("model.checkpoint", "null") != "null":
        if "model" in said:
            raise HeatproofError(
                fault("model.checkpoint", "the run's net is taken, and model is given, too", got=said["model"])
            )
        # A sweep over runs has looks of its own each: they are told when its jobs are planned.
        if "," not in said["model.checkpoint"]:
            folder = Path(said["model.checkpoint"].strip("'\"")).expanduser()
            run = trained_in(folder)
            # `results/latest` is another folder as soon as this run has begun.
            place = str(folder.resolve()).replace("'", "\\'")
            overrides = [
                f"model.checkpoint='{place}'" if text.lstrip("+").startswith("model.checkpoint=") else text
                for text in overrides
            ]
            more += [f"dataset.{key}={value}" for key, value in run.look.items()]
            data = "images" if "image" in said else said.get("dataset", "phantom")
            more += [f"name={data}_{run.name}"]
        more += ["train=none"]
    if said.get("stage") == "report":
        more += ["name=report"]
    return [*overrides, *dict.fromkeys(text for text in more if text.partition("=")[0] not in said)]


def _tuple(values: Sequence[float] | None) -> tuple[float, ...] | None:
    return None if values is None else tuple(values)
