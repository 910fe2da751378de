"""Heads of the studies in place of a net's own: a pooling of the last feature maps and dense layers behind it."""

from collections import OrderedDict
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from heatproof.base.errors import HeatproofError, fault
from heatproof.base.layers import Head


class MaxToTwo(nn.AdaptiveMaxPool2d):
    """Max pooling with windows of half the side, floored: 9 x 9 becomes 2 x 2 by a 4 x 4 pool, as Keras counts.

    (torch's own adaptive pooling takes overlapping windows of 5 there.)
    """

    def __init__(self) -> None:
        super().__init__(2)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c 2 2"]:
        height, width = x.shape[-2:]
        if min(height, width) < 2:
            raise HeatproofError(
                fault(
                    "model.head",
                    "maxpool_flatten_64 pools to 2 x 2 cells, and the net leaves fewer",
                    got=f"{height} x {width}",
                    hint="Take a larger dataset.size.",
                )
            )
        return F.max_pool2d(x, (height // 2, width // 2))[..., :2, :2]


@dataclass(frozen=True)
class Dense:
    """Pooling and widths of the hidden layers (each followed by ReLU, and by dropout where it is not 0)."""

    pool: type[nn.Module]
    cells: int
    hidden: tuple[int, ...]
    dropout: float


class GlobalAverage(nn.AdaptiveAvgPool2d):
    """The mean over all cells."""

    def __init__(self) -> None:
        super().__init__(1)


DENSE = {
    "gap_1024_512": Dense(GlobalAverage, cells=1, hidden=(1024, 512), dropout=0.5),  # study 2
    "maxpool_flatten_64": Dense(MaxToTwo, cells=4, hidden=(64,), dropout=0.0),  # study 3
}


def dense_head(kind: Dense, channels: int, outputs: int) -> Head:
    """Hidden layers and the one that makes the logits, for pooled and flattened maps of `channels` channels."""
    layers: list[nn.Module] = []
    before = channels * kind.cells
    for width in kind.hidden:
        layers += [nn.Linear(before, width), nn.ReLU()]
        if kind.dropout:
            layers.append(nn.Dropout(kind.dropout))
        before = width
    return Head(*layers, nn.Linear(before, outputs))


def on_trunk(trunk: OrderedDict[str, nn.Module], kind: Dense, channels: int, outputs: int) -> nn.Sequential:
    """A net of the parts of a trunk, under their own names, and a head."""
    head = dense_head(kind, channels, outputs)
    return nn.Sequential(OrderedDict(**trunk, pool=kind.pool(), flatten=nn.Flatten(), head=head))


def behind(net: nn.Module, kind: Dense, channels: int, outputs: int) -> nn.Module:
    """The same net, which gave feature maps (n, c, h, w), giving logits from now on; its layers keep their names."""
    net.add_module("dense_pool", kind.pool())
    net.add_module("dense_head", dense_head(kind, channels, outputs))
    net.register_forward_hook(_through_head)
    return net


def _through_head(net: nn.Module, _inputs: tuple[Tensor, ...], maps: Tensor) -> Tensor:
    # Looks the modules up in `net`, so that the hook of a copied net uses the copy's weights.
    logits: Tensor = net.get_submodule("dense_head")(net.get_submodule("dense_pool")(maps).flatten(1))
    return logits
