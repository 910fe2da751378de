"""Nets with other weights: which are drawn, from what, and that the net itself stays as it is."""

import copy

import pytest
import tiny
import torch
import torchvision
from torch import nn

from heatproof.base.depth import weight_blocks
from heatproof.base.randomise import OtherWeights, Weights, calibrate, redrawn

EXAMPLE = torch.zeros(1, 3, 64, 64)


def transformer():
    torch.manual_seed(0)
    module = torchvision.models.VisionTransformer(64, 16, 4, 2, 12, 24, num_classes=3).eval()
    nn.init.normal_(module.class_token, std=0.3)
    nn.init.normal_(module.heads.head.weight)
    return module


def everything(module, example=EXAMPLE):
    return [name for block in weight_blocks(module, example, "coarse") for name in block.all]


def test_every_weight_is_drawn_anew_raw_ones_too():
    module = transformer()
    before = copy.deepcopy(module.state_dict())
    other = dict(redrawn(module, everything(module), 0).named_parameters())
    for name, weight in module.named_parameters():
        assert torch.equal(weight, before[name])
        # Layer norms start from ones and zeros, as they did here; biases of attention from zeros.
        constant = ".ln" in name or name.endswith("in_proj_bias")
        assert torch.equal(other[name], weight) == constant, name
    assert other["class_token"].std().item() == pytest.approx(0.3, rel=0.5)
    assert other["encoder.pos_embedding"].std().item() == pytest.approx(0.02, rel=0.2)


def test_equal_blocks_get_different_weights_and_keep_them_in_every_state():
    module = transformer()
    blocks = weight_blocks(module, EXAMPLE, "coarse")
    whole = redrawn(module, everything(module), 0)
    a, b = (whole.encoder.layers[i].mlp[0].weight for i in (0, 1))
    assert not torch.equal(a, b)
    last = redrawn(module, blocks[-2].all, 0)
    assert torch.equal(last.encoder.layers[3].mlp[0].weight, whole.encoder.layers[3].mlp[0].weight)
    assert torch.equal(last.encoder.layers[0].mlp[0].weight, module.encoder.layers[0].mlp[0].weight)
    another = redrawn(module, everything(module), 1)
    assert not torch.equal(another.encoder.layers[0].mlp[0].weight, a)


def test_weights_come_from_the_initialiser_of_their_module():
    module = nn.Sequential(nn.Conv2d(3, 64, 3), nn.Flatten(), nn.Linear(64, 2)).eval()
    with torch.no_grad():
        module[0].weight.fill_(7)
    drawn = redrawn(module, ["0"], 5)[0].weight
    bound = (1 / 27) ** 0.5  # nn.Conv2d: uniform within 1 / sqrt(fan in)
    assert drawn.abs().max() <= bound
    assert drawn.std().item() == pytest.approx(bound / 3**0.5, rel=0.05)


def test_raw_weights_that_are_all_equal_are_spread():
    class Raw(nn.Module):
        def __init__(self):
            super().__init__()
            self.token = nn.Parameter(torch.full((400,), 2.0))
            self.scale = nn.Parameter(torch.ones(1))

        def forward(self, images):
            return images

    drawn = redrawn(Raw().eval(), [""], 0)
    assert drawn.token.std().item() == pytest.approx(0.02, rel=0.2)
    assert drawn.token.mean().item() == pytest.approx(2, abs=0.01)
    assert drawn.scale.item() != 1


def test_random_states_are_as_before():
    module = tiny.Conv()
    state = torch.get_rng_state()
    redrawn(module, ["head", "low.0"], 0)
    assert torch.equal(torch.get_rng_state(), state)


def test_norms_are_calibrated_on_the_images():
    module = tiny.Conv().eval()
    images = torch.rand(48, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    before = copy.deepcopy(module.high[1].state_dict())
    assert calibrate(module, ["low.1"], images, batch=16) == 48
    given = torch.cat([module.low[0](part) for part in images.split(16)])
    torch.testing.assert_close(module.low[1].running_mean, given.mean((0, 2, 3)))
    wanted = torch.stack([part.transpose(0, 1).flatten(1).var(1) for part in given.split(16)]).mean(0)
    torch.testing.assert_close(module.low[1].running_var, wanted)
    assert not module.training
    assert module.low[1].momentum == 0.1
    torch.testing.assert_close(module.high[1].state_dict(), before)


def test_one_image_is_too_few_to_calibrate_on():
    module = tiny.Conv().eval()
    assert calibrate(module, ["low.1"], torch.rand(1, 1, 8, 8), batch=4) == 0


def test_only_norms_behind_the_first_redrawn_module_are_calibrated_and_once():
    module = tiny.Conv().eval()
    others = OtherWeights(tiny.classifier(module), torch.rand(20, 1, 8, 8), batch=8)
    made = others.classifier_with(Weights(("high.0", "high.1", "head"), 0)).module
    assert torch.equal(made.low[1].running_mean, module.low[1].running_mean)
    assert not torch.equal(made.high[1].running_mean, module.high[1].running_mean)
    assert others.passes == 20
    again = others.classifier_with(Weights(("high.0", "high.1", "head"), 0)).module
    assert others.passes == 20
    torch.testing.assert_close(again.state_dict(), made.state_dict(), atol=0, rtol=0)
    head = others.classifier_with(Weights(("head",), 0)).module
    assert others.passes == 20
    assert torch.equal(head.high[1].running_var, module.high[1].running_var)


def test_the_classifier_stays_untouched():
    module = tiny.Conv().eval()
    before = copy.deepcopy(module.state_dict())
    classifier = tiny.classifier(module)
    others = OtherWeights(classifier, torch.rand(20, 1, 8, 8))
    made = others.classifier_with(Weights(tuple(everything(module, torch.zeros(1, 1, 8, 8))), 0))
    torch.testing.assert_close(module.state_dict(), before, atol=0, rtol=0)
    assert made.module is not module
    assert made.identity != classifier.identity
    assert (made.classes, made.layers) == (classifier.classes, classifier.layers)
