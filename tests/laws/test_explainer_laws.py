"""What holds for every explainer on every family of nets by being registered: batch, order, shape, and a model left as
it was."""

import pytest
import torch
from families import FAMILIES
from torch import nn

from heatproof.base.correlations import spearman
from heatproof.base.errors import HeatproofError
from heatproof.base.registry import bind, choices

# Maps made elsewhere and maps made of others' maps are no explainers of a net: they have tests of their own.
CHOICES = {n: c for n, c in choices("explainer").items() if not c.facts.get("given") and not c.facts.get("combines")}
PAIRS = [(name, family) for name in CHOICES for family, net in FAMILIES.items() if net.fits(CHOICES[name])]
MISFITS = [(name, family) for name in CHOICES for family, net in FAMILIES.items() if not net.fits(CHOICES[name])]
SEEDS = torch.tensor([7, -3, 2**61, 0, 12])
each_pair = pytest.mark.parametrize(("name", "family"), PAIRS)


# Few draws on small images, signed where there is the choice: a random net may leave a rectified map nothing.
SMALL = {"relu": False, "samples": 24, "segmentation": "grid", "segments": 9, "background": 3, "patch": 8, "stride": 5}


def explain(name, family, classifier=None, rows=slice(None), layer=None):
    small = {key: value for key, value in SMALL.items() if key in CHOICES[name].parameters}
    explainer = bind("explainer", name, small)
    more = {"seeds": SEEDS[rows]} if "seeds" in explainer.choice.supplied else {}
    if layer:
        more["layer"] = layer
    net = FAMILIES[family]
    return explainer(classifier or net.classifier(), net.images()[rows], net.targets()[rows], **more)


def footprint(net: nn.Module):
    return {
        "modes": [part.training for part in net.modules()],
        "flags": [parameter.requires_grad for parameter in net.parameters()],
        "gradients": [parameter.grad for parameter in net.parameters()],
        "weights": {k: v.tolist() for k, v in net.state_dict().items()},
        "hooks": [
            len(hooks)
            for part in net.modules()
            for hooks in (part._forward_hooks, part._forward_pre_hooks, part._backward_hooks, part._backward_pre_hooks)
        ],
        "own": [sorted(vars(part)) for part in net.modules()],
        "random": torch.get_rng_state().tolist(),
        "kernels": torch.backends.mha.get_fastpath_enabled(),
    }


@each_pair
def test_shape_and_finiteness(name, family):
    maps = explain(name, family)
    assert maps.ndim == 3
    assert len(maps) == 5
    assert maps.dtype == torch.float32
    assert not maps.requires_grad
    assert torch.isfinite(maps).all()
    assert (maps.amax((1, 2)) > maps.amin((1, 2))).all()


@each_pair
def test_a_batch_equals_single_images_in_any_order(name, family):
    # Grad-CAM++ divides by what nearly cancels on signed tokens: its formula magnifies float32's rounding there.
    near = {"atol": 1e-4 if (name, family) == ("gradcam_plus_plus", "vit") else 1e-5, "rtol": 0}
    together = explain(name, family)
    scale = together.abs().max()
    for i in range(5):
        alone = explain(name, family, rows=slice(i, i + 1))
        torch.testing.assert_close(alone[0] / scale, together[i] / scale, **near)
    order = torch.tensor([3, 0, 4, 2, 1])
    torch.testing.assert_close(explain(name, family, rows=order) / scale, together[order] / scale, **near)


@each_pair
def test_same_seed_same_bits(name, family):
    first = explain(name, family)
    torch.rand(3)
    assert torch.equal(explain(name, family), first)


@pytest.mark.parametrize("name", CHOICES)
def test_maps_depend_on_what_the_facts_say(name):
    facts = CHOICES[name].facts
    family = next(family for pair, family in PAIRS if pair == name)
    classifier = FAMILIES[family].classifier()
    maps = explain(name, family, classifier)
    with torch.no_grad():
        for parameter in classifier.module.parameters():
            parameter.mul_(-0.5).add_(0.1)
    assert torch.equal(explain(name, family, classifier), maps) == bool(facts.get("control"))
    if facts.get("constant"):
        assert torch.equal(maps[0], maps[1])
    assert ("seeds" in CHOICES[name].supplied) == bool(facts.get("stochastic"))


@pytest.mark.parametrize("broken", [False, True])
@each_pair
def test_everything_is_as_before_afterwards(name, family, broken):
    classifier = FAMILIES[family].classifier()
    net = classifier.module
    net.train()
    parts = list(net.modules())
    parts[len(parts) // 2].eval()
    next(net.parameters()).requires_grad_(False)
    next(part for part in parts if hasattr(part, "broken")).broken = broken
    before = footprint(net)
    if broken and not CHOICES[name].facts.get("control"):
        with pytest.raises(ArithmeticError, match="the net broke"):
            explain(name, family, classifier)
    else:
        explain(name, family, classifier)
    assert footprint(net) == before


@each_pair
def test_frozen_weights_and_inference_mode_change_nothing(name, family):
    expected = explain(name, family)
    classifier = FAMILIES[family].classifier()
    for parameter in classifier.module.parameters():
        parameter.requires_grad_(False)
    with torch.inference_mode():
        found = explain(name, family, classifier)
    scale = expected.abs().max()
    torch.testing.assert_close(found / scale, expected / scale, atol=1e-5, rtol=0)


# Alphas of Grad-CAM++ are quotients near 0 where activations have both signs: no rank survives rounding there.
BRITTLE = {("gradcam_plus_plus", "vit")}


@pytest.mark.parametrize(("name", "family"), [p for p in PAIRS if "gradient" in CHOICES[p[0]].facts.get("needs", ())])
def test_maps_under_bf16_autocast_keep_their_ranks(name, family):
    expected = explain(name, family)
    with torch.autocast("cpu", torch.bfloat16):
        found = explain(name, family).float()
    assert torch.isfinite(found).all()
    if (name, family) not in BRITTLE:
        assert spearman(found, expected).min() > 0.75


@pytest.mark.parametrize("name", [n for n in CHOICES if "layer" in CHOICES[n].supplied])
@pytest.mark.parametrize("layer", ["stem", "stem.0", "block", "block.1", "relu"])
def test_every_layer_can_be_asked_for(name, layer):
    maps = explain(name, "residual", layer=f"net.{layer}")
    assert tuple(maps.shape) == ((5, 24, 20) if layer.startswith("stem") else (5, 12, 10))
    assert maps.abs().max() > 0


@pytest.mark.parametrize(("name", "family"), MISFITS)
def test_a_net_that_does_not_fit_is_refused(name, family):
    with pytest.raises(HeatproofError):
        explain(name, family)
