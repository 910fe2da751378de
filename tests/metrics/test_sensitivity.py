"""Sensitivity and equivariance: brute force, captum, and methods of which the answer is known."""

import by_hand
import numpy as np
import pytest
import tiny
import torch
from captum.metrics import sensitivity_max

from heatproof.base.case import Rerun, RerunMaps

NET = tiny.Linear(torch.ones(1, 7, 6))


def some(n: int = 3, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, 7, 6, generator=torch.Generator().manual_seed(seed))


def block(maps: torch.Tensor) -> by_hand.Case:
    return by_hand.case(NET, torch.rand(len(maps), 1, 7, 6), maps)


@by_hand.oracle("max_sensitivity", "avg_sensitivity")
def test_sensitivities_against_brute_force():
    maps, others = some(), [some(seed=n + 1) for n in range(4)]
    asked = []

    def rerun(request: Rerun) -> RerunMaps:
        asked.append((request.std, request.uniform, request.view))
        found = by_hand.rerun_maps(others[request.noise], maps)
        return RerunMaps(found.maps, found.reference, found.valid, found.ok, torch.tensor([request.noise == 0] * 3))

    found = {
        name: by_hand.run(name, block(maps), rerun=rerun, noises=4) for name in ("max_sensitivity", "avg_sensitivity")
    }
    assert set(asked) == {(0.02, True, None)}
    for i in range(3):
        a = maps[i].double().numpy()
        gaps = []
        for other in others:
            b = other[i].double().numpy()
            gaps.append(np.linalg.norm((b - b.mean()) - (a - a.mean())) / np.linalg.norm(a - a.mean()))
        assert float(found["max_sensitivity"]["max_sensitivity"][i]) == pytest.approx(max(gaps))
        assert float(found["avg_sensitivity"]["avg_sensitivity"][i]) == pytest.approx(np.mean(gaps))
        assert float(found["max_sensitivity"]["max_sensitivity_changed"][i]) == 0.25


@by_hand.oracle("max_sensitivity")
def test_max_sensitivity_is_captums_where_maps_have_mean_0():
    """captum does not centre; with maps of mean 0 on the image and on its copies both say the same."""
    images = torch.rand(2, 1, 7, 6, dtype=torch.float64)
    noises = [0.02 * (2 * torch.rand(2, 1, 7, 6, dtype=torch.float64) - 1) for _ in range(3)]

    def explain(x: torch.Tensor) -> torch.Tensor:
        return x**2 - (x**2).mean((2, 3), keepdim=True)

    def copies(x: torch.Tensor, radius: float) -> torch.Tensor:
        return torch.stack([x[3 * i] + noise[i] for i in range(2) for noise in noises])

    theirs = sensitivity_max(
        lambda inputs, **_: (explain(inputs[0] if isinstance(inputs, tuple) else inputs),),
        images,
        perturb_func=copies,
        n_perturb_samples=3,
    )
    maps = explain(images)[:, 0]
    found = by_hand.run(
        "max_sensitivity",
        by_hand.case(NET, images.float(), maps),
        rerun=lambda request: by_hand.rerun_maps(explain(images + noises[request.noise])[:, 0], maps),
        noises=3,
    )["max_sensitivity"]
    torch.testing.assert_close(found, theirs, atol=1e-9, rtol=0)


@by_hand.oracle("max_sensitivity", "avg_sensitivity")
@pytest.mark.parametrize("name", ["max_sensitivity", "avg_sensitivity"])
def test_a_map_that_stays_has_sensitivity_0_and_an_offset_counts_nothing(name):
    maps = some()
    for other, value in ((maps, 0), (maps + 5, 0), (maps * 1.5, 0.5), (maps * 1e-20, 1)):
        found = by_hand.run(name, block(maps), rerun=lambda _, other=other: by_hand.rerun_maps(other, maps))[name]
        assert found.tolist() == pytest.approx([value] * 3, abs=1e-5)


@by_hand.oracle("equivariance")
def test_equivariance_against_brute_force():
    maps = some()
    valid = torch.rand(3, 7, 6, generator=torch.Generator().manual_seed(3)) < 0.8
    views = ["rerun_flip", "rerun_rotate90"]
    others = {view: some(seed=n + 1) for n, view in enumerate(views)}
    references = {view: some(seed=n + 8) for n, view in enumerate(views)}
    found = by_hand.run(
        "equivariance",
        block(maps),
        rerun=lambda request: by_hand.rerun_maps(others[request.view], references[request.view], valid),
        views=views,
    )["equivariance"]
    for i in range(3):
        cosines = []
        for view in views:
            a, b = (x[view][i].double().numpy()[valid[i].numpy()] for x in (others, references))
            cosines.append(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
        assert float(found[i]) == pytest.approx(np.mean(cosines))


@by_hand.oracle("equivariance")
def test_equivariance_of_the_same_and_of_the_opposite_map():
    maps = some()
    for factor, value in ((1.0, 1), (3.0, 1), (-1.0, -1), (1e-30, 1)):
        found = by_hand.run(
            "equivariance", block(maps), rerun=lambda _, factor=factor: by_hand.rerun_maps(maps * factor, maps)
        )["equivariance"]
        assert found.tolist() == pytest.approx([value] * 3, abs=1e-6)
