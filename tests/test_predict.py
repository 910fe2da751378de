import numpy as np
import pytest
import torch
import toy
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from heatproof.base.errors import HeatproofError
from heatproof.base.nets import as_classifier
from heatproof.stages.predict import predict, probabilities


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


@pytest.mark.parametrize(("positive", "number"), [(None, 1), ("c1", 1), ("c0", 0)])
def test_outcomes_of_two_classes_are_those_of_the_positive_one(positive, number):
    made = predicted(toy.samples(100, classes=2), positive=positive)
    assert made.positive == f"c{number}"
    for _, row in made.table.iterrows():
        right, guessed = row["label"] == row["predicted"], row["predicted"] == number
        assert row["outcome"] == ("T" if right else "F") + ("P" if guessed else "N")
    test = made.table[made.table["split"] == "test"]
    counts = test["outcome"].value_counts().reindex(["TP", "FN", "TN", "FP"], fill_value=0)
    assert made.figures["sensitivity"]["value"] == counts["TP"] / (counts["TP"] + counts["FN"])
    assert made.figures["specificity"]["value"] == counts["TN"] / (counts["TN"] + counts["FP"])


def test_both_held_out_splits_have_figures_of_their_own():
    made = predicted(toy.samples(100), split="train")
    for split, figures in (("test", made.figures), ("val", made.val_figures)):
        table = made.table[made.table["split"] == split]
        assert figures["accuracy"]["value"] == table["correct"].mean()
        assert figures["accuracy"]["n"] == len(table)
    assert made.seconds > 0
    assert made.positive is None


def test_images_of_a_group_are_drawn_together():
    samples = toy.samples(200)
    alone = predicted(samples).figures["brier"]
    samples.table["group"] = [f"patient {i // 20}" for i in range(200)]
    made = predicted(samples)
    assert made.table["group"].equals(samples.table["group"].iloc[made.table.index])
    assert made.figures["brier"]["value"] == alone["value"]
    assert made.figures["brier"]["lo"] != alone["lo"]


def test_other_splits_are_predicted_when_they_are_explained():
    made = predicted(toy.samples(50), split="train")
    assert set(made.table["split"]) == {"train", "val", "test"}
    assert set(made.explained) == set(range(30))


def test_without_labels_there_are_no_figures(tmp_path):
    made = predicted(toy.samples(50, labels=False))
    assert made.figures == made.val_figures == {}
    assert made.table["label"].isna().all()
    assert made.table["correct"].isna().all()
    assert made.table["outcome"].isna().all()
    assert made.table["predicted"].between(0, 2).all()
    made.table.to_parquet(tmp_path / "predictions.parquet")
    with pytest.raises(HeatproofError, match="only_correct: the data set has no labels"):
        predicted(toy.samples(50, labels=False), only_correct=True)


def test_a_positive_class_that_is_not_there_is_refused():
    with pytest.raises(HeatproofError, match=r"eval.positive: no such class, got 'c2'.*c0, c1"):
        predicted(toy.samples(50, classes=2), positive="c2")


def test_an_empty_split_names_those_that_have_images():
    samples = toy.samples(50)
    samples.table["split"] = samples.table["split"].replace("test", "val")
    with pytest.raises(HeatproofError, match=r"no images in this split, got 'test'\. There are: train, val\."):
        predicted(samples)


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


def test_some_images_are_explained_in_any_case():
    samples = toy.samples(200)
    chosen = predicted(samples, images=9).explained
    left = [row for row in range(160, 200) if row not in chosen][:2]
    names = [str(samples.table["image"][row]) for row in (*left, chosen[0])]
    assert predicted(samples, images=9, also=tuple(names)).explained.tolist() == sorted([*chosen, *left])
    with pytest.raises(HeatproofError, match=r"eval.also: no such image in the split 'test', got 'nosuch'"):
        predicted(samples, images=9, also=("nosuch",))


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
        ({"positive": "c1"}, "eval.positive: only of two classes one is positive"),
    ],
)
def test_impossible_choices_are_refused(settings, message):
    with pytest.raises(HeatproofError, match=message):
        predicted(toy.samples(50), **settings)
