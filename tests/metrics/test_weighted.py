"""The image weighted by its map: by hand, and against brute force."""

import by_hand
import pytest
import tiny
import torch
from scipy import stats

from heatproof.base.case import Rerun, RerunMaps

NET = tiny.Conv(channels=2)
NAMES = ("average_drop", "average_increase", "average_gain", "adcc")


def p(z: float) -> float:
    return float(torch.tensor(2 * z, dtype=torch.float64).sigmoid())


class Threshold(tiny.Linear):
    """z = x_0 - x_1."""

    def __init__(self) -> None:
        super().__init__(torch.tensor([[[1.0, -1.0]]]))


def two_pixels(maps: list[list[float]], image: tuple[float, float] = (1.0, 0.5)) -> by_hand.Case:
    return by_hand.case(Threshold(), torch.tensor([[[image]]]).repeat(len(maps), 1, 1, 1), torch.tensor(maps)[:, None])


@by_hand.oracle("average_drop", "average_increase", "average_gain")
def test_two_pixels_by_hand():
    """p(0.5) on the image; the first map keeps x_0 alone (z = 1), the second x_1 alone (z = -0.5)."""
    case = two_pixels([[3.0, 1.0], [-1.0, 0.0]])
    found = {name: by_hand.run(name, case, Threshold())[name].tolist() for name in NAMES[:3]}
    assert found["average_drop"] == pytest.approx([0, (p(0.5) - p(-0.5)) / p(0.5)], abs=1e-6)
    assert found["average_increase"] == [1, 0]
    assert found["average_gain"] == pytest.approx([(p(1) - p(0.5)) / (1 - p(0.5)), 0], abs=1e-6)


@by_hand.oracle("adcc")
def test_adcc_of_two_pixels_by_hand():
    """Half of the map is 1, the rerun is the map turned by a quarter in between: coherency from Pearson."""
    case = two_pixels([[3.0, 1.0], [-1.0, 0.0]])
    again = torch.tensor([[[2.0, 1.0]], [[0.0, 5.0]]])
    found = by_hand.run("adcc", case, Threshold(), lambda request: by_hand.rerun_maps(again, case.maps))
    drop = (p(0.5) - p(-0.5)) / p(0.5)
    assert found["adcc_coherency"].tolist() == pytest.approx([1, 1])
    assert found["adcc_complexity"].tolist() == pytest.approx([0.5, 0.5])
    assert found["adcc_drop"].tolist() == pytest.approx([0, drop], abs=1e-6)
    assert found["adcc"].tolist() == pytest.approx(
        [3 / (1 + 1 / 0.5 + 1), 3 / (1 + 1 / 0.5 + 1 / (1 - drop))], abs=1e-6
    )


@by_hand.oracle("adcc")
def test_adcc_with_a_zero_term_is_zero():
    case = two_pixels([[3.0, 1.0]])
    found = by_hand.run("adcc", case, Threshold(), lambda request: by_hand.rerun_maps(-case.maps, case.maps))
    assert found["adcc_coherency"].tolist() == pytest.approx([0])
    assert found["adcc"].tolist() == [0]


@by_hand.oracle(*NAMES)
def test_against_brute_force():
    generator = torch.Generator().manual_seed(5)
    images, maps = torch.rand(4, 2, 9, 9, generator=generator), torch.randn(4, 9, 9, generator=generator)
    again = maps + torch.randn(4, 9, 9, generator=generator)
    case = by_hand.case(NET, images, maps)
    asked: list[torch.Tensor] = []

    def rerun(request: Rerun) -> RerunMaps:
        assert request.weights is not None
        asked.append(request.weights)
        return by_hand.rerun_maps(again, maps)

    found = {name: by_hand.run(name, case, NET, rerun)[name] for name in NAMES}
    for i in range(4):
        a = maps[i].double()
        weights = (a - a.min()) / (a.max() - a.min())
        torch.testing.assert_close(asked[0][i].double(), weights, atol=1e-6, rtol=0)
        before, o = (by_hand.probability(NET, x, int(case.targets[i])) for x in (images[i], images[i] * weights))
        coherency = (stats.pearsonr(maps[i].flatten(), again[i].flatten()).statistic + 1) / 2
        terms = (coherency, 1 - float(weights.mean()), 1 - max(0, before - o) / before)
        expected = (max(0, before - o) / before, float(o > before), max(0, o - before) / (1 - before), 0.0)
        expected = (*expected[:3], 3 / sum(1 / term for term in terms))
        assert [float(found[name][i]) for name in NAMES] == pytest.approx(expected, abs=1e-5)


def test_gain_keeps_its_digits_near_certainty_and_is_undefined_at_it():
    """1 - p is summed from the other class: e^-60 is no 0 beside 1, and where it underflows there is no gain."""
    module = tiny.Linear(torch.tensor([[[1.0, -1.0]]]) * 60)
    images = torch.tensor([[[[1.0, 0.5]]]])
    case = by_hand.case(module, images, torch.tensor([[[2.0, 0.0]]]))
    found = by_hand.run("average_gain", case, module)["average_gain"]
    assert found.tolist() == pytest.approx([1 - p(-60) / p(-30)], abs=1e-6)
    certain = tiny.Linear(torch.tensor([[[1.0, -1.0]]]) * 2000)
    case = by_hand.case(certain, images, torch.tensor([[[2.0, 0.0]]]))
    assert by_hand.run("average_gain", case, certain)["average_gain"].isnan().all()
    assert by_hand.reasons(case) == ["certain"]


def test_a_rerun_without_order_leaves_adcc_undefined():
    case = two_pixels([[3.0, 1.0]])
    flat = torch.ones_like(case.maps)
    found = by_hand.run("adcc", case, Threshold(), lambda request: by_hand.rerun_maps(flat, case.maps))
    assert found["adcc"].isnan().all()
