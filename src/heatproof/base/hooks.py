"""Activations and gradients of layers: forward without autograd up to the lowest layer, gradient only above it.

Conventions: the score is the logit of the target class, summed over the batch (images do not meet in eval mode, so each
gets its own gradient). A layer that is called several times counts at its last call. Activations are those that leave
the layer: later in-place operations do not reach them. Weights, flags, modes, hooks and random states are as before
afterwards, also after an error.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from heatproof.base.errors import HeatproofError, fault
from heatproof.base.layers import explanation_layers, reads_prefix_alone
from heatproof.base.places import Grid, Layout, grids_seen, layout_of
from heatproof.base.records import Classifier

# A net of more modules than this is not listed whole in a message.
MANY = 40

ActivationsAndGradients = tuple[Tensor, Tensor]


@dataclass
class _Pass:
    """What one pass over these very tensors gave, by layer."""

    module: nn.Module
    images: Tensor
    targets: Tensor
    found: dict[str, ActivationsAndGradients]

    def covers(self, module: nn.Module, images: Tensor, targets: Tensor) -> bool:
        return self.module is module and self.images is images and self.targets is targets


_shared: ContextVar[_Pass | None] = ContextVar("shared_pass", default=None)


@contextmanager
def shared_pass(
    classifier: Classifier | nn.Module,
    images: Float[Tensor, "b c h w"],
    targets: Int64[Tensor, " b"],
    layers: Iterable[str],
    *,
    found: Mapping[str, ActivationsAndGradients] | None = None,
) -> Iterator[None]:
    """Inside, `activations_and_gradients` of these very tensors costs nothing more: one pass serves all layers.

    `found`: what that pass gave, where another net than this one was run for it.
    """
    module = module_of(classifier)
    found = dict(found) if found is not None else layers_of(module, images, targets, tuple(dict.fromkeys(layers)))
    token = _shared.set(_Pass(module, images, targets, found))
    try:
        yield
    finally:
        _shared.reset(token)


def activations_and_gradients(
    classifier: Classifier | nn.Module, images: Float[Tensor, "b c h w"], targets: Int64[Tensor, " b"], layer: str
) -> tuple[Float[Tensor, "b k u v"], Float[Tensor, "b k u v"]]:
    """The layer's output on the images and the gradient of the target logits with respect to it.

    Zeros where the score does not depend on the layer. Outputs of tokens (b, t, k) are laid out as their grid, prefix
    tokens left out, and those with channels last as (b, k, u, v). Raises HeatproofError for a name that the module has
    not, a layer that is not run, an output without places, and one of which the score reads prefix tokens alone (the
    last block of a vision transformer with a class token): any map of it would be zero.
    """
    module = module_of(classifier)
    shared = _shared.get()
    if shared is None or not shared.covers(module, images, targets):
        return layers_of(module, images, targets, (layer,))[layer]
    if layer not in shared.found:
        shared.found |= layers_of(module, images, targets, (layer,))
    return shared.found[layer]


def target_layer(classifier: Classifier | nn.Module, layer: str | None) -> str:
    """The layer asked for, or the classifier's automatic choice: its last explanation layer."""
    if layer is not None:
        return layer
    if isinstance(classifier, Classifier) and classifier.layers:
        return classifier.layers[-1]
    raise HeatproofError(
        fault("layer", "this model names no layer of its own", choices=_names(module_of(classifier)), hint="Give one.")
    )


def module_of(classifier: Classifier | nn.Module) -> nn.Module:
    """The net itself."""
    return classifier if isinstance(classifier, nn.Module) else classifier.module


@contextmanager
def quiet(module: nn.Module) -> Iterator[None]:
    """The module in eval mode with all parameters frozen and random states its own; everything as before afterwards."""
    modes = [(part, part.training) for part in module.modules()]
    flags = [(parameter, parameter.requires_grad) for parameter in module.parameters()]
    cuda = {parameter.device for parameter, _ in flags if parameter.device.type == "cuda"}
    with torch.random.fork_rng(devices=sorted(cuda, key=str)):
        try:
            for part, _ in modes:
                part.training = False
            for parameter, _ in flags:
                parameter.requires_grad_(False)
            yield
        finally:
            for part, mode in modes:
                part.training = mode
            for parameter, flag in flags:
                parameter.requires_grad_(flag)


