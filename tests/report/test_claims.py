"""Claims of a study: a verdict follows from the numbers, and changes when they do."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from heatproof.base import stats
from heatproof.base.study import Check, Claim
from heatproof.stages.report import study_runs
from heatproof.stages.report.claims import judge
from heatproof.stages.report.merge import Stored
from heatproof.stages.report.study_runs import runs_of

N = 40
BETTER = Claim("gradcam is more faithful than lime", 1, (Check("faith", "gradcam", "lime"),))


def run(folder: Path, means: dict[str, float], *, arm: str = "a", protocol: str = "sound", seed: int = 0) -> Stored:
    """A finished run whose `faith` scatters about the means by 0.1, images alike hard for all methods."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(7 + seed)
    hard = rng.normal(0, 0.3, N)
    frames = [
        pd.DataFrame({"image": [f"{i}.png" for i in range(N)], "group": None, "method": name, "column": "faith",
                      "value": mean + hard + rng.normal(0, 0.1, N), "status": "ok"})
        for name, mean in means.items()
    ]  # fmt: skip
    pd.concat(frames).to_parquet(folder / "scores.parquet")
    tested = [name for name in means if not name.startswith("blurred-")]
    methods = [{"name": name, "control_of": name.removeprefix("blurred-") if name not in tested else None,
                "alter": None if name in tested else "blurred"} for name in means]  # fmt: skip
    summary = {"tested": tested, "methods": {name: {} for name in means}, "seed": seed}
    return Stored(folder, summary, {"config": {"arm": arm, "protocol": protocol}, "methods": methods})


@pytest.fixture(autouse=True)
def fresh() -> None:
    study_runs._read.cache_clear()


def said(claim: Claim, *runs: Stored) -> str:
    (verdict,) = judge([claim], runs_of(runs), seed=0)
    return verdict.said


@pytest.mark.parametrize(("other", "verdict"), [(0.1, "holds"), (0.5, "cannot be told"), (0.9, "does not hold")])
def test_a_verdict_changes_when_the_numbers_do(tmp_path: Path, other: float, verdict: str) -> None:
    assert said(BETTER, run(tmp_path / "0", {"gradcam": 0.5, "lime": other})) == verdict


def test_the_deciding_figure_is_the_paired_difference(tmp_path: Path) -> None:
    made = run(tmp_path / "0", {"gradcam": 0.5, "lime": 0.3})
    (verdict,) = judge([BETTER], runs_of([made]), seed=0)
    first, second = (study_runs.values_of(made, name, "faith").to_numpy() for name in ("gradcam", "lime"))
    wanted = stats.compare(first, second, seed=0)
    assert verdict.outcomes[0].comparison.difference == pytest.approx(wanted.difference)
    assert verdict.outcomes[0].comparison.p == wanted.p
    assert f"{wanted.difference:+.2f} [{wanted.lo:.2f}, {wanted.hi:.2f}], n = {N}" in verdict.line
    assert verdict.line.startswith("1. gradcam is more faithful than lime: holds.")


def test_lower_and_margin(tmp_path: Path) -> None:
    made = run(tmp_path / "0", {"gradcam": 0.5, "lime": 0.52})
    lower = Claim("lower", checks=(Check("faith", "gradcam", "lime", expect="lower", margin=0.15),))
    close = Claim("not much worse", checks=(Check("faith", "gradcam", "lime", margin=0.15),))
    far = Claim("not much worse", checks=(Check("faith", "gradcam", "lime", margin=0.001),))
    assert [said(claim, made) for claim in (lower, close, far)] == ["holds", "holds", "cannot be told"]
    worse = run(tmp_path / "1", {"gradcam": 0.5, "lime": 0.9})
    plainly = replace(lower, checks=(replace(lower.checks[0], margin=0.0),))
    assert said(plainly, worse) == "holds"
    assert said(plainly, run(tmp_path / "2", {"gradcam": 0.5, "lime": 0.1})) == "does not hold"
    assert said(close, worse) == "does not hold"
    (verdict,) = judge([lower], runs_of([made]), seed=0)
    mean, lo, hi = verdict.outcomes[0].plain
    assert lo < mean < hi
    assert mean == pytest.approx(-0.02, abs=0.05), "the difference as it is, without turn and margin"


