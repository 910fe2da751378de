"""Controls: what they show and that they ignore the model."""

import math

import pytest
import torch
from scipy import ndimage

from heatproof.explainers.controls import centre, edge, random

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
