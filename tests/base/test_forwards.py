"""Passes without gradient share one twin, are counted, and get smaller batches where memory is short."""

import pytest
import tiny
import torch

from heatproof.base.forwards import Forwards, forwards_of, scores, shared_forwards
from heatproof.base.methods import MapPasses, explain_batch
from heatproof.base.names import MethodName
from heatproof.base.records import Method
from heatproof.base.registry import bind

IMAGES = torch.rand(7, 1, 12, 10, generator=torch.Generator().manual_seed(0))


def test_logits_are_those_of_the_net_in_any_batch():
    net = tiny.Conv()
    for batch in (1, 3, 64):
        forwards = Forwards(net, batch=batch)
        torch.testing.assert_close(forwards.logits(IMAGES), net(IMAGES).detach(), atol=1e-5, rtol=1e-4)
        assert forwards.passes == 7


def test_one_twin_is_shared_inside_and_none_outside():
    net, other = tiny.Conv(), tiny.Conv(seed=1)
    with shared_forwards(net) as outer:
        assert forwards_of(net) is outer
        assert forwards_of(other) is not outer
        with shared_forwards(net, batch=2) as inner:
            assert inner is outer
        assert outer.twin(IMAGES) is outer.twin(IMAGES)
    assert forwards_of(net) is not outer


def test_weights_changed_between_calls_are_seen():
    net = tiny.Conv()
    before = forwards_of(net).logits(IMAGES)
    with torch.no_grad():
        net.head.weight.mul_(2)
    assert not torch.allclose(forwards_of(net).logits(IMAGES), before)


def test_out_of_memory_halves_the_batch_and_loses_nothing():
    net = tiny.Conv()
    tried = []

    def small(images):
        tried.append(len(images))
        if len(images) > 2:
            raise torch.OutOfMemoryError("too many")
        return net(images).detach()

    forwards = Forwards(net, batch=8, twin=small)
    torch.testing.assert_close(forwards.logits(IMAGES), net(IMAGES).detach())
    assert tried == [7, 4, 2, 2, 2, 1]
    assert forwards.passes == 7

    def never(images):
        raise torch.OutOfMemoryError("not even one")

    with pytest.raises(torch.OutOfMemoryError, match="not even one"):
        Forwards(net, batch=4, twin=never).logits(IMAGES)


def test_scores():
    logits = torch.tensor([[0.0, 2.0], [1.0, 1.0]])
    targets = torch.tensor([1, 0])
    assert scores(logits, targets, "logit").tolist() == [2.0, 1.0]
    torch.testing.assert_close(scores(logits, targets, "prob")[1].item(), 0.5)


@pytest.mark.parametrize(
    ("name", "settings", "minimum"),
    [
        ("occlusion", {"patch": 4, "stride": 3}, 4 * 3),
        ("rise", {"samples": 30}, 30),
        ("scorecam", {}, 8),
        ("ablationcam", {}, 8),
    ],
)
def test_forwards_used_over_the_minimum(name, settings, minimum):
    """One pass per perturbed image and image, plus the black image or the image itself."""
    net = tiny.classifier(tiny.Conv())
    passes = MapPasses()
    images = torch.rand(40, 1, 12, 10, generator=torch.Generator().manual_seed(0))
    method = Method(MethodName(name), bind("explainer", name, settings))
    explain_batch(
        net, images, torch.zeros(40, dtype=torch.long), [method], ids=[str(i) for i in range(40)], seed=0, passes=passes
    )
    shared = 40 if "cam" in name else 0  # the pass that gives the layer's activations
    own = 1 if name in ("occlusion", "ablationcam") else 0  # the unperturbed image
    assert passes.images - shared <= 1.05 * 40 * (minimum + own)


@pytest.mark.parametrize("lasting", [True, False])
def test_a_pass_for_gradients_tells_the_logits_of_the_images_asked_for(lasting):
    net, other = tiny.Conv(), IMAGES + 0.1
    targets = torch.zeros(len(IMAGES), dtype=torch.long)
    with shared_forwards(net, lasting=lasting) as forwards:
        with forwards.noting(IMAGES) as noted:
            forwards.layers(other, targets, ["high"])
            assert noted() is None
            forwards.layers(IMAGES, targets, ["high"])
            forwards.layers(other, targets, ["high"])
            torch.testing.assert_close(noted(), net(IMAGES).detach(), atol=1e-5, rtol=1e-4)
        forwards.layers(IMAGES, targets, ["high"])
        assert noted() is None
