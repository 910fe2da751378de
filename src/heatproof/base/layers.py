"""Which modules of a net are worth explaining: those whose output still has places in the image and reaches the score.

Conventions: names as in `named_modules()`, shallow to deep in the order in which the modules finish.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from heatproof.base.places import Grid, Layout, grids_seen, layout_of

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


@dataclass(frozen=True)
class Layer:
    """What a module gives: channels, and where the places are."""

    channels: int
    layout: Layout


def explanation_layers(module: nn.Module, example: Float[Tensor, "n c h w"]) -> tuple[str, ...]:
    """Names of the outermost blocks with places in the image; the last name is the automatic target layer.

    The automatic layer is the last module before the final pooling, flattening or head whose output has at least 2 x 2
    cells with the aspect ratio of the image: `layer4` of a ResNet, `features.29` of VGG16, `features.12` of SqueezeNet,
    `features.18` of MobileNetV2, `norm` of a Swin. Containers of a whole stack are passed over for what they hold.
    A vision transformer whose score reads the class token alone has no gradient at the places of its last block: the
    automatic layer is then the last one inside that block that has some (`blocks.11.norm1`), found by one backward
    pass. Empty for a net without places.

    `example`: on the net's device. One or two passes in evaluation mode; modes and hooks are as before. On the meta
    device, where there are no gradients, every layer counts as one that reaches the score.

    >>> net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 2))
    >>> explanation_layers(net, torch.zeros(1, 1, 8, 8))
    ('0', '1')
    """
    seen = _seen(module, example)
    parts = dict(module.named_modules())
    pooled = {id(found.output) for name, found in seen.items() if isinstance(parts[name], POOL)}
    names = [
        name
        for name, found in seen.items()
        if not isinstance(parts[name], (*POOL, *SILENT)) and id(found.output) not in pooled and not found.view
    ]
    ladder = _ladder(names, parts, seen)
    dead = unreached(module, example, names) if any(found.layout.prefix for found in seen.values()) else set()
    reached = [name for name in ladder if name not in dead]
    if len(reached) < len(ladder):
        lost = next(name for name in ladder if name in dead)
        inside = [n for n in names if _inside(n, lost) and n not in dead and seen[n].channels == seen[lost].channels]
        reached += inside[-1:]
    return tuple(reached)


def spatial_layers(module: nn.Module, example: Float[Tensor, "n c h w"]) -> dict[str, Layer]:
    """All modules before the head whose output has places: whatever a map may be asked for."""
    return {name: Layer(found.channels, found.layout) for name, found in _seen(module, example).items()}


class Head(nn.Sequential):
    """Layers that together are the head of a net: what is trained on a frozen backbone, where explanation ends."""


def head_names(module: nn.Module) -> tuple[str, ...]:
    """Names of what makes the logits: modules noted by `note_heads`, else the last `Head`, linear layer, or convolution
    of a net without any (SqueezeNet). Empty for a net with none of them.

    >>> head_names(nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(2, 2)))
    ('2',)
    """
    noted = tuple(name for name, part in module.named_modules() if vars(part).get("makes_logits"))
    if noted:
        return noted
    for kind in (Head, nn.Linear, CONV):
        names = [name for name, part in module.named_modules() if isinstance(part, kind)]
        if names:
            return (names[-1],)
    return ()


def note_heads(net: nn.Module, names: Iterable[str]) -> None:
    """Note on a net which modules make its logits together, where they are several (distilled transformers)."""
    for name in names:
        vars(net.get_submodule(name))["makes_logits"] = True


def unreached(module: nn.Module, example: Float[Tensor, "n c h w"], names: Iterable[str]) -> set[str]:
    """Those of the layers of which the score reads prefix tokens alone: zero gradient at all places, but not at them.

    The gradient is that of what the head is given, for a head may be zero before it is trained (torchvision's is).
    """
    if example.device.type == "meta":
        return set()
    # A net may write into what it is given; a leaf of the graph would not let it.
    images = example[:1].detach().clone().requires_grad_() * 1
    outputs: dict[str, Tensor] = {}
    layouts: dict[str, Layout] = {}
    with torch.inference_mode(False), torch.enable_grad(), grids_seen(module) as grids:

        def record(name: str) -> Callable[..., None]:
            def hook(_part: nn.Module, _inputs: Any, output: Any) -> None:
                layout = layout_of(output, images, grids)
                if layout is not None and layout.prefix and output.requires_grad:
                    outputs[name], layouts[name] = output, layout

            return hook

        with _hooked(module, {name: record(name) for name in names}), _given(module) as given:
            logits = module(images)
        if not outputs:
            return set()
        read = (given or [logits])[-1].flatten()
        # Weights that no normalisation cancels, as it would a plain sum.
        weights = torch.arange(len(read), device=read.device, dtype=read.dtype).cos()
        gradients = torch.autograd.grad((read * weights).sum(), list(outputs.values()), allow_unused=True)
    return {
        name
        for (name, layout), gradient in zip(layouts.items(), gradients, strict=True)
        if gradient is not None and reads_prefix_alone(layout, gradient)
    }


def reads_prefix_alone(layout: Layout, gradient: Tensor) -> bool:
    """Whether a gradient is zero at every place of the image, but not at the prefix tokens."""
    return bool(layout.prefix) and not layout.cells(gradient).any() and bool(layout.prefix_tokens(gradient).any())


@dataclass(frozen=True)
class _Found:
    """The last output of a module; `view`: it only lays out anew what the module was given."""

    output: Tensor
    layout: Layout
    view: bool

    @property
    def channels(self) -> int:
        return self.layout.channels(self.output)


def _inside(name: str, container: str) -> bool:
    return name.startswith(container + ".")


def _ladder(names: list[str], parts: Mapping[str, nn.Module], seen: Mapping[str, _Found]) -> list[str]:
    """The outermost blocks of a net, shallow to deep, and its last layer."""
    carriers = [name for name in names if _has_weights(parts[name])]
    if not carriers:
        return []
    frontier = _outermost(names)
    while opened := [name for name in frontier if _is_stack(name, carriers, parts, seen)]:
        names = [name for name in names if name not in opened]
        frontier = _outermost(names)
    blocks = [name for name in frontier if seen[name].layout.kind == "tokens" and list(parts[name].children())]
    # Beside blocks of tokens, a linear layer alone is a projection of a pooling by attention.
    frontier = [name for name in frontier if not (blocks and isinstance(parts[name], nn.Linear))]
    return [name for name in frontier if name == frontier[-1] or any(c == name or _inside(c, name) for c in carriers)]


def _has_weights(part: nn.Module) -> bool:
    return not list(part.children()) and any(weight.ndim > 1 for weight in part.parameters(recurse=False))


def _outermost(names: list[str]) -> list[str]:
    return [name for name in names if not any(_inside(name, other) for other in names)]


def _is_stack(name: str, carriers: list[str], parts: Mapping[str, nn.Module], seen: Mapping[str, _Found]) -> bool:
    """Whether a container is a whole stack of blocks rather than one of them.

    It holds all layers with weights, or all but the stem in several parts; or it runs through several grids, or through
    several blocks of tokens.
    """
    mine = [carrier for carrier in carriers if _inside(carrier, name)]
    if not mine:
        return False
    if len(mine) == len(carriers):
        return True
    if mine == carriers[1:] and len(_branches(name, mine)) > 1:
        return True
    children = [child for child in _children(name, mine) if child in seen]
    if type(parts[name]) is not nn.Sequential or len(children) < 2:
        return False
    grids = {(seen[child].layout.rows, seen[child].layout.cols) for child in children}
    return len(grids) > 1 or seen[name].layout.kind == "tokens"


def _children(name: str, carriers: list[str]) -> list[str]:
    """The children of a container that hold layers with weights."""
    return list(dict.fromkeys(f"{name}.{c.removeprefix(name + '.').partition('.')[0]}" for c in carriers))


def _branches(name: str, carriers: list[str]) -> list[str]:
    """The children of a container; those of its child where there is but one."""
    children = _children(name, carriers)
    while len(children) == 1 and children[0] not in carriers:
        children = _children(children[0], carriers)
    return children


def _seen(module: nn.Module, example: Tensor) -> dict[str, _Found]:
    """Last output with places of each module that finishes before the head begins, in the order of finishing."""
    images = example[:1]
    found: dict[str, _Found] = {}

    def record(name: str, grids: set[Grid], given: list[Tensor]) -> Callable[..., None]:
        def hook(_module: nn.Module, inputs: Any, output: Any) -> None:
            layout = None if given else layout_of(output, images, grids)
            if layout is not None:
                found.pop(name, None)
                found[name] = _Found(output, layout, _is_view(output, inputs))

        return hook

    names = [name for name, _ in module.named_modules() if name]
    with (
        torch.no_grad(),
        grids_seen(module) as grids,
        _given(module) as given,
        _hooked(module, {name: record(name, grids, given) for name in names}),
    ):
        module(images)
    return found


@contextmanager
def _given(module: nn.Module) -> Iterator[list[Tensor]]:
    """What the heads are given while the block runs: empty until one is reached, or where there is none."""
    given: list[Tensor] = []
    heads = [module.get_submodule(name) for name in head_names(module)]
    handles = [head.register_forward_pre_hook(lambda _module, inputs: given.append(inputs[0])) for head in heads]
    try:
        yield given
    finally:
        for handle in handles:
            handle.remove()


def _is_view(output: Tensor, inputs: Any) -> bool:
    given = inputs[0] if inputs else None
    if not isinstance(given, Tensor) or output is given or not output._is_view():
        return False
    return output._base is (given._base if given._is_view() else given)


@contextmanager
def _hooked(module: nn.Module, hooks: Mapping[str, Callable[..., None]]) -> Iterator[None]:
    """The module in evaluation mode with forward hooks by name; everything as before afterwards."""
    modes = {part: part.training for part in module.modules()}
    parts = dict(module.named_modules())
    handles = [parts[name].register_forward_hook(hook) for name, hook in hooks.items()]
    try:
        module.eval()
        yield
    finally:
        for handle in handles:
            handle.remove()
        for part, mode in modes.items():
            part.training = mode
