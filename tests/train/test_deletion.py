import torch

from heatproof.stages.train.deletion import cells_deleted

IDS = [f"image{i}" for i in range(300)]


def made(most, grid=4, side=16, seed=0, epoch=1, ids=IDS):
    return cells_deleted(torch.ones(len(ids), 1, side, side), most, grid, seed, epoch, ids)


def test_none_or_one_cell_of_the_grid_is_black():
    cells = made(1).view(-1, 4, 4, 4, 4).permute(0, 1, 3, 2, 4).reshape(300, 16, 16)
    assert (cells.amin(2) == cells.amax(2)).all()
    gone = cells[..., 0] == 0
    assert set(gone.sum(1).tolist()) == {0, 1}
    assert 110 < gone.any(1).sum() < 190
    assert gone.any(0).all()
    assert gone.sum(0).max() < 25


def test_numbers_are_uniform_up_to_the_most():
    numbers = torch.bincount((made(4)[:, 0, ::4, ::4] == 0).flatten(1).sum(1), minlength=5)
    assert len(numbers) == 5
    assert numbers.min() > 35


def test_it_depends_on_seed_epoch_and_image_alone():
    first = made(3)
    order = torch.randperm(300, generator=torch.Generator().manual_seed(0)).tolist()
    assert made(3, ids=[IDS[i] for i in order]).equal(first[order])
    assert not made(3, seed=1).equal(first)
    assert not made(3, epoch=2).equal(first)


def test_all_cells_and_sides_that_the_grid_does_not_divide():
    shown = made(16)
    assert shown.flatten(1).sum(1).min() == 0
    odd = made(1, grid=3, side=10)
    assert set((odd == 0).flatten(1).sum(1).tolist()) <= {0, 9, 12, 16}
    images = torch.rand(2, 1, 4, 4)
    assert cells_deleted(images, 0, 4, 0, 1, ["a", "b"]) is images
