"""Units that show a difference, against statsmodels' own solver and by simulation."""

import math

import numpy as np
import pytest
from scipy.stats import nct, t, ttest_1samp

from heatproof.stages.report.power import needed, units


def power(effect: float, n: float, alpha: float) -> float:
    """Of a two-sided one-sample t test, from the noncentral t distribution; the far tail is nothing here."""
    return float(nct.sf(t.isf(alpha / 2, n - 1), n - 1, effect * math.sqrt(n)))


@pytest.mark.parametrize("effect", [0.05, 0.2, 0.5, 0.8, 1.5, -0.5])
@pytest.mark.parametrize("alpha", [0.05, 0.05 / 135])
def test_so_many_units_are_enough_and_one_less_is_not(effect, alpha):
    found = units(effect, alpha)
    assert power(abs(effect), found, alpha) >= 0.8 > power(abs(effect), found - 1, alpha)


@pytest.mark.parametrize(("effect", "n"), [(0.2, 199), (0.5, 34), (0.8, 15)])
def test_units_are_those_of_cohens_tables(effect, n):
    """Paired t test, two-sided 0.05, power 0.8 (G*Power says the same)."""
    assert units(effect, 0.05) == n


def test_so_many_units_do_show_it_four_times_in_five():
    n = int(units(0.5, 0.05))
    rng = np.random.default_rng(0)
    shown = ttest_1samp(rng.normal(0.5, 1, (4000, n)), 0, axis=1).pvalue < 0.05
    assert shown.mean() == pytest.approx(0.8, abs=0.03)


def test_no_difference_needs_no_end_of_images():
    assert units(0, 0.05) == units(0.0001, 0.05) == math.inf
    assert units(50, 0.05) <= 3


def test_the_ends_of_the_interval_bound_what_is_needed():
    found = needed(0.5, 0.1, 0.02, 0.18, comparisons=10)
    assert found.least < found.family < found.most < math.inf
    assert found.alone < found.family
    assert found.family == units(0.5, 0.005)
    assert found.most == units(0.1, 0.005)
    turned = needed(-0.5, -0.1, -0.18, -0.02, comparisons=10)
    assert turned == found
    assert needed(0.5, 0.1, -0.02, 0.22, comparisons=10).most == math.inf
    assert needed(0.5, 0.1, math.nan, math.nan, comparisons=10).most == math.inf
