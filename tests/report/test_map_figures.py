"""Figures of maps from real maps of a made-up net."""

import numpy as np
import pytest
import stocked
import torch

from heatproof.base.names import MethodName
from heatproof.base.records import Method
from heatproof.base.registry import bind, preset
from heatproof.base.settings import Compute
from heatproof.base.store import Store
from heatproof.stages.explain import explain
from heatproof.stages.predict import predict
from heatproof.stages.report.drawing import drawn
from heatproof.stages.report.map_figures import map_drawings
from heatproof.stages.report.shown import unit
from heatproof.stages.report.views import views_frame

VIEWS = tuple(preset("view", name) for name in ("identity", "flip", "rotate_p15"))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    samples, classifier = stocked.samples(), stocked.classifier()
    predictions = predict(
        samples, classifier, stocked.EVALUATION, dataset_seed=0, compute=Compute("cpu", "fp32", False), progress=False
    )
    cams = [Method(MethodName("gradcam", layer), bind("explainer", "gradcam"), layer) for layer in ("low", "high")]
    fused = Method(
        MethodName("gradcam", "high", "three", "mean"), cams[0].explainer, "high", VIEWS, preset("fusion", "mean")
    )
    others = [Method(MethodName(name), bind("explainer", name)) for name in ("saliency", "input_x_gradient")]
    votes = Method(MethodName("votes"), bind("explainer", "votes"), of=(cams[1], *others))
    store = Store(tmp_path_factory.mktemp("store"))
    maps = explain(
        samples, classifier, predictions, [*cams, fused, *others, votes], stocked.EXPLAIN, protocol="sound",
        store=store, progress=False,
    )  # fmt: skip
    return samples, classifier, predictions, maps


def test_figures_of_maps_are_drawn_for_what_a_run_has(made, tmp_path):
    names = [name for name, _, _ in drawn(tmp_path, map_drawings(*made, alphas=(0.3, 0.6), seed=0))]
    assert names == [
        "overlays",
        "overlays_2",
        "overlays_3",
        "layers",
        "eight_1",
        "eight_2",
        "eight_3",
        "eight_4",
        "views",
    ]
    assert all((tmp_path / f"{name}.{ending}").stat().st_size for name in names for ending in ("png", "pdf"))


def test_what_views_add_is_a_table(made):
    frame = views_frame(made[3], seed=0).set_index(["method", "quantity", "view"])
    fused = frame.loc["gradcam.high:three.mean"]
    assert fused.loc[("dose", "3"), "mean"] == pytest.approx(1)
    assert fused.loc[("round_trip", "1 identity"), "mean"] == 0 == fused.loc[("round_trip", "2 flip"), "mean"]
    assert fused.loc[("round_trip", "3 rotate"), "mean"] > 0
    assert set(fused.index.get_level_values(0)) == {
        "dose", "round_trip", "leave_one_out", "coefficient_of_variation", "common_area"
    }  # fmt: skip
    assert 0 < fused.loc[("common_area", ""), "mean"] < 1
    assert 0 <= frame.loc[("votes", "high_confidence_area", ""), "mean"] <= 1


def test_leave_one_out_of_two_views_is_the_other_view(made):
    """Of two views the fusion without the second is the first alone: a dose of one."""
    frame = views_frame(made[3], seed=0).set_index(["quantity", "view"])
    assert frame.loc[("leave_one_out", "3 rotate"), "mean"] == pytest.approx(frame.loc[("dose", "2"), "mean"])


def test_a_map_is_scaled_by_what_is_finite():
    found = unit(np.array([[1.0, np.nan], [3.0, 2.0]]))
    np.testing.assert_array_equal(found, [[0, np.nan], [1, 0.5]])
    assert not unit(np.full((2, 2), np.inf)).any()
    assert torch.tensor(unit(np.ones((2, 2)))).sum() == 0
