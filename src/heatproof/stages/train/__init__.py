"""Stage `train`: a classifier from samples, trained once per content and taken from the store ever after."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from heatproof.base import device as devices
from heatproof.base.background import background_of
from heatproof.base.errors import HeatproofError, fault
from heatproof.base.layers import explanation_layers, head_name
from heatproof.base.nets import TwoLogits, normalisation, provenance_of
from heatproof.base.records import Classifier, Samples
from heatproof.base.registry import Bound, hash_of
from heatproof.base.settings import Compute, TrainSettings
from heatproof.base.weights import file_hash, read_state, state_hash
from heatproof.stages.train import checkpoint, frozen
from heatproof.stages.train.augment import AUGMENTATIONS, augmented
from heatproof.stages.train.loop import MONITORS, OPTIMIZERS, Fitted, Task, fit

if TYPE_CHECKING:
    from heatproof.base.store import Store

VERSION = 1
POLICIES = ("scratch", "finetune", "frozen", "none")


def train(
    samples: Samples,
    model: Bound,
    settings: TrainSettings,
    compute: Compute,
    store: Store,
    *,
    progress: bool = True,
) -> Classifier:
    """A net trained on the split "train", stopped early on "val", in evaluation mode on its device.

    Policies: "scratch" (random weights), "finetune" (all weights, from pretrained ones), "frozen" (the head of a
    pretrained net; everything else in evaluation mode; without augmentation the backbone runs once per image), "none"
    (pretrained weights as they are, head included).

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
        if settings.policy == "none":
            return _as_given(samples, model, device, remarks)
        _check_samples(samples)
        identity = _identity(samples, model, settings, compute, device)
        made = False

        def make(folder: Path) -> None:
            nonlocal made
            made = True
            scratch = store.scratch("classifier", identity) if settings.checkpoint else None
            _train_into(folder, samples, model, settings, compute, device, store, scratch, progress)

        folder = store.get_or_make("classifier", identity, make, what=f"training of {_title(model)}")
        if not made:
            remarks.append("the trained classifier is taken from the store")
        record = json.loads((folder / "classifier.json").read_text())
        weightless = {"weights": None} if "weights" in model.settings else {}
        net = _built(replace(model, settings={**model.settings, **weightless}), samples, device)
        net.load_state_dict(read_state(folder / "weights.safetensors"))
        return _classifier(
            net,
            samples,
            identity=hash_of({"made": identity, "weights": file_hash(folder / "weights.safetensors")}),
            history=tuple(record["history"]),
            best_epoch=record["best_epoch"],
            remarks=(*remarks, *record["remarks"]),
        )


def check(settings: TrainSettings) -> None:
    """Nothing; raises a HeatproofError with all settings that name something unknown or lie out of range."""
    faults = [
        fault(f"train.{key}", "no such option", got=got, choices=known)
        for key, got, known in [
            ("policy", settings.policy, POLICIES),
            ("optimizer", settings.optimizer, OPTIMIZERS),
            ("monitor", settings.monitor, MONITORS),
            *(("augment", name, AUGMENTATIONS) for name in settings.augment),
        ]
        if got not in known
    ]
    faults += [
        fault(f"train.{key}", f"must be at least {least}", got=getattr(settings, key))
        for key, least in (("epochs", 1), ("batch", 1), ("patience", 0), ("weight_decay", 0))
        if getattr(settings, key) < least
    ]
    if not settings.lr > 0:
        faults.append(fault("train.lr", "must be above 0", got=settings.lr))
    if settings.clip_norm is not None and not settings.clip_norm > 0:
        faults.append(fault("train.clip_norm", "must be above 0, or null", got=settings.clip_norm))
    if faults:
        raise HeatproofError(*faults)


def _check_samples(samples: Samples) -> None:
    labels = samples.table["label"].iloc[samples.rows("train")]
    absent = [name for index, name in enumerate(samples.classes) if not (labels == index).any()]
    if labels.isna().any() or len(samples.classes) < 2:
        raise HeatproofError(
            fault("train", "the data set has no labels to train on", hint="Give trained weights: train=none.")
        )
    if absent:
        raise HeatproofError(fault("train", f"no training images of {', '.join(absent)}", hint="See dataset.split."))


