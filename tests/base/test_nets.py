import copy

import pytest
import torch
from torch import nn

from heatproof.base.errors import HeatproofError
from heatproof.base.nets import (
    Normalise,
    TwoLogits,
    as_classifier,
    check_layers,
    normalisation,
    normalise_inside,
    two_logits_outside,
)
from heatproof.base.registry import bind


def conv_net(outputs):
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, outputs)
    )


def test_normalise_subtracts_and_divides_per_channel():
    images = torch.rand(2, 3, 4, 4)
    made = Normalise([0.1, 0.2, 0.3], [0.5, 1.0, 2.0])(images)
    assert made[:, 1].equal(images[:, 1] - torch.tensor(0.2))
    assert made[:, 2].equal((images[:, 2] - torch.tensor(0.3)) / 2)


def test_normalise_repeats_grey_images():
    grey = torch.rand(2, 1, 4, 4)
    layer = Normalise([0.1, 0.2, 0.3], [0.5, 1.0, 2.0])
    assert layer(grey).equal(layer(grey.repeat(1, 3, 1, 1)))


class Wrapped(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = conv_net(2)

    def forward(self, images):
        return self.inner(images)


def test_normalisation_inside_keeps_names_and_follows_copies():
    bare = Wrapped().eval()
    keys = list(bare.state_dict())
    net = normalise_inside(copy.deepcopy(bare), [0.5] * 3, [0.25] * 3)
    images = torch.rand(2, 3, 8, 8)
    assert list(net.state_dict()) == keys
    assert net(images).allclose(bare((images - 0.5) / 0.25), atol=1e-6)
    twin = copy.deepcopy(net)
    twin.normalise.mean.zero_()
    assert not twin(images).allclose(net(images))
    assert net(images).allclose(bare((images - 0.5) / 0.25), atol=1e-6)


def test_normalisation_is_found_per_image_channel():
    net = nn.Sequential(Normalise([0.25, 0.5, 0.75], [0.5, 0.25, 0.75]))
    assert normalisation(net, 3) == ((0.25, 0.5, 0.75), (0.5, 0.25, 0.75))
    assert normalisation(net, 1) == ((0.5,), (0.5,))
    assert normalisation(nn.Linear(1, 1), 3) == (None, None)


def test_two_logits_give_the_sigmoid_and_opposite_gradients():
    net = conv_net(1).eval()
    images = torch.rand(3, 3, 8, 8, requires_grad=True)
    logits = TwoLogits(net)(images)
    assert logits.softmax(1)[:, 1].allclose(net(images).sigmoid()[:, 0])
    (up,) = torch.autograd.grad(logits[:, 1].sum(), images, retain_graph=True)
    (down,) = torch.autograd.grad(logits[:, 0].sum(), images)
    assert up.abs().sum() > 0
    assert up.allclose(-down)


@pytest.mark.parametrize("outputs", [1, 4])
def test_any_net_becomes_a_classifier_and_is_not_changed(outputs):
    net = conv_net(outputs).train()
    before = copy.deepcopy(net.state_dict())
    images = torch.rand(3, 3, 8, 8)
    classifier = as_classifier(net, images)
    assert classifier.classes == tuple(str(i) for i in range(max(2, outputs)))
    assert classifier.module(images).shape == (3, max(2, outputs))
    assert not classifier.module.training
    assert net.training
    assert all(value.equal(before[name]) for name, value in net.state_dict().items())
    assert classifier.layers == (("net.0", "net.1") if outputs == 1 else ("0", "1"))


def test_the_identity_follows_the_weights():
    net, images = conv_net(2).eval(), torch.rand(1, 3, 8, 8)
    first = as_classifier(net, images).identity
    assert as_classifier(copy.deepcopy(net), images).identity == first
    with torch.no_grad():
        net[0].bias[0] += 1
    assert as_classifier(net, images).identity != first


def test_two_logits_outside_keep_the_names_of_layers():
    net = conv_net(1).eval()
    images = torch.rand(3, 3, 8, 8)
    wanted = TwoLogits(copy.deepcopy(net))(images)
    changed = two_logits_outside(net)
    assert changed(images).equal(wanted)
    assert as_classifier(changed, images).layers == ("0", "1")
    loss = torch.nn.functional.cross_entropy(wanted, torch.tensor([0, 1, 1]))
    plain = torch.nn.functional.binary_cross_entropy_with_logits(wanted[:, 1] * 2, torch.tensor([0.0, 1.0, 1.0]))
    torch.testing.assert_close(loss, plain)


def test_a_sequential_net_normalises_in_front():
    bare = conv_net(2).eval()
    images = torch.rand(2, 3, 8, 8)
    net = normalise_inside(copy.deepcopy(bare), [0.5] * 3, [0.25] * 3).eval()
    assert net(images).allclose(bare((images - 0.5) / 0.25), atol=1e-6)
    assert list(net.state_dict()) == list(bare.state_dict())


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ("blocks.5", r"class token alone.*got 'blocks\.5'\. Take blocks\.5\.norm1"),
        ("blocks.3.norm7", r"no such module, got 'blocks\.3\.norm7'\. Did you mean 'blocks\.3\.norm\d'"),
        ("head", "has no spatial grid"),
    ],
)
def test_a_layer_without_a_map_is_refused_before_training(layer, message):
    model, images = bind("model", "timm", {"name": "test_vit"}), torch.rand(1, 1, 32, 32)
    state = torch.get_rng_state()
    check_layers(model, images, 3, ["blocks.4", "blocks.5.norm1"])
    with pytest.raises(HeatproofError, match=message):
        check_layers(model, images, 3, ["blocks.4", layer])
    assert torch.get_rng_state().equal(state)


def test_a_head_that_starts_from_zeros_hides_no_such_layer():
    model, images = bind("model", "torchvision", {"name": "vit_b_32"}), torch.rand(1, 1, 64, 64)
    with pytest.raises(HeatproofError, match=r"Take encoder\.layers\.encoder_layer_11\.ln_1"):
        check_layers(model, images, 3, ["encoder.layers.encoder_layer_11"])
