import by_hand
import pytest
import tiny
import torch

from heatproof.base.regions import top_region


def linear(weights: list[list[float]]) -> tiny.Linear:
    return tiny.Linear(torch.tensor(weights)[None])


def p(z: float) -> float:
    """Probability of the explained class of logits (z, -z)."""
    return float(torch.tensor(2 * z, dtype=torch.float64).sigmoid())


def test_faith_of_a_map_on_the_pixels_that_count_by_hand():
    """z = x_00 + 0.5 x_11 = 1 on the image; the top half removes x_00 and x_11, or neither."""
    module = linear([[1.0, 0.0], [0.0, 0.5]])
    images = torch.tensor([[[[0.75, 0.9], [0.1, 0.5]]]]).repeat(3, 1, 1, 1)
    maps = torch.tensor([[[4.0, 1.0], [2.0, 3.0]], [[1.0, 4.0], [3.0, 2.0]], [[4.0, 2.0], [3.0, 1.0]]])
    block = by_hand.case(module, images, maps)
    found = by_hand.run("faith", block, module, q=0.5, fill="black")
    assert found["faith"].tolist() == pytest.approx([p(1) - 0.5, 0, p(1) - p(0.25)], abs=1e-6)
    assert found["faith_area"].tolist() == [0.5, 0.5, 0.5]
    assert found["faith_tied"].tolist() == [0, 0, 0]


@pytest.mark.parametrize("fill", ["black", "mean", "noise", "blur", "road"])
def test_faith_is_zero_for_a_map_off_the_pixels_that_the_net_looks_at(fill):
    weights = torch.zeros(8, 8)
    weights[2:5, 2:5] = 1.0
    module = tiny.Linear(weights[None])
    images = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 0.2
    off = torch.rand(4, 8, 8, generator=torch.Generator().manual_seed(1)).masked_fill(weights > 0, -1)
    found = by_hand.run("faith", by_hand.case(module, images, off), module, fill=fill)
    assert found["faith"].abs().max() < 1e-7
    on = by_hand.run("faith", by_hand.case(module, images, weights.expand(4, 8, 8)), module, fill="black")
    assert (on["faith"] > 0.1).all()


def test_fidelity_by_hand():
    """z = x_00 - 0.4: the class holds as long as x_00 = 1 is there."""

    class Threshold(tiny.Linear):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return super().forward(images) - torch.tensor([0.4, -0.4])

    module = Threshold(torch.tensor([[[1.0, 0.0], [0.0, 0.0]]]))
    images = torch.ones(3, 1, 2, 2)
    images[2] = torch.tensor([[0.0, 1.0], [1.0, 1.0]])  # class 1, which black everywhere keeps
    maps = torch.tensor([[[4.0, 1.0], [2.0, 3.0]], [[1.0, 4.0], [3.0, 2.0]], [[4.0, 1.0], [2.0, 3.0]]])
    found = by_hand.run("fidelity", by_hand.case(module, images, maps), module, q=0.5, fill="black")
    assert found["fidelity"].tolist() == [1, -1, 0]
    assert found["fidelity_prob"].tolist() == pytest.approx([p(0.6) - p(-0.4), p(-0.4) - p(0.6), 0], abs=1e-6)
    assert found["fidelity_area"].tolist() == [0.5] * 3


def test_ties_and_area_are_told():
    module = linear([[1.0, 1.0], [1.0, 1.0]])
    maps = torch.tensor([[[1.0, 0.0], [0.0, 0.0]]])
    block = by_hand.case(module, torch.full((1, 1, 2, 2), 0.5), maps)
    found = by_hand.run("faith", block, module, q=0.5, fill="black")
    assert found["faith_tied"].tolist() == [0.5]
    assert found["faith"].tolist() == pytest.approx([p(2) - p(1)])


def test_only_valid_pixels_are_removed():
    module = linear([[1.0, 0.0], [0.0, 0.0]])
    valid = torch.tensor([[[False, True], [True, True]]])
    maps = torch.tensor([[[9.0, 1.0], [2.0, 3.0]]])
    block = by_hand.case(module, torch.ones(1, 1, 2, 2), maps, valid=valid)
    found = by_hand.run("faith", block, module, q=0.2, fill="black")
    assert found["faith"].tolist() == [0]
    assert found["faith_area"].tolist() == [0.25]


def test_equal_requests_are_equal_regions():
    """`faith` and `fidelity` of one map ask for the same region, so that the engine can run it once."""
    maps = torch.ones(1, 6, 6)
    block = by_hand.case(tiny.Linear(torch.ones(1, 6, 6)), torch.rand(1, 1, 6, 6), maps)
    assert torch.equal(top_region(maps, 0.2, block.tie_seeds()), top_region(maps, 0.2, block.tie_seeds("base")))
