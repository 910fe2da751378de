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


@by_hand.oracle("faith")
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


@by_hand.oracle("fidelity")
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


@by_hand.oracle("comprehensiveness", "sufficiency")
def test_shares_of_four_pixels_by_hand():
    """z = 1.75; the top 1, 2 and 3 pixels hold 1, 1.5 and 1.75 of it."""
    module = linear([[1.0, 0.5], [0.25, 0.0]])
    case = by_hand.case(module, torch.ones(1, 1, 2, 2), torch.tensor([[[4.0, 3.0], [2.0, 1.0]]]))
    shares = [0.25, 0.5, 0.75]
    for name, left in (("comprehensiveness", (0.75, 0.25, 0)), ("sufficiency", (1, 1.5, 1.75))):
        found = by_hand.run(name, case, module, shares=shares, fill="black")[name]
        assert found.tolist() == pytest.approx([sum(p(1.75) - p(z) for z in left) / 3], abs=1e-6)


@by_hand.oracle("faith", "fidelity", "comprehensiveness", "sufficiency")
def test_against_brute_force():
    net = tiny.Conv(channels=2)
    generator = torch.Generator().manual_seed(3)
    images, maps = torch.rand(4, 2, 11, 13, generator=generator), torch.randn(4, 11, 13, generator=generator)
    case = by_hand.case(net, images, maps)
    shares = [0.01, 0.05, 0.1, 0.2, 0.5]
    found = {name: by_hand.run(name, case, net, fill="mean") for name in ("faith", "fidelity")}
    more = {
        name: by_hand.run(name, case, net, fill="mean", shares=shares)[name]
        for name in ("comprehensiveness", "sufficiency")
    }
    for i in range(4):
        order, target = maps[i].flatten().argsort(descending=True), int(case.targets[i])

        def filled(q: float, keep: bool, order: torch.Tensor = order, image: torch.Tensor = images[i]) -> torch.Tensor:
            gone = torch.zeros(143, dtype=torch.bool)
            gone[order[: max(1, round(q * 143))]] = True
            return torch.where((gone != keep).view(11, 13), 0.5, image)

        before = float(case.p[i])
        drops = [before - by_hand.probability(net, filled(q, False), target) for q in shares]
        kept = [before - by_hand.probability(net, filled(q, True), target) for q in shares]
        assert float(more["comprehensiveness"][i]) == pytest.approx(sum(drops) / 5, abs=1e-6)
        assert float(more["sufficiency"][i]) == pytest.approx(sum(kept) / 5, abs=1e-6)
        assert float(found["faith"]["faith"][i]) == pytest.approx(drops[3], abs=1e-6)
        hits = [int(net(filled(0.2, keep)[None]).argmax(1)) == target for keep in (True, False)]
        assert float(found["fidelity"]["fidelity"][i]) == hits[0] - hits[1]
        assert float(found["fidelity"]["fidelity_prob"][i]) == pytest.approx(drops[3] - kept[3], abs=1e-6)
