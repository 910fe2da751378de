"""Methods tried before a net is trained: what would fail after an hour of training fails at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from heatproof.base import given
from heatproof.base.methods import explain_batch, single_of
from heatproof.base.nets import as_classifier, build_net, check_layers, untrained
from heatproof.base.records import Method
from heatproof.base.registry import Bound

# Needs of an explainer that the config does not show of every net.
SHOWN_BY_RUNNING = {"attention", "convolution", "relu"}


def check_methods(
    model: Bound,
    images: Float[Tensor, "n c h w"],
    num_classes: int,
    methods: Iterable[Method],
    explained: Sequence[str],
) -> None:
    """Nothing; raises HeatproofError where a method cannot explain this net, or has no map of an image.

    Layers that are named, and explainers that need something of the net's inside, are run on one of the images with
    random weights. `explained`: names of the images that given maps must be there for.
    """
    parts = [part for method in methods for part in (method.of or (method,)) if part.explainer]
    check_layers(model, images, num_classes, [part.layer for part in parts if part.layer is not None])
    needy = {
        str(single.name): single
        for part in parts
        if part.explainer and SHOWN_BY_RUNNING & set(part.explainer.facts.get("needs", ()))
        for single in [single_of(part)]
    }
    if needy:
        with torch.random.fork_rng(devices=[]):
            net = build_net(untrained(model), max(2, num_classes), images.shape[1], images.shape[-1])
        target = torch.zeros(1, dtype=torch.int64)
        explain_batch(as_classifier(net, images[:1]), images[:1], target, list(needy.values()), ids=["trial"], seed=0)
    for part in parts:
        if part.explainer and part.explainer.facts.get("given") and explained:
            given.files_of(part.explainer.settings["folder"], explained)
