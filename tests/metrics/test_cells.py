"""Faithfulness by cells: closed forms, brute force in float64, scipy and captum."""

from itertools import permutations

import by_hand
import numpy as np
import pytest
import tiny
import torch
from captum.metrics import infidelity as captum_infidelity
from scipy import stats

from heatproof.base.case import Regions
from heatproof.metrics.cells import cell_order

AREAS = ("aopc_morf", "aopc_lerf", "abpc")
CORRELATED = ("idsds", "faithfulness_correlation")
NET = tiny.Conv(channels=2)
H, W = 13, 11


def p(z: float) -> float:
    """Probability of the explained class of logits (z, -z)."""
    return float(torch.tensor(2 * z, dtype=torch.float64).sigmoid())


def some(n: int = 3, seed: int = 0) -> by_hand.Case:
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(n, 2, H, W, generator=generator)
    return by_hand.case(NET, images, torch.randn(n, H, W, generator=generator))


def linear(size: int = 8, n: int = 2) -> tuple[tiny.Linear, torch.Tensor, torch.Tensor]:
    """A linear net of one channel, images on which class 0 wins, and input x gradient."""
    generator = torch.Generator().manual_seed(4)
    weights = torch.randn(1, size, size, generator=generator)
    images = torch.rand(n, 1, size, size, generator=generator) * (weights > 0) * 0.9 + 0.05
    return tiny.Linear(weights), images, (images * weights)[:, 0]


