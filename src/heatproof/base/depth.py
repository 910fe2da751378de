"""Where a net's weights lie between the image and the logits: blocks that are re-drawn together, found by running it.

Conventions: names as in `named_modules()`, "" = the net itself; a module's own weights are those that no child of it
holds; blocks go from the image to the head.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf

import torch
from jaxtyping import Float
from torch import Tensor, nn

from heatproof.base.hooks import quiet
from heatproof.base.layers import head_names

GRAINS = ("coarse", "fine")
# A module that holds more of the layers with weights than this share is a stack and is opened. ResNet-152's third stage
# holds 0.70 of them, the stack of blocks in a vision transformer 0.96.
STACK = 0.75


@dataclass(frozen=True)
class WeightBlock:
    """Weights that are re-drawn together. `name`: of the block's module. `modules`: those inside it with weights of
    their own. `joined`: those outside it that go with it, such as the stem of a ResNet with its first stage."""

    name: str
    modules: tuple[str, ...]
    joined: tuple[str, ...] = ()

    @property
    def all(self) -> tuple[str, ...]:
        """Every module of the block."""
        return (*self.modules, *self.joined)


def weight_blocks(module: nn.Module, example: Float[Tensor, "n c h w"], grain: str) -> tuple[WeightBlock, ...]:
    """The blocks of a net from the image to the head, which is always one of them; together they hold all weights.

    "coarse": its stages (ResNet-50: layer1 with the stem, layer2, layer3, layer4, fc); "fine": stages that are plain
    sequences are opened (its 16 bottlenecks and fc). Layers beside blocks go with the block before them, those before
    the first block with that one; where a net is nothing but layers, each layer is a block, with the normalisation
    behind it. Weights of opened modules themselves (a class token, a positional embedding) go with the first block.

    `example`: one image or more, on the net's device.

    >>> net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(2, 2))
    >>> [block.all for block in weight_blocks(net, torch.zeros(1, 1, 3, 3), "coarse")]
    [('0', '1'), ('3',)]
    """
    order = first_calls(module, example)
    parts = dict(module.named_modules())
    head = ("", *head_names(module))[-1]
    units, opened = _stages(parts)
    if grain == "fine":
        units, opened = _unrolled(units, opened, parts, head)
    units = sorted(units, key=lambda name: _called(name, parts, order))
    (last,) = [name for name in units if _covers(name, head)] or units[-1:]
    run = [name for name in units if name != last and _called(name, parts, order) < inf]
    idle = [name for name in units if name != last and name not in run]
    blocks = [*_joined(run, parts), _block(last, parts, idle)]
    loose = tuple(name for name in opened if _own(parts[name]))
    blocks[0] = replace(blocks[0], joined=(*blocks[0].joined, *loose))
    return tuple(blocks)


def first_calls(module: nn.Module, example: Float[Tensor, "n c h w"]) -> dict[str, int]:
    """When each module is first run, as places in a row; those that never are have none."""
    order: dict[str, int] = {}

    def record(name: str) -> Callable[..., None]:
        def hook(_part: nn.Module, _inputs: object) -> None:
            order.setdefault(name, len(order))

        return hook

    handles = [part.register_forward_pre_hook(record(name)) for name, part in module.named_modules()]
    try:
        with torch.no_grad(), quiet(module):
            module(example[:1])
    finally:
        for handle in handles:
            handle.remove()
    return order


def _stages(parts: Mapping[str, nn.Module]) -> tuple[list[str], list[str]]:
    """The net opened until no module but a block holds most of its layers: what is left, and what was opened."""
    layers = [name for name, part in parts.items() if any(weight.ndim > 1 for weight in _own(part))]
    units, opened = [""], list[str]()
    while True:
        stacks = [
            name
            for name in units
            if _children(name, parts)
            and (name == "" or sum(_covers(name, layer) for layer in layers) > STACK * len(layers))
        ]
        if not stacks:
            return units, opened
        units, opened = _open(stacks, units, opened, parts)


def _unrolled(
    units: list[str], opened: list[str], parts: Mapping[str, nn.Module], head: str
) -> tuple[list[str], list[str]]:
    """Plain sequences of blocks opened, but for the one that the head is in."""
    while sequences := [
        name
        for name in units
        if type(parts[name]) in (nn.Sequential, nn.ModuleList)
        and not _covers(name, head)
        and any(_children(child, parts) for child in _children(name, parts))
    ]:
        units, opened = _open(sequences, units, opened, parts)
    return units, opened


def _open(
    names: Sequence[str], units: Sequence[str], opened: Sequence[str], parts: Mapping[str, nn.Module]
) -> tuple[list[str], list[str]]:
    inside = [child for name in units for child in (_children(name, parts) if name in names else [name])]
    return inside, [*opened, *names]


def _joined(units: Sequence[str], parts: Mapping[str, nn.Module]) -> list[WeightBlock]:
    """Blocks of the units before the head; layers beside them go with their neighbour."""
    blocks = [name for name in units if _children(name, parts)]
    # Without blocks every layer is one, but for those that only scale what the layer before them gives.
    blocks = blocks or [name for name in units if any(weight.ndim > 1 for weight in _own(parts[name]))] or [*units[:1]]
    with_it: dict[str, list[str]] = {name: [] for name in blocks}
    current = blocks[0] if blocks else None
    for name in units:
        if name in with_it:
            current = name
        elif current is not None:
            with_it[current].append(name)
    return [_block(name, parts, joined) for name, joined in with_it.items()]


def _block(name: str, parts: Mapping[str, nn.Module], joined: Iterable[str]) -> WeightBlock:
    def inside(unit: str) -> list[str]:
        return [part for part in parts if _covers(unit, part) and _own(parts[part])]

    return WeightBlock(name, tuple(inside(name)), tuple(part for unit in joined for part in inside(unit)))


def _called(name: str, parts: Mapping[str, nn.Module], order: Mapping[str, int]) -> float:
    return min((order[part] for part in parts if _covers(name, part) and part in order), default=inf)


def _children(name: str, parts: Mapping[str, nn.Module]) -> list[str]:
    """Children of a module that hold weights."""
    prefix = f"{name}." if name else ""
    return [prefix + child for child, part in parts[name].named_children() if any(True for _ in part.parameters())]


def _covers(name: str, other: str) -> bool:
    return not name or other == name or other.startswith(name + ".")


def _own(part: nn.Module) -> list[nn.Parameter]:
    return list(part.parameters(recurse=False))
