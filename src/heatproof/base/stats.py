"""Means with intervals, paired comparisons and corrections for many of them.

Conventions: values lie along the first axis (images), columns are independent tables of the same images; NaN is an
undefined value and leaves its own column alone. A *unit* is what is drawn and flipped as a whole: a group (patient)
where `groups` names one, else the image itself. Everything is seeded and depends on nothing but its arguments.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

LEVEL = 0.95
RESAMPLES = 10_000
# Below this many units bootstrap-t divides by spreads of two or three values and its ends run away.
SMALL = 6
# A resample's standard error below this share of the data's own is no spread to divide by. In simulations (normal, t,
# exponential, log-normal, 0/1 with jitter; n = 16, 48) that costs hardly any coverage, and no end runs away.
SPREADLESS = 0.1
# From this many units on BCa is as good as bootstrap-t and respects the range of the values.
LARGE = 100
# Up to this many units all sign flips are enumerated.
EXACT = 12
# Rows of a resampling matrix at a time: bounds memory, not results.
_CELLS = 10_000_000
# Draws that fit into a processor's own cache.
_NEAR = 20_000


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean over `n` images with its 95 % interval; `sd` (ddof 1) and `median` describe the values.

    `kind` says how the interval was made: "bootstrap-t", "bca", "wilson", "student-t" (fewer than 6 units), "constant"
    (all values equal: the interval is that value and says nothing of other images), "none" (fewer than two units, both
    ends NaN), or, over several seeds, "hierarchical" and "one seed".
    """

    mean: float
    lo: float
    hi: float
    n: int
    sd: float
    median: float
    kind: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """A paired comparison a - b over the `n` images (of `units` groups) where both are defined.

    `p`: two-sided sign-flip permutation test; `p_wilcoxon`, `d_z` (mean / sd) and `rank_biserial` are taken over
    units, zeros dropped in the two that rank. NaN where undefined.
    """

    difference: float
    lo: float
    hi: float
    p: float
    p_wilcoxon: float
    d_z: float
    rank_biserial: float
    n: int
    units: int

    @property
    def smallest_p(self) -> float:
        """The least p that so few units can give: below 13 units all flips are known and two of them are extreme."""
        return 2.0 ** (1 - self.units) if 0 < self.units <= EXACT else 0.0


def interval(
    values: Array,
    *,
    groups: Sequence[object] | None = None,
    seed: int,
    binary: bool = False,
    resamples: int = RESAMPLES,
) -> Interval:
    """Mean, spread and 95 % interval of one column; see `intervals`."""
    column = np.asarray(values, dtype=np.float64)[:, None]
    return intervals(column, groups=groups, seed=seed, binary=binary, resamples=resamples)[0]


def intervals(
    values: Array,
    *,
    groups: Sequence[object] | None = None,
    seed: int,
    binary: bool = False,
    resamples: int = RESAMPLES,
) -> list[Interval]:
    """Mean, spread and 95 % interval of every column of `values` (images, columns).

    Fewer than 100 units: bootstrap-t, or Wilson for `binary` (0/1) values; else BCa. Groups are drawn whole and their
    images pooled; the standard error of that ratio is the usual linearised one and the jackknife leaves groups out.
    Wilson intervals of grouped values use the effective sample size. Equal binary values take Wilson at any n.

    Source: Efron & Tibshirani 1993, chapters 12 and 14; Wilson 1927; Korn & Graubard 1998 for the effective size.
    """
    table = np.asarray(values, dtype=np.float64)
    units = units_of(groups, len(table))
    result: list[Interval | None] = [None] * table.shape[1]
    for rows, columns in _patterns(np.isfinite(table)):
        part = table[np.ix_(rows, columns)]
        lo, hi, kinds = _ends(part, units[rows], seed, binary, resamples)
        n = len(rows)
        for i, column in enumerate(columns):
            result[column] = Interval(
                mean=float(part[:, i].mean()) if n else np.nan,
                lo=float(lo[i]),
                hi=float(hi[i]),
                n=n,
                sd=float(part[:, i].std(ddof=1)) if n > 1 else np.nan,
                median=float(np.median(part[:, i])) if n else np.nan,
                kind=kinds[i],
            )
    return [found for found in result if found is not None]


