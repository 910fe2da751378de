"""Permuted labels: the same images and labels, put together by chance, and a training to its last epoch."""

import numpy as np
import toy

from heatproof.base.permuted import LEFT_OUT, permuted_labels, permuted_training
from heatproof.base.store import Store
from heatproof.stages.train import train


def test_labels_of_training_are_shuffled_and_validation_is_left_out():
    samples = toy.samples(60)
    made = permuted_labels(samples, 0)
    rows = samples.rows("train")
    before, after = (one.table["label"].to_numpy()[rows] for one in (samples, made))
    assert sorted(before) == sorted(after)
    assert np.mean(before == after) < 0.7  # a third by chance
    test = samples.rows("test")
    assert (samples.table["label"].to_numpy()[test] == made.table["label"].to_numpy()[test]).all()
    assert set(made.table["split"]) == {"train", "test", LEFT_OUT}
    assert made.data_hash != samples.data_hash
    assert samples.table["label"].tolist() == [i % 3 for i in range(60)]


def test_the_permutation_follows_the_seed_not_the_order_of_the_table():
    samples = toy.samples(60)
    assert permuted_labels(samples, 0).table.equals(permuted_labels(samples, 0).table)
    assert not permuted_labels(samples, 0).table.equals(permuted_labels(samples, 1).table)
    turned = toy.samples(60)
    turned.table.iloc[:] = samples.table.iloc[::-1].to_numpy()
    a, b = (permuted_labels(one, 0).table.set_index("image")["label"] for one in (samples, turned))
    assert a.sort_index().tolist() == b.sort_index().tolist()


def test_a_net_is_trained_on_them_to_the_last_epoch(tmp_path):
    settings = permuted_training(toy.training(epochs=3, patience=1, schedule="plateau", monitor="val_accuracy"))
    assert (settings.patience, settings.schedule, settings.monitor) == (0, "constant", "val_loss")
    made = train(permuted_labels(toy.samples(30), 0), toy.net(), settings, toy.CPU, Store(tmp_path), progress=False)
    assert len(made.history) == 3
    assert any("no validation images" in remark for remark in made.remarks)
