"""Conciseness: closed forms of flat and one-hot maps, brute force, scipy."""

import by_hand
import numpy as np
import pytest
import tiny
import torch
from scipy import stats

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
