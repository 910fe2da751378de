import math

import numpy as np
import pytest
import torch
import toy
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    f1_score,
    precision_score,
    recall_score,
    roc_auc_score,
)
from torch import nn

from heatproof.base.errors import HeatproofError
from heatproof.base.nets import as_classifier
from heatproof.base.stats import wilson
from heatproof.stages.predict import classifier_figures, predict, probabilities


def classifier(samples, seed=0):
    torch.manual_seed(seed)
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, len(samples.classes) or 3)
    )
    classes = samples.classes or ("x", "y", "z")
    return as_classifier(net.eval(), samples.images(np.arange(1)), classes=classes)


def predicted(samples, *, seed=1, **settings):
    return predict(
        samples, classifier(samples), toy.evaluation(**settings), dataset_seed=seed, compute=toy.CPU, progress=False
    )


def test_the_table_says_what_the_net_says():
    samples = toy.samples(100)
    table = predicted(samples).table
    assert table["split"].tolist() == ["val"] * 20 + ["test"] * 20
    with torch.no_grad():
        p = classifier(samples).module(samples.images(table.index.to_numpy())).softmax(1)
    assert np.allclose(table[["p_c0", "p_c1", "p_c2"]], p, atol=1e-6)
    assert (table["predicted"] == p.argmax(1).numpy()).all()
    assert (table["correct"] == (table["predicted"] == table["label"])).all()
    assert (table["image"] == samples.table["image"][table.index]).all()
    assert table["outcome"].isna().all()


def test_probabilities_do_not_depend_on_the_batch():
    samples = toy.samples(150)
    net = classifier(samples)
    whole = probabilities(samples, net, np.arange(150), toy.CPU)
    assert np.allclose(whole[140:], probabilities(samples, net, np.arange(140, 150), toy.CPU), atol=1e-6)


def test_outcomes_of_two_classes_take_the_second_as_positive():
    table = predicted(toy.samples(100, classes=2)).table
    wanted = {(1, 1): "TP", (0, 0): "TN", (0, 1): "FP", (1, 0): "FN"}
    for _, row in table.iterrows():
        assert row["outcome"] == wanted[row["label"], row["predicted"]]


def test_other_splits_are_predicted_when_they_are_explained():
    made = predicted(toy.samples(50), split="train")
    assert set(made.table["split"]) == {"train", "val", "test"}
    assert set(made.explained) == set(range(30))


def test_without_labels_there_are_no_figures(tmp_path):
    made = predicted(toy.samples(50, labels=False))
    assert made.figures == {}
    assert made.table["label"].isna().all()
    assert made.table["correct"].isna().all()
    assert made.table["outcome"].isna().all()
    assert made.table["predicted"].between(0, 2).all()
    made.table.to_parquet(tmp_path / "predictions.parquet")
    with pytest.raises(HeatproofError, match="only_correct: the data set has no labels"):
        predicted(toy.samples(50, labels=False), only_correct=True)


def test_explained_images_are_stratified_nested_and_independent_of_the_net():
    samples = toy.samples(200)
    few, more = predicted(samples, images=9).explained, predicted(samples, images=30).explained
    assert len(few) == 9
    assert set(few) <= set(more)
    assert np.bincount(samples.table["label"][few]).tolist() == [3, 3, 3]
    assert (samples.table["split"][more] == "test").all()
    assert samples.table["image"][more].is_monotonic_increasing
    other = predict(
        samples, classifier(samples, 7), toy.evaluation(images=9), dataset_seed=1, compute=toy.CPU, progress=False
    )
    assert other.explained.tolist() == few.tolist()
    assert predicted(samples, images=9, seed=2).explained.tolist() != few.tolist()
    assert predicted(samples, images=1000).explained.tolist() == list(range(160, 200))


def test_only_correct_filters_first():
    samples = toy.samples(200)
    made = predicted(samples, images=5, only_correct=True)
    assert made.table.loc[made.explained, "correct"].all()
    assert len(made.explained) == 5


@given(st.integers(1, 5), st.integers(1, 40))
@settings(max_examples=10, deadline=None)
def test_shards_divide_the_explained_images(shards, images):
    samples = toy.samples(100)
    whole = predicted(samples, images=images).explained
    parts = [predicted(samples, images=images, shard=i, shards=shards).explained for i in range(shards)]
    assert sorted(np.concatenate(parts).tolist()) == sorted(whole.tolist())
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"shard": 2, "shards": 2}, "eval.shard: must lie in 0 .. 1"),
        ({"images": 0}, "eval.images"),
        ({"split": "tset"}, "Did you mean 'test'"),
    ],
)
def test_impossible_choices_are_refused(settings, message):
    with pytest.raises(HeatproofError, match=message):
        predicted(toy.samples(50), **settings)


