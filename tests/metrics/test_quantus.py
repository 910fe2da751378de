"""Quantus where its definitions are right: the same numbers on one-channel images with distinct values. Its "black" is
the least value of the image, so zero is given."""

import warnings
from typing import Any

import by_hand
import numpy as np
import pytest
import tiny
import torch

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    quantus = pytest.importorskip("quantus", reason="Quantus is not installed: pip install --no-deps quantus")

SIDE, CELLS, N = 18, 9, 4
NET = tiny.Conv()
DRAW = torch.Generator().manual_seed(0)
IMAGES = torch.rand(N, 1, SIDE, SIDE, generator=DRAW) + 0.1
MAPS = torch.rand(N, SIDE, SIDE, generator=DRAW)
MASKS = torch.zeros(N, SIDE, SIDE, dtype=torch.bool)
MASKS[:, 3:12, 5:16] = True


def block() -> by_hand.Case:
    return by_hand.case(NET, IMAGES, MAPS, MASKS)


def theirs(metric: Any, *, masks: bool = False) -> np.ndarray:
    """What a metric of Quantus says of the maps."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = metric(
            model=NET.eval(), x_batch=IMAGES.numpy(), y_batch=block().targets.numpy(), a_batch=MAPS[:, None].numpy(),
            s_batch=MASKS[:, None].numpy() if masks else None, channel_first=True, softmax=True, device="cpu",
        )  # fmt: skip
    return np.array(found, dtype=np.float64)


QUIET = {"abs": False, "normalise": False, "disable_warnings": True, "display_progressbar": False}


@pytest.mark.parametrize(("name", "order"), [("aopc_morf", "morf"), ("aopc_lerf", "lerf")])
def test_region_perturbation(name: str, order: str) -> None:
    drops = theirs(
        quantus.RegionPerturbation(
            patch_size=SIDE // CELLS, regions_evaluation=CELLS**2, order=order, perturb_baseline=0.0, **QUIET
        )
    )
    assert drops.shape == (N, CELLS**2)
    found = by_hand.run(name, block(), NET, grid=CELLS, steps=None, fill="black")[name]
    np.testing.assert_allclose(found, drops.sum(1) / (CELLS**2 + 1), atol=1e-6)


def test_pixel_flipping_is_the_deletion_curve() -> None:
    steps = 27
    curve = theirs(quantus.PixelFlipping(features_in_step=SIDE**2 // steps, perturb_baseline=0.0, **QUIET))
    whole = np.concatenate([block().p[:, None].numpy(), curve], axis=1)
    found = by_hand.run("deletion", block(), NET, steps=steps, fill="black")["deletion"]
    np.testing.assert_allclose(found, np.trapezoid(whole, dx=1 / steps, axis=1), atol=1e-6)


@pytest.mark.parametrize(
    ("name", "metric"),
    [
        ("hit_rate", "PointingGame"),
        ("energy_pointing", "RelevanceMassAccuracy"),
        ("relevance_rank", "RelevanceRankAccuracy"),
    ],
)
def test_localisation(name: str, metric: str) -> None:
    found = by_hand.run(name, block())[name]
    np.testing.assert_allclose(found, theirs(getattr(quantus, metric)(**QUIET), masks=True), atol=1e-6)


def test_gini_is_sparseness() -> None:
    np.testing.assert_allclose(by_hand.run("gini", block())["gini"], theirs(quantus.Sparseness(**QUIET)), atol=1e-5)


def test_entropy_is_complexity() -> None:
    found = by_hand.run("entropy", block())["entropy"] * np.log(SIDE**2)
    np.testing.assert_allclose(found, theirs(quantus.Complexity(**QUIET)), atol=1e-5)
