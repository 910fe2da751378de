import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import toy
from torch import nn
from torch.nn import functional as F

from heatproof.base.errors import HeatproofError
from heatproof.stages.train.epoch import Task, balanced_weights
from heatproof.stages.train.loop import fit
from heatproof.stages.train.sampler import batches


def run(task, settings, folder=None):
    return fit(lambda _phase: task, settings, folder, progress=False)


def linear_task(n=40, features=5, classes=3, val=10, seed=0, **changes):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, features, generator=generator)
    labels = (x @ torch.randn(features, classes, generator=generator)).argmax(1)
    module = nn.Linear(features, classes)
    nn.init.zeros_(module.weight)
    nn.init.zeros_(module.bias)
    settings = {
        "parameters": tuple(module.parameters()),
        "weights": module.state_dict(),
        "logits": lambda rows, _epoch: module(x[rows]),
        "learning": module.train,
        "labels": labels,
        "images": np.array([f"image{i}" for i in range(n)]),
        "train_rows": np.arange(n - val),
        "val_rows": np.arange(n - val, n),
        "num_classes": classes,
    }
    return Task(**{**settings, **changes}), module, x


def test_the_loop_equals_adam_written_out_by_hand():
    task, net, x = linear_task()
    settings = toy.training(epochs=3, lr=0.05, batch=7)
    fitted = run(task, settings)

    x, labels = x.double(), task.labels
    counts = torch.bincount(labels[:30], minlength=3).double()
    weight = 30 / (3 * counts)
    w, b = torch.zeros(3, 5).double(), torch.zeros(3).double()
    moments = [torch.zeros_like(value) for value in (w, w, b, b)]
    step, best = 0, (math.inf, None)
    for epoch in (1, 2, 3):
        for rows in batches(task.train_rows, 7, 0, epoch):
            step += 1
            p = (x[rows] @ w.T + b).softmax(1)
            share = weight[labels[rows]] / weight[labels[rows]].sum()
            error = (p - F.one_hot(labels[rows], 3)) * share[:, None]
            for value, m, v, gradient in ((w, *moments[:2], error.T @ x[rows]), (b, *moments[2:], error.sum(0))):
                m.mul_(0.9).add_(0.1 * gradient)
                v.mul_(0.999).add_(0.001 * gradient**2)
                value -= 0.05 * (m / (1 - 0.9**step)) / ((v / (1 - 0.999**step)).sqrt() + 1e-8)
        loss = F.cross_entropy(x[30:] @ w.T + b, labels[30:], weight).item()
        assert fitted.history[epoch - 1]["val_loss"] == pytest.approx(loss, abs=1e-5)
        if loss < best[0]:
            best = (loss, w.clone())
    assert net.weight.double().allclose(best[1], atol=1e-5)


def test_class_weights_are_n_over_k_times_n_c():
    labels = torch.tensor([0, 0, 0, 1, 2, 2])
    task, _, _ = linear_task(labels=labels, train_rows=np.arange(6), val_rows=np.arange(0))
    assert balanced_weights(task).allclose(torch.tensor([6 / 9, 6 / 3, 6 / 6]))


class Scripted(nn.Module):
    """Learns nothing; its validation accuracy follows a script."""

    def __init__(self, script):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.epoch_seen = nn.Buffer(torch.zeros(1))
        self.script, self.epoch = script, 0


def scripted_task(script, n=10):
    module = Scripted(script)

    def logits(rows, epoch):
        if epoch is not None:
            module.epoch = epoch
            module.epoch_seen.fill_(epoch)
            return module.weight * torch.ones(len(rows), 2)
        right = torch.arange(len(rows)) < round(script[module.epoch - 1] * len(rows))
        return torch.stack([right.float(), 1 - right.float()], 1)

    rows, labels = np.arange(n), torch.zeros(n, dtype=torch.int64)
    weights = module.state_dict()
    return Task(logits, module.train, (module.weight,), weights, labels, rows.astype(str), rows, rows, 2), module