def loops(grid: int) -> list[np.ndarray]:
    """Each cell's pixels, from the definition of its borders."""
    cells = []
    for i in range(grid):
        for j in range(grid):
            where = np.zeros((H, W), dtype=bool)
            where[i * H // grid : (i + 1) * H // grid, j * W // grid : (j + 1) * W // grid] = True
            cells.append(where)
    return cells


@by_hand.oracle(*AREAS)
def test_areas_of_four_cells_by_hand():
    """z = 1.75 on the image; the weights 1, 1/2, 1/4, 0 go one by one."""
    module = tiny.Linear(torch.tensor([[[1.0, 0.5], [0.25, 0.0]]]))
    case = by_hand.case(module, torch.ones(1, 1, 2, 2), torch.tensor([[[4.0, 3.0], [2.0, 1.0]]]))
    most = sum(p(1.75) - p(z) for z in (0.75, 0.25, 0, 0)) / 5
    least = sum(p(1.75) - p(z) for z in (1.75, 1.5, 1, 0)) / 5
    found = {name: by_hand.run(name, case, module, grid=2, fill="black") for name in AREAS}
    for name, value in zip(AREAS, (most, least, most - least), strict=True):
        assert found[name][name].tolist() == pytest.approx([value], abs=1e-6)
        assert found[name][f"{name}_norm"].tolist() == pytest.approx([value / p(1.75)], abs=1e-6)
    two = by_hand.run("aopc_morf", case, module, grid=2, fill="black", steps=2)["aopc_morf"]
    assert two.tolist() == pytest.approx([(2 * p(1.75) - p(0.75) - p(0.25)) / 3], abs=1e-6)


@by_hand.oracle(*AREAS)
def test_areas_against_brute_force():
    case, grid = some(), 4
    found = {name: by_hand.run(name, case, NET, grid=grid, fill="mean")[name] for name in AREAS}
    for i, image in enumerate(case.images):
        cells = loops(grid)
        means = [float(case.maps[i].double().numpy()[where].mean()) for where in cells]
        areas = []
        for sign in (-1, 1):
            changed, total = image.clone(), 0.0
            for cell in np.argsort([sign * mean for mean in means]):
                changed[:, torch.from_numpy(cells[cell])] = 0.5
                total += float(case.p[i]) - by_hand.probability(NET, changed, int(case.targets[i]))
            areas.append(total / (grid**2 + 1))
        expected = (*areas, areas[0] - areas[1])
        assert [float(found[name][i]) for name in AREAS] == pytest.approx(expected, abs=1e-6)


def test_the_curve_holds_what_the_area_sums():
    case = some()
    value = by_hand.run("aopc_morf", case, NET, grid=4, fill="mean")["aopc_morf"]
    (curve,) = case.curves
    assert curve.x.tolist() == pytest.approx([k / 16 for k in range(17)])
    torch.testing.assert_close((curve.y[:, :1] - curve.y).sum(1) / 17, value)


def test_the_order_of_the_negative_map_is_the_other_order_even_among_ties():
    case = some()
    case.maps = case.maps.round()  # many cells of equal mean
    turned = by_hand.case(NET, case.images, -case.maps)
    assert torch.equal(cell_order(case, 9), cell_order(turned, 9, least_first=True))
    assert torch.equal(cell_order(case, 9, least_first=True), cell_order(turned, 9))
    flat = by_hand.case(NET, case.images, torch.zeros_like(case.maps))
    assert torch.equal(cell_order(flat, 9), cell_order(flat, 9, least_first=True)), "one permutation for both"
    assert not torch.equal(cell_order(flat, 9)[0], cell_order(flat, 9)[1]), "another one for each image"


def test_input_x_gradient_has_the_largest_area_of_all_orders_of_a_linear_net():
    module = tiny.Linear(torch.tensor([[[0.7, -0.3], [0.4, 0.9]]]))
    images = torch.tensor([[[[0.9, 0.5], [0.8, 0.3]]]])
    best = by_hand.run(
        "aopc_morf", by_hand.case(module, images, (images * module.weights)[:, 0]), module, grid=2, fill="black"
    )["aopc_morf"]
    others = [
        by_hand.run(
            "aopc_morf", by_hand.case(module, images, torch.tensor(order).view(1, 2, 2)), module, grid=2, fill="black"
        )["aopc_morf"]
        for order in permutations((1.0, 2.0, 3.0, 4.0))
    ]
    assert max(float(other) for other in others) == pytest.approx(float(best), abs=1e-9)
    assert len({round(float(other), 9) for other in others}) > 12


@by_hand.oracle("idsds")
def test_idsds_against_brute_force():
    case, grid = some(4), 3
    found = by_hand.run("idsds", case, NET, grid=grid, fill="black")["idsds"]
    net = tiny.Conv(channels=2).double()
    for i, image in enumerate(case.images.double()):
        drops, sums = [], []
        for where in loops(grid):
            changed = image.clone()
            changed[:, torch.from_numpy(where)] = 0
            gap = net(image[None]) - net(changed[None])
            drops.append(float(gap[0, case.targets[i]].detach()))
            sums.append(float(case.maps[i].double().numpy()[where].sum()))
        assert float(found[i]) == pytest.approx(stats.spearmanr(drops, sums).statistic, abs=1e-6)


@by_hand.oracle("idsds")
def test_what_explains_a_linear_net_exactly_has_rank_correlation_1():
    module, images, exact = linear()
    for maps, value in ((exact, 1), (-exact, -1), (exact * 3 + 0, 1)):
        found = by_hand.run("idsds", by_hand.case(module, images, maps), module)["idsds"]
        assert found.tolist() == pytest.approx([value] * 2, abs=1e-6)


def asked_of(name: str, case: by_hand.Case, **settings: object) -> Regions:
    """The regions that a metric asks for."""
    from heatproof.base.registry import bind

    (regions,) = [r for r in next(bind("metric", name, settings)(case)) if isinstance(r, Regions)]
    return regions


@by_hand.oracle("faithfulness_correlation")
def test_faithfulness_correlation_against_brute_force():
    case, grid, size = some(), 5, 4
    settings = {"grid": grid, "size": size, "subsets": 12}
    found = by_hand.run("faithfulness_correlation", case, NET, **settings)["faithfulness_correlation"]
    regions = asked_of("faithfulness_correlation", case, **settings)
    cells = loops(grid)
    for i, image in enumerate(case.images):
        drops, sums = [], []
        for n in range(12):
            region = regions.region(n, [i])[0].numpy()
            inside = [where for where in cells if region[where].all()]
            assert len(inside) == size
            assert (np.any(inside, axis=0) == region).all(), "a subset is whole cells"
            changed = image.clone()
            changed[:, torch.from_numpy(region)] = 0.5
            drops.append(float(case.p[i]) - by_hand.probability(NET, changed, int(case.targets[i])))
            sums.append(float(case.maps[i].double().numpy()[region].sum()))
        assert float(found[i]) == pytest.approx(stats.pearsonr(drops, sums).statistic, abs=1e-5)


def test_subsets_are_uniform_over_cells_and_equal_for_all_methods():
    case = some(20)
    regions = asked_of("faithfulness_correlation", case, grid=5, size=5, subsets=40)
    other = asked_of("faithfulness_correlation", by_hand.case(NET, case.images, -case.maps), grid=5, size=5, subsets=40)
    everything = slice(None)
    share = torch.stack([regions.region(n, everything).double() for n in range(40)]).mean((0, 1))
    assert share.min() > 0.12  # 5 of 25 cells: 0.2, sd 0.014
    assert share.max() < 0.28
    for n in (0, 39):
        assert torch.equal(regions.region(n, everything), other.region(n, everything))
    assert not torch.equal(regions.region(0, [0]), regions.region(0, [1]))
    assert not torch.equal(regions.region(0, [0]), regions.region(1, [0]))


@by_hand.oracle("infidelity")
def test_infidelity_of_a_linear_net_in_closed_form():
    """The drop of a square is the sum of input x gradient in it: nothing is left over, whatever the scale."""
    module, images, exact = linear(size=16)
    for maps, value, beta in ((exact, 0, 1), (exact * 4, 0, 0.25), (-exact, 1, 0)):
        found = by_hand.run("infidelity", by_hand.case(module, images, maps), module, squares=30)
        assert found["infidelity"].tolist() == pytest.approx([value] * 2, abs=1e-9)
        assert found["infidelity_beta"].tolist() == pytest.approx([beta] * 2, abs=1e-5)


@by_hand.oracle("infidelity")
def test_infidelity_is_captums_over_the_mean_squared_drop():
    case = some(2)
    settings = {"squares": 25, "smallest": 0.1, "largest": 0.4}
    found = by_hand.run("infidelity", case, NET, **settings)
    regions = asked_of("infidelity", case, **settings)
    net = tiny.Conv(channels=2).double()
    for i, image in enumerate(case.images.double()):
        squares = torch.stack([regions.region(n, [i])[0] for n in range(25)])[:, None].double()
        drops = torch.stack([net(image[None]) - net((image * (1 - square))[None]) for square in squares])
        drops = drops[:, 0, int(case.targets[i])].detach()
        # captum multiplies perturbation and attribution over both channels, of which each gets half.
        own = case.maps[i].double()[None, None].expand(1, 2, H, W) / 2
        sums = (squares * own).flatten(1).sum(1)
        if (sums * drops).sum() <= 0:
            assert float(found["infidelity"][i]) == pytest.approx(1)
            continue

        def remove(inputs: torch.Tensor, squares: torch.Tensor = squares) -> tuple[torch.Tensor, torch.Tensor]:
            return squares.expand(-1, 2, -1, -1), inputs * (1 - squares)

        theirs = captum_infidelity(
            net,
            remove,
            image[None],
            own,
            target=int(case.targets[i]),
            n_perturb_samples=25,
            max_examples_per_batch=25,
            normalize=True,
        )
        assert float(found["infidelity"][i]) == pytest.approx(float(theirs[0] / drops.square().mean()), abs=1e-5)


def test_squares_lie_inside_with_sides_uniform_from_the_smallest_to_the_largest():
    images = torch.rand(30, 1, 32, 40)
    module = tiny.Linear(torch.ones(1, 32, 40))
    regions = asked_of("infidelity", by_hand.case(module, images, torch.rand(30, 32, 40)), squares=40)
    sides = []
    for n in range(40):
        region = regions.region(n, slice(None))
        height, width = region.any(2).sum(1), region.any(1).sum(1)
        assert torch.equal(height, width)
        assert torch.equal(region.flatten(1).sum(1), height * width)
        sides += height.tolist()
    assert set(sides) == {2, 3, 4, 5, 6, 7, 8}  # H/16 to H/4
    assert min(sides.count(side) for side in set(sides)) > 1200 / 7 * 0.7


@pytest.mark.parametrize("name", [*CORRELATED, "infidelity"])
def test_a_net_that_looks_elsewhere_is_undefined_and_never_0(name):
    module = tiny.Linear(torch.zeros(1, 16, 16))
    case = by_hand.case(module, torch.rand(2, 1, 16, 16), torch.rand(2, 16, 16))
    found = by_hand.run(name, case, module, fill="black")
    assert found[name].isnan().all()
    assert by_hand.reasons(case) == ["flat"] * 2
