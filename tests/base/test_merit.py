"""Figures of merit against scikit-learn and torchmetrics, their intervals against closed forms and known truths."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from heatproof.base.merit import Judged, differences, figures, resampled, values, weighted
from heatproof.base.merit import _named as named
from heatproof.base.stats import wilson


def judged(n=80, k=3, *, seed=0, groups=None, positive=None, skill=0.1, decimals=2):
    """Predictions that are right more often than not, rounded so that there are ties."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, k, n)
    p = rng.dirichlet(np.ones(k), n).round(decimals) + 1e-9
    p[np.arange(n), labels] += skill
    p /= p.sum(1, keepdims=True)
    return Judged(labels, p, [f"c{i}" for i in range(k)], groups, positive)


def certain(labels, guesses, classes, groups=None):
    """A classifier that is sure of its guesses."""
    return Judged(np.array(labels), np.eye(len(classes))[guesses], classes, groups)


def taken(whole, rows):
    groups = None if whole.groups is None else whole.groups[rows]
    return Judged(whole.labels[rows], whole.p[rows], whole.classes, groups, whole.positive)


@pytest.mark.parametrize("positive", [None, 0, 1])
def test_values_of_two_classes_equal_scikit_learn(positive):
    one = judged(k=2, positive=positive)
    side = 1 if positive is None else positive
    truth, guess, p = one.labels == side, one.predicted == side, one.p[:, side]
    found = values(one)
    for name, wanted in {
        "accuracy": metrics.accuracy_score(truth, guess),
        "balanced_accuracy": metrics.balanced_accuracy_score(truth, guess),
        "sensitivity": metrics.recall_score(truth, guess),
        "specificity": metrics.recall_score(~truth, ~guess),
        f"precision_c{side}": metrics.precision_score(truth, guess),
        "weighted_f1": metrics.f1_score(truth, guess, average="weighted"),
        "roc_auc": metrics.roc_auc_score(truth, p),
        "pr_auc": metrics.average_precision_score(truth, p),
        "mcc": metrics.matthews_corrcoef(truth, guess),
        "brier": metrics.brier_score_loss(truth, p),
    }.items():
        assert found[name] == pytest.approx(wanted, abs=1e-12), name
    assert not any(name.startswith(("roc_auc_", "specificity_")) for name in found)


def test_values_of_more_classes_equal_scikit_learn():
    one = judged(k=4)
    truth, guess = one.labels, one.predicted
    found = values(one)
    binary = np.eye(4)[truth]
    for name, wanted in {
        "macro_precision": metrics.precision_score(truth, guess, average="macro"),
        "macro_f1": metrics.f1_score(truth, guess, average="macro"),
        "weighted_precision": metrics.precision_score(truth, guess, average="weighted"),
        "sensitivity": metrics.recall_score(truth, guess, average="macro"),
        "specificity": np.mean([(guess[truth != c] != c).mean() for c in range(4)]),
        "specificity_c2": (guess[truth != 2] != 2).mean(),
        "roc_auc": metrics.roc_auc_score(truth, one.p, multi_class="ovr"),
        "pr_auc": metrics.average_precision_score(binary, one.p, average="macro"),
        "pr_auc_c1": metrics.average_precision_score(truth == 1, one.p[:, 1]),
        "mcc": metrics.matthews_corrcoef(truth, guess),
        "brier": np.square(one.p - binary).sum(1).mean(),
    }.items():
        assert found[name] == pytest.approx(wanted, abs=1e-12), name
    assert found["weighted_recall"] == found["accuracy"]


def test_calibration_error_by_hand():
    p = np.array([[0.95, 0.05], [0.95, 0.05], [0.3, 0.7], [0.32, 0.68], [1.0, 0.0]])
    found = values(Judged(np.array([0, 1, 1, 1, 0]), p, ["a", "b"]))
    # Bins 14 (0.95, 0.95, 1.0: two of three right) and 10 (0.7, 0.68: both right).
    assert found["ece"] == pytest.approx((abs(2 - 2.9) + abs(2 - 1.38)) / 5)


@pytest.mark.slow  # torchmetrics takes seconds to import
@pytest.mark.parametrize("k", [2, 5])
def test_calibration_error_equals_torchmetrics(k):
    import torch
    from torchmetrics.functional.classification import multiclass_calibration_error

    one = judged(300, k, decimals=9)
    wanted = multiclass_calibration_error(
        torch.from_numpy(one.p), torch.from_numpy(one.labels), num_classes=k, n_bins=15, norm="l1"
    )
    assert values(one)["ece"] == pytest.approx(float(wanted), abs=1e-6)


@given(st.integers(0, 10_000), st.integers(2, 4), st.integers(2, 30))
@settings(max_examples=25, deadline=None)
def test_resampled_figures_are_those_of_the_drawn_images(seed, k, n):
    """The matrix products of the bootstrap say what scikit-learn says of the images that were drawn."""
    one = judged(n, k, seed=seed, decimals=1)
    rows = np.random.default_rng(seed).integers(0, n, n)
    weights = np.bincount(rows, minlength=n)[None].astype(float)
    made = named(one, weighted(one, weights))
    wanted = values(taken(one, rows))
    assert made.keys() == wanted.keys()
    for name, value in wanted.items():
        assert made[name][0] == pytest.approx(value, abs=1e-9, nan_ok=True), name


