"""Shapley values: closed forms on linear nets, and the packages' side effects kept in."""

import numpy as np
import pytest
import tiny
import torch

from heatproof.base import notes
from heatproof.base.background import background_of
from heatproof.base.errors import HeatproofError
from heatproof.base.records import Classifier
from heatproof.explainers.shap import shap, shap_partition

WEIGHTS = torch.randn(2, 6, 8, generator=torch.Generator().manual_seed(0))
IMAGES = torch.rand(2, 2, 6, 8, generator=torch.Generator().manual_seed(1))
TARGETS = torch.tensor([0, 1])
SEEDS = torch.tensor([3, 4])


def linear(background):
    return Classifier(tiny.Linear(WEIGHTS), ("a", "b"), (), "linear", channels=2, background=background)


def test_expected_gradients_of_a_linear_net_are_weights_times_the_distance_to_the_background():
    background = torch.rand(1, 2, 6, 8, generator=torch.Generator().manual_seed(2)).expand(3, -1, -1, -1)
    maps = shap(linear(background), IMAGES, TARGETS, seeds=SEEDS, samples=7, background=3, absolute=False)
    sign = torch.tensor([1.0, -1.0])[:, None, None]
    torch.testing.assert_close(maps, sign * (WEIGHTS * (IMAGES - background[:1])).sum(1), atol=1e-5, rtol=1e-4)


def test_expected_gradients_add_up_to_the_difference_of_logits():
    net = tiny.Conv(2)
    background = torch.rand(2, 2, 6, 8, generator=torch.Generator().manual_seed(2))
    model = Classifier(net, ("a", "b", "c"), (), "conv", background=background)
    with notes.collected() as found:
        maps = shap(model, IMAGES, TARGETS, seeds=SEEDS, samples=3000, background=2, absolute=False)
    with torch.no_grad():
        logits = net(IMAGES).gather(1, TARGETS[:, None])[:, 0]
        expected = net(background)[:, TARGETS].mean(0)
    torch.testing.assert_close(maps.sum((1, 2)), logits - expected, atol=0.03, rtol=0.03)
    assert (found[notes.SAMPLING] > 0.9).all()


def test_owen_values_of_a_linear_net_are_its_terms():
    """Hidden is the blurred image: with every pixel in a box of its own, the value is weight times the difference."""
    import cv2

    samples = 4000
    maps = shap_partition(tiny.Linear(WEIGHTS[:1]), IMAGES[:, :1], TARGETS, samples=samples, blur=3, absolute=False)
    for i, sign in enumerate((1, -1)):
        blurred = torch.from_numpy(cv2.blur(IMAGES[i, 0].numpy(), (3, 3)))
        wanted = sign * WEIGHTS[0] * (IMAGES[i, 0] - blurred)
        torch.testing.assert_close(maps[i], wanted, atol=1e-4, rtol=1e-3)


def test_nothing_leaves_the_packages(capfd):
    state = np.random.get_state()[1].tolist()
    background = torch.rand(2, 2, 6, 8, generator=torch.Generator().manual_seed(2))
    shap(linear(background), IMAGES, TARGETS, seeds=SEEDS, samples=4, background=2, absolute=True)
    shap_partition(tiny.Linear(WEIGHTS), IMAGES, TARGETS, samples=20, blur=3, absolute=True)
    assert np.random.get_state()[1].tolist() == state
    assert capfd.readouterr() == ("", "")


def test_without_training_images_it_says_what_is_missing():
    with pytest.raises(HeatproofError, match=r"background.*training images.*split 'train'"):
        shap(linear(None), IMAGES, TARGETS, seeds=SEEDS, samples=4, background=2, absolute=False)
    with pytest.raises(HeatproofError, match=r"at most 2 training images are at hand, got 9"):
        shap(linear(torch.rand(2, 2, 6, 8)), IMAGES, TARGETS, seeds=SEEDS, samples=4, background=9, absolute=False)


def test_background_images_are_training_images_in_an_order_of_their_own():
    import toy

    samples = toy.samples(60)
    kept = background_of(samples)
    train = samples.images(samples.rows("train"))
    assert kept.shape == (32, 1, 16, 16)
    assert all((train == one).flatten(1).all(1).any() for one in kept)
    assert not torch.equal(kept, train[:32])
    assert torch.equal(kept, background_of(samples))