def _identity(
    samples: Samples, model: Bound, settings: TrainSettings, compute: Compute, device: torch.device
) -> dict[str, Any]:
    """What decides the trained weights; neither paths nor devices nor whether checkpoints are kept."""
    options = asdict(settings)
    del options["checkpoint"]
    return {
        "data": samples.data_hash,
        "shape": samples.pixels.shape[1:],
        "classes": samples.classes,
        "model": _model_identity(model),
        "train": options,
        "bf16": devices.uses_bf16(compute, device),
        "version": VERSION,
    }


def _model_identity(model: Bound) -> dict[str, Any]:
    """The model's identity with the content of its file of weights in place of the path."""
    identity = model.identity()
    weights = model.settings.get("weights")
    if weights is not None and Path(str(weights)).is_file():
        identity["settings"] = {**identity["settings"], "weights": file_hash(weights)}
    return identity


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
    net = _built(model, samples, device)
    origin = provenance_of(net)
    if (origin.pretrained == "none") != (settings.policy == "scratch"):
        raise HeatproofError(_weights_do_not_fit(settings.policy, model))
    if device.type == "cuda":
        net.to(memory_format=torch.channels_last)
    task, remarks = _task(net, samples, model, settings, compute, device, store, progress)
    fitted: Fitted = fit(task, settings, scratch, progress=progress)
    if not len(task.val_rows):
        remarks.append("no validation images: the last epoch is kept")
    checkpoint.save_state(folder / "weights.safetensors", net.state_dict())
    record = {
        "history": fitted.history,
        "best_epoch": fitted.best_epoch,
        "remarks": [*origin.remarks, *remarks],
        "classes": samples.classes,
        "model": _model_identity(model),
    }
    (folder / "classifier.json").write_text(json.dumps(record, indent=1))


def _weights_do_not_fit(policy: str, model: Bound) -> str:
    where = f"train={policy} model={_title(model)}"
    if policy == "scratch":
        return fault(
            where,
            "training from scratch begins with random weights, and model.weights gives others",
            got=model.settings["weights"],
            hint="Take train=finetune or train=frozen, or model.weights=null.",
        )
    if "weights" not in model.settings:
        return fault(where, "this net has no pretrained weights to begin with", hint="Take train=scratch.")
    return fault(
        where,
        "pretrained weights are needed",
        hint="Give model.weights=imagenet (fetched) or model.weights=PATH; train=scratch begins with random ones.",
    )


def _task(
    net: nn.Module,
    samples: Samples,
    model: Bound,
    settings: TrainSettings,
    compute: Compute,
    device: torch.device,
    store: Store,
    progress: bool,
) -> tuple[Task, list[str]]:
    """What the loop learns under the policy, and remarks."""
    image_ids = samples.table["image"].to_numpy()
    train_rows, val_rows = samples.rows("train"), samples.rows("val")
    labels = samples.table["label"].fillna(-1).to_numpy().astype(np.int64)
    remarks: list[str] = []
    module, learning = net, net.train

    def through_net(rows: np.ndarray, epoch: int | None) -> Tensor:
        images = samples.images(rows).to(device)
        if epoch is not None:
            images = augmented(images, settings.augment, settings.seed, epoch, image_ids[rows])
        with devices.autocast(compute, device):
            logits: Tensor = net(images)
        return logits

    logits: Callable[[np.ndarray, int | None], Tensor] = through_net
    if settings.policy == "frozen":
        module = net.get_submodule(head_name(net))
        frozen.freeze(net, module)
        learning = module.train
        after = None if settings.augment else frozen.tail(net, module, samples.images(train_rows[:2]).to(device))
        if after is not None:
            rows = np.concatenate([train_rows, val_rows])
            features = frozen.stored_features(
                net,
                module,
                samples,
                rows,
                store,
                {"model": _model_identity(model)},
                device=device,
                batch=settings.batch,
                progress=progress,
            )
            place = np.full(len(samples.table), -1)
            place[rows] = np.arange(len(rows))
            logits = _on_features(features, place, module, after, compute, device)
        elif not settings.augment:
            remarks.append("the backbone runs in every epoch: what follows this net's head is not known")
    task = Task(
        module=module,
        logits=logits,
        learning=learning,
        labels=torch.from_numpy(labels).to(device),
        images=image_ids,
        train_rows=train_rows,
        val_rows=val_rows,
        num_classes=len(samples.classes),
    )
    return task, remarks


