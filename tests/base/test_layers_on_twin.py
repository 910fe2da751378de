"""Outputs and gradients of layers on the inference twin: where it gives the same ones, and only there."""

import pytest
import torch
from families import FAMILIES

from heatproof.base.forwards import shared_forwards
from heatproof.base.hooks import layers_of
from heatproof.base.methods import explain_batch
from heatproof.base.names import MethodName
from heatproof.base.records import Method
from heatproof.base.registry import bind

NET = FAMILIES["residual"]


def made(lasting, layers):
    classifier = NET.classifier()
    with shared_forwards(classifier, lasting=lasting) as forwards:
        found = forwards.layers(NET.images(), NET.targets(), layers)
        return found, classifier, forwards


@pytest.mark.parametrize("layers", [["net.relu"], ["net.stem", "net.block"], ["net.block.1"]])
def test_the_twin_gives_what_the_net_gives(layers):
    found, classifier, forwards = made(True, layers)
    twin = forwards.twin(NET.images())
    assert twin.folded == 2
    assert twin.agree == dict.fromkeys(layers, True)
    wanted = layers_of(classifier.module, NET.images(), NET.targets(), layers)
    for layer in layers:
        for a, b in zip(found[layer], wanted[layer], strict=True):
            torch.testing.assert_close(a / b.abs().max(), b / b.abs().max(), atol=1e-5, rtol=0)


def test_a_convolution_that_its_norm_was_folded_into_is_asked_of_the_net():
    found, classifier, forwards = made(True, ["net.stem.0", "net.relu"])
    assert forwards.twin(NET.images()).agree == {"net.stem.0": False, "net.relu": True}
    wanted = layers_of(classifier.module, NET.images(), NET.targets(), ["net.stem.0"])
    assert all(torch.equal(a, b) for a, b in zip(found["net.stem.0"], wanted["net.stem.0"], strict=True))


def test_nobody_makes_a_twin_for_one_batch(monkeypatch):
    monkeypatch.setattr("heatproof.base.forwards.Twin", None)
    found, classifier, _ = made(False, ["net.relu"])
    wanted = layers_of(classifier.module, NET.images(), NET.targets(), ["net.relu"])
    assert all(torch.equal(a, b) for a, b in zip(found["net.relu"], wanted["net.relu"], strict=True))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("inference", [False, True])
def test_maps_of_a_long_run_are_those_of_a_single_batch(family, inference):
    net = FAMILIES[family]
    if not net.layers:
        pytest.skip("a net without layers in the image")
    classifier = net.classifier()
    layers = classifier.layers
    methods = [
        Method(MethodName("hirescam", one), bind("explainer", "hirescam", {"relu": False}), one) for one in layers
    ]

    def maps():
        ids = [str(i) for i in range(5)]
        found = explain_batch(classifier, net.images(), net.targets(), methods, ids=ids, seed=0)
        return torch.stack([batch.maps for batch in found.values()])

    alone = maps()
    with torch.inference_mode(inference), shared_forwards(classifier, lasting=True):
        shared = maps()
    torch.testing.assert_close(shared / alone.abs().max(), alone / alone.abs().max(), atol=1e-5, rtol=0)
