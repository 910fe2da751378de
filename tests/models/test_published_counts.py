"""Numbers of weights against those that the studies print, built without memory on the meta device."""

import pytest
import torch
from torch import nn

from heatproof.base.layers import head_names
from heatproof.base.nets import build_net
from heatproof.base.registry import bind, preset


def net_of(option, num_classes, size, **settings):
    chosen = preset("model", option)
    with torch.device("meta"):
        return build_net(bind("model", chosen.name, {**chosen.settings, **settings}), num_classes, 3, size)


def trainable(module):
    return sum(weight.numel() for weight in module.parameters())


def running(module):
    """What Keras calls non-trainable: the running means and variances of batch norm."""
    return sum(
        value.numel() for name, value in module.named_buffers() if name.endswith(("running_mean", "running_var"))
    )


@pytest.mark.parametrize(("name", "weights", "others"), [("mlp", 77_236_993, 1_792), ("cnn", 26_211_585, 960)])
def test_study_2_nets(name, weights, others):
    net = net_of(name, 2, 224, one_logit=True)
    assert (trainable(net), running(net)) == (weights, others)


@pytest.mark.parametrize(("name", "weights"), [("vgg16", 131_396), ("densenet201", 491_844)])
def test_study_3_heads(name, weights):
    net = net_of(name, 4, 299, head="maxpool_flatten_64")
    assert head_names(net) == ("head",)
    assert trainable(net.head) == weights
    assert net(torch.zeros(1, 3, 299, 299, device="meta")).shape == (1, 4)


def test_study_2_head_on_resnet50():
    net = net_of("resnet50", 2, 224, head="gap_1024_512", one_logit=True)
    assert trainable(net.get_submodule(head_names(net)[0])) == 2048 * 1024 + 1024 + 1024 * 512 + 512 + 512 + 1


# 3x3 convolutions with bias, then a dense layer of 512 on the cells that are left of 48 x 48 grey pixels.
@pytest.mark.parametrize(
    ("name", "cells", "channels"),
    [
        ("vgg_depth2", 12, 128), ("vgg_depth3", 6, 256), ("vgg_depth4", 3, 512), ("vgg_depth5", 1, 512),
        ("vgg_resolution_low", 3, 256), ("vgg_resolution_medium", 6, 256), ("vgg_resolution_high", 12, 256),
        ("vgg_channel", 6, 256), ("vgg_spatial", 12, 128),
        ("vgg_receptive_small", 6, 256), ("vgg_receptive_medium", 6, 256), ("vgg_receptive_large", 6, 256),
        ("vgg_pooling_flatten", 12, 256), ("vgg_pooling_max", 6, 256), ("vgg_pooling_average", 6, 256),
        ("vgg_pooling_global_average", 1, 256), ("vgg_pooling_global_max", 1, 256),
    ],
)  # fmt: skip
def test_cells_before_the_dense_layer_of_study_1(name, cells, channels):
    with torch.device("meta"):
        net = build_net(preset("model", name), 2, 1, 48)
    assert net.dense.in_features == channels * cells**2
    assert net.dense.out_features == 512
    convs = [name for name, part in net.named_modules() if isinstance(part, nn.Conv2d)]
    assert all(name.startswith("block") for name in convs)
    assert convs[-1] == {"vgg_depth2": "block2_conv2", "vgg_depth4": "block4_conv3", "vgg_depth5": "block5_conv3"}.get(
        name, "block3_conv3"
    )


def test_large_receptive_field_by_a_kernel_and_a_dilation():
    with torch.device("meta"):
        net = build_net(preset("model", "vgg_receptive_large"), 2, 1, 48)
    assert net.block2_conv1.kernel_size == (5, 5)
    assert net.block3_conv1.dilation == (2, 2)
    assert net.block3_conv1(torch.zeros(1, 128, 12, 12, device="meta")).shape[-2:] == (12, 12)
