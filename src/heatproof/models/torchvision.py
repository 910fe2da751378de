"""Any classifier of torchvision by its name, with pixels in [0, 1] and a head for the classes at hand."""

import copy
import re
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
import torchvision.models as library
from torch import Tensor, nn
from torchvision.models.vision_transformer import VisionTransformer, interpolate_embeddings

from heatproof.base.errors import HeatproofError, fault
from heatproof.base.layers import head_names
from heatproof.base.nets import Provenance, normalise_inside, num_outputs, set_provenance, two_logits_outside
from heatproof.base.registry import choice
from heatproof.base.weights import read_state
from heatproof.models.heads import DENSE, Dense, dense_head, on_trunk
from heatproof.models.loading import check_patches, put_in

# Nets with classifiers on the side, which only training from scratch with their own loss uses.
AUXILIARY = {"googlenet": ("aux1.", "aux2."), "inception_v3": ("AuxLogits.",)}


@choice(norm=True, version=3, source="torchvision")
def torchvision(
    num_classes: int,
    channels: int,
    *,
    size: int | None = None,
    name: str | None,
    weights: str | None,
    head: Literal["linear", "gap_1024_512", "maxpool_flatten_64"],
    one_logit: bool,
    normalise: Literal["published", "none"],
) -> nn.Module:
    """The net with a head for `num_classes`; images of one channel are repeated to three.

    `name`: as torchvision lists it. `weights`: None (random), "imagenet" (fetched by torchvision, then kept in its
    cache), or a file (.pth state dict, .safetensors). A file's head is kept where its size fits; anything else that
    does not fit is refused. `head`: "linear" is the net's own; the others are those of studies 2 and 3. `one_logit`:
    one sigmoid output for two classes. `normalise`: "published" is what the net's weights were trained with, "none"
    gives it pixels in [0, 1], as study 2 did. Vision transformers get positions for images of `size` px, those of
    weights interpolated; every other net takes any size that its strides leave something of.

    DenseNets get a module `features.relu5` for the ReLU that their forward pass applies to `features` unnamed, so that
    the last layer holds what the head sees.
    """
    check_name(name)
    assert name is not None
    outputs = num_outputs(num_classes, one_logit)
    published = library.get_model_weights(name).DEFAULT
    extra: dict[str, Any] = {}
    if name in AUXILIARY:
        # Their published weights expect another normalisation, which the net makes from the usual one itself. Trained
        # weights are put into a net that is built without any, so that `weights` must not decide it.
        own = normalise == "published"
        extra = {"aux_logits": False, "init_weights": weights is None, "transform_input": own}
    if name.startswith("vit_"):
        extra = {"image_size": size or published.meta["min_size"][0]}
        check_patches(name, extra["image_size"], int(name.rpartition("_")[2]))
    net = library.get_model(name, weights=None, num_classes=outputs, **extra)
    if isinstance(net, library.DenseNet):
        # Not nn.ReLU, which keeps its output for the backward pass: the ReLU that follows overwrites it in place.
        net.features.add_module("relu5", nn.Threshold(0.0, 0.0))
    own_head = head_names(net)[-1].partition(".")[0]
    if head != "linear":
        net = _with_head(net, name, DENSE[head], outputs)
    provenance = Provenance()
    if weights is not None:
        state = _published_state(name, published) if weights == "imagenet" else read_state(weights)
        origin = "ImageNet weights of torchvision" if weights == "imagenet" else Path(weights).name
        optional = (*AUXILIARY.get(name, ()), *([f"{own_head}."] if head != "linear" else []))
        provenance = put_in(net, _current_names(net, state), origin, num_classes, optional=optional)
    preprocessing = published.transforms()
    mean, std = ([0.0] * 3, [1.0] * 3) if normalise == "none" else (preprocessing.mean, preprocessing.std)
    net = normalise_inside(net, mean, std)
    set_provenance(net, provenance)
    return two_logits_outside(net) if one_logit else net


def check_name(name: str | None) -> None:
    """Nothing; raises HeatproofError for a name that torchvision has not."""
    known = library.list_models(module=library)
    if name is None:
        raise HeatproofError(fault("model.name", "a net of torchvision must be named", choices=known))
    if name not in known:
        raise HeatproofError(fault("model.name", "torchvision has no such classifier", got=name, choices=known))


def _with_head(net: nn.Module, name: str, kind: Dense, outputs: int) -> nn.Module:
    features, classifier = getattr(net, "features", None), getattr(net, "classifier", None)
    has_norm = classifier is not None and any(isinstance(part, nn.LayerNorm) for part in classifier.modules())
    if features is not None and classifier is not None and not has_norm:
        with torch.no_grad():
            # A copy without numbers tells the channels without running the net.
            shape = copy.deepcopy(features).to("meta").eval()(torch.zeros(1, 3, 224, 224, device="meta")).shape
        return on_trunk(OrderedDict(features=features), kind, shape[1], outputs)
    for place in ("fc", "head"):
        last = getattr(net, place, None)
        if isinstance(last, nn.Linear) and hasattr(net, "avgpool"):
            net.avgpool = kind.pool()
            setattr(net, place, dense_head(kind, last.in_features, outputs))
            return net
    raise HeatproofError(
        fault("model.head", f"{name} has no pooled feature maps that another head could be put on", choices=["linear"])
    )


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


def _current_names(net: nn.Module, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The state as the net of today wants it: DenseNet's published files still say `norm.1` for what is called `norm1`,
    and a vision transformer's positions may be those of another image size."""
    if isinstance(net, VisionTransformer) and "encoder.pos_embedding" in state:
        return interpolate_embeddings(net.image_size, net.patch_size, OrderedDict(state))
    return {re.sub(r"(denselayer\d+\.(?:norm|relu|conv))\.(\d)\.", r"\1\2.", k): v for k, v in state.items()}
