"""Ablation-CAM: channels of a layer weighted by how much the target's logit falls without them."""

import copy
from collections.abc import Callable
from typing import Any, Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from heatproof.base.forwards import Forwards, forwards_of, scores
from heatproof.base.halving import in_batches
from heatproof.base.hooks import activations_and_gradients, module_of, target_layer
from heatproof.base.records import Classifier
from heatproof.base.registry import choice
from heatproof.base.twin import Twin

# How far the layer's output in the twin may be from the net's own, as a share of its largest magnitude.
SAME = 1e-3


@choice(needs=("layer",), forwards=512, source="Desai & Ramaswamy 2020, WACV, Eq. 5-6")
def ablationcam(
    classifier: Classifier | nn.Module,
    images: Float[Tensor, "b c h w"],
    targets: Int64[Tensor, " b"],
    *,
    layer: str | None = None,
    relu: bool,
    relative: Literal["magnitude", "logit"],
) -> Float[Tensor, "b u v"]:
    """`sum_k (y - y_k) / |y| A_k`: y the target's logit, y_k that with the layer's channel k set to 0.

    The layers below run once for a batch of channels. Channels that are 0 everywhere have weight 0 without a pass.
    `relative`: "logit" divides by y itself as the paper does, which turns the map's sign where y < 0. At y = 0 the map
    is not finite.
    """
    name = target_layer(classifier, layer)
    acts, _ = activations_and_gradients(classifier, images, targets, name)
    b, k = acts.shape[:2]
    forwards = forwards_of(classifier)
    net = _net(classifier, forwards, images, name)
    before = scores(forwards.logits(images), targets, "logit")
    after = before[:, None].repeat(1, k)
    alive = acts.flatten(2).any(2)
    for i in range(b):
        channels = torch.nonzero(alive[i])[:, 0]
        for part, logits in _ablated(net, name, images[i : i + 1], channels, k, forwards):
            after[i, part] = scores(logits, targets[i].expand(len(part)), "logit")
    unit = before.abs() if relative == "magnitude" else before
    weights = (before[:, None] - after) / unit[:, None]
    maps = torch.einsum("bk,bkuv->buv", weights.to(acts), acts)
    return maps.clamp_min(0) if relu else maps


def _net(classifier: Classifier | nn.Module, forwards: Forwards, images: Tensor, name: str) -> nn.Module:
    """The twin's net where folding left the layer's output as it was, else a plain copy."""
    twin = forwards.twin(images)
    plain = module_of(classifier)
    if isinstance(twin, Twin) and name in dict(twin.net.named_modules()):
        copied = copy.deepcopy(plain).eval()
        wanted, found = _output(copied, name, images[:1]), _output(twin.net, name, images[:1])
        if wanted.shape == found.shape and bool(((wanted - found).abs() <= SAME * wanted.abs().max()).all()):
            return twin.net
        return copied
    return copy.deepcopy(plain).eval()


def _output(net: nn.Module, name: str, images: Tensor) -> Tensor:
    found: list[Tensor] = []
    _hooked(net, name, images, lambda output: found.append(output.clone()))
    return found[-1]


def _hooked(net: nn.Module, name: str, images: Tensor, change: Callable[[Tensor], Tensor | None]) -> Tensor:
    """Logits with the layer's output replaced."""

    def hook(_part: nn.Module, _inputs: Any, output: Tensor) -> Tensor | None:
        return change(output)

    handle = net.get_submodule(name).register_forward_hook(hook)
    try:
        with torch.inference_mode():
            logits: Tensor = net(images)
            return logits
    finally:
        handle.remove()


def _ablated(
    net: nn.Module, name: str, image: Tensor, channels: Tensor, count: int, forwards: Forwards
) -> list[tuple[Tensor, Tensor]]:
    """Logits without each of the channels, a batch at a time.

    One image enters, and the layer's output is repeated: the layers below cost one pass. Where a path around the layer
    does not broadcast (DenseNet's concatenation), the image is repeated instead.
    """
    once = True

    def run(rows: slice) -> Tensor:
        nonlocal once
        part = channels[rows]

        def without(output: Tensor) -> Tensor:
            changed = output.repeat(len(part) // len(output), *[1] * (output.ndim - 1))
            place = torch.arange(len(part), device=output.device)
            if output.ndim == 4 and output.shape[1] == count:
                changed[place, part] = 0
            else:
                changed[place, ..., part] = 0
            return changed

        if once:
            try:
                logits = _hooked(net, name, image, without)
                if len(logits) == len(part):
                    return logits
            except torch.OutOfMemoryError:
                raise
            except RuntimeError:
                pass
            once = False
        logits = _hooked(net, name, image.expand(len(part), -1, -1, -1), without)
        assert len(logits) == len(part), f"{len(logits)} logits of {len(part)} images"
        return logits

    done = [(channels[rows], logits) for rows, logits in in_batches(len(channels), forwards, run)]
    forwards.passes += len(channels)
    return done
