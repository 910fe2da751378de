from dataclasses import replace

import fabricated
import numpy as np
import pytest

from heatproof.stages.report.findings import find
from heatproof.stages.report.tables import notes
from heatproof.stages.report.verdicts import marks, verdicts


@pytest.fixture(scope="module")
def lines():
    return verdicts(find(fabricated.scores(), seed=0), fabricated.records()["predictions"])


def starting(lines, start):
    return [line for line in lines if line.startswith(start)]


def test_a_faithful_method_is_called_better_than_both_controls(lines):
    (line,) = starting(lines, "gradcam: faith ")
    assert "better than its own shifted map (road +" in line
    assert ", better than a central map (road +" in line
    assert line.endswith("n = 48.")


def test_a_method_that_is_no_better_than_its_shifted_copies_is_told_so(lines):
    (line,) = starting(lines, "weak: faith ")
    assert "faith not better than its own shifted map" in line
    assert "weak: faith better" not in line


def test_localisation_is_held_against_random_and_centre(lines):
    (line,) = starting(lines, "gradcam: loc_acc")
    assert "better than random" in line
    assert "better than a central map" in line
    assert "not" not in line
    (line,) = starting(lines, "weak: loc_acc")
    assert "not better than a central map" in line


def test_a_fusion_is_held_against_its_single_and_its_blurred_view(lines):
    (line,) = starting(lines, f"{fabricated.FUSED} against its single view")
    assert "better in consist_iou (+" in line
    assert "view_variance (-" in line
    (line,) = starting(lines, f"{fabricated.FUSED} against its blurred single view")
    assert "better in" in line
    assert not starting(lines, "gradcam against")


def test_a_control_that_is_not_blurred_is_called_the_single_view():
    methods = tuple(replace(m, blur_px=0.0) if m.alter == "blurred" else m for m in fabricated.METHODS)
    findings = find(replace(fabricated.scores(), methods=methods), seed=0)
    (line,) = starting(verdicts(findings), f"{fabricated.FUSED} against its blurred single view")
    assert "this control is the single view itself" in line
    wanted = f"blurred-{fabricated.FUSED} is gradcam itself (blur 0 px)"
    assert any(note.startswith(wanted) for note in notes(findings, protocol="sound"))
    blurred = tuple(replace(m, blur_px=2.5) if m.alter == "blurred" else m for m in fabricated.METHODS)
    found = notes(replace(findings, methods=blurred), protocol="sound")
    assert f"blurred-{fabricated.FUSED} is gradcam blurred with a Gaussian of sd 2.5 px." in found


def test_a_winner_is_named_only_where_one_is_shown(lines):
    (best,) = starting(lines, "Best of 3 methods")
    assert f"{fabricated.FUSED} in consist_iou" in best
    assert "faith" not in best
    assert any(line.startswith("Between methods") and " faith, faith_mean" in line for line in lines)


def test_one_seed_is_said_to_be_one(lines):
    assert lines[-1].startswith("One seed (seed = 0): the intervals cover images")


def test_classifier_stands_first_and_a_poor_one_is_called_poor(lines):
    assert lines[0].startswith("Classifier: accuracy 0.9")
    assert "explain little" not in lines[0]
    predictions = fabricated.records()["predictions"]
    predictions.figures["accuracy"].update(value=0.4, lo=0.3, hi=0.5)
    line = verdicts(find(fabricated.scores(), seed=0), predictions)[0]
    assert "not shown to beat naming the most frequent class (0.33): its maps explain little" in line


def changed(column, method, value):
    scores = fabricated.scores()
    rows = (scores.table["column"] == column) & (scores.table["method"] == method)
    scores.table.loc[rows, "value"] += value
    return verdicts(find(scores, seed=0))


def test_fills_that_disagree_leave_it_undecided():
    (line,) = starting(changed("faith_mean_excess", "gradcam", -0.36), "gradcam: faith ")
    assert "undecided against its own shifted map, the fills disagree" in line


def test_a_winner_on_one_fill_alone_is_not_named():
    lines = changed("faith", "gradcam", 0.4)
    assert "faith" not in " ".join(starting(lines, "Best of 3 methods"))
    assert "no best of 3 methods shown in faith, faith_mean" in " ".join(lines)


def test_a_winner_that_is_no_better_than_its_shifted_copies_is_told_so():
    (line,) = starting(changed("consist_iou_excess", fabricated.FUSED, -2), "Best of 3 methods")
    assert "n = 48; yet not better than other images' maps)" in line


def test_a_fusion_that_only_blurs_is_told_so():
    lines = changed("stability", f"blurred-{fabricated.FUSED}", 0.14)
    (line,) = starting(lines, f"{fabricated.FUSED} against its blurred single view")
    assert "no difference shown in stability" in line
    (best,) = starting(lines, "Best of 3 methods")
    assert best.count("yet not better than its blurred single view") == 1


def test_one_fill_is_no_verdict():
    scores = fabricated.scores()
    metrics = tuple(choice for choice in scores.metrics if choice.label != "faith_mean")
    table = scores.table[scores.table["metric"] != "faith_mean"]
    lines = verdicts(find(type(scores)(**{**vars(scores), "metrics": metrics, "table": table}), seed=0))
    (line,) = starting(lines, "gradcam: faith ")
    assert "on one fill alone (road), which is no verdict" in line


def test_four_images_show_nothing():
    lines = verdicts(find(fabricated.scores(4), seed=0))
    said = " ".join(lines)
    assert "Best of" not in said
    assert "faith better than" not in said
    assert "not shown to be better than" in said or "not better than" in said
    assert "Too few images (n = 4): with 158 comparisons in the table the least adjusted p is 1," in said


def test_enough_images_are_not_called_too_few(lines):
    assert not starting(lines, "Too few")


def test_masks_that_are_missing_everywhere_are_said():
    scores = fabricated.scores()
    rows = scores.table["metric"] == "loc_acc"
    scores.table.loc[rows, "value"] = np.nan
    scores.table.loc[rows, "status"] = "undefined:no_mask"
    (line,) = starting(verdicts(find(scores, seed=0)), "gradcam: loc_acc")
    assert line == "gradcam: loc_acc undefined on every image (no_mask)."


def test_marks_name_what_is_not_passed():
    findings = find(fabricated.scores(), seed=0)
    assert marks(findings, "gradcam") == ()
    assert "faith: not better than its shifted copies" in marks(findings, "weak")


def test_pure_noise_names_no_winner():
    """Twenty tables without any difference: with Holm over the whole table at most a few name anybody."""
    rng = np.random.default_rng(0)
    named = 0
    for seed in range(20):
        scores = fabricated.scores(20, seed=seed, methods=fabricated.METHODS[:3])
        scores.table["value"] = np.where(scores.table["status"] == "ok", rng.normal(0, 0.1, len(scores.table)), np.nan)
        found = find(scores, seed=seed)
        named += any(pair.winner for pair in found.pairs)
    assert named <= 4
