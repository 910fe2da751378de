import pytest
import torch
from torch import nn

from heatproof.base.layers import explanation_layers, head_names, spatial_layers
from heatproof.base.nets import TwoLogits
from heatproof.base.registry import bind, preset

# On the meta device a net has shapes but neither numbers nor memory: the largest one takes no time.
META = torch.device("meta")


def torchvision_net(name):
    with META:
        return bind("model", "torchvision", {"name": name})(3, 3).eval()


@pytest.mark.parametrize(
    ("name", "layer", "head"),
    [
        ("resnet18", "layer4", "fc"),
        ("vgg16", "features.29", "classifier.6"),
        ("squeezenet1_0", "features.12", "classifier.1"),
        ("mobilenet_v2", "features.18", "classifier.1"),
        ("densenet121", "features.relu5", "classifier"),
        ("efficientnet_b0", "features.8", "classifier.1"),
        ("convnext_tiny", "features.7", "classifier.2"),
        ("googlenet", "inception5b", "fc"),
        ("inception_v3", "Mixed_7c", "fc"),
        ("shufflenet_v2_x0_5", "conv5", "fc"),
        ("swin_t", "norm", "head"),
    ],
)
def test_the_automatic_layer_is_the_usual_one(name, layer, head):
    net = torchvision_net(name)
    names = explanation_layers(net, torch.zeros(1, 3, 128, 128, device=META))
    assert names[-1] == layer
    assert head_names(net) == (head,)
    assert set(names) <= set(spatial_layers(net, torch.zeros(1, 3, 128, 128, device=META)))


def test_resnet_blocks_are_listed_shallow_to_deep():
    names = explanation_layers(torchvision_net("resnet18"), torch.zeros(1, 3, 96, 96, device=META))
    assert names == ("conv1", "layer1", "layer2", "layer3", "layer4")


def test_the_last_stage_of_the_small_cnn_keeps_eight_cells():
    net = preset("model", "small_cnn")(3, 1)
    assert explanation_layers(net, torch.zeros(1, 1, 64, 64)) == ("stage1", "stage2", "stage3", "stage4")
    assert net[:-4](torch.zeros(1, 1, 64, 64)).shape[-2:] == (8, 8)


def test_a_net_without_places_has_no_layers():
    mlp = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 2))
    assert explanation_layers(mlp, torch.zeros(1, 1, 8, 8)) == ()


def test_the_wrapper_of_a_one_logit_net_is_passed_over():
    inner = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 1))
    assert explanation_layers(TwoLogits(inner), torch.zeros(1, 1, 8, 8)) == ("net.0", "net.1")


class Breaks(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 3)
        self.head = nn.Linear(1, 2)

    def forward(self, images):
        raise RuntimeError("broken")


@pytest.mark.parametrize("broken", [False, True])
def test_modes_and_hooks_are_as_before(broken):
    net = Breaks() if broken else preset("model", "small_cnn")(3, 1)
    net.train()
    list(net.modules())[-1].eval()
    modes = [part.training for part in net.modules()]
    if broken:
        with pytest.raises(RuntimeError, match="broken"):
            explanation_layers(net, torch.zeros(1, 1, 32, 32))
    else:
        explanation_layers(net, torch.zeros(1, 1, 32, 32))
    assert [part.training for part in net.modules()] == modes
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in net.modules())
