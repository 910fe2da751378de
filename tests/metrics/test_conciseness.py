"""Conciseness: closed forms of flat and one-hot maps and of blurred noise, brute force, scipy."""

import by_hand
import numpy as np
import pytest
import tiny
import torch
from scipy import stats

from heatproof.base.altered import gaussian_blur

NET = tiny.Linear(torch.ones(1, 9, 11))
NAMES = ("concentration", "gini", "entropy", "effective_area")
N = 99


def values(maps: torch.Tensor, valid: torch.Tensor | None = None) -> dict[str, list[float]]:
    case = by_hand.case(NET, torch.rand(len(maps), 1, 9, 11), maps, valid=valid)
    return {name: by_hand.run(name, case)[name].tolist() for name in NAMES}


@by_hand.oracle(*NAMES)
def test_flat_and_one_hot_maps_in_closed_form():
    maps = torch.zeros(3, 9, 11)
    maps[0] = 0.3
    maps[1, 4, 4] = 7.0
    maps[2, 0, :9] = 2.0  # nine equal pixels
    found = values(maps)
    assert found["concentration"] == pytest.approx([9 / N, 1, 1])  # k = floor(9.9)
    assert found["gini"] == pytest.approx([0, 1 - 1 / N, 1 - 9 / N])
    assert found["entropy"] == pytest.approx([1, 0, np.log(9) / np.log(N)], abs=1e-12)
    assert found["effective_area"] == pytest.approx([90 / N, 1 / N, 9 / N])


@by_hand.oracle(*NAMES)
def test_against_brute_force_over_the_valid_pixels():
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(3, 9, 11, generator=generator)
    valid = torch.rand(3, 9, 11, generator=generator) < 0.8
    found = values(maps, valid)
    for i in range(3):
        v = np.clip(maps[i].double().numpy()[valid[i].numpy()], 0, None)
        n, share = len(v), np.sort(v / v.sum())[::-1]
        assert found["concentration"][i] == pytest.approx(share[: int(0.1 * n)].sum())
        assert found["gini"][i] == pytest.approx(np.abs(v[:, None] - v[None]).sum() / (2 * n**2 * v.mean()))
        assert found["entropy"][i] == pytest.approx(stats.entropy(v) / np.log(n))
        smallest = next(k for k in range(1, n + 1) if share[:k].sum() >= 0.9)
        assert found["effective_area"][i] == pytest.approx(smallest / n)


@pytest.mark.parametrize("name", NAMES)
def test_where_nothing_is_positive_it_is_undefined_and_never_0(name):
    maps = -torch.rand(2, 9, 11)
    maps[1, 0, 0] = 1.0
    case = by_hand.case(NET, torch.rand(2, 1, 9, 11), maps)
    assert by_hand.run(name, case)[name].isnan().tolist() == [True, False]
    assert by_hand.reasons(case) == ["zero", "ok"]


def slow_smoothness(a: np.ndarray, valid: np.ndarray) -> float:
    """The distance at which the mean product of valid pixels falls to 1/e of the variance, as a share of the width."""
    h, w = a.shape
    places = [tuple(place) for place in np.argwhere(valid)]
    centred = a - a[valid].mean()
    lags: dict[tuple[int, int], list[float]] = {}
    for y, x in places:
        for v, u in places:
            lags.setdefault((v - y, u - x), []).append(centred[y, x] * centred[v, u])
    rings: dict[int, list[float]] = {}
    for (dy, dx), products in lags.items():
        rings.setdefault(round(np.hypot(dy, dx)), []).append(float(np.mean(products)))
    last = min(h, w) // 2
    profile = [np.mean(rings[r]) / np.mean(rings[0]) for r in range(last + 1)]
    for r in range(1, last + 1):
        if profile[r] < 1 / np.e:
            return (r - 1 + (profile[r - 1] - 1 / np.e) / (profile[r - 1] - profile[r])) / w
    return last / w


@by_hand.oracle("smoothness")
def test_smoothness_against_all_pairs_of_valid_pixels():
    generator = torch.Generator().manual_seed(1)
    coarse = torch.randn(4, 1, 3, 4, generator=generator)
    maps = torch.nn.functional.interpolate(coarse, size=(9, 11), mode="bilinear", align_corners=True)[:, 0].clone()
    maps[0] = torch.randn(9, 11, generator=generator)
    maps[3] = torch.linspace(0, 1, 11)  # a ramp
    valid = torch.rand(4, 9, 11, generator=generator) < 0.8
    valid[1] = True
    valid[2] = torch.rand(9, 11, generator=generator) < 0.15  # no pair at some lags
    case = by_hand.case(NET, torch.rand(4, 1, 9, 11), maps, valid=valid)
    expected = [slow_smoothness(a.double().numpy(), ok.numpy()) for a, ok in zip(maps, valid, strict=True)]
    assert by_hand.run("smoothness", case)["smoothness"].tolist() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("sd", [1.5, 3.0, 5.0])
def test_smoothness_of_blurred_noise_in_closed_form(sd):
    noise = torch.randn(4, 240, 240, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    maps = gaussian_blur(noise, sd)
    case = by_hand.case(tiny.Linear(torch.ones(1, 240, 240)), torch.rand(4, 1, 240, 240), maps)
    # Autocorrelation exp(-d^2 / (4 sd^2)) is 1/e at d = 2 sd.
    assert by_hand.run("smoothness", case)["smoothness"].mean().item() == pytest.approx(2 * sd / 240, rel=0.04)


def test_smoothness_of_a_constant_map_is_undefined():
    maps = torch.rand(2, 9, 11)
    maps[0] = 0.25
    case = by_hand.case(NET, torch.rand(2, 1, 9, 11), maps)
    assert by_hand.run("smoothness", case)["smoothness"].isnan().tolist() == [True, False]
