"""A small convolutional net that learns from a few hundred images on a CPU."""

from collections import OrderedDict

from torch import nn

from heatproof.base.nets import Normalise, num_outputs, two_logits_outside
from heatproof.base.registry import choice


@choice(
    norm=True,
    attention=False,
    source="VGG-shaped (Simonyan & Zisserman 2015) with batch norm and global average pooling",
)
def small_cnn(
    num_classes: int, channels: int, *, width: int, stages: int, dropout: float, one_logit: bool
) -> nn.Module:
    """Stages of one 3x3 convolution with batch norm and ReLU, halved between stages, pooled over the image.

    Stage i has width * 2^i channels. Each stage but the last is followed by a 2x2 max pooling, so that four stages see
    a 64 px image at 64, 32, 16 and 8 px: a class activation map of the last stage has 8 x 8 cells, each of which sees
    38 px. (With two convolutions a stage a cell sees 68 px, the whole image, and may answer for any place in it: maps
    of such a net missed most spiculated nodules while it classified them without a fault.)
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict(normalise=Normalise([0.5] * channels, [0.25] * channels))
    before = channels
    for index in range(stages):
        after = width * 2**index
        layers[f"stage{index + 1}"] = nn.Sequential(*_conv(before, after))
        if index < stages - 1:
            layers[f"pool{index + 1}"] = nn.MaxPool2d(2)
        before = after
    layers |= OrderedDict(
        pool=nn.AdaptiveAvgPool2d(1),
        flatten=nn.Flatten(),
        dropout=nn.Dropout(dropout),
        head=nn.Linear(before, num_outputs(num_classes, one_logit)),
    )
    net = nn.Sequential(layers)
    return two_logits_outside(net) if one_logit else net


def _conv(before: int, after: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()
