import pytest
import torch

import heatproof.stages.train.augment as module
from heatproof.stages.train.augment import AUGMENTATIONS, augmented, flip, rotate, shift

IDS = [f"image{i}" for i in range(40)]


def images(side=16):
    return torch.rand(len(IDS), 2, side, side, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_it_depends_on_seed_epoch_and_image_alone(name):
    batch = images()
    made = augmented(batch, [name], 0, 1, IDS)
    order = torch.randperm(len(IDS), generator=torch.Generator().manual_seed(1))
    assert augmented(batch[order], [name], 0, 1, [IDS[i] for i in order]).equal(made[order])
    assert augmented(batch[3:4], [name], 0, 1, IDS[3:4]).allclose(made[3:4], atol=1e-6)
    assert not augmented(batch, [name], 0, 2, IDS).equal(made)
    assert not augmented(batch, [name], 1, 1, IDS).equal(made)
    assert made.shape == batch.shape
    assert made.min() >= 0
    assert made.max() <= 1


def test_flip_mirrors_about_half_of_the_images():
    batch = images()
    made = augmented(batch, ["flip"], 0, 1, IDS)
    mirrored = [made[i].equal(batch[i].flip(-1)) for i in range(len(IDS))]
    assert 8 < sum(mirrored) < 32
    assert all(m or made[i].equal(batch[i]) for i, m in enumerate(mirrored))


def test_shift_moves_by_whole_pixels_and_mirrors_the_border():
    batch = images(40)  # 5 % = 2 pixels
    made = augmented(batch, ["shift"], 0, 1, IDS)
    padded = torch.nn.functional.pad(batch, (2, 2, 2, 2), mode="replicate")
    padded[..., 0, :], padded[..., 1, :] = padded[..., 3, :], padded[..., 2, :]
    padded[..., -1, :], padded[..., -2, :] = padded[..., -4, :], padded[..., -3, :]
    padded[..., 0], padded[..., 1] = padded[..., 3], padded[..., 2]
    padded[..., -1], padded[..., -2] = padded[..., -4], padded[..., -3]
    found = set()
    for i in range(len(IDS)):
        (offset,) = [(y, x) for y in range(5) for x in range(5) if made[i].equal(padded[i, :, y : y + 40, x : x + 40])]
        found.add(offset)
    assert len(found) > 10
    assert {y for y, _ in found} == {x for _, x in found} == set(range(5))


def test_rotate_turns_pixels_of_a_square_and_keeps_its_centre(monkeypatch):
    monkeypatch.setattr(module, "ROTATE_DEGREES", 90.0)
    monkeypatch.setattr(module, "uniform", lambda seeds, shape: torch.ones(len(seeds), *shape))
    batch = images(9)
    made = rotate(batch, torch.zeros(len(IDS), dtype=torch.int64))
    turned = made.allclose(batch.rot90(1, (-2, -1)), atol=1e-5) or made.allclose(batch.rot90(-1, (-2, -1)), atol=1e-5)
    assert turned


def test_rotate_keeps_the_shape_of_things_in_an_oblong_frame():
    wide = torch.zeros(1, 1, 40, 80)
    wide[..., 10:30, 30:50] = 1  # a centred square of 20 x 20
    made = rotate(wide, torch.tensor([7]))
    assert made.sum().item() == pytest.approx(400, abs=8)
    assert made[0, 0, 20, 40] == 1


def test_nothing_happens_without_names():
    batch = images()
    assert augmented(batch, [], 0, 1, IDS) is batch
    assert flip(batch, torch.zeros(len(IDS), dtype=torch.int64)).shape == shift(batch, torch.arange(len(IDS))).shape