@pytest.mark.parametrize("k", [2, 4])
@pytest.mark.parametrize("grouped", [False, True])
def test_figures_equal_scikit_learn(k, grouped):
    rng = np.random.default_rng(k)
    labels = rng.integers(0, k, 80)
    p = rng.dirichlet(np.ones(k), 80).round(2) + 1e-9  # rounded: ties
    p /= p.sum(1, keepdims=True)
    p[np.arange(80), labels] += 0.1
    p /= p.sum(1, keepdims=True)
    guess, names = p.argmax(1), [f"c{i}" for i in range(k)]
    groups = rng.integers(0, 30, 80).astype(str) if grouped else None
    figures = classifier_figures(labels, p, names, groups, seed=0)
    area = (
        roc_auc_score(labels, p[:, 1]) if k == 2 else np.mean([roc_auc_score(labels == i, p[:, i]) for i in range(k)])
    )
    wanted = {
        "accuracy": accuracy_score(labels, guess),
        "balanced_accuracy": balanced_accuracy_score(labels, guess),
        "macro_f1": f1_score(labels, guess, average="macro"),
        "roc_auc": area,
        **dict(zip([f"precision_{c}" for c in names], precision_score(labels, guess, average=None), strict=True)),
        **dict(zip([f"recall_{c}" for c in names], recall_score(labels, guess, average=None), strict=True)),
    }
    assert figures.keys() == wanted.keys()
    for name, value in wanted.items():
        assert figures[name]["value"] == pytest.approx(value, abs=1e-12), name
        assert figures[name]["lo"] <= value <= figures[name]["hi"], name
        assert figures[name]["n"] == 80


def test_resampled_figures_equal_scikit_learn_on_the_drawn_images():
    from heatproof.stages.predict import _areas, _figures

    rng = np.random.default_rng(0)
    labels, p = rng.integers(0, 3, 40), rng.dirichlet(np.ones(3), 40).round(1)
    rows = rng.integers(0, 40, 40)
    weights = np.bincount(rows, minlength=40)[None].astype(float)
    one_hot = np.zeros((40, 9))
    one_hot[np.arange(40), labels * 3 + p.argmax(1)] = 1
    made = _figures(weights @ one_hot, _areas(labels, p, weights), ["a", "b", "c"])
    assert made["macro_f1"][0] == pytest.approx(f1_score(labels[rows], p[rows].argmax(1), average="macro"))
    area = np.mean([roc_auc_score(labels[rows] == i, p[rows, i]) for i in range(3)])
    assert made["roc_auc"][0] == pytest.approx(area)


def test_shares_of_single_images_have_wilsons_interval():
    labels = np.repeat([0, 1], [30, 10])
    p = np.eye(2)[np.r_[np.zeros(27, int), np.ones(13, int)]]
    figures = classifier_figures(labels, p, ["a", "b"], seed=0)
    assert (figures["accuracy"]["lo"], figures["accuracy"]["hi"]) == wilson(37 / 40, 40)
    assert (figures["recall_b"]["lo"], figures["recall_b"]["hi"]) == wilson(1.0, 10)
    assert (figures["precision_b"]["lo"], figures["precision_b"]["hi"]) == wilson(10 / 13, 13)


def test_a_faultless_classifier_is_not_certain():
    labels = np.arange(24) % 2
    p = np.eye(2)[labels]
    for groups, n in ((None, 24), (np.repeat(list("abcdef"), 4), 6)):
        figures = classifier_figures(labels, p, ["a", "b"], groups, seed=0)
        for name in ("accuracy", "balanced_accuracy", "macro_f1", "roc_auc"):
            assert (figures[name]["lo"], figures[name]["hi"]) == wilson(1.0, n), name


def test_images_of_one_patient_do_not_count_as_independent():
    rng = np.random.default_rng(0)
    patients = np.repeat(np.arange(20), 10)
    labels = rng.integers(0, 2, 20)[patients]
    right = (rng.random(20) < 0.7)[patients]
    p = np.eye(2)[np.where(right, labels, 1 - labels)]
    widths = []
    for groups in (None, patients.astype(str)):
        figure = classifier_figures(labels, p, ["a", "b"], groups, seed=0)["accuracy"]
        widths.append(figure["hi"] - figure["lo"])
    assert widths[1] > 2 * widths[0]


def test_a_class_without_images_is_undefined_and_nothing_else():
    labels = np.zeros(10, dtype=np.int64)
    p = np.eye(3)[np.r_[np.zeros(8, int), 1, 1]]
    figures = classifier_figures(labels, p, ["a", "b", "c"], seed=0)
    undefined = {name for name, figure in figures.items() if math.isnan(figure["value"])}
    assert undefined == {"roc_auc", "precision_c", "recall_b", "recall_c"}
    assert all(math.isnan(figures[name]["lo"]) for name in undefined)
    assert figures["balanced_accuracy"]["value"] == 0.8


def test_intervals_are_seeded():
    rng = np.random.default_rng(0)
    labels, p = rng.integers(0, 2, 50), rng.dirichlet([1, 1], 50)
    first = classifier_figures(labels, p, ["a", "b"], seed=3)
    assert classifier_figures(labels, p, ["a", "b"], seed=3) == first
    assert classifier_figures(labels, p, ["a", "b"], seed=4)["roc_auc"]["lo"] != first["roc_auc"]["lo"]
