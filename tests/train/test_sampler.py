import numpy as np
import pytest

from heatproof.stages.train.sampler import balanced, batches


def test_batches_hold_every_row_once_in_an_order_of_the_epoch():
    rows = np.arange(100, 117)
    first = list(batches(rows, 4, 0, 1))
    assert sorted(np.concatenate(first)) == list(rows)
    assert [len(some) for some in first] == [4, 4, 4, 5]  # no batch of one
    assert [some.tolist() for some in batches(rows, 4, 0, 1)] == [some.tolist() for some in first]
    assert np.concatenate(list(batches(rows, 4, 0, 2))).tolist() != np.concatenate(first).tolist()
    assert [len(some) for some in batches(rows[:1], 4, 0, 1)] == [1]


def test_a_balanced_epoch_holds_every_class_alike():
    rows = np.arange(200, 300)
    labels = np.repeat([0, 1, 3], [70, 25, 5])
    drawn = balanced(rows, labels, 0, 1)
    of = labels[drawn - 200]
    assert len(drawn) == 100
    assert sorted(np.unique(of, return_counts=True)[1]) == [33, 33, 34]
    rare = np.unique(drawn[of == 3], return_counts=True)[1]
    assert len(rare) == 5
    assert rare.max() - rare.min() <= 1
    frequent = np.unique(drawn[of == 0], return_counts=True)[1]
    assert frequent.max() == 1


def test_over_many_epochs_every_row_of_a_class_comes_alike():
    rows, labels = np.arange(40), np.repeat([0, 1], [30, 10])
    epochs = [balanced(rows, labels, 0, epoch) for epoch in range(1, 201)]
    counts = np.bincount(np.concatenate(epochs), minlength=40)
    assert counts[:30] == pytest.approx(200 * 20 / 30, rel=0.25)
    assert (counts[30:] == 400).all()
    assert epochs[0].tolist() == balanced(rows, labels, 0, 1).tolist() != epochs[1].tolist()
    assert balanced(rows, labels, 1, 1).tolist() != epochs[0].tolist()


def test_the_remainder_goes_round_the_classes():
    rows, labels = np.arange(10), np.arange(10) % 3
    counts = [np.bincount(labels[balanced(rows, labels, 0, epoch)]).tolist() for epoch in (1, 2, 3)]
    assert sorted(counts) == [[3, 3, 4], [3, 4, 3], [4, 3, 3]]
