from itertools import combinations

import by_hand
import numpy as np
import pytest
import tiny
import torch
import yaml
from scipy import stats

from heatproof.base.case import Rerun, RerunMaps
from heatproof.base.registry import choices, conf_folder

NET = tiny.Linear(torch.ones(1, 6, 6))
# Of the nine: the variant of the sanity suite is tested with it.
STUDY = [name for name in choices("metric") if name.endswith("_study") and name != "randomization_study"]
VIEW_ONLY = ("view_variance_study", "view_iou_study", "view_spearman_study")


def some(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def fused(views: torch.Tensor) -> by_hand.Case:
    return by_hand.case(NET, some(views.shape[1], 1, 6, 6), views.mean(0), view_maps=views)


def single(maps: torch.Tensor) -> by_hand.Case:
    return by_hand.case(NET, some(len(maps), 1, 6, 6), maps)


def at_least_80(a: np.ndarray) -> np.ndarray:
    return a >= np.percentile(a, 80)


def jaccard(a: np.ndarray, b: np.ndarray) -> float:
    return (a & b).sum() / (a | b).sum()


def test_each_of_the_nine_has_its_study_variant():
    facts = {name: choice.facts for name, choice in choices("metric").items()}
    nine = yaml.safe_load((conf_folder() / "metrics" / "nine.yaml").read_text())["defaults"]
    named = {metric for line in nine if isinstance(line, dict) for metric in line.values()}
    assert {name.removesuffix("_study") for name in STUDY} == named
    assert all(facts[name]["protocol"] == "study" for name in STUDY)
    assert all(facts[name]["better"] == facts[name.removesuffix("_study")]["better"] for name in STUDY)
    assert not any(facts[name].get("floor") or facts[name].get("shifted") for name in STUDY)


def test_rows_that_see_different_perturbations_are_never_ranked():
    ranked = {name for name in STUDY if choices("metric")[name].facts.get("ranked", True)}
    assert ranked == {"faith_study", "fidelity_study", "loc_acc_study"}


@by_hand.oracle("faith_study", "loc_acc_study", "fidelity_study")
def test_the_inclusive_percentile_takes_all_ties():
    maps = torch.zeros(1, 6, 6)
    maps[0, :2] = 1.0
    masks = torch.zeros(1, 6, 6, dtype=torch.bool)
    masks[0, 1:3] = True
    case = by_hand.case(NET, some(1, 1, 6, 6), maps, masks)
    found = by_hand.run("faith_study", case, NET)
    assert found["faith_study_area"].item() == pytest.approx(1 / 3)
    z = (case.images[0, 0, 2:].sum() + 12 * 0.5).double()
    assert found["faith_study"].item() == pytest.approx((case.p[0] - (2 * z).sigmoid()).item(), abs=1e-6)
    assert by_hand.run("loc_acc_study", case)["loc_acc_study"].item() == 0.5
    both = by_hand.run("fidelity_study", case, NET)
    assert both["fidelity_study"].item() == 0
    assert both["fidelity_study_area"].item() == pytest.approx(1 / 3)


def test_an_empty_mask_is_undefined():
    case = single(some(1, 6, 6))
    assert by_hand.run("loc_acc_study", case)["loc_acc_study"].isnan().all()
    assert by_hand.reasons(case) == ["empty_mask"]


@by_hand.oracle("stability_study")
def test_stability_reruns_the_single_view_and_drops_undefined_pearsons():
    case, asked = fused(some(3, 2, 6, 6)), []
    maps, reference = [some(2, 6, 6, seed=n) for n in range(5)], some(2, 6, 6, seed=9)
    maps[1][0] = 0.5
    for n in range(5):
        maps[n][1] = 0.0

    def rerun(request: Rerun) -> RerunMaps:
        asked.append(request)
        return by_hand.rerun_maps(maps[request.noise], reference)

    found = by_hand.run("stability_study", case, rerun=rerun)["stability_study"]
    expected = [stats.pearsonr(maps[n][0].flatten(), reference[0].flatten())[0] for n in (0, 2, 3, 4)]
    assert found[0].item() == pytest.approx(np.mean(expected), abs=1e-6)
    assert found[1].isnan()
    assert by_hand.reasons(case) == ["ok", "rerun"]
    assert [(r.noise, r.std, r.single, r.normalized) for r in asked] == [(n, 0.05, True, True) for n in range(5)]


@by_hand.oracle("consist_iou_study", "consist_pearson_study", *VIEW_ONLY)
def test_fusions_are_compared_with_their_own_views():
    views = some(4, 2, 6, 6)
    views[2, 1] = 0.25
    case = fused(views)

    def never(request: Rerun) -> RerunMaps:
        raise AssertionError("no rerun is needed")

    found = {
        name: by_hand.run(name, case, rerun=never)[name] for name in STUDY if "faith" not in name and "consist" in name
    }
    found |= {name: by_hand.run(name, case)[name] for name in VIEW_ONLY}
    for i in range(2):
        v = views[:, i].double().numpy()
        own = case.maps[i].numpy()
        ious = [jaccard(at_least_80(views[n, i].numpy()), at_least_80(own)) for n in range(4)]
        assert found["consist_iou_study"][i].item() == pytest.approx(np.mean(ious))
        pairs = [
            stats.pearsonr(v[a].flatten(), v[b].flatten())[0]
            for a, b in combinations(range(4), 2)
            if i == 0 or 2 not in (a, b)
        ]
        assert found["consist_pearson_study"][i].item() == pytest.approx(np.mean(pairs))
        assert found["view_variance_study"][i].item() == pytest.approx(np.var(v, axis=0).mean())
        tops = [set(np.argsort(-a.reshape(-1), kind="stable")[:3].tolist()) for a in [own, *views[:, i].numpy()]]
        assert found["view_iou_study"][i].item() == pytest.approx(
            np.mean([len(tops[0] & t) / len(tops[0] | t) for t in tops[1:]])
        )
        rho = [0.0 if i == 1 and n == 2 else stats.spearmanr(views[n, i].flatten(), own.flatten())[0] for n in range(4)]
        assert found["view_spearman_study"][i].item() == pytest.approx(np.mean(rho))


def test_single_views_are_compared_with_three_noisy_reruns():
    case = single(some(1, 6, 6))
    reruns = [some(1, 6, 6, seed=n + 1) for n in range(3)]

    def rerun(request: Rerun) -> RerunMaps:
        assert (request.std, request.normalized, request.single) == (0.05, True, False)
        return by_hand.rerun_maps(reruns[request.noise], case.maps)

    own = at_least_80(case.maps[0].numpy())
    ious = [jaccard(at_least_80(r[0].numpy()), own) for r in reruns]
    assert by_hand.run("consist_iou_study", case, rerun=rerun)["consist_iou_study"].item() == pytest.approx(
        np.mean(ious)
    )
    pairs = [stats.pearsonr(a.flatten(), b.flatten())[0] for a, b in combinations(reruns, 2)]
    assert by_hand.run("consist_pearson_study", case, rerun=rerun)["consist_pearson_study"].item() == pytest.approx(
        np.mean(pairs), abs=1e-6
    )


@pytest.mark.parametrize("name", VIEW_ONLY)
def test_view_columns_are_undefined_for_single_views(name):
    case = single(some(2, 6, 6))
    assert by_hand.run(name, case)[name].isnan().all()
    assert by_hand.reasons(case) == ["single_view"] * 2