def layers_of(
    module: nn.Module, images: Tensor, targets: Tensor, layers: Sequence[str]
) -> dict[str, ActivationsAndGradients]:
    """`activations_and_gradients` of several layers from one pass of this very net."""
    return layers_and_logits(module, images, targets, layers)[0] if layers else {}


def layers_and_logits(
    module: nn.Module, images: Tensor, targets: Tensor, layers: Sequence[str]
) -> tuple[dict[str, ActivationsAndGradients], Float[Tensor, "b k"]]:
    """`layers_of` of one layer or more, and the logits of that pass."""
    parts = dict(module.named_modules())
    unknown = [layer for layer in layers if layer not in parts or not layer]
    if unknown:
        raise HeatproofError(*(_unknown(module, images, layer) for layer in unknown))
    outputs: dict[str, Tensor] = {}

    def record(layer: str) -> Any:
        def hook(_part: nn.Module, _inputs: Any, output: Any) -> Tensor:
            if not isinstance(output, Tensor):
                raise HeatproofError(fault("layer", f"gives no single tensor but {type(output).__name__}", got=layer))
            # The first layer met starts the graph: nothing below it needs a gradient.
            outputs[layer] = output if output.requires_grad else output.detach().requires_grad_()
            # A copy goes on, so that an in-place operation behind the layer changes neither leaf nor record.
            return outputs[layer].clone()

        return hook

    handles: list[Any] = []
    with torch.inference_mode(False), torch.enable_grad(), quiet(module), grids_seen(module) as grids:
        try:
            handles += [parts[layer].register_forward_hook(record(layer)) for layer in layers]
            # Tensors made under inference mode cannot take part in a graph; a copy can.
            logits = module(images.clone() if images.is_inference() else images.detach())
        finally:
            for handle in handles:
                handle.remove()
        idle = [layer for layer in layers if layer not in outputs]
        if idle:
            raise HeatproofError(*(fault("layer", "is never run by the model", got=layer) for layer in idle))
        gradients = _gradients(logits, targets, [outputs[layer] for layer in layers])
    found, lost = {}, []
    for layer, gradient in zip(layers, gradients, strict=True):
        layout = _layout(outputs[layer], images, grids, layer)
        if reads_prefix_alone(layout, gradient):
            lost.append(layer)
        found[layer] = (layout.cells(outputs[layer].detach()), layout.cells(gradient))
    if lost:
        raise HeatproofError(*(unreached_fault(module, images, layer) for layer in lost))
    return found, logits.detach()


def _gradients(logits: Tensor, targets: Tensor, outputs: Sequence[Tensor]) -> list[Tensor]:
    if not logits.requires_grad:
        return [torch.zeros_like(output) for output in outputs]
    score = logits.gather(1, targets.clone()[:, None]).sum()
    found = torch.autograd.grad(score, outputs, allow_unused=True)
    return [torch.zeros_like(o) if g is None else g for o, g in zip(outputs, found, strict=True)]


def _layout(output: Tensor, images: Tensor, grids: set[Grid], layer: str) -> Layout:
    layout = layout_of(output, images, grids)
    if layout is None and output.ndim == 4:
        layout = Layout("channels first", *output.shape[2:])
    if layout is None:
        raise HeatproofError(
            fault(
                "layer", f"its output {tuple(output.shape)} has no spatial grid", got=layer, hint="Choose one below it."
            )
        )
    return layout


def unreached_fault(module: nn.Module, images: Tensor, layer: str) -> str:
    """What to say of a layer of which the score reads prefix tokens alone."""
    return fault(
        "layer",
        "the score reads its class token alone, so the gradient is zero at every place of the image",
        got=layer,
        hint=f"Take {explanation_layers(module, images)[-1]}, the last layer whose places reach the score.",
    )


def _unknown(module: nn.Module, images: Tensor, layer: str) -> str:
    names = _names(module)
    if len(names) > MANY:
        names = [*get_close_matches(layer, names, n=1, cutoff=0.5), *explanation_layers(module, images)]
    return fault("layer", "no such module", got=layer, choices=dict.fromkeys(names))


def _names(module: nn.Module) -> list[str]:
    return [name for name, _ in module.named_modules() if name]
