"""Uncertainty of a fusion by hand, through the stages, and what it says of errors against scikit-learn."""

import by_hand
import numpy as np
import pytest
import stocked
import tiny
import torch

from heatproof.base.store import Store
from heatproof.stages import explain, measure


@by_hand.oracle("uncertainty")
def test_the_mean_spread_over_valid_pixels_and_what_was_missed():
    maps = torch.zeros(3, 4, 5)
    maps[0, 1, 1] = maps[0, 3, 3] = 2.0  # two maxima, one on the annotation
    maps[1, 0, 0] = 1.0
    masks = torch.zeros(3, 4, 5, dtype=torch.bool)
    masks[:, 1, 1] = True
    masks[2] = False
    spread = torch.rand(3, 4, 5, generator=torch.Generator().manual_seed(0))
    valid = torch.ones(3, 4, 5, dtype=torch.bool)
    valid[1, :, 2:] = False
    net = tiny.Linear(torch.ones(1, 4, 5))
    found = by_hand.run("uncertainty", by_hand.case(net, torch.rand(3, 1, 4, 5), maps, masks, valid, spread=spread))
    expected = [spread[0].mean().item(), spread[1, :, :2].mean().item(), spread[2].mean().item()]
    assert found["uncertainty"].tolist() == pytest.approx(expected, abs=1e-6)
    assert found["uncertainty_missed"][:2].tolist() == [0, 1]
    assert found["uncertainty_missed"][2].isnan()
    flat = by_hand.case(net, torch.rand(3, 1, 4, 5), torch.ones(3, 4, 5), masks, spread=spread)
    assert by_hand.run("uncertainty", flat)["uncertainty_missed"].isnan().all()


def test_fusions_have_one_and_single_views_none(tmp_path):
    samples, classifier, store = stocked.samples(7), stocked.classifier(), Store(tmp_path)
    methods = stocked.methods("gradcam", "random")
    maps = explain.explain(
        samples, classifier, stocked.predictions(samples), methods, stocked.EXPLAIN, protocol="sound", store=store,
        progress=False,
    )  # fmt: skip
    scores = measure.measure(
        samples, classifier, maps, stocked.metrics("uncertainty"), stocked.MEASURE, stocked.EVALUATION, store=store,
        batch=3, progress=False,
    )  # fmt: skip
    table = scores.table[scores.table["column"] == "uncertainty"].set_index(["method", "image"])
    fused = table.loc["gradcam:three.mean"]
    spread = np.load(maps.sd_files["gradcam:three.mean"])
    valid = table.loc["gradcam:three.mean", "status"] == "ok"
    assert valid.all()
    assert fused["value"].to_numpy() == pytest.approx(spread.mean((1, 2)), rel=1e-5)
    for name in ("gradcam", "random"):
        assert set(table.loc[name, "status"]) == {"undefined:single_view"}