@pytest.mark.parametrize(
    ("patience", "epochs", "best"),
    [(2, 4, 2), (3, 5, 2), (4, 6, 6), (0, 6, 6)],
)
def test_early_stopping_restores_the_best_epoch(patience, epochs, best):
    task, net = scripted_task([0.3, 0.6, 0.6, 0.5, 0.5, 0.9])
    settings = toy.training(epochs=6, batch=16, patience=patience, monitor="val_accuracy", class_weights=False)
    fitted = run(task, settings)
    assert len(fitted.history) == epochs
    assert fitted.best_epoch == best
    assert net.epoch_seen.item() == best
    assert [entry["val_accuracy"] for entry in fitted.history] == [0.3, 0.6, 0.6, 0.5, 0.5, 0.9][:epochs]


def test_recall_of_monitored_classes_decides_which_epoch_is_kept():
    found = {}
    for monitored in ((0,), (2,)):
        task, net, x = linear_task(n=60, val=30, monitored=monitored)
        fitted = run(task, toy.training(epochs=8, batch=16, lr=0.05, monitor="val_recall"))
        recalls = [entry["val_recall"] for entry in fitted.history]
        assert fitted.best_epoch == 1 + int(np.argmax(recalls))
        of_class = task.labels[task.val_rows] == monitored[0]
        hits = net(x[task.val_rows]).argmax(1)[of_class] == monitored[0]
        assert hits.double().mean().item() == pytest.approx(max(recalls))
        found[monitored] = recalls
    assert found[(0,)] != found[(2,)]


def test_without_validation_images_the_last_epoch_is_kept():
    task, _, _ = linear_task(val_rows=np.arange(0))
    fitted = run(task, toy.training(epochs=4, patience=1))
    assert (fitted.best_epoch, len(fitted.history)) == (4, 4)
    assert math.isnan(fitted.history[0]["val_loss"])


def test_a_loss_that_is_not_finite_names_the_images():
    task, _, x = linear_task()
    x[4] = math.inf
    with pytest.raises(HeatproofError, match=r"loss of a batch in epoch 1 is not finite.*image4.*train.lr"):
        run(task, toy.training())
    task, _, x = linear_task()
    x[35] = math.nan
    with pytest.raises(HeatproofError, match=r"validation loss of epoch 1 is not finite.*image30"):
        run(task, toy.training())


def test_gradients_are_clipped():
    moved = {}
    for clip in (None, 1e-3):
        task, net, _ = linear_task(val_rows=np.arange(0))
        run(task, toy.training(epochs=1, batch=64, optimizer="sgd", lr=1.0, clip_norm=clip))
        moved[clip] = math.hypot(net.weight.norm().item(), net.bias.norm().item())
    assert moved[1e-3] == pytest.approx(1e-3, rel=1e-3)
    assert moved[None] > 0.1


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_a_training_that_is_resumed_ends_with_the_same_bits(tmp_path, optimizer):
    task, whole, _ = linear_task()
    settings = toy.training(epochs=6, optimizer=optimizer, weight_decay=0.01)
    run(task, settings)
    task, part, _ = linear_task()
    run(task, toy.training(epochs=3, optimizer=optimizer, weight_decay=0.01), tmp_path)
    task, rest, _ = linear_task()
    nn.init.ones_(rest.weight)
    fitted = run(task, settings, tmp_path)
    assert rest.weight.equal(whole.weight)
    assert not part.weight.equal(whole.weight)
    assert [entry["epoch"] for entry in fitted.history] == [1, 2, 3, 4, 5, 6]


def test_a_broken_checkpoint_is_moved_aside_and_training_begins_anew(tmp_path):
    task, whole, _ = linear_task()
    run(task, toy.training(), tmp_path)
    path = tmp_path / "checkpoint.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    task, again, _ = linear_task()
    fitted = run(task, toy.training(), tmp_path)
    assert again.weight.equal(whole.weight)
    assert len(fitted.history) == 3
    assert (tmp_path / "checkpoint.broken").is_file()


def test_class_weights_of_study_2_count_its_whole_training_folder():
    """1341 normal and 3875 pneumonia images, of which the first fifth of each validates: 1.9448 and 0.6730."""
    labels = torch.tensor([0] * 1341 + [1] * 3875)
    val = np.concatenate([np.arange(268), 1341 + np.arange(775)])
    rows = np.setdiff1d(np.arange(len(labels)), val)
    task = replace(linear_task(labels=labels, train_rows=rows, val_rows=val)[0], num_classes=2)
    assert [round(w, 4) for w in balanced_weights(task, with_val=True).tolist()] == [1.9448, 0.673]
    assert [round(w, 4) for w in balanced_weights(task).tolist()] == [1.9445, 0.6731]
