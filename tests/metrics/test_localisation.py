import by_hand
import pytest
import tiny
import torch

NET = tiny.Linear(torch.ones(1, 4, 5))


def block(maps: torch.Tensor, masks: torch.Tensor) -> by_hand.Case:
    return by_hand.case(NET, torch.rand(len(maps), 1, 4, 5), maps, masks)


def test_by_hand():
    """20 pixels, q = 0.2: the four highest are 16 .. 19, the last row but its first pixel."""
    maps = torch.arange(20.0).view(1, 4, 5).repeat(2, 1, 1)
    masks = torch.zeros(2, 4, 5, dtype=torch.bool)
    masks[0, 3, :2] = True  # pixels 15, 16
    masks[1, 2:] = True  # pixels 10 .. 19
    found = by_hand.run("loc_acc", block(maps, masks))
    assert found["loc_acc"].tolist() == [0.5, 0.4]
    assert found["loc_acc_precision"].tolist() == [0.25, 1]
    assert found["loc_acc_chance"].tolist() == pytest.approx([0.2, 0.2])
    assert found["loc_acc_ceiling"].tolist() == [1, 0.4]
    assert found["loc_acc_area"].tolist() == pytest.approx([0.2, 0.2])
    assert found["loc_acc_tied"].tolist() == [0, 0]


def test_the_perfect_map_is_best_and_the_inverted_one_worst():
    masks = torch.rand(6, 4, 5, generator=torch.Generator().manual_seed(0)) < 0.3
    noise = torch.rand(6, 4, 5, generator=torch.Generator().manual_seed(1))
    perfect = by_hand.run("loc_acc", block(masks.float(), masks))
    inverted = by_hand.run("loc_acc", block(-masks.float(), masks))
    between = by_hand.run("loc_acc", block(noise, masks))
    assert torch.equal(perfect["loc_acc"], perfect["loc_acc_ceiling"])
    assert (inverted["loc_acc"] == 0).all()
    assert (between["loc_acc"] <= perfect["loc_acc"]).all()


def test_an_empty_mask_is_undefined_and_no_hit():
    masks = torch.zeros(2, 4, 5, dtype=torch.bool)
    masks[1, 0, 0] = True
    case = block(torch.rand(2, 4, 5), masks)
    found = by_hand.run("loc_acc", case)
    assert found["loc_acc"].isnan().tolist() == [True, False]
    assert by_hand.reasons(case) == ["empty_mask", "ok"]
