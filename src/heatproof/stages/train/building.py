"""Nets from their choice and the data at hand: built, tried on one image, made a classifier."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from heatproof.base.background import background_of, prior_of
from heatproof.base.errors import HeatproofError, fault
from heatproof.base.layers import explanation_layers, head_names
from heatproof.base.nets import TwoLogits, build_net, normalisation, provenance_of, untrained
from heatproof.base.records import Classifier, Samples
from heatproof.base.registry import Bound, hash_of
from heatproof.base.settings import TrainSettings
from heatproof.base.trained import Trained
from heatproof.base.weights import file_hash, read_state, state_hash
from heatproof.stages.train.freezing import trained_layers


def built(model: Bound, samples: Samples, device: torch.device, num_classes: int | None = None) -> nn.Module:
    """The net in evaluation mode on its device, giving two logits or more; tried on one image.

    `num_classes`: None = as many as the samples have, or as the given weights tell apart.
    """
    channels = samples.pixels.shape[-1]
    size = samples.pixels.shape[1]
    num_classes = num_classes or len(samples.classes) or _classes_of_weights(model, channels, size)
    net = build_net(model, num_classes, channels, size).to(device)
    logits = _tried(net, samples.images(np.arange(1)).to(device), model)
    return TwoLogits(net).eval() if logits.reshape(1, -1).shape[1] == 1 else net


def check_net(model: Bound, num_classes: int, channels: int, size: int, settings: TrainSettings) -> None:
    """Nothing; raises HeatproofError, before images are loaded, where the net cannot be built, does not take its file
    of weights or images of this size, or has fewer layers than are to be trained.

    The net is built and run on torch's meta device, without numbers; published weights are not fetched.
    """
    quiet = untrained(model) if model.settings.get("weights") == "imagenet" else model
    try:
        with torch.device("meta"), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*no-op")  # weights have nowhere to go here
            net = build_net(quiet, max(2, num_classes), channels, size)
            _tried(net, torch.zeros(1, channels, size, size), model)
    except (NotImplementedError, TypeError, RuntimeError):
        return  # it needs numbers: the net itself will say what is wrong, if anything is
    if settings.policy == "frozen":
        for phase in settings.all_phases():
            trained_layers(net, head_names(net), phase.unfreeze)


def _tried(net: nn.Module, example: Tensor, model: Bound) -> Tensor:
    """The logits of an image; raises HeatproofError where the net cannot take it."""
    try:
        with torch.inference_mode():
            logits: Tensor = net(example)
    except (RuntimeError, ValueError, AssertionError) as error:
        if "meta" in str(error):
            raise
        height, width = example.shape[-2:]
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise HeatproofError(
            fault(
                f"model {title_of(model)}",
                f"the net cannot take images of {height} x {width} px ({reason})",
                hint="Try a larger dataset.size.",
            )
        ) from error
    return logits


def _classes_of_weights(model: Bound, channels: int, size: int) -> int:
    """How many classes the given weights tell apart: for data sets that name none."""
    weights = model.settings.get("weights")
    if weights is None:
        raise HeatproofError(weights_do_not_fit("none", model))
    if weights == "imagenet":
        return 1000
    (head, *_) = head_names(build_net(untrained(model), 2, channels, size))
    state = read_state(weights)
    last = [name for name in state if name.startswith(f"{head}.") and name.endswith("weight")]
    if not last:
        raise HeatproofError(
            fault("model.weights", f"the file holds no head {head!r} of {title_of(model)}", got=weights)
        )
    return max(2, len(state[last[-1]]))  # one logit tells two classes apart


def as_given(samples: Samples, model: Bound, device: torch.device, remarks: list[str]) -> Classifier:
    """The net with the weights that it was given, all of them."""
    net = built(model, samples, device)
    origin = provenance_of(net)
    if origin.pretrained != "all":
        missing = (
            weights_do_not_fit("none", model)
            if origin.pretrained == "none"
            else fault("train=none", "the head is untrained", hint=f"{origin.remarks[0]}. Take train=frozen.")
        )
        raise HeatproofError(missing)
    identity = hash_of({"model": model_identity(model), "weights": state_hash(net.state_dict())})
    return classifier_of(net, samples, identity=identity, remarks=(*remarks, *origin.remarks))


def as_trained(
    samples: Samples, model: Bound, trained: Trained, device: torch.device, remarks: list[str]
) -> Classifier:
    """The net of an earlier run, with its classes."""
    if trained.weights is None:
        return replace(as_given(samples, model, device, remarks), classes=trained.classes)
    net = built(untrained(model), samples, device, len(trained.classes))
    try:
        net.load_state_dict(read_state(trained.weights))
    except RuntimeError as error:
        look = ", ".join(f"dataset.{key}={value}" for key, value in trained.look.items())
        raise HeatproofError(
            fault("model.checkpoint", "its weights do not fit images that look otherwise", hint=f"It had {look}.")
        ) from error
    return classifier_of(
        net,
        samples,
        identity=trained.identity,
        classes=trained.classes,
        train_mean=trained.train_mean,
        weights=Path(trained.weights),
        remarks=tuple(remarks),
    )


def classifier_of(net: nn.Module, samples: Samples, *, identity: str, **more: Any) -> Classifier:
    """The trained net as a classifier of the samples' classes; `more`: fields that are known better."""
    channels = samples.pixels.shape[-1]
    example = samples.images(np.arange(1)).to(next(net.parameters()).device)
    mean, std = normalisation(net, channels)
    with torch.inference_mode():
        num_classes = net(example).shape[1]
    fields = {
        "classes": samples.classes or tuple(str(i) for i in range(num_classes)),
        "train_mean": samples.train_mean,
        **more,
    }
    return Classifier(
        module=net.eval().requires_grad_(True),
        layers=explanation_layers(net, example),
        identity=identity,
        channels=channels,
        norm_mean=mean,
        norm_std=std,
        background=background_of(samples),
        prior=prior_of(samples),
        **fields,
    )


def model_identity(model: Bound) -> dict[str, Any]:
    """The model's identity with the content of its file of weights in place of the path."""
    identity = model.identity()
    weights = model.settings.get("weights")
    if weights is not None and Path(str(weights)).is_file():
        identity["settings"] = {**identity["settings"], "weights": file_hash(weights)}
    return identity


def weights_do_not_fit(policy: str, model: Bound) -> str:
    """What to say where a policy needs pretrained weights, or none, and the model's are otherwise."""
    where = f"train={policy} model={title_of(model)}"
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


def title_of(model: Bound) -> str:
    """The net's name in messages."""
    settings: Mapping[str, Any] = model.settings
    return str(settings.get("name") or model.name)
