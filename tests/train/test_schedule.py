import math

import pytest
import torch
import toy
from torch.optim import lr_scheduler

from heatproof.base.settings import Phase
from heatproof.stages.train.schedule import learning_rate

PHASE = Phase(epochs=5, lr=0.1, unfreeze="all")
STEPS = 4


def rates(scores=(), phase=PHASE, **settings):
    chosen = toy.training(**settings)
    return [learning_rate(chosen, phase, step, STEPS, scores[: step // STEPS]) for step in range(phase.epochs * STEPS)]


def by_torch(scheduler_of, steps):
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=PHASE.lr)
    scheduler = scheduler_of(optimizer)
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


def test_constant_is_constant():
    assert set(rates()) == {0.1}


def test_cosine_equals_torch():
    wanted = by_torch(lambda o: lr_scheduler.CosineAnnealingLR(o, 20, eta_min=0.01), 20)
    assert rates(schedule="cosine", min_lr=0.01) == pytest.approx(wanted)


def test_warm_up_equals_torch_and_comes_before_the_schedule():
    def both(optimizer):
        warm = lr_scheduler.LinearLR(optimizer, 1 / 8, 1.0, total_iters=7)
        cosine = lr_scheduler.CosineAnnealingLR(optimizer, 12, eta_min=0.01)
        return lr_scheduler.SequentialLR(optimizer, [warm, cosine], [8])

    found = rates(schedule="cosine", min_lr=0.01, warmup_epochs=2)
    assert found == pytest.approx(by_torch(both, 20))
    assert found[:8] == pytest.approx([0.1 * k / 8 for k in range(1, 9)])
    assert rates(warmup_epochs=1) == pytest.approx([0.025, 0.05, 0.075] + [0.1] * 17)


def by_keras(scores, lr, factor, patience, min_lr):
    """ReduceLROnPlateau as Keras writes it (mode max, min_delta 1e-4), the rate after each epoch."""
    best, wait, found = -math.inf, 0, []
    for score in scores:
        if score > best + 1e-4:
            best, wait = score, 0
        else:
            wait += 1
            if wait >= patience:
                lr, wait = max(lr * factor, min_lr), 0
        found.append(lr)
    return found


@pytest.mark.parametrize("patience", [1, 2, 3])
def test_plateau_counts_as_keras_does(patience):
    scores = [0.1, 0.2, 0.2, 0.20005, 0.3, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.4, 0.1, 0.1, 0.1]
    phase = Phase(len(scores), 0.1, "all")
    found = rates(scores, phase, schedule="plateau", plateau_patience=patience, min_lr=1e-3)
    wanted = [0.1, *by_keras(scores, 0.1, 0.2, patience, 1e-3)]
    assert found[::STEPS] == pytest.approx(wanted[:-1])
    assert found[3::STEPS] == found[::STEPS]