def compare(
    a: Array, b: Array, *, groups: Sequence[object] | None = None, seed: int, resamples: int = RESAMPLES
) -> Comparison:
    """The paired comparison of two columns; see `comparisons`."""
    first, second = (np.asarray(v, dtype=np.float64)[:, None] for v in (a, b))
    return comparisons(first, second, groups=groups, seed=seed, resamples=resamples)[0]


def comparisons(
    a: Array, b: Array, *, groups: Sequence[object] | None = None, seed: int, resamples: int = RESAMPLES
) -> list[Comparison]:
    """Paired comparisons of the columns of `a` with those of `b`, on the images where both are defined.

    p = (1 + hits) / (1 + resamples) over random sign flips of the units' summed differences, all flips enumerated up to
    12 units (then p = hits / flips, the unflipped one among them). The interval of the mean difference is that of
    `intervals`. Undefined (NaN) without a common image.
    """
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    with np.errstate(invalid="ignore"):  # inf - inf is an undefined value like any other
        differences = first - second
    units = units_of(groups, len(differences))
    means = intervals(differences, groups=groups, seed=seed)
    p = np.full(differences.shape[1], np.nan)
    made: list[tuple[float, float, float, int]] = [(np.nan, np.nan, np.nan, 0)] * differences.shape[1]
    for rows, columns in _patterns(np.isfinite(differences)):
        sums, sizes = _sums(differences[np.ix_(rows, columns)], units[rows])
        if 0 < len(sums) <= EXACT:
            p[columns] = _all_flips(sums)
        for i, column in enumerate(columns):
            alone = sums[:, i] / sizes
            made[column] = (*_ranked(alone), _d_z(alone), len(sums))
    many = np.array([row[-1] > EXACT for row in made], dtype=np.bool_)
    p[many] = _random_flips(first[:, many], second[:, many], differences[:, many], units, seed, resamples)
    return [
        Comparison(
            difference=found.mean,
            lo=found.lo,
            hi=found.hi,
            p=float(p[column]),
            p_wilcoxon=wilcoxon,
            d_z=d_z,
            rank_biserial=biserial,
            n=found.n,
            units=count,
        )
        for column, (found, (wilcoxon, biserial, d_z, count)) in enumerate(zip(means, made, strict=True))
    ]


def holm(p: Array) -> Array:
    """p values adjusted for their number by Holm's step-down rule; NaN stays NaN and is not counted.

    Source: Holm 1979.

    >>> holm(np.array([0.01, 0.04, 0.03])).round(2).tolist()
    [0.03, 0.06, 0.06]
    """
    given = np.asarray(p, dtype=np.float64)
    adjusted = np.full_like(given, np.nan)
    known = np.flatnonzero(~np.isnan(given))
    order = known[np.argsort(given[known], kind="stable")]
    steps = given[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return adjusted


def wilson(share: float, n: float) -> tuple[float, float]:
    """95 % interval of a share seen in n draws.

    >>> [round(end, 3) for end in wilson(0.0, 10)]
    [0.0, 0.278]
    """
    z = _quantile_of_normal((1 + LEVEL) / 2)
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, float(middle - half)), min(1.0, float(middle + half))


def resample(matrix: Array, seed: int, resamples: int) -> Array:
    """Column sums over units drawn with replacement: (units, columns) -> (resamples, columns).

    The draws depend on the number of units and the seed alone, so all columns see the same ones.
    """
    return np.concatenate([counts @ matrix for counts in draws(len(matrix), seed, resamples)])