def test_all_arms_must_agree(tmp_path: Path) -> None:
    good = run(tmp_path / "0", {"gradcam": 0.5, "lime": 0.1})
    even = run(tmp_path / "1", {"gradcam": 0.5, "lime": 0.5}, arm="b")
    bad = run(tmp_path / "2", {"gradcam": 0.5, "lime": 0.9}, arm="c")
    assert said(BETTER, good) == "holds"
    assert said(BETTER, good, even) == "cannot be told"
    assert said(BETTER, good, even, bad) == "does not hold"
    only = replace(BETTER, checks=(replace(BETTER.checks[0], arm="a"),))
    assert said(only, good, even, bad) == "holds"


def test_one_arm_against_another_on_the_same_images(tmp_path: Path) -> None:
    claim = Claim("b beats a", checks=(Check("faith", "gradcam", arm="b", against_arm="a"),))
    a, b = (run(tmp_path / arm, {"gradcam": mean}, arm=arm) for arm, mean in (("a", 0.2), ("b", 0.5)))
    (verdict,) = judge([claim], runs_of([a, b]), seed=0)
    assert (verdict.said, verdict.outcomes[0].comparison.n) == ("holds", N)
    assert verdict.outcomes[0].what == "faith of gradcam, arm b against a"
    assert said(claim, a) == "cannot be told"


def test_the_blurred_single_view_and_the_single_view_are_found(tmp_path: Path) -> None:
    fused = "gradcam:robustcam6.mean"
    made = run(tmp_path / "0", {"gradcam": 0.2, fused: 0.5, f"blurred-{fused}": 0.5})
    single, blurred = (Claim("c", checks=(Check("faith", fused, word),)) for word in ("single", "blurred"))
    assert said(single, made) == "holds"
    assert said(blurred, made) == "cannot be told"


def test_seeds_widen_what_can_be_told(tmp_path: Path) -> None:
    """Three seeds that differ by more than they agree on show nothing, whatever the images say."""
    means = (0.1, 0.9, 0.45)
    runs = [run(tmp_path / str(i), {"gradcam": 0.5, "lime": m}, seed=i) for i, m in enumerate(means)]
    (verdict,) = judge([BETTER], runs_of(runs), seed=0)
    assert verdict.said == "cannot be told"
    assert "images x 3 seeds" in verdict.line
    steady = [run(tmp_path / f"s{i}", {"gradcam": 0.5, "lime": m}, seed=i) for i, m in enumerate((0.1, 0.12, 0.09))]
    assert said(BETTER, *steady) == "holds"
    two = [run(tmp_path / f"t{i}", {"gradcam": 0.5, "lime": m}, seed=i) for i, m in enumerate((0.0, 0.3))]
    (verdict,) = judge([BETTER], runs_of(two), seed=0)
    assert verdict.said == "cannot be told", "two seeds apart, however many images: Student's test of their means"


def test_many_claims_are_corrected_together(tmp_path: Path) -> None:
    made = run(tmp_path / "0", {"gradcam": 0.5, "lime": 0.452})
    alone = judge([BETTER], runs_of([made]), seed=0)[0]
    even = Claim("even", checks=tuple(Check("faith", "gradcam", 0.5 + i / 1000) for i in range(30)))
    both = judge([BETTER, even], runs_of([made]), seed=0)[0]
    assert both.outcomes[0].p_holm > alone.outcomes[0].p_holm


def test_what_nobody_ran_or_nobody_can_test_is_said(tmp_path: Path) -> None:
    made = run(tmp_path / "0", {"gradcam": 0.5})
    (verdict,) = judge([BETTER], runs_of([made]), seed=0)
    assert verdict.line.endswith("cannot be told. No finished run holds what it is about (faith of gradcam).")
    untested = Claim("maps are pretty", untested="Nothing measures it.")
    assert judge([untested], runs_of([made]), seed=0)[0].line == "maps are pretty: cannot be told. Nothing measures it."
