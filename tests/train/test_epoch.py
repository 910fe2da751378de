from dataclasses import replace

import numpy as np
import pytest
import torch
import toy
from test_loop import linear_task, run
from torch.nn import functional as F

from heatproof.base.errors import HeatproofError
from heatproof.stages.train.memory import Parts


def one_step(**settings):
    """Weights of the linear net after one step of plain descent on all 30 training images."""
    task, net, x = linear_task(val_rows=np.arange(0))
    run(task, toy.training(epochs=1, batch=64, optimizer="sgd", lr=1.0, **settings))
    return task, net, x


def by_hand(task, x, weight=None, smoothing=0.0):
    w, b = torch.zeros(3, 5, requires_grad=True), torch.zeros(3, requires_grad=True)
    rows = task.train_rows
    F.cross_entropy(x[rows] @ w.T + b, task.labels[rows], weight, label_smoothing=smoothing).backward()
    return -w.grad, -b.grad


@pytest.mark.parametrize("class_weights", [False, True])
def test_label_smoothing_equals_torch(class_weights):
    task, net, x = one_step(label_smoothing=0.2, class_weights=class_weights)
    counts = torch.bincount(task.labels[task.train_rows], minlength=3).float()
    weight = 40 / (3 * counts) if class_weights else None
    w, b = by_hand(task, x, weight, 0.2)
    assert net.weight.allclose(w, atol=1e-6)
    assert net.bias.allclose(b, atol=1e-6)
    assert not net.weight.allclose(by_hand(task, x, weight)[0], atol=1e-3)


def test_class_weights_change_the_step():
    task, net, x = one_step(class_weights=False)
    assert net.weight.allclose(by_hand(task, x)[0], atol=1e-6)


def test_balanced_sampling_trains_on_what_it_drew():
    seen = []
    task, _, _ = linear_task(labels=torch.tensor([0] * 24 + [1] * 4 + [2] * 2 + [0] * 10))
    seeing = replace(task, logits=lambda rows, epoch: (seen.append((epoch, rows)), task.logits(rows, epoch))[1])
    run(seeing, toy.training(epochs=2, balanced_sampling=True))
    for epoch in (1, 2):
        drawn = np.concatenate([rows for of, rows in seen if of == epoch])
        assert np.bincount(task.labels[drawn]).tolist() == [10, 10, 10]


def small_memory(task, most, passed):
    """The task on a device that holds `most` images at once."""

    def limited(rows, epoch):
        if len(rows) > most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        passed.append(len(rows))
        return task.logits(rows, epoch)

    return replace(task, logits=limited)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_a_batch_that_does_not_fit_passes_in_parts_with_the_same_result(smoothing):
    settings = toy.training(epochs=3, batch=16, optimizer="sgd", lr=0.5, label_smoothing=smoothing)
    whole, net, _ = linear_task()
    wanted = run(whole, settings)
    passed = []
    task, parted, _ = linear_task()
    found = run(small_memory(task, 5, passed), settings)
    assert parted.weight.allclose(net.weight, atol=1e-6)
    assert [e["train_loss"] for e in found.history] == pytest.approx([e["train_loss"] for e in wanted.history])
    assert [e["val_loss"] for e in found.history] == pytest.approx([e["val_loss"] for e in wanted.history])
    assert (wanted.part, found.part) == (None, 4)
    assert max(passed) == 4
    assert sum(passed) == 3 * 40


def test_one_image_that_does_not_fit_is_a_fault():
    task, _, _ = linear_task()
    with pytest.raises(HeatproofError, match=r"does not hold the net with a single image.*dataset.size"):
        run(small_memory(task, 0, []), toy.training())


def test_parts_hold_at_most_their_size_and_every_row():
    for n in (1, 7, 8, 9, 33):
        cut = Parts(8).cut(np.arange(n))
        assert np.concatenate(cut).tolist() == list(range(n))
        assert max(map(len, cut)) <= 8
        assert max(map(len, cut)) - min(map(len, cut)) <= 1
