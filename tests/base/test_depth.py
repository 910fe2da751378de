"""Blocks of weights: what published nets are made of, all weights once, from the image to the head."""

import pytest
import tiny
import torch
import torchvision
from torch import nn

from heatproof.base.depth import weight_blocks
from heatproof.base.nets import TwoLogits

EXAMPLE = torch.zeros(1, 3, 64, 64)


def names(module, grain, example=EXAMPLE):
    return [block.name for block in weight_blocks(module, example, grain)]


def holders(module):
    return sorted(name for name, part in module.named_modules() if list(part.parameters(recurse=False)))


@pytest.mark.parametrize("grain", ["coarse", "fine"])
@pytest.mark.parametrize("name", ["resnet18", "densenet121", "squeezenet1_0", "mobilenet_v2", "swin_t"])
def test_blocks_hold_every_weight_once_and_end_with_the_head(name, grain):
    module = getattr(torchvision.models, name)(num_classes=3).eval()
    blocks = weight_blocks(module, EXAMPLE, grain)
    assert sorted(part for block in blocks for part in block.all) == holders(module)
    assert blocks[-1].name in ("fc", "classifier", "head")
    assert all(block.modules for block in blocks)


def test_a_resnet_50_has_6_coarse_and_18_fine_states_with_the_trained_one():
    module = torchvision.models.resnet50(num_classes=3).eval()
    assert names(module, "coarse") == ["layer1", "layer2", "layer3", "layer4", "fc"]
    fine = names(module, "fine")
    assert fine[:4] == ["layer1.0", "layer1.1", "layer1.2", "layer2.0"]
    assert len(fine) + 1 == 18
    for grain in ("coarse", "fine"):
        assert weight_blocks(module, EXAMPLE, grain)[0].joined == ("conv1", "bn1")


def test_raw_weights_of_a_transformer_go_with_its_first_block():
    module = torchvision.models.VisionTransformer(64, 16, 4, 2, 12, 24, num_classes=3).eval()
    first, *rest = weight_blocks(module, EXAMPLE, "coarse")
    assert first.joined == ("conv_proj", "", "encoder")
    assert [block.name for block in rest] == [
        *(f"encoder.layers.encoder_layer_{i}" for i in (1, 2, 3)),
        "heads",
    ]


def test_a_wrapped_net_has_the_same_blocks():
    bare = torchvision.models.resnet18(num_classes=1).eval()
    assert names(TwoLogits(bare).eval(), "coarse") == [f"net.{name}" for name in names(bare, "coarse")]


def test_layers_in_a_row_are_blocks_with_the_norm_behind_them():
    module = tiny.Conv()
    blocks = weight_blocks(module, torch.zeros(1, 1, 8, 8), "coarse")
    assert [block.all for block in blocks] == [("low.0", "low.1"), ("high.0", "high.1"), ("head",)]


def test_the_order_is_that_of_running_not_of_registration():
    class Turned(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(4, 2)
            self.second = nn.Conv2d(2, 4, 1)
            self.first = nn.Conv2d(1, 2, 1)
            self.never = nn.Conv2d(1, 1, 1)

        def forward(self, images):
            return self.fc(self.second(self.first(images)).mean((2, 3)))

    blocks = weight_blocks(Turned().eval(), torch.zeros(1, 1, 4, 4), "coarse")
    assert [block.all for block in blocks] == [("first",), ("second",), ("fc", "never")]


def test_the_net_is_as_before():
    module = tiny.Conv().train()
    weight_blocks(module, torch.zeros(1, 1, 8, 8), "fine")
    assert module.training
    assert not any(part._forward_pre_hooks for part in module.modules())
