"""Curves against scikit-learn's areas, bands against known truths."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from heatproof.base.curves import GRID, precision_recall, reliability, roc
from heatproof.base.stats import wilson


def scored(n=120, seed=0):
    rng = np.random.default_rng(seed)
    positive = rng.random(n) < 0.4
    return positive, np.clip(0.3 * positive + 0.7 * rng.random(n), 0, 1).round(2)


def test_areas_under_the_curves_are_scikit_learns():
    positive, p = scored()
    curve = roc(positive, p, seed=0)
    assert np.trapezoid(curve.y, curve.x) == pytest.approx(roc_auc_score(positive, p))
    curve = precision_recall(positive, p, seed=0)
    assert (np.diff(curve.x) * curve.y[1:]).sum() == pytest.approx(average_precision_score(positive, p))


@pytest.mark.parametrize("make", [roc, precision_recall])
def test_bands_hold_the_curve_and_narrow_with_images(make):
    widths = []
    for n in (60, 600):
        curve = make(*scored(n), seed=0)
        assert curve.lo.shape == curve.hi.shape == GRID.shape
        inner = slice(20, 80)
        drawn = np.interp(GRID, curve.x, curve.y)
        assert np.mean((curve.lo <= drawn + 0.05) & (drawn - 0.05 <= curve.hi)) > 0.95
        widths.append((curve.hi - curve.lo)[inner].mean())
    assert widths[1] < widths[0] / 2


def test_precision_recall_of_a_resample_steps_at_its_thresholds():
    """With one threshold there is one precision at every recall."""
    positive = np.array([True, False, True, False])
    curve = precision_recall(positive, np.full(4, 0.5), np.array(["a", "a", "b", "b"]), seed=0)
    assert np.allclose(curve.lo, 0.5)
    assert np.allclose(curve.hi, 0.5)


def test_groups_widen_the_band():
    positive, p = scored(40)
    alone = roc(positive.repeat(5), p.repeat(5), seed=0)
    grouped = roc(positive.repeat(5), p.repeat(5), [f"patient {i // 5}" for i in range(200)], seed=0)
    assert (grouped.hi - grouped.lo).mean() > 1.5 * (alone.hi - alone.lo).mean()


def test_reliability_by_hand():
    p = np.array([0.01, 0.02, 0.5, 0.5, 0.5, 1.0])
    found = reliability(np.array([False, False, True, True, False, True]), p, seed=0)
    assert found.n.tolist() == [2, 3, 1]
    assert found.p == pytest.approx([0.015, 0.5, 1.0])
    assert found.share == pytest.approx([0, 2 / 3, 1])
    assert (found.lo[1], found.hi[1]) == pytest.approx(wilson(2 / 3, 3))
    assert (found.lo[0], found.hi[0]) == pytest.approx(wilson(0, 2))


@pytest.mark.parametrize("make", [roc, precision_recall])
def test_one_kind_alone_makes_no_curve(make):
    with pytest.raises(ValueError, match="positives and negatives"):
        make(np.ones(5, dtype=bool), np.linspace(0, 1, 5), seed=0)
