"""The training of a plan: its settings as a whole, beside the model and the data."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from heatproof.base import registry, train_rules
from heatproof.base.errors import Faults
from heatproof.base.recipes import recipe
from heatproof.base.registry import Bound
from heatproof.base.settings import Phase, TrainSettings
from heatproof.stages.plan.data import Counts
from heatproof.stages.plan.sections import section


def train_of(config: Mapping[str, Any], faults: Faults) -> TrainSettings | None:
    """The section `train`, or None after noting what is wrong with it."""
    before = len(faults.texts)
    given = config.get("phases", ())
    phases = [
        section(phase, f"train.phases.{number}", Phase, faults)
        for number, phase in enumerate(given if isinstance(given, (list, tuple)) else ())
    ]
    for number, phase in enumerate(phases):
        if phase is not None:
            train_rules.check_values(phase, f"train.phases.{number}", faults)
    held = {**config, "phases": tuple(phases)} if isinstance(given, (list, tuple)) and given else config
    settings = section(held, "train", TrainSettings, faults)
    if settings is not None:
        with faults.gathered():
            recipe(settings.augment)
    if settings is None or len(faults.texts) > before:
        return None
    train_rules.check_together(settings, faults)
    return settings


def check_monitored(train: TrainSettings, counts: Counts, faults: Faults) -> None:
    """Note monitored classes that the data do not have, or not among the images to validate."""
    if train.policy == "none":
        return
    for name in train.monitor_classes:
        if name not in counts["val"]:
            faults.add("train.monitor_classes", "no such class", got=name, choices=counts["val"])
        elif not counts["val"][name]:
            faults.add(
                "train.monitor_classes", "no image to validate of this class", got=name, hint="See dataset.split."
            )


def check_name(model: Bound, faults: Faults) -> None:
    """Note a library's net that is not named, or whose name the library has not; those of shipped presets are known."""
    if "name" not in model.settings:
        return
    name = model.settings["name"]
    files = (registry.conf_file("model", option) or {} for option in registry.conf_names("model"))
    if name is None or name not in {file.get("name") for file in files}:
        module = sys.modules[model.choice.load().__module__]
        with faults.gathered():
            getattr(module, "check_name", lambda _name: None)(name)


def check_weights(model: Bound, train: TrainSettings, faults: Faults, *, given: bool = False) -> None:
    """Note weights that are missing, for a training that keeps some. `given`: they are those of `given=FILE`."""
    weights = model.settings.get("weights")
    if given and weights is None:
        faults.add("given", f"this arm takes a file of weights of {model.settings.get('name')}, and there is none",
                   hint="Name it: given=FILE.")  # fmt: skip
        return
    if weights is not None and weights != "imagenet" and not Path(weights).expanduser().is_file():
        if given:
            faults.add("given", "no such file", got=weights, hint="Name a file of weights: given=FILE.")
        else:
            faults.add("model.weights", "no such file; a file, imagenet or null is expected", got=weights)
    if weights is None and train.policy != "scratch":
        what = {
            "none": "explains a net as it is",
            "frozen": "keeps the weights of the backbone",
            "finetune": "begins with pretrained weights",
        }[train.policy]
        hint = (
            "Name them: model.weights=FILE or model.weights=imagenet; model.checkpoint=FOLDER takes the net of a run."
            if "weights" in model.choice.parameters
            else f"{model.name} takes no weights: train=scratch, or the net of a run: model.checkpoint=FOLDER."
        )
        faults.add("train", f"train={train.policy} {what}, and there are no weights", hint=hint)
    if weights is not None and train.policy == "scratch":
        faults.add("train", "train=scratch begins with random weights, and model.weights gives others", got=weights,
                   hint="Take train=finetune or train=frozen, or model.weights=null.")  # fmt: skip
