"""Faithfulness along paths of pixels: closed forms and brute force in float64."""

import by_hand
import numpy as np
import pytest
import tiny
import torch

from heatproof.metrics.paths import pixel_steps

NET = tiny.Conv(channels=2)
H, W = 13, 11


def p(z: float) -> float:
    return float(torch.tensor(2 * z, dtype=torch.float64).sigmoid())


def some(n: int = 3) -> by_hand.Case:
    generator = torch.Generator().manual_seed(2)
    images = torch.rand(n, 2, H, W, generator=generator)
    return by_hand.case(NET, images, torch.randn(n, H, W, generator=generator))


def four() -> tuple[tiny.Linear, by_hand.Case]:
    """z = 1.75; in the order of the map go 1, 1/2, 1/4, 0."""
    module = tiny.Linear(torch.tensor([[[1.0, 0.5], [0.25, 0.0]]]))
    return module, by_hand.case(module, torch.ones(1, 1, 2, 2), torch.tensor([[[9.0, 3.0], [2.0, 1.0]]]))


@by_hand.oracle("deletion", "insertion")
def test_areas_of_four_pixels_by_hand():
    module, case = four()
    down, up = [1.75, 0.75, 0.25, 0, 0], [0, 1, 1.5, 1.75, 1.75]
    for name, z in (("deletion", down), ("insertion", up)):
        found = by_hand.run(name, case, module, steps=4, fill="black")
        area = np.trapezoid([p(one) for one in z], dx=0.25)
        assert found[name].tolist() == pytest.approx([area], abs=1e-6)
        assert found[f"{name}_norm"].tolist() == pytest.approx([area / p(1.75)], abs=1e-6)


@by_hand.oracle("deletion", "insertion")
@pytest.mark.parametrize("steps", [7, 32])
def test_areas_against_brute_force(steps):
    """143 pixels in 7 or 32 steps: the shares are uneven, and the curve has 101 points."""
    for name, fill, start in (("deletion", "mean", None), ("insertion", "gray", 0.5)):
        case = some()
        found = by_hand.run(name, case, NET, steps=steps, fill=fill)[name]
        (curve,) = case.curves
        reached = [round(i * H * W / steps) for i in range(steps + 1)]
        for i, image in enumerate(case.images):
            order = np.argsort(-case.maps[i].double().numpy().ravel(), kind="stable")
            ys = []
            for count in reached:
                changed = (image.clone() if start is None else torch.full_like(image, start)).flatten(1)
                picked = torch.from_numpy(order[:count].copy())
                changed[:, picked] = 0.5 if start is None else image.flatten(1)[:, picked]
                ys.append(by_hand.probability(NET, changed.view_as(image), int(case.targets[i])))
            xs = np.array(reached) / (H * W)
            assert float(found[i]) == pytest.approx(np.trapezoid(ys, xs), abs=1e-6)
            np.testing.assert_allclose(curve.y[i], np.interp(np.linspace(0, 1, 101), xs, ys), atol=1e-6)
        assert curve.x.tolist() == pytest.approx(np.linspace(0, 1, 101).tolist())


@by_hand.oracle("road", "road_morf", "road_lerf")
def test_road_of_four_pixels_by_hand():
    module, case = four()
    most = ((p(1.75) - p(0.75)) + (p(1.75) - p(0.25)) + (p(1.75) - p(0))) / 3
    least = ((p(1.75) - p(1.75)) + (p(1.75) - p(1.5)) + (p(1.75) - p(1))) / 3
    for name, value in (("road_morf", most), ("road_lerf", least), ("road", (most - least) / 2)):
        found = by_hand.run(name, case, module, shares=[0.25, 0.5, 0.75], fill="black")[name]
        assert found.tolist() == pytest.approx([value], abs=1e-6)


@by_hand.oracle("road", "road_morf", "road_lerf")
def test_road_against_brute_force():
    case, shares = some(), [0.2, 0.4, 0.6, 0.8]
    found = {n: by_hand.run(n, case, NET, shares=shares, fill="mean")[n] for n in ("road", "road_morf", "road_lerf")}
    for i, image in enumerate(case.images):
        drops = []
        for sign in (-1, 1):
            order = np.argsort(sign * case.maps[i].double().numpy().ravel())
            total = 0.0
            for share in shares:
                changed = image.clone().flatten(1)
                changed[:, torch.from_numpy(order[: round(share * H * W)].copy())] = 0.5
                total += float(case.p[i]) - by_hand.probability(NET, changed.view_as(image), int(case.targets[i]))
            drops.append(total / 4)
        expected = ((drops[0] - drops[1]) / 2, *drops)
        got = [float(found[name][i]) for name in ("road", "road_morf", "road_lerf")]
        assert got == pytest.approx(expected, abs=1e-6)


def test_road_removes_exactly_the_share_of_a_sparse_map():
    """A library that cuts at a percentile removes all of a map of which half the pixels are 0."""
    maps = torch.zeros(1, 20, 20)
    maps[0, 3, 4:9] = torch.rand(5)
    module = tiny.Linear(torch.ones(1, 20, 20) / 400)
    case = by_hand.case(module, torch.ones(1, 1, 20, 20), maps)
    found = by_hand.run("road_morf", case, module, shares=[0.5], fill="black")["road_morf"]
    assert found.tolist() == pytest.approx([p(1) - p(0.5)], abs=1e-6)


def test_road_reproduces_a_linear_ramp_from_any_interior_pixels():
    """What a net of a ramp's pixels sees is what it saw, but for the noise: the drop is next to nothing."""
    ramp = torch.linspace(0.2, 0.8, 16).expand(16, 16)[None, None]
    inside = torch.zeros(1, 16, 16)
    inside[0, 2:-2, 2:-2] = torch.rand(12, 12, generator=torch.Generator().manual_seed(0)) + 1
    module = tiny.Linear(torch.randn(1, 16, 16, generator=torch.Generator().manual_seed(1)) / 8)
    case = by_hand.case(module, ramp, inside)
    values = [
        float(by_hand.run("road_morf", case, module, shares=[0.4], fill=fill)["road_morf"].abs())
        for fill in ("road", "noise")
    ]
    assert values[0] < 0.02 < values[1]


def test_steps_reach_the_shares_of_the_law_and_every_pixel_once():
    order, shares = pixel_steps(some(), 32)
    counts = torch.stack([(order <= step).flatten(1).sum(1) for step in range(33)], 1)
    assert counts.tolist() == [[round(i * H * W / 32) for i in range(33)]] * 3
    assert shares.tolist() == pytest.approx([round(i * H * W / 32) / (H * W) for i in range(33)])


def test_tied_pixels_fall_in_an_order_of_each_images_own():
    case = some()
    case.maps = torch.zeros_like(case.maps)
    order, _ = pixel_steps(case, 16)
    assert not torch.equal(order[0], order[1])
    again, _ = pixel_steps(by_hand.case(NET, case.images, case.maps), 16)
    assert torch.equal(order, again)
