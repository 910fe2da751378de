"""Stage `train`: a classifier from samples, trained once per content and taken from the store ever after."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from heatproof.base import device as devices
from heatproof.base import train_rules
from heatproof.base.errors import Faults, HeatproofError, fault
from heatproof.base.nets import provenance_of, untrained
from heatproof.base.recipes import recipe
from heatproof.base.records import Classifier, Samples
from heatproof.base.registry import Bound, hash_of
from heatproof.base.settings import Compute, TrainSettings
from heatproof.base.trained import Trained
from heatproof.base.weights import file_hash, read_state
from heatproof.stages.train import checkpoint
from heatproof.stages.train.building import (
    as_given,
    as_trained,
    built,
    check_net,
    classifier_of,
    model_identity,
    title_of,
    weights_do_not_fit,
)
from heatproof.stages.train.loop import fit
from heatproof.stages.train.tasks import Tasks

if TYPE_CHECKING:
    from heatproof.base.store import Store

VERSION = 3

__all__ = ["check", "check_net", "train"]


def train(
    samples: Samples,
    model: Bound,
    settings: TrainSettings,
    compute: Compute,
    store: Store,
    *,
    trained: Trained | None = None,
    progress: bool = True,
) -> Classifier:
    """A net trained on the split "train", stopped early on "val", in evaluation mode on its device.

    Policies: "scratch" (random weights), "finetune" (all weights, from pretrained ones), "frozen" (the head of a
    pretrained net and its last `unfreeze` layers; everything else in evaluation mode; where the head alone is trained
    and images are not changed, the backbone runs once per image), "none" (pretrained weights as they are, head
    included; those of an earlier run where `trained` says so). Further phases follow the first one.

    Trained weights lie in the store under what decides them: data, split, net, the content of its file of weights,
    settings, seed, and bf16 where it is used. On a CPU the same command gives the same bits, also when it was killed on
    the way and started again.
    Raises: HeatproofError for settings that do not fit each other, images that the net cannot take, and a loss that is
    not finite.
    """
    check(settings)
    device = devices.resolve(compute)
    remarks: list[str] = []
    if compute.precision == "bf16" and not devices.uses_bf16(compute, device):
        remarks.append(f"precision=bf16 is for CUDA; float32 is used on {device.type}")
    with devices.repeatable(settings.seed, compute.deterministic, device):
        if trained is not None:
            return as_trained(samples, model, trained, device, remarks)
        if settings.policy == "none":
            return as_given(samples, model, device, remarks)
        _check_samples(samples, settings)
        identity = _identity(samples, model, settings, compute, device)
        made = False

        def make(folder: Path) -> None:
            nonlocal made
            made = True
            scratch = store.scratch("classifier", identity) if settings.checkpoint else None
            _train_into(folder, samples, model, settings, compute, device, store, scratch, progress)

        folder = store.get_or_make("classifier", identity, make, what=f"training of {title_of(model)}")
        if not made:
            remarks.append("the trained classifier is taken from the store")
        record = json.loads((folder / "classifier.json").read_text())
        net = built(untrained(model), samples, device)
        net.load_state_dict(read_state(folder / "weights.safetensors"))
        return classifier_of(
            net,
            samples,
            identity=hash_of({"made": identity, "weights": file_hash(folder / "weights.safetensors")}),
            history=tuple(record["history"]),
            best_epoch=record["best_epoch"],
            trained=record.get("trained"),
            weights=folder / "weights.safetensors",
            remarks=(*remarks, *record["remarks"]),
        )


def check(settings: TrainSettings) -> None:
    """Nothing; raises a HeatproofError with all settings that lie out of range or do not fit each other."""
    faults = Faults()
    train_rules.check_values(settings, "train", faults)
    with faults.gathered():
        recipe(settings.augment)
    faults.raise_any()
    train_rules.check_together(settings, faults)
    faults.raise_any()


def _check_samples(samples: Samples, settings: TrainSettings) -> None:
    """Raise where a class has no image to learn from, or a monitored one none to validate."""
    labels = samples.table["label"]
    if labels.iloc[samples.rows("train")].isna().any() or len(samples.classes) < 2:
        raise HeatproofError(
            fault("train", "the data set has no labels to train on", hint="Give trained weights: train=none.")
        )
    faults = Faults()
    for split, names in (("train", samples.classes), ("val", settings.monitor_classes)):
        there = set(labels.iloc[samples.rows(split)].dropna())
        for name in names:
            if name not in samples.classes:
                faults.add("train.monitor_classes", "no such class", got=name, choices=samples.classes)
            elif samples.classes.index(name) not in there:
                faults.add("train", f"no image of {name} in the split {split}", hint="See dataset.split.")
    faults.raise_any()


def _identity(
    samples: Samples, model: Bound, settings: TrainSettings, compute: Compute, device: torch.device
) -> dict[str, Any]:
    """What decides the trained weights; neither paths nor devices nor whether checkpoints are kept."""
    options = {**asdict(settings), "augment": recipe(settings.augment)}  # the numbers, whatever they are called
    del options["checkpoint"]
    return {
        "data": samples.data_hash,
        "shape": samples.pixels.shape[1:],
        "classes": samples.classes,
        "model": model_identity(model),
        "train": options,
        "bf16": devices.uses_bf16(compute, device),
        "version": VERSION,
    }


def _train_into(
    folder: Path,
    samples: Samples,
    model: Bound,
    settings: TrainSettings,
    compute: Compute,
    device: torch.device,
    store: Store,
    scratch: Path | None,
    progress: bool,
) -> None:
    """Train and leave `weights.safetensors` and `classifier.json` in `folder`."""
    net = built(model, samples, device)
    origin = provenance_of(net)
    if (origin.pretrained == "none") != (settings.policy == "scratch"):
        raise HeatproofError(weights_do_not_fit(settings.policy, model))
    # Pixels lie channels-last as they are decoded; convolutions are faster that way, on CPUs by a tenth.
    net.to(memory_format=torch.channels_last)
    tasks = Tasks(net, samples, settings, compute, device, store, model_identity(model), progress)
    fitted = fit(tasks.of, settings, scratch, progress=progress)
    remarks = [*origin.remarks, *tasks.remarks]
    if fitted.part is not None:
        remarks.append(
            f"batches of {settings.batch} images passed in parts of {fitted.part}: more did not fit into memory"
        )
    if not len(samples.rows("val")):
        remarks.append("no validation images: the last epoch is kept")
    checkpoint.save_state(folder / "weights.safetensors", net.state_dict())
    record = {
        "history": fitted.history,
        "best_epoch": fitted.best_epoch,
        "trained": sum(weight.numel() for weight in net.parameters() if weight.requires_grad),
        "remarks": remarks,
        "classes": samples.classes,
        "model": model_identity(model),
    }
    (folder / "classifier.json").write_text(json.dumps(record, indent=1))
