import by_hand
import numpy as np
import pytest
import tiny
import torch
from scipy import stats

from heatproof.base.case import Rerun, RerunMaps
from heatproof.base.registry import preset

NET = tiny.Linear(torch.ones(1, 24, 24))
NAMES = ("view_variance", "view_iou", "view_spearman")
VIEWS = ["rerun_shift", "rerun_rotate", "rerun_magnify", "rerun_gamma"]
FAMILIES = ["shift", "rotation", "scale", "photometric"]
BEST = {"view_variance": 0.0, "view_iou": 1.0, "view_spearman": 1.0}


def some(n: int, seed: int = 0, size: int = 24) -> torch.Tensor:
    return torch.rand(n, size, size, generator=torch.Generator().manual_seed(seed))


def block(maps: torch.Tensor) -> by_hand.Case:
    return by_hand.case(NET, maps[:, None], maps)


@pytest.mark.parametrize("name", NAMES)
def test_the_identity_scores_best(name):
    case = block(some(3))
    found = by_hand.run(name, case)
    for column in [name, *(f"{name}_{family}" for family in FAMILIES)]:
        assert found[column].tolist() == pytest.approx([BEST[name]] * 3)
    assert by_hand.reasons(case) == ["ok"] * 3


@pytest.mark.parametrize("size", [24, 37])
@pytest.mark.parametrize("name", NAMES)
def test_an_equivariant_map_scores_best_on_all_views_at_any_resolution(name, size):
    """The explainer returns the grey image: on a view it returns the view."""
    images = some(3, size=size)
    net = tiny.Linear(torch.ones(1, size, size))
    case = by_hand.case(net, images[:, None], images)

    def rerun(request: Rerun) -> RerunMaps:
        seen, unwarp = preset("view", request.view)(images[:, None], torch.arange(3))
        maps, valid = unwarp(seen[:, 0])
        return by_hand.rerun_maps(maps, unwarp(unwarp.warp(images))[0], valid)

    found = by_hand.run(name, case, rerun=rerun)
    # Gamma keeps ranks but not values; all comparisons are by rank.
    assert found[name].tolist() == pytest.approx([BEST[name]] * 3, abs=1e-6)


@by_hand.oracle(*NAMES)
def test_against_slow_twins():
    maps = some(2)
    reruns = {view: some(2, 10 + i) for i, view in enumerate(VIEWS)}
    references = {view: some(2, 20 + i) for i, view in enumerate(VIEWS)}
    valid = {view: some(2, 30 + i) < 0.8 for i, view in enumerate(VIEWS)}

    def rerun(request: Rerun) -> RerunMaps:
        return by_hand.rerun_maps(reruns[request.view], references[request.view], valid[request.view])

    found = {name: by_hand.run(name, block(maps), rerun=rerun) for name in NAMES}
    for i in range(2):
        rho, ious = {}, {}
        for view, family in zip(VIEWS, FAMILIES, strict=True):
            keep = valid[view][i].numpy()
            a, b = references[view][i].numpy()[keep], reruns[view][i].numpy()[keep]
            rho[family] = stats.spearmanr(a, b)[0]
            k = round(0.1 * keep.sum())
            tops = [set(np.argsort(-v)[:k].tolist()) for v in (a, b)]
            ious[family] = len(tops[0] & tops[1]) / len(tops[0] | tops[1])
        joint = np.all([valid[view][i].numpy() for view in VIEWS], axis=0)

        def ranks(a: torch.Tensor, where: np.ndarray = joint) -> np.ndarray:
            return (stats.rankdata(a.numpy()[where]) - 0.5) / where.sum()

        stack = [np.zeros(joint.sum())] + [ranks(reruns[v][i]) - ranks(references[v][i]) for v in VIEWS]
        assert found["view_variance"]["view_variance"][i].item() == pytest.approx(np.var(stack, axis=0).mean())
        for name, by_family in (("view_spearman", rho), ("view_iou", ious)):
            assert found[name][name][i].item() == pytest.approx(np.mean(list(by_family.values())))
            for family, value in by_family.items():
                assert found[name][f"{name}_{family}"][i].item() == pytest.approx(value)


def test_variance_is_that_of_the_ranks_where_warps_lose_nothing():
    maps = some(1)
    reruns = {view: some(1, 5 + i) for i, view in enumerate(VIEWS)}
    found = by_hand.run("view_variance", block(maps), rerun=lambda r: by_hand.rerun_maps(reruns[r.view], maps))
    ranks = [(stats.rankdata(m.numpy()) - 0.5) / 576 for m in [maps, *reruns.values()]]
    assert found["view_variance"].item() == pytest.approx(np.var(ranks, axis=0).mean())
    assert found["view_variance"].item() == pytest.approx(1 / 12 * 4 / 5, rel=0.1)


@pytest.mark.parametrize("name", NAMES)
def test_only_families_that_no_fusion_uses_count(name):
    reruns = {view: some(2, 5 + i) for i, view in enumerate(VIEWS)}
    case = block(some(2))
    reruns["rerun_shift"] = case.maps

    def rerun(request: Rerun) -> RerunMaps:
        return by_hand.rerun_maps(reruns[request.view], case.maps)

    found = by_hand.run(name, case, rerun=rerun, families=["scale"])
    assert torch.equal(found[name], found[f"{name}_scale"])
    assert not torch.equal(found[name], found[f"{name}_shift"])
    assert by_hand.reasons(case) == ["ok", "ok"]
    found = by_hand.run(name, case, rerun=rerun, families=["flip"])
    assert found[name].isnan().all()
    assert torch.isfinite(found[f"{name}_shift"]).all()
    assert by_hand.reasons(case) == ["family", "family"]


@pytest.mark.parametrize("name", NAMES)
def test_a_map_without_order_where_the_view_is_valid_is_undefined(name):
    case = block(some(2))
    flat = case.maps.clone()
    flat[0, 2:] = 0.25
    valid = torch.ones(2, 24, 24, dtype=torch.bool)
    valid[:, :2] = False
    found = by_hand.run(name, case, rerun=lambda request: by_hand.rerun_maps(flat, case.maps, valid))
    assert by_hand.reasons(case) == ["rerun", "ok"]
    assert torch.isfinite(found[name][1])
