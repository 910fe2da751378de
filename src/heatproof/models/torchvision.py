"""Any classifier of torchvision by its name, with pixels in [0, 1] and a head for the classes at hand."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torchvision.models as library
from torch import Tensor, nn

from heatproof.base.errors import HeatproofError, fault
from heatproof.base.layers import head_name
from heatproof.base.nets import Provenance, normalise_inside, set_provenance
from heatproof.base.registry import choice
from heatproof.base.weights import load_state, read_state

# Nets with classifiers on the side, which only training from scratch with their own loss uses.
AUXILIARY = {"googlenet": ("aux1.", "aux2."), "inception_v3": ("AuxLogits.",)}


@choice(norm=True, source="torchvision")
def torchvision(num_classes: int, channels: int, *, name: str | None, weights: str | None) -> nn.Module:
    """The net with a head for `num_classes`; images of one channel are repeated to three.

    `name`: as torchvision lists it. `weights`: None (random), "imagenet" (fetched by torchvision, then kept in its
    cache), or a file (.pth state dict, .safetensors). A file's head is kept where its size fits; anything else that
    does not fit is refused. Normalisation is the one that the net's published weights were trained with.
    """
    known = library.list_models(module=library)
    if name is None:
        raise HeatproofError(fault("model.name", "a net of torchvision must be named", choices=known))
    if name not in known:
        raise HeatproofError(fault("model.name", "torchvision has no such classifier", got=name, choices=known))
    extra: dict[str, Any] = {}
    if name in AUXILIARY:
        # Their published weights expect another normalisation, which the net makes from the usual one itself.
        extra = {"aux_logits": False, "init_weights": weights is None, "transform_input": weights is not None}
    net = library.get_model(name, weights=None, num_classes=num_classes, **extra)
    published = library.get_model_weights(name).DEFAULT
    if weights is not None:
        state = _published_state(name, published) if weights == "imagenet" else read_state(weights)
        head = head_name(net)
        left_out = load_state(net, _current_names(state), head, optional=AUXILIARY.get(name, ()))
        origin = "ImageNet weights of torchvision" if weights == "imagenet" else Path(weights).name
        remarks = tuple(
            f"{origin}: the head {part!r} does not fit {num_classes} classes and starts from random weights"
            if part == head
            else f"{origin}: the auxiliary part {part.rstrip('.')!r} is left out"
            for part in left_out
        )
        set_provenance(net, Provenance("backbone" if head in left_out else "all", remarks))
    preprocessing = published.transforms()
    return normalise_inside(net, preprocessing.mean, preprocessing.std)


def _published_state(name: str, published: Any) -> Mapping[str, Tensor]:
    try:
        return published.get_state_dict(progress=False, check_hash=True)
    except OSError as error:
        raise HeatproofError(
            fault(
                "model.weights",
                f"the ImageNet weights of {name} cannot be fetched ({error})",
                got="imagenet",
                hint=f"Without a network, fetch {published.url} elsewhere and give the file: model.weights=PATH. "
                "model.weights=null starts from random weights.",
            )
        ) from error


def _current_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    # DenseNet's published files still say `norm.1` for what the net calls `norm1`.
    return {re.sub(r"(denselayer\d+\.(?:norm|relu|conv))\.(\d)\.", r"\1\2.", k): v for k, v in state.items()}
