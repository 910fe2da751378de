import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats as scipy_stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from heatproof.base import stats

# Away from the rounding of subnormal numbers, which no metric has.
VALUES = st.floats(-10, 10).map(lambda value: round(value, 6))
COLUMN = arrays(np.float64, st.integers(2, 30), elements=VALUES)


def test_bca_equals_scipy_on_the_same_resamples():
    values = np.random.default_rng(0).exponential(size=150)
    found = stats.interval(values, seed=3)
    means = stats.resample(values[:, None], 3, stats.RESAMPLES)[:, 0] / len(values)
    like = type("Result", (), {"bootstrap_distribution": means})()
    expected = scipy_stats.bootstrap(
        (values,), np.mean, n_resamples=0, bootstrap_result=like, method="BCa", vectorized=True
    ).confidence_interval
    assert found.kind == "bca"
    assert (found.lo, found.hi) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_bca_counts_ties_half_like_scipy():
    values = np.repeat([0.0, 1.0], [117, 3])
    means = stats.resample(values[:, None], 1, stats.RESAMPLES)[:, 0] / len(values)
    like = type("Result", (), {"bootstrap_distribution": means})()
    expected = scipy_stats.bootstrap(
        (values,), np.mean, n_resamples=0, bootstrap_result=like, method="BCa", vectorized=True
    ).confidence_interval
    found = stats.interval(values, seed=1)
    assert (found.lo, found.hi) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_bootstrap_t_equals_a_slow_twin():
    values = np.random.default_rng(1).gamma(2.0, size=20)
    n, mean, error = 20, values.mean(), values.std(ddof=1) / np.sqrt(20)
    rng = np.random.default_rng((5, n))
    t = []
    for row in rng.integers(0, n, (stats.RESAMPLES, n)):
        drawn = values[row]
        t.append((drawn.mean() - mean) / (drawn.std(ddof=1) / np.sqrt(n)))
    found = stats.interval(values, seed=5)
    assert found.kind == "bootstrap-t"
    expected = mean - np.quantile(t, 0.975) * error, mean - np.quantile(t, 0.025) * error
    assert (found.lo, found.hi) == pytest.approx(expected, abs=1e-10)


def test_clusters_pool_the_images_of_drawn_groups():
    rng = np.random.default_rng(2)
    groups = np.repeat([f"patient {i}" for i in range(120)], rng.integers(1, 6, 120))
    values = rng.normal(size=len(groups))
    names = np.unique(groups)
    draws = np.random.default_rng((7, len(names))).integers(0, len(names), (400, len(names)))
    order = list(dict.fromkeys(groups))
    pooled = [np.concatenate([values[groups == order[g]] for g in row]).mean() for row in draws]
    moved = stats.resample(np.array([[values[groups == name].sum(), (groups == name).sum()] for name in order]), 7, 400)
    assert moved[:, 0] / moved[:, 1] == pytest.approx(np.array(pooled))
    jackknife = [values[groups != name].mean() for name in order]
    z0 = scipy_stats.norm.ppf(np.mean(np.array(pooled) < values.mean()))
    u = np.mean(jackknife) - np.array(jackknife)
    a = (u**3).sum() / (6 * (u**2).sum() ** 1.5)
    z = z0 + scipy_stats.norm.ppf([0.025, 0.975])
    ends = np.quantile(pooled, scipy_stats.norm.cdf(z0 + z / (1 - a * z)))
    found = stats.interval(values, groups=list(groups), seed=7, resamples=400)
    assert found.kind == "bca"
    assert (found.lo, found.hi) == pytest.approx(tuple(ends), abs=1e-10)


