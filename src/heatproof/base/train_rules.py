"""What the settings of a training may be, alone and together."""

import dataclasses
from collections.abc import Mapping

from heatproof.base.errors import Faults
from heatproof.base.rules import AT_LEAST_1, BELOW_1, INSIDE_UNIT, NOT_NEGATIVE, POSITIVE, Rule, in_range
from heatproof.base.settings import Phase, TrainSettings

# By the name of the key; in the config they stand under `train.`
RANGES: Mapping[str, Rule] = {
    "epochs": AT_LEAST_1,
    "batch": AT_LEAST_1,
    "lr": POSITIVE,
    "unfreeze": ("a number of layers, or all", lambda value: value == "all" or value >= 0),
    "weight_decay": NOT_NEGATIVE,
    "warmup_epochs": NOT_NEGATIVE,
    "plateau_factor": INSIDE_UNIT,
    "plateau_patience": AT_LEAST_1,
    "min_lr": NOT_NEGATIVE,
    "clip_norm": POSITIVE,
    "label_smoothing": BELOW_1,
    "patience": NOT_NEGATIVE,
    "delete_cells": NOT_NEGATIVE,
    "delete_grid": AT_LEAST_1,
}
WORDS: Mapping[str, tuple[str, ...]] = {
    "policy": ("scratch", "finetune", "frozen", "none"),
    "unfreeze": ("all",),
    "optimizer": ("adam", "adamw", "sgd"),
    "schedule": ("constant", "plateau", "cosine"),
    "monitor": (
        "val_loss", "val_accuracy", "val_macro_precision", "val_macro_recall", "val_macro_f1", "val_recall",
    ),
}  # fmt: skip


def check_values(settings: TrainSettings | Phase, where: str, faults: Faults) -> None:
    """Note every setting outside its range or its words; those of later phases, too."""
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if value is not None:
            in_range(value, f"{where}.{field.name}", faults, ranges=RANGES, words=WORDS)
    if isinstance(settings, TrainSettings):
        for number, phase in enumerate(settings.phases):
            check_values(phase, f"{where}.phases.{number}", faults)


def check_together(settings: TrainSettings, faults: Faults) -> None:
    """Note settings that do not fit each other."""
    if settings.policy == "none":
        return
    if settings.class_weights and settings.balanced_sampling:
        faults.add("train.balanced_sampling", "it takes the place of class weights",
                   hint="Set train.class_weights=false.")  # fmt: skip
    if settings.policy != "frozen" and settings.unfreeze != "all":
        faults.add("train.unfreeze", f"train={settings.policy} trains all layers", got=settings.unfreeze,
                   hint="train=frozen trains the last ones.")  # fmt: skip
    if settings.monitor_classes and settings.monitor != "val_recall":
        faults.add("train.monitor_classes", f"they count where the recall is monitored, and {settings.monitor} is",
                   got=list(settings.monitor_classes), hint="Set train.monitor=val_recall.")  # fmt: skip
    if settings.delete_cells > settings.delete_grid**2:
        faults.add("train.delete_cells", f"the grid has {settings.delete_grid**2} cells", got=settings.delete_cells)
    for number, phase in enumerate(settings.all_phases()):
        where = f"train.phases.{number - 1}" if number else "train"
        if settings.schedule != "constant" and phase.lr < settings.min_lr:
            faults.add(f"{where}.lr", f"it starts below train.min_lr = {settings.min_lr:g}", got=phase.lr)
        if settings.warmup_epochs and settings.warmup_epochs >= phase.epochs:
            faults.add("train.warmup_epochs", f"{where} has {phase.epochs} epochs", got=settings.warmup_epochs)
