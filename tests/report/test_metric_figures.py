"""Curves, forest plot, cost and agreement: what is drawn is what the numbers say."""

import dataclasses

import fabricated
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from heatproof.base.asked import map_passes
from heatproof.base.records import MetricChoice
from heatproof.base.stats import interval
from heatproof.stages.report import agreement, cost, curves, differences
from heatproof.stages.report.findings import find

N = 24
X = np.linspace(0, 1, 101)
FACTS = {"better": "down", "range": (0, 1), "shifted": True, "columns": ("deletion",)}
DELETION = MetricChoice("deletion", fabricated.bound("metric", "deletion", FACTS, {"fill": "mean"}))


def value(image: int, name: str) -> np.ndarray:
    """A curve of its own for each image and method."""
    return np.exp(-(1 + image % 5 + len(name) / 10) * X)


@pytest.fixture(scope="module")
def scores():
    plain = fabricated.scores(N)
    images = list(pd.unique(plain.table["image"]))
    frames = [
        pd.DataFrame(
            {"image": image, "method": name, "metric": "deletion", "identity": "d", "x": X, "y": value(i, name)}
        )
        for name in map(str, (m.name for m in fabricated.METHODS[:5]))
        for i, image in enumerate(images)
        if not (name == "weak" and i == 0)  # undefined there
    ]
    faith = plain.table[plain.table["column"] == "faith"]
    table = pd.concat([plain.table, faith.assign(metric="deletion", column="deletion")], ignore_index=True)
    return dataclasses.replace(plain, table=table, curves=pd.concat(frames), metrics=(*plain.metrics, DELETION))


@pytest.fixture(scope="module")
def findings(scores):
    return find(scores, seed=0)


def lines(figure: Figure, title: str) -> dict[str, np.ndarray]:
    axes = next(axes for axes in figure.axes if axes.get_title(loc="left") + axes.get_title() == title)
    return {str(line.get_label()): np.asarray(line.get_ydata()) for line in axes.get_lines()}


def test_a_curve_is_the_mean_of_the_images_that_are_defined(scores, findings):
    (first, *others) = curves.drawings(findings, scores, fabricated.records(N)["predictions"])
    assert (first.name, [other.name for other in others]) == ("curves", ["curves_by_class", "curves_by_outcome"])
    drawn = lines(first.figure, "deletion")
    assert set(drawn) == {str(method.name) for method in fabricated.METHODS[:5]}
    at = np.linspace(0, 100, curves.POINTS).round().astype(int)
    everyone = np.mean([value(i, "gradcam") for i in range(N)], axis=0)
    assert drawn["gradcam"] == pytest.approx(everyone[at])
    assert drawn["weak"] == pytest.approx(np.mean([value(i, "weak") for i in range(1, N)], axis=0)[at])
    assert f"n = {N} at most" in first.caption


def test_curves_by_class_take_the_images_of_the_class(scores, findings):
    records = fabricated.records(N)
    _, by_class, _ = curves.drawings(findings, scores, records["predictions"])
    at = np.linspace(0, 100, curves.POINTS).round().astype(int)
    drawn = lines(by_class.figure, f"{fabricated.CLASSES[1]}\nn = {N // 3}")
    assert drawn["gradcam"] == pytest.approx(np.mean([value(i, "gradcam") for i in range(1, N, 3)], axis=0)[at])
    assert not set(drawn) & {"random", "centre", "edge"}


def test_the_band_is_the_interval_of_the_images(findings, scores):
    first = next(iter(curves.drawings(findings, scores, fabricated.records(N)["predictions"])))
    axes = first.figure.axes[0]
    found = interval(np.array([value(i, "gradcam")[50] for i in range(N)]), seed=0, resamples=curves.RESAMPLES)
    band = axes.collections[0].get_paths()[0].vertices
    ends = sorted(set(band[np.isclose(band[:, 0], 0.5), 1].round(6)))
    assert ends == pytest.approx([found.lo, found.hi], abs=1e-5)


def test_runs_without_curves_draw_none(findings, scores):
    nothing = dataclasses.replace(scores, curves=scores.curves.iloc[:0])
    assert list(curves.drawings(findings, nothing, fabricated.records(N)["predictions"])) == []


def test_a_difference_points_to_the_right_where_the_first_is_better(findings):
    (forest,) = differences.drawings(findings)
    axes = {axes.get_title(loc="left") + axes.get_title(): axes for axes in forest.figure.axes}
    for metric, sign in (("faith", 1), ("view_variance", -1)):
        pair = findings.pair("gradcam", "weak", metric)
        assert pair is not None
        points = [line for line in axes[metric].get_lines() if line.get_marker() == "o" and line.get_ydata()[0] == 1]
        assert points[0].get_xdata()[0] == pytest.approx(sign * pair.comparison.difference)
        assert (points[0].get_markerfacecolor() == "white") == (pair.winner == 0)
    assert "gini" not in axes, "never ranked"


def test_one_method_has_no_difference():
    alone = fabricated.scores(N, methods=fabricated.METHODS[:1])
    alone = dataclasses.replace(alone, methods=fabricated.METHODS[:1])
    assert list(differences.drawings(find(alone, seed=0))) == []


def test_cost_is_the_images_that_a_map_takes(findings):
    rise = fabricated.bound("explainer", "rise", {"forwards": "samples"}, {"samples": 500})
    occlusion = fabricated.bound("explainer", "occlusion", {"forwards": "windows"}, {"patch": 20, "stride": 10})
    single, fused = fabricated.METHODS[:2]
    assert map_passes(single, 224) == 1
    assert map_passes(dataclasses.replace(fused, views=fused.views * 6), 224) == 6
    assert map_passes(dataclasses.replace(single, explainer=rise), 224) == 500
    assert map_passes(dataclasses.replace(single, explainer=occlusion), 224) == 22**2
    assert map_passes(dataclasses.replace(single, of=(single, dataclasses.replace(single, explainer=rise))), 224) == 501
    assert map_passes(dataclasses.replace(single, explainer=None), 224) == 0
    assert list(cost.drawings(findings, 224)) == [], "all cost one pass"
    dear = tuple(dataclasses.replace(m, views=m.views * 6) if m.views else m for m in findings.methods)
    (figure,) = cost.drawings(dataclasses.replace(findings, methods=dear), 224)
    found = {str(line.get_label()): line.get_xydata()[0] for line in figure.figure.axes[0].get_lines()}
    assert found["gradcam"][0] == 1
    assert found[fabricated.FUSED][0] == 6


def test_agreement_is_the_mean_over_images_of_each_pair():
    rows = [
        {"image": str(i), "method_a": a, "method_b": b, "metric": "agreement_iou", "value": v + i / 100}
        for a, b, v in (("a", "b", 0.5), ("a", "c", 0.1), ("b", "c", 0.2))
        for i in range(3)
    ]
    (drawing,) = agreement.drawings(pd.DataFrame(rows))
    shown = np.asarray(drawing.figure.axes[0].get_images()[0].get_array().filled(np.nan))
    assert shown[0, 1] == shown[1, 0] == pytest.approx(0.51)
    assert np.isnan(np.diag(shown)).all()
    assert list(agreement.drawings(pd.DataFrame(rows).iloc[:0])) == []


@pytest.mark.parametrize(
    ("costs", "labelled"), [([1, 6, 8, 10, 50, 51, 100], [1, 6, 50]), ([3], [3]), ([1, 1000], [1, 1000])]
)
def test_labels_of_costs_do_not_meet(costs, labelled):
    assert cost._apart(costs) == labelled
