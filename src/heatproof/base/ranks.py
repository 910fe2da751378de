"""Where metrics disagree about methods, and about whom: ranks, their correlation, and one figure for all metrics.

Conventions: `scores` (methods, metrics), larger = better (turn metrics round whose better side is down), NaN =
undefined. Rank 1 is the best; ties share their mean rank. A method that a metric is undefined for has no rank there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Concordance:
    """Kendall's W of the metrics over the `methods` that all of them rank: 1 = all agree, 0 = no more than opposite
    orders would; `p` of the chi-square approximation (metrics that rank at random); NaN with fewer than two methods or
    metrics."""

    w: float
    p: float
    methods: int
    metrics: int


def ranks(scores: Array) -> Array:
    """Rank of each method under each metric, (methods, metrics), 1 = best, mid-ranks for ties, NaN where undefined.

    >>> ranks(np.array([[0.9], [0.1], [0.9]])).ravel().tolist()
    [1.5, 3.0, 1.5]
    """
    from scipy.stats import rankdata

    given = np.asarray(scores, dtype=np.float64)
    return np.asarray(rankdata(-given, axis=0, nan_policy="omit"), dtype=np.float64)


def rank_correlation(scores: Array) -> Array:
    """Spearman's rho between metrics, (metrics, metrics), over the methods that both rank.

    NaN where fewer than three methods are ranked by both, or all of them alike by one.
    """
    given = np.asarray(scores, dtype=np.float64)
    count = given.shape[1]
    found = np.full((count, count), np.nan)
    for i in range(count):
        for j in range(i, count):
            both = np.isfinite(given[:, [i, j]]).all(1)
            if both.sum() >= 3:
                a, b = ranks(given[both][:, [i, j]]).T
                if np.ptp(a) > 0 and np.ptp(b) > 0:
                    found[i, j] = found[j, i] = np.corrcoef(a, b)[0, 1]
    return found


def concordance(scores: Array) -> Concordance:
    """Kendall's W with the correction for ties: `12 S / (m^2 (n^3 - n) - m T)`.

    S: sum of squared deviations of the methods' rank sums, m metrics, n methods, T = sum over metrics of t^3 - t over
    groups of t tied methods. Source: Kendall & Babington Smith 1939; Siegel & Castellan 1988, section 9.6.
    """
    from scipy.special import gammaincc

    given = np.asarray(scores, dtype=np.float64)
    table = ranks(given[np.isfinite(given).all(1)])
    n, m = table.shape
    if n < 2 or m < 2:
        return Concordance(np.nan, np.nan, n, m)
    squares = float(np.square(table.sum(1) - m * (n + 1) / 2).sum())
    counts = [np.unique(column, return_counts=True)[1] for column in table.T]
    ties = float(sum((count**3 - count).sum() for count in counts))
    most = m**2 * (n**3 - n) - m * ties
    if most <= 0:
        return Concordance(np.nan, np.nan, n, m)
    w = 12 * squares / most
    # The survival function of chi-square with n - 1 degrees of freedom.
    return Concordance(w, float(gammaincc((n - 1) / 2, m * (n - 1) * w / 2)), n, m)
