from itertools import combinations

import by_hand
import numpy as np
import pytest
import tiny
import torch
from scipy import stats

from heatproof.base.case import Rerun, RerunMaps

NET = tiny.Linear(torch.ones(1, 6, 6))
NOISY = ("consist_iou", "stability", "consist_pearson")


def block(maps: torch.Tensor) -> by_hand.Case:
    return by_hand.case(NET, torch.rand(len(maps), 1, 6, 6), maps)


def some(n: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, 6, 6, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", NOISY)
def test_the_same_map_in_every_rerun_scores_1(name):
    case = block(some(3))
    assert by_hand.run(name, case)[name].tolist() == pytest.approx([1, 1, 1])
    assert by_hand.reasons(case) == ["ok"] * 3


@pytest.mark.parametrize("name", NOISY)
def test_five_noises_of_sd_002_are_asked_for(name):
    case, asked = block(some(1)), []

    def remember(request: Rerun) -> RerunMaps:
        asked.append(request)
        return by_hand.rerun_maps(case.maps, case.maps)

    by_hand.run(name, case, rerun=remember)
    assert [(r.noise, r.std, r.view, r.single, r.normalized) for r in asked] == [
        (n, 0.02, None, False, False) for n in range(5)
    ]


@by_hand.oracle(*NOISY)
def test_against_slow_twins():
    maps = some(2)
    reruns = [some(2, seed) for seed in (1, 2, 3)]
    valid = torch.rand(3, 2, 6, 6, generator=torch.Generator().manual_seed(9)) < 0.8

    def rerun(request: Rerun) -> RerunMaps:
        return by_hand.rerun_maps(reruns[request.noise], maps, valid[request.noise])

    found = {name: by_hand.run(name, block(maps), rerun=rerun, noises=3)[name] for name in NOISY}
    for i in range(2):
        keep = [valid[n, i].numpy() for n in range(3)]
        own, other = maps[i].double().numpy(), [r[i].double().numpy() for r in reruns]

        def top(a: np.ndarray, where: np.ndarray) -> set[int]:
            places = np.flatnonzero(where)
            k = max(1, round(0.2 * len(places)))
            return set(places[np.argsort(-a.reshape(-1)[places])[:k]].tolist())

        ious = [len(top(own, k) & top(o, k)) / len(top(own, k) | top(o, k)) for o, k in zip(other, keep, strict=True)]
        assert found["consist_iou"][i].item() == pytest.approx(np.mean(ious))
        r = [stats.pearsonr(own[k], o[k])[0] for o, k in zip(other, keep, strict=True)]
        assert found["stability"][i].item() == pytest.approx(np.mean(r))
        pairs = [
            stats.pearsonr(other[a][keep[a] & keep[b]], other[b][keep[a] & keep[b]])[0]
            for a, b in combinations(range(3), 2)
        ]
        assert found["consist_pearson"][i].item() == pytest.approx(np.mean(pairs))


@pytest.mark.parametrize("name", ["stability", "consist_pearson"])
def test_a_constant_rerun_is_undefined_and_never_1(name):
    case = block(some(2))
    flat = case.maps.clone()
    flat[1] = 3.0

    def rerun(request: Rerun) -> RerunMaps:
        return by_hand.rerun_maps(flat if request.noise == 2 else case.maps, case.maps)

    found = by_hand.run(name, case, rerun=rerun)[name]
    assert found[0] == pytest.approx(1)
    assert found[1].isnan()
    assert by_hand.reasons(case) == ["ok", "rerun"]


def test_sparse_maps_share_no_ties():
    """Two maps that agree on one pixel and are flat elsewhere: the rest of T is chance, not agreement."""
    maps = torch.zeros(200, 6, 6)
    maps[:, 0, 0] = 1.0
    case = by_hand.case(NET, torch.rand(200, 1, 6, 6), maps)
    found = by_hand.run("consist_iou", case)
    assert found["consist_iou"].mean().item() < 0.35
    assert found["consist_iou_tied"].tolist() == pytest.approx([6 / 7] * 200)


@pytest.mark.parametrize("name", NOISY)
def test_noise_among_the_views_of_a_fusion_leaves_nothing_to_count(name):
    case = block(some(2))
    found = by_hand.run(name, case, families=[])
    assert found[name].isnan().all()
    assert by_hand.reasons(case) == ["family", "family"]