def _on_features(
    features: np.ndarray,
    place: np.ndarray,
    head: nn.Module,
    after: Callable[[Tensor], Tensor],
    compute: Compute,
    device: torch.device,
) -> Callable[[np.ndarray, int | None], Tensor]:
    def logits(rows: np.ndarray, _epoch: int | None) -> Tensor:
        with devices.autocast(compute, device):
            return after(head(torch.from_numpy(features[place[rows]]).to(device)))

    return logits


def _as_given(samples: Samples, model: Bound, device: torch.device, remarks: list[str]) -> Classifier:
    """The net with the weights that it was given, all of them."""
    net = _built(model, samples, device)
    origin = provenance_of(net)
    if origin.pretrained != "all":
        missing = (
            _weights_do_not_fit("none", model)
            if origin.pretrained == "none"
            else fault("train=none", "the head is untrained", hint=f"{origin.remarks[0]}. Take train=frozen.")
        )
        raise HeatproofError(missing)
    identity = hash_of({"model": _model_identity(model), "weights": state_hash(net.state_dict())})
    return _classifier(net, samples, identity=identity, remarks=(*remarks, *origin.remarks))


def _built(model: Bound, samples: Samples, device: torch.device) -> nn.Module:
    """The net in evaluation mode on its device, giving two logits or more; tried on one image."""
    channels = samples.pixels.shape[-1]
    net: nn.Module = model(len(samples.classes) or _classes_of_weights(model, channels), channels)
    net = net.to(device).eval()
    example = samples.images(np.arange(1)).to(device)
    try:
        with torch.inference_mode():
            logits = net(example)
    except (RuntimeError, ValueError, AssertionError) as error:
        height, width = example.shape[-2:]
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise HeatproofError(
            fault(
                f"model {_title(model)}",
                f"the net cannot take images of {height} x {width} px ({reason})",
                hint="Try a larger dataset.size.",
            )
        ) from error
    return TwoLogits(net).eval() if logits.reshape(1, -1).shape[1] == 1 else net


def _classes_of_weights(model: Bound, channels: int) -> int:
    """How many classes the given weights tell apart: for data sets that name none."""
    weights = model.settings.get("weights")
    if weights is None:
        raise HeatproofError(_weights_do_not_fit("none", model))
    if weights == "imagenet":
        return 1000
    head = head_name(replace(model, settings={**model.settings, "weights": None})(2, channels))
    state = read_state(weights)
    if f"{head}.weight" not in state:
        raise HeatproofError(fault("model.weights", f"the file holds no head {head!r} of {_title(model)}", got=weights))
    return len(state[f"{head}.weight"])


def _classifier(net: nn.Module, samples: Samples, *, identity: str, **more: Any) -> Classifier:
    channels = samples.pixels.shape[-1]
    example = samples.images(np.arange(1)).to(next(net.parameters()).device)
    mean, std = normalisation(net, channels)
    with torch.inference_mode():
        num_classes = net(example).shape[1]
    return Classifier(
        module=net.eval().requires_grad_(True),
        classes=samples.classes or tuple(str(i) for i in range(num_classes)),
        layers=explanation_layers(net, example),
        identity=identity,
        channels=channels,
        train_mean=samples.train_mean,
        norm_mean=mean,
        norm_std=std,
        background=background_of(samples),
        **more,
    )


def _title(model: Bound) -> str:
    settings: Mapping[str, Any] = model.settings
    return str(settings.get("name") or model.name)
