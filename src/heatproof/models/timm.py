"""Any classifier of timm by its name, with pixels in [0, 1] and a head for the classes at hand."""

import sys
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

import timm as library
import torch
from torch import Tensor, nn

from heatproof.base.errors import HeatproofError, fault
from heatproof.base.layers import head_names, note_heads
from heatproof.base.nets import Provenance, normalise_inside, num_outputs, set_provenance, two_logits_outside
from heatproof.base.registry import choice
from heatproof.base.weights import read_state
from heatproof.models.heads import DENSE, Dense, behind
from heatproof.models.loading import check_patches, put_in


@choice(norm=True, version=1, source="timm")
def timm(
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

    `name`: as timm lists it. `weights`: None (random), "imagenet" (the published ones, fetched by timm, then kept in
    its cache), or a file (.pth state dict, .safetensors). A file's head is kept where its size fits; anything else that
    does not fit is refused. `head`, `one_logit`, `normalise`: as for torchvision's nets. Nets of a fixed input size get
    positions for images of `size` px, those of weights interpolated by timm.
    """
    check_name(name)
    assert name is not None
    cfg: Any = library.get_pretrained_cfg(name)
    outputs = num_outputs(num_classes, one_logit)
    fixed: dict[str, Any] = {"img_size": size} if size is not None and cfg.fixed_input_size else {}
    net = _created(name, cfg, weights == "imagenet", outputs if head == "linear" else cfg.num_classes, fixed)
    patch = getattr(getattr(net, "patch_embed", None), "patch_size", None)
    if fixed and patch is not None:
        check_patches(name, fixed["img_size"], max(patch))
    if head == "linear" and len(_own_heads(cfg)) > 1:
        note_heads(net, _own_heads(cfg))
    if head != "linear":
        net = _with_head(net, name, cfg.input_size, DENSE[head], outputs)
    provenance = Provenance()
    if weights == "imagenet":
        fits = head == "linear" and outputs == cfg.num_classes
        names = " and ".join(map(repr, head_names(net)))
        remark = f"ImageNet weights of timm: the head {names} starts from random weights"
        provenance = Provenance("all") if fits else Provenance("backbone", (remark,))
    elif weights is not None:
        optional = () if head == "linear" else tuple(f"{name}." for name in _own_heads(cfg))
        state = _current_names(net, read_state(weights))
        provenance = put_in(net, state, Path(weights).name, num_classes, optional=optional)
    mean, std = ([0.0] * 3, [1.0] * 3) if normalise == "none" else (cfg.mean, cfg.std)
    net = normalise_inside(net, mean, std)
    set_provenance(net, provenance)
    return two_logits_outside(net) if one_logit else net


def check_name(name: str | None) -> None:
    """Nothing; raises HeatproofError for a name that timm has not."""
    hint = "timm.list_models() lists all of them."
    if name is None:
        raise HeatproofError(fault("model.name", "a net of timm must be named", hint=hint))
    if not library.is_model(name.partition(".")[0]) or library.get_pretrained_cfg(name) is None:
        near = get_close_matches(name, library.list_models(), n=8, cutoff=0.5)
        raise HeatproofError(fault("model.name", "timm has no such classifier", got=name, choices=near, hint=hint))


def _created(name: str, cfg: Any, pretrained: bool, num_classes: int, fixed: dict[str, Any]) -> nn.Module:
    if pretrained and not library.is_model_pretrained(name):
        raise HeatproofError(fault("model.weights", f"timm has no published weights for {name}", got="imagenet"))
    try:
        return library.create_model(name, pretrained=pretrained, num_classes=num_classes, **fixed)
    except OSError as error:
        raise HeatproofError(
            fault(
                "model.weights",
                f"the published weights of {name} cannot be fetched ({type(error).__name__})",
                got="imagenet",
                hint=f"Without a network, fetch them from huggingface.co/{cfg.hf_hub_id} "
                "elsewhere and give the file: model.weights=PATH. model.weights=null starts from random weights.",
            )
        ) from error


def _with_head(net: Any, name: str, input_size: tuple[int, ...], kind: Dense, outputs: int) -> nn.Module:
    net.reset_classifier(0, "")
    with torch.no_grad():
        maps = net.eval()(torch.zeros(1, *input_size, device=next(net.parameters()).device))
    if maps.ndim != 4 or maps.shape[1] != net.num_features:
        raise HeatproofError(
            fault("model.head", f"{name} gives no feature maps that another head could be put on", choices=["linear"])
        )
    return behind(net, kind, maps.shape[1], outputs)


def _own_heads(cfg: Any) -> tuple[str, ...]:
    return (cfg.classifier,) if isinstance(cfg.classifier, str) else tuple(cfg.classifier or ())


def _current_names(net: nn.Module, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The state as timm's own reading of files makes it: older names, positions of another image size."""
    current = getattr(sys.modules[type(net).__module__], "checkpoint_filter_fn", None)
    result: Mapping[str, Tensor] = state if current is None else current(dict(state), net)
    return result
