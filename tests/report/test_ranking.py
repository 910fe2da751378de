"""Ranks in the report: by mean, best first, and the method that metrics differ on most."""

import fabricated
import matplotlib
import numpy as np
import pytest
from scipy.stats import spearmanr

from heatproof.stages.report import ranking
from heatproof.stages.report.drawing import STYLE, save
from heatproof.stages.report.findings import find


@pytest.fixture(scope="module")
def findings():
    return find(fabricated.scores(), seed=0)


def test_methods_are_ranked_by_mean_and_direction(findings):
    frame = ranking.rank_frame(findings).set_index("method")
    assert "gini" not in frame.columns  # neither side is better
    assert set(frame.index) == {"gradcam", fabricated.FUSED, "weak"}
    assert frame.loc[fabricated.FUSED, "view_variance"] == 1  # the smallest
    assert frame.loc["weak", "faith"] == 3
    assert list(frame["average rank"]) == sorted(frame["average rank"])
    columns = [column.name for column in ranking.ranked_columns(findings)]
    np.testing.assert_allclose(frame["average rank"], frame[columns].mean(axis=1))


def test_correlations_are_those_of_the_means(findings):
    frame = ranking.correlation_frame(findings).set_index("metric")
    means = {
        name: [findings.cells[str(m.name), name].interval.mean for m in findings.tested]
        for name in ("faith", "view_variance")
    }
    assert frame.loc["faith", "view_variance"] == pytest.approx(-spearmanr(*means.values()).statistic)


def test_one_line_says_how_far_metrics_agree(findings):
    (line,) = ranking.line(findings)
    assert "Kendall's W = 0." in line
    assert "of 3 methods" in line


def test_two_methods_have_no_agreement_to_speak_of():
    methods = tuple(m for m in fabricated.METHODS if str(m.name) != "weak" and m.control_of != "weak")
    findings = find(fabricated.scores(methods=methods), seed=0)
    few = type(findings)(**{**{f: getattr(findings, f) for f in findings.__dataclass_fields__}, "methods": methods})
    assert list(ranking.line(few)) == []
    assert ranking.correlation_frame(few).empty
    assert len(ranking.rank_frame(few)) == 2


def test_the_figure_shows_ranks_and_correlations(findings, tmp_path):
    with matplotlib.rc_context(fname=STYLE):
        (drawing,) = ranking.drawings(findings)
        save(drawing.figure, [tmp_path / "ranks.png"])
    left, right = drawing.figure.axes[:2]
    assert [text.get_text() for text in left.get_yticklabels()] == list(ranking.rank_frame(findings)["method"])
    assert len(right.get_xticklabels()) == len(ranking.ranked_columns(findings))
    assert "Kendall's W" in drawing.caption