def test_bootstrap_t_of_clusters_equals_a_slow_twin():
    rng = np.random.default_rng(12)
    sizes = rng.integers(1, 7, 15)
    groups = np.repeat(np.arange(15), sizes)
    values = rng.exponential(size=len(groups))

    def mean_and_error(drawn):
        total = sum(sizes[g] for g in drawn)
        mean = sum(values[groups == g].sum() for g in drawn) / total
        squares = sum((values[groups == g].sum() - mean * sizes[g]) ** 2 for g in drawn)
        return mean, np.sqrt(15 / 14 * squares) / total

    mean, error = mean_and_error(range(15))
    t = []
    for row in np.random.default_rng((4, 15)).integers(0, 15, (500, 15)):
        moved, spread = mean_and_error(row)
        t.append((moved - mean) / spread)
    expected = mean - np.quantile(t, 0.975) * error, mean - np.quantile(t, 0.025) * error
    found = stats.interval(values, groups=list(groups), seed=4, resamples=500)
    assert (found.lo, found.hi) == pytest.approx(expected, abs=1e-10)


def test_images_of_one_patient_do_not_count_as_independent():
    rng = np.random.default_rng(3)
    levels = np.repeat(rng.normal(size=20), 4)
    groups = np.repeat(np.arange(20), 4)
    alone, grouped = stats.interval(levels, seed=0), stats.interval(levels, groups=list(groups), seed=0)
    assert grouped.mean == alone.mean
    assert grouped.hi - grouped.lo > 1.6 * (alone.hi - alone.lo)


def test_unknown_groups_are_units_of_their_own():
    values = np.random.default_rng(4).normal(size=12)
    assert stats.interval(values, groups=[None] * 12, seed=0) == stats.interval(values, seed=0)
    assert stats.interval(values, groups=[float("nan")] * 12, seed=0) == stats.interval(values, seed=0)


@pytest.mark.parametrize(("ones", "n"), [(0, 10), (3, 16), (40, 64), (64, 64)])
def test_wilson_equals_statsmodels(ones, n):
    values = (np.arange(n) < ones).astype(float)
    found = stats.interval(values, seed=0, binary=True)
    low, high = proportion_confint(ones, n, method="wilson")
    assert found.kind == "wilson"
    assert (found.lo, found.hi) == pytest.approx((low, high))


def test_wilson_of_identical_group_members_counts_groups():
    values = np.repeat([0.0, 1.0, 1.0, 0.0, 1.0, 0.0, 1.0, 1.0], 5)
    found = stats.interval(values, groups=list(np.repeat(np.arange(8), 5)), seed=0, binary=True)
    assert found.hi - found.lo > stats.wilson(0.625, 8)[1] - stats.wilson(0.625, 8)[0] - 0.03
    alone = stats.interval(np.ones(10), groups=list(np.repeat([0, 1], 5)), seed=0, binary=True)
    assert (alone.lo, alone.hi) == pytest.approx(stats.wilson(1.0, 2))


def test_small_and_degenerate_columns():
    empty = stats.interval(np.array([np.nan, np.nan]), seed=0)
    assert (empty.n, empty.kind) == (0, "none")
    assert np.isnan([empty.mean, empty.lo, empty.hi, empty.sd, empty.median]).all()
    one = stats.interval(np.array([0.4, np.nan]), seed=0)
    assert (one.mean, one.n, one.kind) == (0.4, 1, "none")
    assert np.isnan([one.lo, one.hi, one.sd]).all()
    same = stats.interval(np.full(9, 0.3), seed=0)
    assert (same.lo, same.hi, same.kind) == (0.3, 0.3, "constant")
    few = stats.interval(np.array([1.0, 2.0, 4.0]), seed=0)
    expected = scipy_stats.t.interval(0.95, 2, 7 / 3, scipy_stats.sem([1.0, 2.0, 4.0]))
    assert few.kind == "student-t"
    assert (few.lo, few.hi) == pytest.approx(expected)


def test_rounding_among_equal_values_does_not_run_away():
    """Two of 48 values differ; the others are equal but for a thousandth, as chance levels that depend on the mask."""
    values = np.full(48, 0.97) + 1e-3 * np.random.default_rng(0).normal(size=48)
    values[:2] = -0.03
    found = stats.interval(values, seed=0)
    assert found.kind == "bootstrap-t"
    assert 0.8 < found.lo < found.mean < found.hi < 1.01