@pytest.mark.parametrize("k", [2, 4])
@pytest.mark.parametrize("grouped", [False, True])
def test_every_interval_holds_its_value(k, grouped):
    groups = np.random.default_rng(1).integers(0, 30, 80).astype(str) if grouped else None
    for name, figure in figures(judged(k=k, groups=groups), seed=0).items():
        assert figure["lo"] <= figure["value"] <= figure["hi"], name
        assert figure["hi"] > figure["lo"], name
        assert name == "mcc" or (figure["lo"] >= 0 and figure["hi"] <= (2 if name == "brier" else 1)), name


def test_shares_of_single_images_have_wilsons_interval_and_their_own_n():
    one = certain(np.repeat([0, 1], [30, 10]), np.r_[np.zeros(27, int), np.ones(13, int)], ["a", "b"])
    found = figures(one, seed=0)
    for name, share, n in (
        ("accuracy", 37 / 40, 40),
        ("recall_b", 1.0, 10),
        ("sensitivity", 1.0, 10),
        ("specificity", 27 / 30, 30),
        ("precision_b", 10 / 13, 13),
    ):
        assert (found[name]["lo"], found[name]["hi"]) == wilson(share, n), name
        assert found[name]["n"] == n, name


def test_a_faultless_classifier_is_not_certain():
    labels = np.arange(24) % 2
    for groups, n in ((None, 24), (np.repeat(list("abcdef"), 4), 6)):
        found = figures(certain(labels, labels, ["a", "b"], groups), seed=0)
        for name in ("accuracy", "balanced_accuracy", "macro_f1", "roc_auc", "pr_auc"):
            assert (found[name]["lo"], found[name]["hi"]) == wilson(1.0, n), name
        assert found["mcc"]["value"] == 1
        assert found["mcc"]["lo"] == pytest.approx(2 * wilson(1.0, n)[0] - 1)
        for name in ("brier", "ece"):
            assert (found[name]["lo"], found[name]["hi"]) == wilson(0.0, n), name


def test_images_of_one_patient_do_not_count_as_independent():
    rng = np.random.default_rng(0)
    patients = np.repeat(np.arange(20), 10)
    labels = rng.integers(0, 2, 20)[patients]
    right = (rng.random(20) < 0.7)[patients]
    guesses = np.where(right, labels, 1 - labels)
    widths = []
    for groups in (None, patients.astype(str)):
        figure = figures(certain(labels, guesses, ["a", "b"], groups), seed=0)["accuracy"]
        widths.append(figure["hi"] - figure["lo"])
    assert widths[1] > 2 * widths[0]


def test_a_class_without_images_is_undefined_and_nothing_else():
    found = figures(certain(np.zeros(10, dtype=np.int64), np.r_[np.zeros(8, int), 1, 1], ["a", "b", "c"]), seed=0)
    undefined = {name for name, figure in found.items() if math.isnan(figure["value"])}
    assert undefined == {
        *("roc_auc", "roc_auc_a", "roc_auc_b", "roc_auc_c", "pr_auc", "pr_auc_a", "pr_auc_b", "pr_auc_c", "mcc"),
        *("precision_c", "recall_b", "recall_c", "f1_c", "specificity_a"),
    }
    assert all(math.isnan(found[name]["lo"]) for name in undefined)
    assert found["balanced_accuracy"]["value"] == 0.8
    assert found["recall_b"]["n"] == 0


@pytest.mark.parametrize("k", [2, 3])
def test_a_single_image_is_enough(k):
    found = figures(judged(1, k), seed=0)
    assert found["accuracy"]["n"] == 1
    assert math.isnan(found["roc_auc"]["value"])
    assert 0 <= found["brier"]["lo"] < found["brier"]["hi"]


def test_intervals_are_seeded_and_take_any_seed():
    one = judged(50, 2)
    first = figures(one, seed=3)
    assert figures(one, seed=3) == first
    assert figures(one, seed=4)["roc_auc"]["lo"] != first["roc_auc"]["lo"]
    figures(one, seed=-1)


def test_blocks_of_resamples_change_nothing(monkeypatch):
    one = judged(40, 3)
    whole = resampled(one, seed=0)["roc_auc"]
    monkeypatch.setattr("heatproof.base.merit._CELLS", 900)
    assert np.array_equal(resampled(one, seed=0)["roc_auc"], whole)


def test_paired_differences_are_narrower_than_the_intervals_of_either():
    one = judged(200, 3)
    close = Judged(one.labels, one.p.copy(), one.classes)
    close.p[:20] = close.p[:20, ::-1]
    found, alone = differences(one, close, seed=0), figures(one, seed=0)
    for name in ("accuracy", "macro_f1", "roc_auc", "brier", "mcc"):
        assert found[name]["value"] == pytest.approx(values(one)[name] - values(close)[name])
        assert found[name]["hi"] - found[name]["lo"] < alone[name]["hi"] - alone[name]["lo"], name
    swapped = differences(close, one, seed=0)
    assert swapped["accuracy"]["value"] == -found["accuracy"]["value"]
    same = differences(one, one, seed=0)
    assert all((figure["lo"], figure["hi"]) == (0, 0) for figure in same.values())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["roc_auc", "mcc", "macro_f1", "brier", "balanced_accuracy"])
def test_intervals_cover_the_truth(name):
    """Of 200 samples of 100 images, at least 89 % of the intervals hold the figure of 200 000 images."""
    truth = values(judged(200_000, 3, seed=9, decimals=9))[name]
    held = [
        f["lo"] <= truth <= f["hi"]
        for f in (figures(judged(100, 3, seed=s, decimals=9), seed=s)[name] for s in range(200))
    ]
    assert np.mean(held) >= 0.89
