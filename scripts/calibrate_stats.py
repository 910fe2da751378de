"""How often the 95 % interval holds the truth, and how often a table in which nothing differs names a winner.

    python scripts/calibrate_stats.py                     # all of it, about 15 minutes on one core
    python scripts/calibrate_stats.py coverage --draws 400
    python scripts/calibrate_stats.py tables --tables 200

Coverage: samples of n values with a known mean, by kind of values; "clustered" are n images of n / 4 patients. Tables:
6 methods x 9 metrics on 64 images, a value = that of the image + noise of the method, so that no two methods differ; a
winner is named by the rule of the report (Holm over all pairs x metrics, interval excludes 0).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from heatproof.base.stats import LEVEL, RESAMPLES, comparisons, holm, intervals, seeds_interval

Draw = Callable[[np.random.Generator, int, int], np.ndarray]
SIZES = (16, 64, 220)
AT_ONCE = 50
METHODS, METRICS, IMAGES = 6, 9, 64
PER_PATIENT = 4
SEEDS = (2, 3, 5, 10)
ALPHA = 0.05


@dataclass(frozen=True)
class Kind:
    """Values of one kind: `draw(rng, n, k)` gives k samples (n, k) with that `mean`."""

    name: str
    mean: float
    draw: Draw
    binary: bool = False
    grouped: bool = False


def _clustered(rng: np.random.Generator, n: int, k: int) -> np.ndarray:
    patients = rng.normal(size=(n // PER_PATIENT, k))
    return np.repeat(patients, PER_PATIENT, axis=0) + rng.normal(size=(n, k))


def _binary(share: float) -> Draw:
    return lambda rng, n, k: (rng.random((n, k)) < share).astype(np.float64)


KINDS = (
    Kind("normal", 0.0, lambda rng, n, k: rng.normal(size=(n, k))),
    Kind("skewed (exponential)", 1.0, lambda rng, n, k: rng.exponential(size=(n, k))),
    Kind("skewed (log-normal)", float(np.exp(0.5)), lambda rng, n, k: rng.lognormal(size=(n, k))),
    Kind("binary, half", 0.5, _binary(0.5), binary=True),
    Kind("binary, rare (0.1)", 0.1, _binary(0.1), binary=True),
    Kind("clustered, 4 a patient", 0.0, _clustered, grouped=True),
)


def coverage(kind: Kind, n: int, draws: int, seed: int = 0) -> tuple[float, float, str]:
    """Share of samples whose interval holds the mean, the mean width, and how the intervals were made."""
    rng = np.random.default_rng((seed, n, KINDS.index(kind)))
    groups = [f"patient {i // PER_PATIENT}" for i in range(n)] if kind.grouped else None
    hits, widths, kinds = [], [], set()
    for start in range(0, draws, AT_ONCE):
        values = kind.draw(rng, n, min(AT_ONCE, draws - start))
        for found in intervals(values, groups=groups, seed=start, binary=kind.binary):
            hits.append(found.lo <= kind.mean <= found.hi)
            widths.append(found.hi - found.lo)
            kinds.add(found.kind)
    return float(np.mean(hits)), float(np.mean(widths)), "/".join(sorted(kinds))


def coverage_of_seeds(k: int, n: int, draws: int) -> tuple[float, float]:
    """Share of samples of k seeds x n images whose hierarchical interval holds the mean, and the mean width; seeds
    differ by sd 0.3, images by 1, and each value by 0.5."""
    rng = np.random.default_rng((k, n))
    hits, widths = [], []
    for start in range(draws):
        values = 0.3 * rng.normal(size=(k, 1)) + rng.normal(size=n) + 0.5 * rng.normal(size=(k, n))
        found = seeds_interval(values, seed=start, resamples=2000)
        hits.append(found.lo <= 0 <= found.hi)
        widths.append(found.hi - found.lo)
    return float(np.mean(hits)), float(np.mean(widths))


def names_a_winner(rng: np.random.Generator, seed: int, skewed: bool) -> tuple[bool, bool]:
    """Whether a table without differences names any winner by the rule, and whether by unadjusted p alone."""
    noise = rng.exponential(size=(IMAGES, METHODS, METRICS)) if skewed else rng.normal(size=(IMAGES, METHODS, METRICS))
    values = rng.normal(size=(IMAGES, 1, METRICS)) + noise
    pairs = [(a, b, metric) for a, b in combinations(range(METHODS), 2) for metric in range(METRICS)]
    first, second = (np.stack([values[:, pair[side], pair[2]] for pair in pairs], 1) for side in (0, 1))
    found = comparisons(first, second, seed=seed, resamples=max(RESAMPLES, 200 * len(pairs)))
    adjusted = holm(np.array([one.p for one in found]))
    excludes = np.array([one.lo > 0 or one.hi < 0 for one in found])
    return bool(((adjusted < ALPHA) & excludes).any()), any(one.p < ALPHA for one in found)


def _print_coverage(draws: int) -> None:
    print(f"coverage of the {LEVEL:.0%} interval, {draws} samples each (standard error at most "
          f"{np.sqrt(LEVEL * (1 - LEVEL) / draws):.3f}):")  # fmt: skip
    for kind in KINDS:
        for n in SIZES:
            share, width, how = coverage(kind, n, draws)
            print(f"  {kind.name:24s} n = {n:3d}  {share:.3f}  width {width:.3f}  {how}", flush=True)

    for k in SEEDS:
        share, width = coverage_of_seeds(k, IMAGES, draws)
        print(f"  {k:2d} seeds x {IMAGES} images{'':9s} {share:.3f}  width {width:.3f}  hierarchical", flush=True)


def _print_tables(tables: int) -> None:
    for skewed in (False, True):
        start = time.process_time()
        rng = np.random.default_rng(int(skewed))
        found = np.array([names_a_winner(rng, seed, skewed) for seed in range(tables // 2)])
        rule, plain = found.sum(0)
        print(f"null tables of {METHODS} methods x {METRICS} metrics, {IMAGES} images, "
              f"{'exponential' if skewed else 'normal'} noise: {rule} of {len(found)} name a winner "
              f"({plain} by unadjusted p), {(time.process_time() - start) / len(found):.2f} s each",
              flush=True)  # fmt: skip


def main() -> None:
    """Print what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=("coverage", "tables"), help="one of the two, both by default")
    parser.add_argument("--draws", type=int, default=1000, help="samples of each kind and size")
    parser.add_argument("--tables", type=int, default=1000, help="tables without differences, half of them skewed")
    asked = parser.parse_args()
    if asked.what != "tables":
        _print_coverage(asked.draws)
    if asked.what != "coverage":
        _print_tables(asked.tables)


if __name__ == "__main__":
    main()
