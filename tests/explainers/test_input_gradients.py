"""Maps from pixel gradients: linear closed forms, hand-solved nets, completeness, captum."""

import captum.attr
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from heatproof.base import gradients
from heatproof.base.errors import HeatproofError
from heatproof.base.fields import hash_keys, normal, uniform
from heatproof.base.gradients import input_gradients, over_channels
from heatproof.base.notes import SAMPLING, collected
from heatproof.base.records import Classifier
from heatproof.explainers.input_gradients import (
    gradient_shap,
    input_x_gradient,
    integrated_gradients,
    saliency,
    smoothgrad,
)

IMAGES = torch.rand(3, 2, 6, 5, generator=torch.Generator().manual_seed(0))
TARGETS = torch.tensor([2, 0, 1])
RULES = ("sum", "max_abs", "sum_abs", "norm")


def net() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return nn.Sequential(
            nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(24, 3)
        ).eval()


class Units(nn.Module):
    """Pixels a, b; units u = relu(a - b), v = relu(b - 1), w = relu(a + b); logits (u + 2 v - 3 w, a)."""

    def forward(self, images):
        a, b = images.flatten(1).T
        return torch.stack([F.relu(a - b) + 2 * F.relu(b - 1) - 3 * F.relu(a + b), a], 1)


def test_three_units_by_hand():
    image, target = torch.tensor([[[[4.0, 2.0]]]]), torch.tensor([0])
    # All units are on: gradient (1 - 3, -1 + 2 - 3).
    assert saliency(Units(), image, target)[0].tolist() == [[2, 2]]
    assert saliency(Units(), image, target, channels="sum")[0].tolist() == [[-2, -2]]
    assert input_x_gradient(Units(), image, target)[0].tolist() == [[-8, -4]]
    # On the way from black v is on for the second half alone: mean gradient (-2, -4 + 2 / 2).
    assert integrated_gradients(Units(), image, target)[0].tolist() == [[-8, -6]]
    # The second logit knows the first pixel alone.
    assert input_x_gradient(Units(), image, torch.tensor([1]))[0].tolist() == [[4, 0]]


@pytest.mark.parametrize("channels", RULES)
def test_on_a_linear_net_input_x_gradient_is_integrated_gradients_is_weight_times_pixel(channels):
    linear = nn.Sequential(nn.Flatten(), nn.Linear(60, 3))
    weights = linear[1].weight.detach()[TARGETS].view(3, 2, 6, 5)
    expected = over_channels(weights * IMAGES, channels)
    for method in (input_x_gradient, integrated_gradients):
        torch.testing.assert_close(method(linear, IMAGES, TARGETS, channels=channels), expected)
    torch.testing.assert_close(saliency(linear, IMAGES, TARGETS, channels=channels), over_channels(weights, channels))


@pytest.mark.parametrize("baseline", [0.0, 0.5, "mean"])
def test_integrated_gradients_are_complete(baseline):
    """The maps sum to logit(x) - logit(x'), the better the more steps."""
    model = net()
    classifier = Classifier(model, tuple("abc"), (), "id", channels=2, train_mean=(0.2, 0.7))
    start = torch.tensor((0.2, 0.7) if baseline == "mean" else (baseline, baseline))[:, None, None].expand_as(IMAGES)
    with torch.no_grad():
        expected = (model(IMAGES) - model(start)).gather(1, TARGETS[:, None])[:, 0]
    errors = [
        (integrated_gradients(classifier, IMAGES, TARGETS, baseline=baseline, steps=n).sum((1, 2)) - expected).abs()
        for n in (64, 1024)
    ]
    scale = expected.abs().max()
    assert errors[0].max() < 0.03 * scale
    assert errors[1].max() < 0.002 * scale


def test_an_unknown_mean_is_refused():
    for model in (net(), Classifier(net(), tuple("abc"), (), "id", channels=2)):
        with pytest.raises(HeatproofError, match="baseline: a value or 'mean' of training images that are known"):
            integrated_gradients(model, IMAGES, TARGETS, baseline="mean")


def test_equal_to_captum():
    model = net()
    theirs = captum.attr.Saliency(model).attribute(IMAGES.clone().requires_grad_(), TARGETS, abs=False)
    torch.testing.assert_close(input_gradients(model, IMAGES, TARGETS), theirs)
    theirs = captum.attr.InputXGradient(model).attribute(IMAGES.clone().requires_grad_(), TARGETS)
    torch.testing.assert_close(input_x_gradient(model, IMAGES, TARGETS), theirs.sum(1).detach())
    theirs = captum.attr.IntegratedGradients(model).attribute(
        IMAGES.clone().requires_grad_(), 0.0, TARGETS, n_steps=64, method="riemann_middle"
    )
    found = integrated_gradients(model, IMAGES, TARGETS, steps=64)
    torch.testing.assert_close(found.double(), theirs.sum(1).detach().double(), atol=1e-6, rtol=1e-5)