def test_rare_values_keep_finite_ends_near_wilson():
    values = (np.arange(64) < 3).astype(float)
    found, (_, high) = stats.interval(values, seed=0), stats.wilson(3 / 64, 64)
    assert found.kind == "bootstrap-t"
    assert found.hi == pytest.approx(high, abs=0.03)


@pytest.mark.parametrize(("draw", "truth"), [(np.random.Generator.normal, 0.0), (np.random.Generator.exponential, 1.0)])
@pytest.mark.parametrize("n", [5, 16, 120])
def test_intervals_cover_the_truth(draw, truth, n):
    values = draw(np.random.default_rng(n), size=(n, 400))
    found = stats.intervals(values, seed=1, resamples=1000)
    covered = np.mean([i.lo <= truth <= i.hi for i in found])
    # Student's t on five exponential values covers 0.87: nothing that small does better.
    lowest = 0.83 if n == 5 else 0.90
    assert lowest <= covered <= 0.99


def test_columns_do_not_see_each_other():
    rng = np.random.default_rng(5)
    table = rng.normal(size=(30, 4))
    table[3, 1] = np.nan
    table[:, 2] = 1.0
    together = stats.intervals(table, seed=2)
    alone = [stats.interval(column, seed=2) for column in table.T]
    for a, b in zip(together, alone, strict=True):
        assert (a.kind, a.n) == (b.kind, b.n)
        assert (a.mean, a.lo, a.hi) == pytest.approx((b.mean, b.lo, b.hi), abs=1e-12)
    assert [i.n for i in together] == [30, 29, 30, 30]


@settings(deadline=None, max_examples=40)
@given(COLUMN, st.floats(0.1, 5), st.floats(-5, 5))
def test_intervals_move_with_the_values(values, scale, shift):
    a, b = stats.interval(values, seed=0, resamples=200), stats.interval(values * scale + shift, seed=0, resamples=200)
    if a.kind == b.kind:
        assert (b.lo, b.hi) == pytest.approx((a.lo * scale + shift, a.hi * scale + shift), abs=1e-6)


@settings(deadline=None, max_examples=40)
@given(COLUMN, st.integers(0, 3))
def test_intervals_are_ordered_and_seeded(values, seed):
    found = stats.interval(values, seed=seed, resamples=200)
    assert found == stats.interval(values, seed=seed, resamples=200)
    assert found.lo <= found.hi
    assert values.min() - 1e-9 <= found.mean <= values.max() + 1e-9


def test_sign_flip_equals_enumeration():
    rng = np.random.default_rng(6)
    for n in (1, 4, 9, 12):
        d = rng.normal(0.4, 1, n)
        flips = [
            abs(np.mean(np.array(signs) * d)) >= abs(d.mean()) - 1e-12 for signs in itertools.product((1, -1), repeat=n)
        ]
        assert stats.compare(d, np.zeros(n), seed=0).p == pytest.approx(np.mean(flips))


def test_sampled_sign_flip_is_near_the_exact_one():
    d = np.random.default_rng(7).normal(0.5, 1, 13)
    signs = np.array(list(itertools.product((1, -1), repeat=13)))
    exact = np.mean(np.abs(signs @ d) >= abs(d.sum()) - 1e-12)
    assert stats.compare(d, np.zeros(13), seed=0, resamples=40_000).p == pytest.approx(exact, abs=0.01)


def flipped_one_by_one(a, b, units, seed, resamples):
    """p of each column by its own differences, every unit's sign written out."""
    rng = np.random.default_rng((seed, len(units), 1))
    width = (len(units) + 7) // 8
    bits = np.unpackbits(np.frombuffer(rng.bytes(resamples * width), np.uint8).reshape(resamples, -1), axis=1)
    signs = np.where(bits[:, : len(units)] == 0, 1.0, -1.0)
    found = []
    for one, other in zip(a.T, b.T, strict=True):
        sums = np.array([np.nansum((one - other)[unit]) for unit in units])
        met = [abs(sum(row * sums)) >= abs(sums.sum()) - 1e-10 * abs(sums).sum() for row in signs]
        found.append((1 + sum(met)) / (1 + resamples))
    return found


