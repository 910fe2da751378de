"""Which modules of a net are worth explaining: those whose output still has a place in the image.

Conventions: names as in `named_modules()`, shallow to deep in the order in which the modules finish.
"""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

CONV = nn.Conv2d
POOL = (
    nn.MaxPool2d,
    nn.AvgPool2d,
    nn.LPPool2d,
    nn.AdaptiveAvgPool2d,
    nn.AdaptiveMaxPool2d,
)
# Layers that change nothing in evaluation mode: the layer before them is the one to name.
SILENT = (nn.Dropout, nn.Dropout2d, nn.Identity)


def explanation_layers(module: nn.Module, example: Float[Tensor, "n c h w"]) -> tuple[str, ...]:
    """Names of the outermost convolutional blocks with spatial output; the last name is the automatic target layer.

    The automatic layer is the last module before the final pooling, flattening or head whose output is (n, c, h, w)
    with h, w > 1 and the aspect ratio of the image: `layer4` of a ResNet, `features.29` of VGG16, `features.12` of
    SqueezeNet, `features.18` of MobileNetV2, `features.norm5` of DenseNet. Containers of the whole stack of
    convolutions are passed over for what they hold. Empty for a net without spatial output.

    `example`: on the net's device. One pass in evaluation mode without autograd; modes and hooks are as before.

    >>> net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 2))
    >>> explanation_layers(net, torch.zeros(1, 1, 8, 8))
    ('0', '1')
    """
    outputs = _spatial_outputs(module, example)
    parts = dict(module.named_modules())
    pooled = {id(output) for name, output in outputs.items() if isinstance(parts[name], POOL)}
    names = [
        name
        for name, output in outputs.items()
        if not isinstance(parts[name], (*POOL, *SILENT)) and id(output) not in pooled
    ]
    convs = [name for name in names if isinstance(parts[name], CONV)]
    names = [name for name in names if not (convs and all(_inside(conv, name) for conv in convs))]
    names = [name for name in names if not any(_inside(name, other) for other in names)]
    return tuple(
        name for name in names if name == names[-1] or any(conv == name or _inside(conv, name) for conv in convs)
    )


def spatial_layers(module: nn.Module, example: Float[Tensor, "n c h w"]) -> tuple[str, ...]:
    """Names of all modules before the head with an output (n, c, h, w), h, w > 1: whatever a map may be asked for."""
    return tuple(_spatial_outputs(module, example))


def head_name(module: nn.Module) -> str:
    """Name of the layer that makes the logits: the last linear layer, or the last convolution of a net without any
    (SqueezeNet). Empty for a net with neither.

    >>> head_name(nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(2, 2)))
    '2'
    """
    for kind in (nn.Linear, CONV):
        names = [name for name, part in module.named_modules() if isinstance(part, kind)]
        if names:
            return names[-1]
    return ""


def _inside(name: str, container: str) -> bool:
    return name.startswith(container + ".")


def _spatial_outputs(module: nn.Module, example: Tensor) -> dict[str, Tensor]:
    """Last spatial output of each module that finishes before the head begins, in the order of finishing."""
    head = head_name(module)
    height, width = example.shape[-2:]
    outputs: dict[str, Tensor] = {}
    reached_head = False

    def record(name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            if not reached_head and isinstance(output, Tensor) and output.ndim == 4:
                h, w = output.shape[-2:]
                # Transformers hand on (n, h, w, c): read as (n, c, h, w), its sides do not fit the image.
                if min(h, w) > 1 and abs(h * width - w * height) <= max(height, width):
                    outputs.pop(name, None)
                    outputs[name] = output

        return hook

    def stop(_module: nn.Module, _inputs: Any) -> None:
        nonlocal reached_head
        reached_head = True

    modes = {part: part.training for part in module.modules()}
    handles = [part.register_forward_hook(record(name)) for name, part in module.named_modules() if name]
    if head:
        handles.append(module.get_submodule(head).register_forward_pre_hook(stop))
    try:
        module.eval()
        with torch.no_grad():
            module(example[:1])
    finally:
        for handle in handles:
            handle.remove()
        for part, mode in modes.items():
            part.training = mode
    return outputs
