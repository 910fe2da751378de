"""The learning rate of a step: a function of where the training is, so that a training that is resumed needs no state.

Conventions: steps and epochs are those of one phase, counted from 0; `scores` are the monitored values of its whole
epochs, larger = better.
"""

import math
from collections.abc import Sequence

import torch

from heatproof.base.settings import Phase, TrainSettings

# What counts as better for the plateau: Keras' min_delta, absolute.
LEAST_GAIN = 1e-4


def learning_rate(
    settings: TrainSettings, phase: Phase, step: int, steps_an_epoch: int, scores: Sequence[float]
) -> float:
    """Rate of a step: the schedule's, times (step + 1) / (steps of the warm-up) while warming up.

    cosine: min_lr + (lr - min_lr) (1 + cos(pi t / T)) / 2 at step t of the T that follow the warm-up (Loshchilov &
    Hutter 2017, one period).
    plateau: lr times `plateau_factor`, not below min_lr, each time `plateau_patience` epochs in a row have not gained
    1e-4 on the best one, as Keras counts.
    """
    warm = settings.warmup_epochs * steps_an_epoch
    if step < warm:
        return phase.lr * (step + 1) / warm
    if settings.schedule == "cosine":
        through = (step - warm) / (phase.epochs * steps_an_epoch - warm)
        return settings.min_lr + (phase.lr - settings.min_lr) * (1 + math.cos(math.pi * through)) / 2
    if settings.schedule == "plateau":
        return _plateau(settings, phase.lr, scores)
    return phase.lr


def _plateau(settings: TrainSettings, lr: float, scores: Sequence[float]) -> float:
    """The rate after these epochs: torch's scheduler, played again from the start."""
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=lr)
    # torch reduces after more than `patience` bad epochs, Keras after as many.
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer,
        mode="max",
        factor=settings.plateau_factor,
        patience=settings.plateau_patience - 1,
        threshold=LEAST_GAIN,
        threshold_mode="abs",
        min_lr=settings.min_lr,
        eps=0.0,
    )
    for score in scores:
        scheduler.step(score)
    rate: float = optimizer.param_groups[0]["lr"]
    return rate