def draws(units: int, seed: int, resamples: int, *, cells: int = _CELLS) -> Iterator[Array]:
    """How often each unit is drawn with replacement: blocks (b, units) of at most `cells` numbers, `resamples` rows in
    all. They depend on the number of units and the seed alone."""
    rng = np.random.default_rng((seed, units))
    for size in _blocks(resamples, units, cells):
        counts = np.empty((size, units))
        # A few rows at a time, so that what is drawn is counted while it is near: half the time of one call for all.
        step = max(1, _NEAR // units)
        for start in range(0, size, step):
            rows = counts[start : start + step]
            drawn = rng.integers(0, units, rows.shape) + units * np.arange(len(rows))[:, None]
            rows[:] = np.bincount(drawn.ravel(), minlength=rows.size).reshape(rows.shape)
        yield counts


def units_of(groups: Sequence[object] | None, n: int) -> NDArray[np.int64]:
    """Number of the unit of each image; an image whose group is unknown (None, NaN) is its own."""
    if groups is None:
        return np.arange(n)
    keys = [("image", i) if group is None or group != group else ("group", group) for i, group in enumerate(groups)]
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    return np.array([numbers[key] for key in keys], dtype=np.int64)


def _patterns(defined: NDArray[np.bool_]) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Rows and columns of each group of columns that are defined on the same images."""
    found: dict[bytes, list[int]] = {}
    for column in range(defined.shape[1]):
        found.setdefault(np.packbits(defined[:, column]).tobytes(), []).append(column)
    for columns in found.values():
        yield np.flatnonzero(defined[:, columns[0]]), np.array(columns)


def _sums(values: Array, units: NDArray[np.int64]) -> tuple[Array, Array]:
    """Sum of the values (units, columns) and number of images (units,) per unit."""
    numbers, index = np.unique(units, return_inverse=True)
    if len(numbers) == len(units):
        return values, np.ones(len(units))
    sums = np.zeros((len(numbers), values.shape[1]))
    np.add.at(sums, index, values)
    return sums, np.bincount(index).astype(np.float64)


def _blocks(rows: int, columns: int, cells: int = _CELLS) -> Iterator[int]:
    step = max(1, cells // max(1, columns))
    for start in range(0, rows, step):
        yield min(step, rows - start)


def _ends(
    values: Array, units: NDArray[np.int64], seed: int, binary: bool, resamples: int
) -> tuple[Array, Array, list[str]]:
    """Ends of the intervals of columns defined on the same images, and how each was made."""
    sums, sizes = _sums(values, units)
    columns = values.shape[1]
    lo, hi, kinds = np.full(columns, np.nan), np.full(columns, np.nan), ["none"] * columns
    if len(sums) < 2:
        return lo, hi, kinds
    means = values.mean(axis=0)
    constant = np.ptp(values, axis=0) == 0
    lo[constant] = hi[constant] = means[constant]
    kinds = ["constant" if equal else "none" for equal in constant]
    residuals = sums - means * sizes[:, None]
    errors = np.sqrt(len(sums) / (len(sums) - 1) * np.square(residuals).sum(axis=0)) / sizes.sum()
    if binary and (len(sums) < LARGE or constant.any()):
        for i in [i for i in range(columns) if len(sums) < LARGE or constant[i]]:
            lo[i], hi[i] = wilson(means[i], _effective_size(means[i], errors[i], len(values), len(sums)))
            kinds[i] = "wilson"
    rest = np.array([i for i, kind in enumerate(kinds) if kind == "none"], dtype=np.int64)
    if len(rest) == 0:
        return lo, hi, kinds
    make = _student if len(sums) < SMALL else _bootstrap_t if len(sums) < LARGE else _bca
    low, high = make(residuals[:, rest], sizes, errors[rest], seed, resamples)
    lo[rest], hi[rest] = means[rest] + low, means[rest] + high
    for i in rest:
        kinds[i] = {_student: "student-t", _bootstrap_t: "bootstrap-t", _bca: "bca"}[make]
    return lo, hi, kinds


def _effective_size(share: float, error: float, n: int, units: int) -> float:
    """Independent draws that carry as much as n grouped ones: at most n; the number of units where all are equal."""
    if units == n:
        return n
    return min(n, share * (1 - share) / error**2) if error > 0 else units


def _student(residuals: Array, sizes: Array, errors: Array, seed: int, resamples: int) -> tuple[Array, Array]:
    from scipy.stats import t

    half = t.ppf((1 + LEVEL) / 2, len(residuals) - 1) * errors
    return -half, half


def _bootstrap_t(residuals: Array, sizes: Array, errors: Array, seed: int, resamples: int) -> tuple[Array, Array]:
    """Ends relative to the mean. A resample without spread takes the smallest spread that any resample shows: dropping
    it would be blind to rare values, and a spread of 0 would put an end at infinity. Less than `SPREADLESS` of the
    standard error of the data counts as none, or rounding among equal values would put an end almost there."""
    columns, units = residuals.shape[1], len(residuals)
    weight = sizes[:, None]
    parts = resample(np.hstack([residuals, residuals**2, residuals * weight, weight, weight**2]), seed, resamples)
    first, second, mixed = (parts[:, i * columns : (i + 1) * columns] for i in range(3))
    images, squares = parts[:, -2:-1], parts[:, -1:]
    moved = first / images
    spread = second - 2 * moved * mixed + moved**2 * squares
    spread[spread <= 1e-9 * second] = np.nan
    with np.errstate(all="ignore"):
        scale = np.sqrt(units / (units - 1) * spread) / images
        scale[scale < SPREADLESS * errors] = np.nan
        smallest = np.fmin.reduce(scale, axis=0)
        t = moved / np.where(np.isnan(scale), smallest, scale)
    upper, lower = np.quantile(t, [(1 + LEVEL) / 2, (1 - LEVEL) / 2], axis=0)
    return -upper * errors, -lower * errors


def _bca(residuals: Array, sizes: Array, errors: Array, seed: int, resamples: int) -> tuple[Array, Array]:
    """Ends relative to the mean; ties with the mean count half, quantiles are linear."""
    from scipy.special import ndtr, ndtri

    units, images = len(residuals), sizes.sum()
    parts = resample(np.hstack([residuals, sizes[:, None]]), seed, resamples)
    moved = parts[:, :-1] / parts[:, -1:]
    moved[np.abs(moved) < 1e-12 * np.abs(residuals).max(axis=0)] = 0
    bias = ndtri(((moved < 0).mean(axis=0) + (moved <= 0).mean(axis=0)) / 2)
    left_out = -residuals / (images - sizes)[:, None]
    influence = (units - 1) * (left_out.mean(axis=0) - left_out)
    acceleration = (influence**3).sum(axis=0) / (6 * (influence**2).sum(axis=0) ** 1.5)
    ends = []
    for tail in ((1 - LEVEL) / 2, (1 + LEVEL) / 2):
        z = bias + ndtri(tail)
        at = ndtr(bias + z / (1 - acceleration * z))
        ends.append(np.array([np.quantile(moved[:, i], at[i]) for i in range(residuals.shape[1])]))
    return ends[0], ends[1]


def _bar(sums: Array) -> Array:
    """What a flipped sum must reach to count as extreme: flips that undo each other give the observed sum again up to
    rounding, and are hits."""
    return np.asarray(np.abs(sums.sum(axis=0)) - 1e-10 * np.abs(sums).sum(axis=0))


def _all_flips(sums: Array) -> Array:
    """Two-sided p of the summed differences (units, columns) under all flips of the units' signs."""
    units = np.arange(len(sums))
    signs = 1.0 - 2.0 * ((np.arange(2 ** len(sums))[:, None] >> units) & 1)
    return np.asarray((np.abs(signs @ sums) >= _bar(sums)).mean(axis=0))


def _random_flips(a: Array, b: Array, differences: Array, units: NDArray[np.int64], seed: int, resamples: int) -> Array:
    """Two-sided p of the differences a - b (images, columns) under random flips of the units' signs.

    All units are flipped, also those that a column is undefined on: there its difference is 0 and adds nothing. So the
    signs are drawn once for all columns.
    """
    known = np.isfinite(differences)
    sums, _ = _sums(np.where(known, differences, 0), units)
    minuend, subtrahend = (_sums(np.where(np.isfinite(side), side, 0), units)[0] for side in (a, b))
    together = ((known == np.isfinite(a)) & (known == np.isfinite(b))).all(0)
    parts, first, second = _shared(minuend, subtrahend, sums, together)
    bar = _bar(sums)
    of_byte = 1.0 - 2.0 * np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1)
    width = -(-len(sums) // 8)
    rng = np.random.default_rng((seed, len(sums), 1))
    hits = np.zeros(len(bar))
    for size in _blocks(resamples, max(8 * width, len(bar))):
        signs = of_byte[np.frombuffer(rng.bytes(size * width), dtype=np.uint8)].reshape(size, -1)
        flipped = np.ascontiguousarray((signs[:, : len(sums)] @ parts).T)
        for i, least in enumerate(bar):
            hits[i] += np.count_nonzero(np.abs(flipped[first[i]] - flipped[second[i]]) >= least)
    return np.asarray((1 + hits) / (1 + resamples))


def _shared(
    a: Array, b: Array, sums: Array, together: NDArray[np.bool_]
) -> tuple[Array, NDArray[np.int64], NDArray[np.int64]]:
    """Columns (units, k), and which two of them differ by each of `sums`: 10 methods make 45 pairs, but 10 columns.

    A sum is a column of its own where its two sides are not defined on the same images (`together`), or are so much
    alike that their rounding would not be small beside it.
    """
    found: dict[bytes, int] = {}
    columns: list[Array] = []

    def place(column: Array) -> int:
        number = found.setdefault(column.tobytes(), len(columns))
        if number == len(columns):
            columns.append(column)
        return number

    apart = np.abs(sums).sum(0) >= 1e-3 * (np.abs(a).sum(0) + np.abs(b).sum(0))
    nothing = np.zeros(len(sums))
    places = [
        (place(x), place(y)) if both else (place(d), place(nothing))
        for x, y, d, both in zip(a.T, b.T, sums.T, together & apart, strict=True)
    ]
    first, second = np.array(places, dtype=np.int64).reshape(-1, 2).T
    return np.array(columns).reshape(-1, len(sums)).T, first, second


def _ranked(differences: Array) -> tuple[float, float]:
    """Wilcoxon's signed-rank p (normal with tie correction; exact for few units without ties) and the matched-pairs
    rank-biserial r, zeros dropped."""
    from scipy.special import ndtr
    from scipy.stats import rankdata, wilcoxon

    moved = differences[differences != 0]
    if len(moved) == 0:
        return (np.nan, np.nan) if len(differences) == 0 else (1.0, 0.0)
    ranks = rankdata(np.abs(moved))
    biserial = float((ranks * np.sign(moved)).sum() / ranks.sum())
    counts = np.unique(ranks, return_counts=True)[1]
    if len(moved) <= EXACT and counts.max() == 1:
        return float(wilcoxon(moved, method="exact").pvalue), biserial
    n = len(moved)
    variance = n * (n + 1) * (2 * n + 1) / 24 - (counts**3 - counts).sum() / 48
    z = abs(ranks[moved > 0].sum() - n * (n + 1) / 4) / np.sqrt(variance)
    return float(2 * ndtr(-z)), biserial


def _d_z(differences: Array) -> float:
    spread = differences.std(ddof=1) if len(differences) > 1 else 0.0
    return float(differences.mean() / spread) if spread > 0 else np.nan


def _quantile_of_normal(share: float) -> float:
    from statistics import NormalDist

    return NormalDist().inv_cdf(share)


def seeds_interval(
    values: Array, *, groups: Sequence[object] | None = None, seed: int, resamples: int = RESAMPLES
) -> Interval:
    """Mean of `values` (seeds, images) with a 95 % interval that covers both seeds (trainings, draws) and images.

    Hierarchical bootstrap: seeds are drawn with replacement, then images (whole groups where `groups` names them), the
    same images for all seeds drawn, as the same images were explained under each. Images that a seed leaves undefined
    do not count for it. With one seed the interval covers images alone, and says so ("one seed"). `n` counts images
    that some seed is defined on; `sd` is that of the seeds' means. Percentiles of the resamples are stretched about the
    mean by sqrt(k / (k - 1)) for k seeds: a bootstrap of few seeds sees (k - 1) / k of their variance.
    Source: Davison & Hinkley 1997, section 3.8.
    """
    table = np.asarray(values, dtype=np.float64)
    table = table[np.isfinite(table).any(1)]
    k = len(table)
    if k < 2:
        alone = table[0] if k else np.full(np.shape(values)[1], np.nan)
        return replace(interval(alone, groups=groups, seed=seed, resamples=resamples), kind="one seed" if k else "none")
    known = np.isfinite(table)
    units = units_of(groups, table.shape[1])
    sums, _ = _sums(np.where(known, table, 0).T, units)
    sizes, _ = _sums(known.T.astype(np.float64), units)
    means = sums.sum(0) / sizes.sum(0)
    mean = float(means.mean())
    rng = np.random.default_rng((seed, k, 2))
    made = []
    for counts in draws(len(sums), seed, resamples):
        chosen = rng.integers(0, k, (len(counts), k))
        with np.errstate(invalid="ignore"):
            of_seed = np.take_along_axis((counts @ sums) / (counts @ sizes), chosen, 1)
        # A seed that is undefined on all images drawn does not count.
        defined = np.isfinite(of_seed)
        with np.errstate(invalid="ignore"):
            made.append(np.where(defined, of_seed, 0).sum(1) / defined.sum(1))
    moved = (np.concatenate(made) - mean) * np.sqrt(k / (k - 1)) + mean
    lo, hi = np.nanquantile(moved, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    some = known.any(0)
    median = float(np.median(np.nanmean(table[:, some], axis=0)))
    return Interval(mean, float(lo), float(hi), int(some.sum()), float(means.std(ddof=1)), median, "hierarchical")