def test_smoothgrad_equals_its_slow_twin():
    model = net().double()
    seeds = torch.tensor([5, 6, -7])
    found = smoothgrad(model.float(), IMAGES, TARGETS, seeds=seeds, samples=7, noise=0.2, channels="sum")
    model = net().double()
    for b in range(3):
        x = IMAGES[b].double()
        sd = 0.2 * (x.max() - x.min())
        total = torch.zeros_like(x)
        for key in hash_keys(seeds, 7)[b]:
            noisy = (x + sd * normal(key[None], (2, 6, 5))[0].double())[None].requires_grad_()
            total += torch.autograd.grad(model(noisy)[0, TARGETS[b]], noisy)[0][0]
        torch.testing.assert_close(found[b].double(), (total / 7).sum(0), atol=1e-5, rtol=1e-4)


def test_smoothgrad_without_noise_is_saliency_and_follows_its_seeds():
    model = net()
    seeds = torch.tensor([1, 2, 3])
    plain = saliency(model, IMAGES, TARGETS, channels="sum_abs")
    torch.testing.assert_close(smoothgrad(model, IMAGES, TARGETS, seeds=seeds, noise=0.0), plain)
    found = smoothgrad(model, IMAGES, TARGETS, seeds=seeds, noise=0.5)
    assert not torch.equal(found, smoothgrad(model, IMAGES, TARGETS, seeds=seeds + 1, noise=0.5))


def with_background(model, count=4):
    pool = torch.rand(count, 2, 6, 5, generator=torch.Generator().manual_seed(9))
    return Classifier(model, tuple("abc"), (), "id", channels=2, background=pool), pool


def test_gradient_shap_on_a_linear_net_is_weight_times_distance_from_the_baselines():
    linear = nn.Sequential(nn.Flatten(), nn.Linear(60, 3))
    classifier, pool = with_background(linear, 1)
    weights = linear[1].weight.detach()[TARGETS].view(3, 2, 6, 5)
    found = gradient_shap(classifier, IMAGES, TARGETS, seeds=torch.arange(3), background=1, samples=4)
    torch.testing.assert_close(found, (weights * (IMAGES - pool)).sum(1))


def test_gradient_shap_equals_its_slow_twin_and_adds_up():
    model = net()
    classifier, pool = with_background(model)
    seeds = torch.tensor([5, 6, -7])
    with collected() as notes:
        found = gradient_shap(classifier, IMAGES, TARGETS, seeds=seeds, background=4, samples=400)
    twin = net().double()
    for b in range(3):
        keys, total = hash_keys(seeds, 400)[b], torch.zeros(2, 6, 5, dtype=torch.float64)
        for key, share in zip(keys, uniform(seeds, (400,))[b].double(), strict=True):
            start = pool[int(key) % 4].double()
            between = (start + share * (IMAGES[b].double() - start))[None].requires_grad_()
            total += torch.autograd.grad(twin(between)[0, TARGETS[b]], between)[0][0] * (IMAGES[b].double() - start)
        torch.testing.assert_close(found[b].double(), (total / 400).sum(0), atol=1e-5, rtol=1e-3)
    with torch.no_grad():
        expected = model(IMAGES).gather(1, TARGETS[:, None])[:, 0] - model(pool).mean(0)[TARGETS]
    torch.testing.assert_close(found.sum((1, 2)), expected, atol=0.1 * float(expected.abs().max()), rtol=0)
    assert notes[SAMPLING].shape == (3,)
    assert notes[SAMPLING].min() > 0.9


@pytest.mark.parametrize("method", [smoothgrad, gradient_shap])
def test_one_sample_is_refused(method):
    with pytest.raises(HeatproofError, match="samples: at least two are needed, got 1"):
        method(
            with_background(net())[0],
            IMAGES,
            TARGETS,
            seeds=torch.arange(3),
            samples=1,
            **({"background": 4} if method is gradient_shap else {}),
        )


def test_points_share_passes_and_memory_that_runs_out_halves_them(monkeypatch):
    class Small(nn.Module):
        """Runs out of memory above six images."""

        def __init__(self):
            super().__init__()
            self.net, self.sizes = net(), []

        def forward(self, images):
            self.sizes.append(len(images))
            if len(images) > 6:
                raise torch.OutOfMemoryError("too many")
            return self.net(images)

    expected = integrated_gradients(net(), IMAGES, TARGETS, steps=16)
    small = Small()
    torch.testing.assert_close(integrated_gradients(small, IMAGES, TARGETS, steps=16), expected)
    assert small.sizes == [30, 15, 6, 6, 6, 6, 6, 6, 6, 6]
    monkeypatch.setattr(gradients, "AT_ONCE", 12)
    small = Small()
    with pytest.raises(torch.OutOfMemoryError):
        integrated_gradients(small, IMAGES.repeat(3, 1, 1, 1), TARGETS.repeat(3), steps=2)
    assert small.sizes == [9]


def test_a_logit_that_knows_no_pixel_has_no_gradient():
    class Constant(nn.Module):
        def forward(self, images):
            return torch.zeros(len(images), 3)

    for method in (saliency, input_x_gradient, integrated_gradients):
        assert torch.equal(method(Constant(), IMAGES, TARGETS), torch.zeros(3, 6, 5))


def test_an_unknown_rule_is_refused():
    with pytest.raises(HeatproofError, match="no such rule, got 'summ'"):
        saliency(net(), IMAGES, TARGETS, channels="summ")
