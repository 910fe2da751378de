"""What the report says of a fusion's uncertainty and errors."""

import dataclasses

import fabricated
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from heatproof.base.merit import area_of
from heatproof.base.records import MetricChoice
from heatproof.stages.report.findings import find
from heatproof.stages.report.uncertainty import error_frame, lines

FACTS = {
    "better": "neither",
    "range": (0, 1000),
    "needs": ("spread",),
    "columns": ("uncertainty", "uncertainty_missed"),
}
CHOICE = MetricChoice("uncertainty", fabricated.bound("metric", "uncertainty", FACTS))


def told(uncertainty: np.ndarray, missed: np.ndarray, wrong: np.ndarray):
    """Scores of a run in which a fusion has these figures."""
    n = len(uncertainty)
    plain = fabricated.scores(n, methods=fabricated.METHODS[:2], metrics=fabricated.METRICS[:1])
    template = plain.table[(plain.table["method"] == fabricated.FUSED) & (plain.table["column"] == "faith")]
    rows = []
    for column, values in (("uncertainty", uncertainty), ("uncertainty_missed", missed)):
        status = np.where(np.isfinite(values), "ok", "undefined:nan")
        rows.append(template.assign(metric="uncertainty", column=column, value=values, status=status))
    table = pd.concat([plain.table, *rows], ignore_index=True)
    table["predicted"] = (table["label"] + np.tile(wrong.astype(int), len(table) // n)) % 3
    return dataclasses.replace(plain, table=table, metrics=(*plain.metrics, CHOICE))


def test_the_area_is_scikit_learns_over_the_images_that_are_known():
    rng = np.random.default_rng(0)
    n = 60
    wrong = rng.random(n) < 0.3
    uncertainty = rng.random(n).round(1) + 0.6 * wrong
    missed = np.where(rng.random(n) < 0.4, np.nan, rng.random(n) < 0.5)
    scores = told(uncertainty, missed, wrong)
    frame = error_frame(find(scores, seed=0), scores)
    assert list(frame["method"]) == [fabricated.FUSED] * 2
    first, second = frame.to_dict("records")
    assert first["uncertainty_error_auc"] == pytest.approx(roc_auc_score(wrong, uncertainty))
    known = np.isfinite(missed)
    assert second["uncertainty_error_auc"] == pytest.approx(roc_auc_score(missed[known], uncertainty[known]))
    assert (first["errors"], first["n"], second["n"]) == (wrong.sum(), n, known.sum())
    assert first["lo"] < first["uncertainty_error_auc"] < first["hi"]
    (line,) = lines(find(scores, seed=0), scores)
    assert line.startswith(f"{fabricated.FUSED}: its uncertainty is higher with a wrong prediction (AUC 0.")
    assert f"{wrong.sum()} of 60 images" in line


def test_no_error_is_no_figure():
    n = 12
    scores = told(np.linspace(0, 1, n), np.zeros(n), np.zeros(n, dtype=bool))
    frame = error_frame(find(scores, seed=0), scores)
    assert frame["uncertainty_error_auc"].isna().all()
    (line,) = lines(find(scores, seed=0), scores)
    assert "says nothing of a wrong prediction: 0 of 12 images have one" in line


def test_runs_without_the_metric_say_nothing():
    scores = fabricated.scores(8)
    assert error_frame(find(scores, seed=0), scores).empty
    assert list(lines(find(scores, seed=0), scores)) == []


def test_the_interval_covers_the_true_area():
    """Normal scores a standard deviation apart have area 0.760; 95 % intervals hold it 0.9 to 1 of the time."""
    held = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        positive = np.arange(80) < 30
        _, lo, hi = area_of(positive, rng.normal(size=80) + positive, None, seed=seed)
        held += lo <= 0.7602 <= hi
    assert held >= 52
