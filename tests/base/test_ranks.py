"""Ranks of methods by metrics against scipy, and who disagrees by hand."""

import numpy as np
import pytest
from scipy.stats import friedmanchisquare, spearmanr

from heatproof.base.ranks import concordance, rank_correlation, ranks


def drawn(seed=0, methods=6, metrics=5, ties=False):
    scores = np.random.default_rng(seed).normal(size=(methods, metrics))
    return scores.round(0) if ties else scores


@pytest.mark.parametrize("ties", [False, True])
def test_kendalls_w_and_its_p_are_friedmans(ties):
    scores = drawn(3, ties=ties)
    statistic, p = friedmanchisquare(*scores)
    found = concordance(scores)
    assert found.w == pytest.approx(statistic / (5 * (6 - 1)))
    assert found.p == pytest.approx(p)
    assert (found.methods, found.metrics) == (6, 5)


def test_w_is_1_for_one_order_and_0_for_opposite_ones():
    up = np.arange(4.0)
    assert concordance(np.stack([up, up**3, up - 9], 1)).w == pytest.approx(1)
    assert concordance(np.stack([up, -up], 1)).w == pytest.approx(0)


def test_w_takes_the_methods_that_all_metrics_rank():
    scores = drawn()
    scores[2, 1] = np.nan
    assert concordance(scores) == concordance(np.delete(scores, 2, 0))
    assert np.isnan(concordance(scores[:1]).w)
    assert np.isnan(concordance(scores[:, :1]).w)
    assert np.isnan(concordance(np.ones((3, 2))).w)


@pytest.mark.parametrize("ties", [False, True])
def test_correlations_are_scipys_over_the_methods_that_both_rank(ties):
    scores = drawn(1, ties=ties)
    scores[0, 2] = np.nan
    found = rank_correlation(scores)
    for i in range(5):
        for j in range(5):
            both = np.isfinite(scores[:, [i, j]]).all(1)
            assert found[i, j] == pytest.approx(spearmanr(scores[both, i], scores[both, j]).statistic)
    assert np.isnan(rank_correlation(scores[:3])[0, 2])  # two methods have no order to compare


def test_ranks_start_with_the_best_and_leave_out_what_is_undefined():
    found = ranks(np.array([[3.0, np.nan], [5.0, 1.0], [3.0, 2.0]]))
    np.testing.assert_array_equal(found, [[2.5, np.nan], [1, 2], [2.5, 1]])