@pytest.mark.parametrize("size", [1, 3])
def test_pairs_that_share_methods_are_flipped_like_their_own_differences(size):
    """Also where one method is defined on fewer images, two are equal but for rounding, and values tie."""
    rng = np.random.default_rng(13)
    table = rng.normal(size=(45, 5)).round(1)
    table[:, 1] += 0.3
    table[[4, 17], 2] = np.nan
    table[:, 4] = table[:, 3] + 1e-9 * rng.choice([-1.0, 0.0, 1.0], 45)
    pairs = np.array([*itertools.combinations(range(5), 2)])
    a, b = table[:, pairs[:, 0]], table[:, pairs[:, 1]]
    groups = np.arange(45) // size
    units = [np.flatnonzero(groups == number) for number in range(45 // size)]
    found = [one.p for one in stats.comparisons(a, b, groups=list(groups), seed=2, resamples=400)]
    assert found == flipped_one_by_one(a, b, units, 2, 400)


def test_sampled_p_is_never_zero():
    found = stats.compare(np.arange(1.0, 41.0), np.zeros(40), seed=0, resamples=999)
    assert found.p == pytest.approx(1 / 1000)


def test_groups_flip_as_a_whole():
    d = np.repeat([1.0, 1.0, 1.0], 20) + np.random.default_rng(8).normal(0, 0.01, 60)
    assert stats.compare(d, np.zeros(60), groups=["a"] * 20 + ["b"] * 20 + ["c"] * 20, seed=0).p == 0.25
    assert stats.compare(d, np.zeros(60), seed=0).p < 0.001


def test_the_least_p_of_few_units_is_known():
    found = stats.compare(np.ones(5), np.zeros(5), seed=0)
    assert found.p == found.smallest_p == 1 / 16
    grouped = stats.compare(np.ones(60), np.zeros(60), groups=["a"] * 20 + ["b"] * 20 + ["c"] * 20, seed=0)
    assert (grouped.units, grouped.p, grouped.smallest_p) == (3, 0.25, 0.25)
    assert stats.compare(np.ones(60), np.zeros(60), seed=0).smallest_p == 0


def test_comparison_pairs_on_common_images():
    a = np.array([1.0, 2.0, np.nan, 4.0, 6.0, 7.0, 5.0])
    b = np.array([0.5, np.nan, 9.0, 3.0, 6.5, 5.0, 5.0])
    found = stats.compare(a, b, seed=0)
    d = np.array([0.5, 1.0, -0.5, 2.0, 0.0])
    assert found.n == 5
    assert found.difference == pytest.approx(d.mean())
    assert found.d_z == pytest.approx(d.mean() / d.std(ddof=1))
    # Ranks of |d| without the zero: 0.5 and -0.5 share 1.5, then 3 and 4.
    assert found.rank_biserial == pytest.approx((1.5 + 3 + 4 - 1.5) / 10)


@pytest.mark.parametrize(("n", "decimals", "method"), [(9, 6, "exact"), (30, 6, "asymptotic"), (30, 1, "asymptotic")])
def test_wilcoxon_equals_scipy(n, decimals, method):
    d = np.random.default_rng(9).normal(0.3, 1, n).round(decimals)
    expected = scipy_stats.wilcoxon(d, method=method).pvalue
    assert stats.compare(d, np.zeros(n), seed=0).p_wilcoxon == pytest.approx(expected)


def test_comparison_of_equals_and_of_nothing():
    same = stats.compare(np.arange(20.0), np.arange(20.0), seed=0)
    assert (same.difference, same.p, same.p_wilcoxon, same.rank_biserial) == (0, 1, 1, 0)
    assert np.isnan(same.d_z)
    nothing = stats.compare(np.full(3, np.nan), np.ones(3), seed=0)
    assert nothing.n == 0
    assert np.isnan([nothing.difference, nothing.lo, nothing.p, nothing.p_wilcoxon]).all()


@settings(deadline=None, max_examples=30)
@given(arrays(np.float64, st.tuples(st.integers(2, 20), st.just(2)), elements=VALUES))
def test_comparison_turns_round(table):
    a, b = table.T
    one, other = stats.compare(a, b, seed=1, resamples=500), stats.compare(b, a, seed=1, resamples=500)
    assert one.p == other.p
    assert one.difference == pytest.approx(-other.difference)
    assert one.rank_biserial == pytest.approx(-other.rank_biserial, nan_ok=True)
    assert 0 < one.p <= 1


def test_null_p_values_are_level():
    rng = np.random.default_rng(10)
    found = stats.comparisons(rng.normal(size=(20, 600)), rng.normal(size=(20, 600)), seed=3, resamples=2000)
    assert 0.02 <= np.mean([c.p < 0.05 for c in found]) <= 0.085


@settings(deadline=None, max_examples=20)
@given(arrays(np.float64, st.integers(1, 20), elements=st.floats(0, 1)))
def test_holm_equals_statsmodels(p):
    assert stats.holm(p) == pytest.approx(multipletests(p, method="holm")[1])


def test_holm_leaves_undefined_p_out():
    assert stats.holm(np.array([0.01, np.nan, 0.04])) == pytest.approx([0.02, np.nan, 0.04], nan_ok=True)


def of_seeds(rng, k, n, between):
    """Values (seeds, images) around 0: an effect of the seed, one of the image, and noise."""
    return between * rng.normal(size=(k, 1)) + rng.normal(size=n) + 0.5 * rng.normal(size=(k, n))


def test_hierarchical_bootstrap_equals_a_slow_twin():
    rng = np.random.default_rng(0)
    values = of_seeds(rng, 4, 9, 1.0)
    values[2, 3] = np.nan
    found = stats.seeds_interval(values, seed=1, resamples=300)
    mean = np.mean([np.nanmean(row) for row in values])
    drawn_seeds = np.random.default_rng((1, 4, 2)).integers(0, 4, (300, 4))
    means = []
    for counts, seeds in zip(np.concatenate(list(stats.draws(9, 1, 300))), drawn_seeds, strict=True):
        images = np.repeat(np.arange(9), counts.astype(int))
        means.append(np.mean([np.nanmean(values[s, images]) for s in seeds]))
    stretched = mean + (np.array(means) - mean) * np.sqrt(4 / 3)
    assert found.mean == pytest.approx(mean)
    assert (found.lo, found.hi) == pytest.approx(tuple(np.quantile(stretched, [0.025, 0.975])))
    assert (found.n, found.kind) == (9, "hierarchical")


def test_one_seed_covers_images_and_says_so():
    values = np.random.default_rng(1).normal(size=(1, 30))
    found, alone = stats.seeds_interval(values, seed=0), stats.interval(values[0], seed=0)
    assert (found.lo, found.hi, found.kind) == (alone.lo, alone.hi, "one seed")


def test_seeds_that_differ_widen_the_interval():
    rng = np.random.default_rng(2)
    calm, wild = (stats.seeds_interval(of_seeds(rng, 6, 60, between), seed=0) for between in (0.0, 2.0))
    assert wild.hi - wild.lo > 2 * (calm.hi - calm.lo)
    assert wild.sd > 5 * calm.sd


def test_groups_are_drawn_whole_under_all_seeds():
    rng = np.random.default_rng(3)
    patients = np.repeat(of_seeds(rng, 3, 10, 0.1), 4, axis=1)
    groups = [i // 4 for i in range(40)]
    loose, tied = (stats.seeds_interval(patients, groups=g, seed=0) for g in (None, groups))
    assert tied.hi - tied.lo > 1.3 * (loose.hi - loose.lo)


def test_seeds_without_a_value_say_nothing():
    found = stats.seeds_interval(np.full((2, 4), np.nan), seed=0, resamples=50)
    assert found.n == 0
    assert np.isnan([found.mean, found.lo, found.hi, found.sd, found.median]).all()
