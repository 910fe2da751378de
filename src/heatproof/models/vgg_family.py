"""The networks of study 1: one shape, of which depth, resolution, width, receptive field and pooling vary."""

from collections import OrderedDict
from collections.abc import Callable

from torch import nn

from heatproof.base.errors import HeatproofError, fault
from heatproof.base.nets import Normalise, num_outputs, two_logits_outside
from heatproof.base.registry import choice

# What stands behind a block: how the side of the maps changes, and the modules.
POOLING: dict[str, Callable[[int], tuple[int, list[nn.Module]]]] = {
    "none": lambda side: (side, []),
    "max": lambda side: (side // 2, [nn.MaxPool2d(2)]),
    "max_twice": lambda side: (side // 2 // 2, [nn.MaxPool2d(2), nn.MaxPool2d(2)]),
    "average": lambda side: (side // 2, [nn.AvgPool2d(2)]),
    "global_average": lambda side: (1, [nn.AdaptiveAvgPool2d(1)]),
    "global_max": lambda side: (1, [nn.AdaptiveMaxPool2d(1)]),
}


@choice(norm=True, attention=False, version=1, source="study 1: VGG-like nets on 48 x 48 grey faces")
def vgg_family(
    num_classes: int,
    channels: int,
    *,
    size: int,
    widths: tuple[int, ...],
    convs: tuple[tuple[int, ...], ...],
    pooling: tuple[str, ...],
    wide: tuple[str, ...],
    dilated: tuple[str, ...],
    dense: int,
    dropout: float,
    one_logit: bool,
) -> nn.Module:
    """Blocks of 3x3 convolutions with bias and ReLU, "same" padding, pooled; then Flatten, Dense, ReLU, Dropout, Dense.

    `widths`: channels of each block. `convs`: the numbers of each block's convolutions, which are called
    `blockB_convC`. `pooling`: behind each block, one of none, max, max_twice, average (2x2), global_average,
    global_max. `wide`: convolutions with a 5x5 kernel; `dilated`: those with dilation 2. `dense`, `dropout`: of the
    hidden layer. Pixels go in as they are, in [0, 1], as in the study. Two nets of equal settings are one net: a
    preset's name decides nothing.
    """
    names = [f"block{b}_conv{c}" for b, numbers in enumerate(convs, 1) for c in numbers]
    _check(widths, convs, pooling, names, wide, dilated)
    layers: OrderedDict[str, nn.Module] = OrderedDict(normalise=Normalise([0.0] * channels, [1.0] * channels))
    before, side = channels, size
    for block, (width, numbers, pool) in enumerate(zip(widths, convs, pooling, strict=True), 1):
        for number in numbers:
            name = f"block{block}_conv{number}"
            kernel, dilation = 5 if name in wide else 3, 2 if name in dilated else 1
            layers[name] = nn.Conv2d(before, width, kernel, padding=kernel // 2 * dilation, dilation=dilation)
            layers[name.replace("conv", "relu")] = nn.ReLU()
            before = width
        side, pools = POOLING[pool](side)
        layers |= {f"block{block}_pool{i}": module for i, module in enumerate(pools, 1)}
    if side < 1:
        raise HeatproofError(fault("dataset.size", "the pooling of this net leaves no cell", got=size))
    layers |= OrderedDict(
        flatten=nn.Flatten(),
        dense=nn.Linear(before * side**2, dense),
        dense_relu=nn.ReLU(),
        dropout=nn.Dropout(dropout),
        head=nn.Linear(dense, num_outputs(num_classes, one_logit)),
    )
    net = nn.Sequential(layers)
    return two_logits_outside(net) if one_logit else net


def _check(
    widths: tuple[int, ...],
    convs: tuple[tuple[int, ...], ...],
    pooling: tuple[str, ...],
    names: list[str],
    wide: tuple[str, ...],
    dilated: tuple[str, ...],
) -> None:
    faults = [
        fault(f"model.{key}", "no such convolution in this net", got=name, choices=names)
        for key, given in (("wide", wide), ("dilated", dilated))
        for name in given
        if name not in names
    ]
    faults += [fault("model.pooling", "no such pooling", got=p, choices=POOLING) for p in pooling if p not in POOLING]
    if not len(widths) == len(convs) == len(pooling) > 0:
        faults.append(fault("model", "widths, convs and pooling must name equally many blocks",
                            got=(len(widths), len(convs), len(pooling))))  # fmt: skip
    if faults:
        raise HeatproofError(*faults)
