"""The two nets that study 2 trains from scratch on chest X-rays of 224 x 224 pixels."""

from collections import OrderedDict

from torch import nn

from heatproof.base.nets import Normalise, num_outputs, two_logits_outside
from heatproof.base.registry import choice


@choice(
    norm=True,
    layers=False,
    attention=False,
    version=1,
    source="study 2: Keras Sequential, 77,236,993 trainable weights",
)
def mlp(
    num_classes: int,
    channels: int,
    *,
    size: int,
    widths: tuple[int, ...],
    dropout: float,
    one_logit: bool,
) -> nn.Module:
    """Flattened pixels through hidden layers, each Dense, ReLU, batch norm, dropout. It has no spatial layer.

    `widths`: of the hidden layers. Pixels go in as they are, in [0, 1], as in the study.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        normalise=Normalise([0.0] * channels, [1.0] * channels), flatten=nn.Flatten()
    )
    before = channels * size**2
    for index, width in enumerate(widths, 1):
        layers |= {
            f"dense{index}": nn.Linear(before, width),
            f"relu{index}": nn.ReLU(),
            f"norm{index}": nn.BatchNorm1d(width),
            f"dropout{index}": nn.Dropout(dropout),
        }
        before = width
    return _ended(layers, before, num_classes, one_logit)


@choice(norm=True, attention=False, version=1, source="study 2: Keras Sequential, 26,211,585 trainable weights")
def cnn(
    num_classes: int,
    channels: int,
    *,
    size: int,
    widths: tuple[int, ...],
    dense: tuple[int, ...],
    dropout: float,
    one_logit: bool,
) -> nn.Module:
    """Blocks of a 3x3 convolution ("same" padding), ReLU, 2x2 max pooling and batch norm; then dense layers with ReLU
    and dropout.

    `widths`: channels of the blocks; `dense`: widths of the hidden layers. Pixels go in as they are, in [0, 1].
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict(normalise=Normalise([0.0] * channels, [1.0] * channels))
    before, side = channels, size
    for index, width in enumerate(widths, 1):
        layers |= {
            f"conv{index}": nn.Conv2d(before, width, 3, padding=1),
            f"relu{index}": nn.ReLU(),
            f"pool{index}": nn.MaxPool2d(2),
            f"norm{index}": nn.BatchNorm2d(width),
        }
        before, side = width, side // 2
    layers["flatten"] = nn.Flatten()
    before *= side**2
    for index, width in enumerate(dense, 1):
        layers |= {
            f"dense{index}": nn.Linear(before, width),
            f"dense_relu{index}": nn.ReLU(),
            f"dropout{index}": nn.Dropout(dropout),
        }
        before = width
    return _ended(layers, before, num_classes, one_logit)


def _ended(layers: OrderedDict[str, nn.Module], before: int, num_classes: int, one_logit: bool) -> nn.Module:
    layers["head"] = nn.Linear(before, num_outputs(num_classes, one_logit))
    net = nn.Sequential(layers)
    return two_logits_outside(net) if one_logit else net
