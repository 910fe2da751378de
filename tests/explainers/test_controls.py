"""Controls: what they show and that they ignore the model."""

import dataclasses
import math

import numpy as np
import pytest
import stocked
import torch
from scipy import ndimage

from heatproof.base.background import prior_of
from heatproof.base.errors import HeatproofError
from heatproof.base.fields import image_seed
from heatproof.base.methods import explain_batch
from heatproof.base.randomise import random_net
from heatproof.explainers.controls import centre, edge, prior, random, random_pixels

NET = torch.nn.Identity()
IMAGES = torch.rand(3, 3, 12, 16, generator=torch.Generator().manual_seed(0))
TARGETS = torch.zeros(3, dtype=torch.int64)


def test_random_follows_its_seeds_alone():
    seeds = torch.tensor([5, 6, 5])
    maps = random(NET, IMAGES, TARGETS, seeds=seeds)
    assert maps.shape == (3, 7, 7)
    assert torch.equal(maps[0], maps[2])
    assert not torch.equal(maps[0], maps[1])
    assert torch.equal(random(NET, IMAGES[1:2], TARGETS[1:2], seeds=seeds[1:2])[0], maps[1])
    assert random(NET, IMAGES, TARGETS, seeds=seeds, grid=4).shape == (3, 4, 4)


def test_centre_is_a_gaussian_about_the_middle():
    maps = centre(NET, IMAGES, TARGETS)
    assert maps.shape == (3, 12, 16)
    # The four middle pixels lie half a pixel off in both directions, sd 16 / 4.
    assert maps[1, 5, 7].item() == pytest.approx(math.exp(-0.5 / 32))
    assert maps[1, 0, 0].item() == pytest.approx(math.exp(-(5.5**2 + 7.5**2) / 32))
    assert torch.equal(maps, maps.flip(1).flip(2))
    assert torch.equal(maps[0], maps[2])


def test_edge_equals_scipy():
    grey = (IMAGES * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1).double().numpy()
    for found, image in zip(edge(NET, IMAGES, TARGETS), grey, strict=True):
        expected = (ndimage.sobel(image, 0, mode="nearest") ** 2 + ndimage.sobel(image, 1, mode="nearest") ** 2) ** 0.5
        torch.testing.assert_close(found.double(), torch.from_numpy(expected), atol=1e-5, rtol=0)


def test_edge_of_one_channel_and_of_a_flat_image():
    step = torch.zeros(1, 1, 4, 4)
    step[..., 2:] = 1
    assert edge(NET, step, TARGETS[:1])[0, 1].tolist() == [0, 4, 4, 0]
    assert edge(NET, torch.full((1, 1, 4, 4), 0.5), TARGETS[:1]).abs().max() == 0


def test_random_pixels_are_independent_and_follow_their_seeds():
    maps = random_pixels(NET, IMAGES, TARGETS, seeds=torch.tensor([5, 6, 5]))
    assert maps.shape == (3, 12, 16)
    assert torch.equal(maps[0], maps[2])
    assert abs(float(torch.corrcoef(maps[0, :, :2].T)[0, 1])) < 0.7
    assert maps[0].flatten().unique().numel() > 185


def test_prior_is_the_mean_annotation_of_annotated_training_images():
    samples = stocked.samples(8)
    samples.masks[2, :2] = 1
    samples.table["split"] = ["train"] * 4 + ["test"] * 4
    expected = (samples.masks[0] + samples.masks[2]) / 2  # every other image has an annotation
    assert np.array_equal(prior_of(samples).numpy(), expected)
    classifier = dataclasses.replace(stocked.classifier(), prior=prior_of(samples))
    maps = prior(classifier, samples.images(np.arange(3)), TARGETS)
    assert maps.shape == (3, 16, 16)
    assert np.array_equal(maps[1].numpy(), expected)
    samples.masks[:4] = 0
    assert prior_of(samples) is None
    with pytest.raises(HeatproofError, match="mean annotation of training images"):
        prior(stocked.classifier(), IMAGES, TARGETS)


@pytest.mark.parametrize("views", [(), ("identity", "flip")])
def test_other_class_is_the_map_of_the_most_probable_class_but_the_target(views):
    samples, classifier = stocked.samples(6), stocked.classifier()
    plain = [m for m in stocked.methods("saliency", views=views or ("identity",)) if bool(m.views) == bool(views)]
    plain = [m for m in plain if m.alter is None]
    images = samples.images(np.arange(6))
    logits = classifier.module(images).detach()
    order = logits.argsort(1, descending=True)
    turned = [
        dataclasses.replace(m, name=m.name.prefixed("other_class"), alter="other_class", control_of=str(m.name))
        for m in plain
    ]
    ids = list(samples.table["image"])
    found = explain_batch(classifier, images, order[:, 0], [*plain, *turned], ids=ids, seed=0)
    expected = explain_batch(classifier, images, order[:, 1], plain, ids=ids, seed=0)
    for method in plain:
        name = str(method.name)
        assert torch.equal(found[f"other_class-{name}"].maps, expected[name].maps)
        assert not torch.equal(found[name].maps, expected[name].maps)
    given = explain_batch(classifier, images, order[:, 0], turned, ids=ids, seed=0, others=order[:, 2])
    third = explain_batch(classifier, images, order[:, 2], plain, ids=ids, seed=0)
    for method in plain:
        assert torch.equal(given[f"other_class-{method.name}"].maps, third[str(method.name)].maps)


@pytest.mark.parametrize("views", [(), ("identity", "flip")])
def test_random_weights_are_the_same_explainer_on_a_net_that_learnt_nothing(views):
    samples = stocked.samples(6)
    images, ids = samples.images(np.arange(6)), list(samples.table["image"])
    classifier = dataclasses.replace(stocked.classifier(), background=samples.images(np.arange(5)))
    plain = [m for m in stocked.methods("saliency", views=views or ("identity",)) if bool(m.views) == bool(views)]
    (plain,) = [m for m in plain if m.alter is None]
    name = plain.name.prefixed("random_weights")
    control = dataclasses.replace(plain, name=name, alter="random_weights", control_of=str(plain.name))
    targets = torch.tensor([0, 1, 2, 0, 1, 2])

    def made(rows, role="base", seed=0, methods=(plain, control)):
        some = [ids[row] for row in rows]
        return explain_batch(classifier, images[rows], targets[rows], methods, ids=some, seed=seed, role=role)

    both = made(range(6))
    net, _ = random_net(classifier, images, image_seed(0, "base", "random weights"))
    expected = explain_batch(net, images, targets, [plain], ids=ids, seed=0)[str(plain.name)].maps
    assert torch.equal(both[str(name)].maps, expected)
    assert not torch.allclose(both[str(plain.name)].maps, expected)
    assert torch.equal(both[str(plain.name)].maps, made(range(6), methods=[plain])[str(plain.name)].maps)
    alone = torch.cat([made([row])[str(name)].maps for row in range(6)])
    torch.testing.assert_close(alone, expected, atol=1e-6, rtol=1e-4)
    for other in (made(range(6), role="noise0"), made(range(6), seed=1)):
        assert not torch.allclose(other[str(name)].maps, expected)
    for before, after in zip(
        stocked.classifier().module.state_dict().values(), classifier.module.state_dict().values(), strict=True
    ):
        assert torch.equal(before, after)
