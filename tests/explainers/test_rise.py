"""RISE against one mask at a time, and its sampling error."""

import math

import tiny
import torch
from torch.nn import functional as F

from heatproof.base import notes
from heatproof.base.fields import uniform
from heatproof.explainers.rise import rise, smooth_masks

SEEDS = torch.tensor([5, -8])


def test_masks_are_enlarged_grids_moved_by_a_part_of_a_cell():
    cells = (torch.rand(4, 5, 5, generator=torch.Generator().manual_seed(0)) < 0.5).float()
    offsets = torch.tensor([[0.0, 0.0], [0.3, 0.9], [0.99, 0.5], [0.5, 0.1]])
    made = smooth_masks(cells, offsets, 21, 33)
    for n in range(4):
        cell = math.ceil(21 / 5), math.ceil(33 / 5)
        big = F.interpolate(cells[n][None, None], size=(6 * cell[0], 6 * cell[1]), mode="bilinear")[0, 0]
        y, x = (int(offsets[n, d] * cell[d]) for d in (0, 1))
        torch.testing.assert_close(made[n], big[y : y + 21, x : x + 33], atol=1e-5, rtol=0)


def test_equal_to_one_mask_at_a_time():
    images = torch.rand(2, 1, 15, 12, generator=torch.Generator().manual_seed(0))
    targets, net = torch.tensor([0, 2]), tiny.Conv()
    maps = rise(net, images, targets, seeds=SEEDS, samples=90, grid=4, keep=0.6)
    double = tiny.Conv().double()
    for i in range(2):
        draws = uniform(SEEDS[i : i + 1], (90, 18))[0]
        masks = smooth_masks((draws[:, :16] < 0.6).float().view(-1, 4, 4), draws[:, 16:], 15, 12).double()
        wanted = torch.zeros(15, 12, dtype=torch.float64)
        with torch.no_grad():
            for mask in masks:
                wanted += double(images[i : i + 1].double() * mask).softmax(1)[0, targets[i]] * mask
        torch.testing.assert_close(maps[i].double(), wanted / (0.6 * 90), atol=1e-5, rtol=1e-4)


def test_more_masks_agree_better_and_the_note_says_so():
    weights = torch.zeros(1, 24, 24)
    weights[:, 4:10, 12:20] = 0.05
    images = torch.ones(2, 1, 24, 24)
    said = []
    for samples in (20, 4000):
        with notes.collected() as found:
            rise(tiny.Linear(weights), images, torch.tensor([0, 0]), seeds=SEEDS, samples=samples, grid=4, keep=0.5)
        said.append(found[notes.SAMPLING])
    assert (said[1] > said[0]).all()
    assert (said[1] > 0.5).all()


def test_every_image_and_rerun_has_masks_of_its_own():
    images = torch.rand(1, 1, 16, 16, generator=torch.Generator().manual_seed(0)).expand(2, -1, -1, -1)
    maps = rise(tiny.Conv(), images, torch.tensor([0, 0]), seeds=SEEDS, samples=20, grid=4, keep=0.5)
    assert not torch.allclose(maps[0], maps[1])
