from dataclasses import replace

import fabricated
import numpy as np
import pandas as pd
import pytest
from fabricated import bound

from heatproof.base import stats
from heatproof.stages.report.findings import find


@pytest.fixture(scope="module")
def findings():
    return find(fabricated.scores(), seed=0)


def test_cells_are_means_over_defined_images(findings):
    table = fabricated.scores().table
    rows = table[(table["method"] == "weak") & (table["column"] == "loc_acc")]
    cell = findings.cells["weak", "loc_acc"]
    assert cell.interval.mean == pytest.approx(rows["value"].mean())
    assert cell.interval.n == rows["value"].notna().sum() == 31
    assert cell.undefined == {"no_mask": 16, "zero": 1}
    assert cell.rows == 48
    alone = stats.interval(rows["value"].to_numpy(), seed=0)
    assert (cell.interval.lo, cell.interval.hi) == pytest.approx((alone.lo, alone.hi))


def test_columns_know_their_part_and_baseline(findings):
    found = {column.name: (column.part, column.better, column.baseline) for column in findings.columns}
    assert found["faith"] == ("main", "up", None)
    assert found["view_variance"] == ("main", "down", None)
    assert found["loc_acc_chance"] == ("side", "neither", None)
    assert found["faith_mean_excess"] == ("excess", "up", "its shifted copies")
    assert found["loc_acc_excess"] == ("excess", "up", "chance")
    assert found["view_iou_excess"] == ("excess", "up", "other images' maps")


def test_controls_have_rows_and_shifted_copies_have_none(findings):
    assert [str(m.name) for m in findings.tested] == ["gradcam", fabricated.FUSED, "weak"]
    assert [str(m.name) for m in findings.controls] == ["random", "centre", "edge", f"blurred-{fabricated.FUSED}"]


def test_what_is_constant_by_construction_is_said_and_not_compared(findings):
    assert findings.cells["centre", "stability"].remark == "constant by construction"
    assert findings.cells["centre", "faith"].remark is None
    assert findings.cells["random", "stability"].remark is None
    assert findings.pair("gradcam", "centre", "stability") is None
    assert findings.pair("gradcam", "edge", "stability") is not None


def test_family_is_all_pairs_times_all_metrics_and_all_marks(findings):
    tested, ranked, reruns, excesses = 3, 11, 6, 11
    opponents = 3 + tested * 3 + 1
    assert len(findings.pairs) == opponents * ranked - tested * reruns + tested * excesses
    raw = np.array([pair.comparison.p for pair in findings.pairs])
    assert [pair.p_holm for pair in findings.pairs] == pytest.approx(list(stats.holm(raw)))
    assert not any(pair.metric == "gini" for pair in findings.pairs)
    assert not any(pair.method_b.startswith("shifted") for pair in findings.pairs)


def test_enough_resamples_for_the_family_to_reach_significance(findings):
    family = len(findings.pairs)
    assert min(pair.comparison.p for pair in findings.pairs) == pytest.approx(1 / (1 + 200 * family))


def test_known_truths_are_found(findings):
    assert findings.pair(fabricated.FUSED, "gradcam", "consist_iou").winner == 1
    assert findings.pair("gradcam", fabricated.FUSED, "consist_iou").winner == -1
    assert findings.pair(fabricated.FUSED, "gradcam", "view_variance").winner == 1
    assert findings.pair(fabricated.FUSED, "gradcam", "view_variance").comparison.difference < 0
    assert findings.pair("gradcam", fabricated.FUSED, "faith").winner == 0
    assert findings.mark("gradcam", "faith").winner == 1
    assert findings.mark("weak", "faith").winner == 0


def test_a_pair_turns_round(findings):
    one, other = (findings.pair(*names, "faith").comparison for names in (("gradcam", "weak"), ("weak", "gradcam")))
    assert (one.difference, one.lo, one.hi, one.p) == (-other.difference, -other.hi, -other.lo, other.p)


