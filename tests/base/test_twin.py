import copy

import pytest
import torch
from torch import nn

from heatproof.base.registry import bind, preset
from heatproof.base.twin import Twin, foldable_pairs


def lively(net, seed=0):
    """Batch norms with statistics of a trained net, so that folding changes something."""
    generator = torch.Generator().manual_seed(seed)
    for part in net.modules():
        if isinstance(part, nn.BatchNorm2d):
            for value, low, high in (
                (part.running_mean, -0.3, 0.3),
                (part.running_var, 0.5, 2.0),
                (part.weight.data, 0.5, 1.5),
                (part.bias.data, -0.2, 0.2),
            ):
                value.uniform_(low, high, generator=generator)
    return net.eval()


@pytest.mark.parametrize(
    ("name", "folded", "norms"),
    [
        ("resnet18", 20, 20),
        ("mobilenet_v2", 52, 52),
        ("efficientnet_b0", 49, 49),
        ("densenet121", 59, 121),  # the rest comes before its convolution
        ("squeezenet1_0", 0, 0),
        ("small_cnn", 4, 4),
    ],
)
def test_the_twin_gives_the_same_logits(name, folded, norms):
    net = lively(preset("model", name)(3, 3))
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    twin = Twin(net, images[:1])
    exact = copy.deepcopy(net).double()(images.double())
    assert sum(isinstance(part, nn.BatchNorm2d) for part in net.modules()) == norms
    assert (twin.folded, twin.remarks) == (folded, ())
    assert twin(images).double().allclose(exact, atol=1e-4 * max(1.0, exact.abs().max().item()), rtol=0)
    assert not twin(images).requires_grad


def test_the_module_is_not_touched_and_passes_are_counted():
    net = lively(preset("model", "small_cnn")(3, 1))
    net[1].train()
    before, modes = copy.deepcopy(net.state_dict()), [part.training for part in net.modules()]
    twin = Twin(net, torch.rand(2, 1, 32, 32))
    twin(torch.rand(5, 1, 32, 32))
    twin(torch.rand(3, 1, 32, 32))
    assert twin.passes == 8
    assert [part.training for part in net.modules()] == modes
    assert list(net.state_dict()) == list(before)
    assert all(value.equal(before[name]) for name, value in net.state_dict().items())
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in net.modules())


class Branches(nn.Module):
    """conv and norm as told; every way in which a norm must not be folded."""

    def __init__(self, kind):
        super().__init__()
        self.kind = kind
        self.conv, self.norm = nn.Conv2d(2, 2, 3, padding=1), nn.BatchNorm2d(2)
        self.head = nn.Linear(2, 2)

    def forward(self, images):
        if self.kind == "norm first":
            x = self.conv(self.norm(images))
        elif self.kind == "output used twice":
            made = self.conv(images)
            x = self.norm(made) + made
        elif self.kind == "conv called twice":
            x = self.norm(self.conv(self.conv(images)))
        elif self.kind == "norm called twice":
            x = self.norm(self.norm(self.conv(images)))
        elif self.kind == "changed between":
            x = self.norm(self.conv(images) * 2)
        elif self.kind == "changed in place":
            x = self.norm(self.conv(images).relu_())
        else:
            x = self.norm(self.conv(images)) * (1 + self.conv.weight.abs().sum())
        return self.head(x.mean((2, 3)))


@pytest.mark.parametrize(
    "kind",
    [
        "norm first",
        "output used twice",
        "conv called twice",
        "norm called twice",
        "changed between",
        "changed in place",
    ],
)
def test_what_cannot_be_folded_is_left_alone(kind):
    net = lively(Branches(kind))
    images = torch.rand(3, 2, 8, 8)
    twin = Twin(net, images)
    assert foldable_pairs(net, images) == []
    assert (twin.folded, twin.remarks) == (0, ())
    assert twin(images).allclose(net(images), atol=1e-5)


def test_a_twin_that_differs_is_refused_and_the_net_used():
    net = lively(Branches("weights used elsewhere"))
    images = torch.rand(3, 2, 8, 8)
    twin = Twin(net, images)
    assert twin.folded == 0
    assert "refused" in twin.remarks[0]
    assert twin(images).equal(net(images))


def test_folding_keeps_bias_groups_and_plain_norms():
    net = lively(
        nn.Sequential(
            nn.Conv2d(4, 8, 3, groups=2),
            nn.BatchNorm2d(8),
            nn.Conv2d(8, 8, 3, bias=False, stride=2),
            nn.BatchNorm2d(8, eps=0.1),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
    )
    images = torch.rand(2, 4, 12, 12)
    twin = Twin(net, images)
    assert twin.folded == 2
    assert twin(images).allclose(net(images), atol=1e-5)


def test_hooks_that_normalise_go_with_the_twin():
    net = lively(bind("model", "torchvision", {"name": "resnet18"})(2, 1))
    images = torch.rand(1, 1, 64, 64)
    assert Twin(net, images)(images).allclose(net(images), atol=1e-4)
    assert not Twin(net, images)(images).allclose(net((images - 0.5) / 0.25), atol=1e-2)


class GivesBoth(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 1, 3), nn.BatchNorm2d(1)

    def forward(self, images):
        made = self.conv(images)
        return self.norm(made), made


def test_an_output_that_leaves_the_net_is_not_folded():
    assert foldable_pairs(GivesBoth().eval(), torch.rand(1, 1, 8, 8)) == []