def test_nobody_wins_by_dropping_images():
    scores = fabricated.scores()
    table = scores.table
    few = (
        (table["method"] == "gradcam") & (table["metric"] == "faith") & table["image"].isin(table["image"].unique()[:4])
    )
    table.loc[few, ["value", "status"]] = [np.nan, "undefined:rerun"]
    pair = find(scores, seed=0).pair("gradcam", "random", "faith")
    assert pair.excludes_zero
    assert pair.p_holm < 0.05
    assert pair.winner == 0


def test_groups_are_units():
    alone, grouped = (find(fabricated.scores(groups=groups), seed=0) for groups in (False, True))
    assert (alone.grouped, grouped.grouped) == (False, True)
    table = fabricated.scores(groups=True).table
    rows = table[(table["method"] == "gradcam") & (table["column"] == "faith")]
    expected = stats.interval(rows["value"].to_numpy(), groups=list(rows["group"]), seed=0)
    found = grouped.cells["gradcam", "faith"].interval
    assert (found.lo, found.hi) == pytest.approx((expected.lo, expected.hi))
    assert found.lo != alone.cells["gradcam", "faith"].interval.lo


def test_intervals_stay_in_the_range_of_the_metric():
    scores = fabricated.scores(24)
    rows = (scores.table["method"] == "gradcam") & (scores.table["column"] == "consist_iou")
    scores.table.loc[rows, "value"] = np.where(np.arange(24) < 2, 0.2, 1.0)
    found = find(scores, seed=0).cells["gradcam", "consist_iou"].interval
    assert found.hi <= 1
    assert found.lo < found.mean < found.hi


def test_hits_take_wilson():
    scores = fabricated.scores(30)
    rows = scores.table["column"] == "view_iou"
    scores.table.loc[rows, "value"] = (np.arange(rows.sum()) % 3 == 0).astype(float)
    assert find(scores, seed=0).cells["gradcam", "view_iou"].interval.kind == "wilson"


def test_order_of_rows_does_not_matter(findings):
    scores = fabricated.scores()
    mixed = pd.concat([scores.table.iloc[:48], scores.table.iloc[48:].sample(frac=1, random_state=0)])
    found = find(type(scores)(**{**vars(scores), "table": mixed}), seed=0)
    for key, cell in findings.cells.items():
        assert found.cells[key].interval.mean == pytest.approx(cell.interval.mean, nan_ok=True)
        assert found.cells[key].interval.lo == pytest.approx(cell.interval.lo, nan_ok=True)


def test_an_explainer_that_perturbs_as_the_metric_does_is_not_compared():
    """Occlusion by 8 px on images of 32 px is the deletion of 4 x 4 cells; with another fill it is not."""
    made = fabricated.scores()
    settings = {"patch": 8, "stride": 8, "fill": "black"}
    occlusion = bound("explainer", "occlusion", {}, settings)
    metric = made.metrics[0].metric
    cells = replace(
        made.metrics[0],
        metric=bound("metric", metric.name, {**metric.facts, "same_as": "occlusion"}, {"grid": 4, "fill": "black"}),
    )
    for explainer, size, shared in (
        (occlusion, 32, True),
        (occlusion, 64, False),
        (occlusion, None, False),
        (bound("explainer", "occlusion", {}, settings | {"fill": "gray"}), 32, False),
        (bound("explainer", "rise", {}, settings), 32, False),
    ):
        methods = tuple(replace(m, explainer=explainer) if str(m.name) == "weak" else m for m in made.methods)
        found = find(replace(made, methods=methods, metrics=(cells, *made.metrics[1:])), seed=0, size=size)
        assert (found.cells["weak", "faith"].remark == "shares the perturbation") is shared
        assert found.cells["weak", "faith_mean"].remark is None
        assert (found.pair("weak", "gradcam", "faith") is None) is shared
        assert (found.mark("weak", "faith") is None) is shared
