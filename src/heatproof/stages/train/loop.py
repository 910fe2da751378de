"""The training loop: phases of seeded epochs, early stopping that restores the best weights, checkpoints."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from heatproof.base.settings import Phase, TrainSettings
from heatproof.stages.train import checkpoint
from heatproof.stages.train.epoch import Task, Work, balanced_weights, learn, validate
from heatproof.stages.train.figures import MONITORS
from heatproof.stages.train.memory import Parts

SGD_MOMENTUM = 0.9
OPTIMIZERS: Mapping[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": lambda weights, **given: torch.optim.SGD(weights, momentum=SGD_MOMENTUM, **given),
}


@dataclass
class Fitted:
    """How far a training is: one entry of `history` per epoch, the best epoch, its score and its weights; `phase`
    counts from 0, `part` is how many images pass at once where a batch does not fit into memory."""

    history: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = 0
    best_score: float | None = None
    phase: int = 0
    part: int | None = None
    best: dict[str, Tensor] = field(default_factory=dict)

    def of_phase(self) -> list[dict[str, float]]:
        """The epochs of the phase at work."""
        return [entry for entry in self.history if entry["phase"] == self.phase + 1]


def fit(task_of: Callable[[Phase], Task], settings: TrainSettings, folder: Path | None, *, progress: bool) -> Fitted:
    """Train phase after phase, in place; the net ends with the weights of the best epoch of all.

    A phase ends after its epochs or when `monitor` has not improved for `patience` of them (0: never); the next one
    starts from the best weights so far. Without validation images the last epoch is the best one.
    `folder`: where checkpoints are kept and looked for; a training that was killed goes on after its last whole epoch
    and ends with the same bits on a CPU.
    Raises: HeatproofError where the loss is not finite, with the images of the batch.
    """
    saved = checkpoint.read(folder) if folder is not None else None
    done = Fitted(**saved.record, best=saved.best) if saved is not None else Fitted()
    phases = settings.all_phases()
    for number, phase in list(enumerate(phases))[done.phase :]:
        done.phase, start = number, time.monotonic()
        task = task_of(phase)
        optimizer = OPTIMIZERS[settings.optimizer](task.parameters, lr=phase.lr, weight_decay=settings.weight_decay)
        if saved is not None:
            _put(saved.weights, task)
            optimizer.load_state_dict(saved.optimizer)
            saved = None
        elif done.best:
            _put(done.best, task)
        class_weights = None
        if settings.class_weights:
            class_weights = balanced_weights(task, with_val=settings.class_weights == "with_val")
        # One more than a batch: the last one takes in an image that would be left alone.
        parts = Parts(done.part or settings.batch + 1)
        _run(Work(task, settings, phase, optimizer, class_weights, parts), done, folder, start, progress)
    _put(done.best, task)
    task.learning(False)
    return done


def _run(work: Work, done: Fitted, folder: Path | None, start: float, progress: bool) -> None:
    """The epochs of a phase that are still to come; the first one takes as long as from `start` on, so that the time
    in which features are stored counts."""
    task, settings = work.task, work.settings
    sign, validated = MONITORS[settings.monitor], len(task.val_rows) > 0
    steps = -(-len(task.train_rows) // settings.batch)
    begun = len(done.of_phase()) * steps
    with tqdm(total=work.phase.epochs * steps, initial=begun, desc="train", unit="batch", disable=not progress) as bar:
        while len(done.of_phase()) < work.phase.epochs:
            scores = [sign * entry[settings.monitor] for entry in done.of_phase()] if validated else []
            if scores and 0 < settings.patience <= len(scores) - 1 - int(np.argmax(scores)):
                break
            epoch = len(done.history) + 1
            entry: dict[str, float] = {"epoch": epoch, "phase": done.phase + 1}
            entry |= learn(work, epoch, scores, bar) | validate(work, epoch)
            now = time.monotonic()
            entry["seconds"], start = now - start, now
            done.history.append(entry)
            _keep_best(done, task, sign * entry[settings.monitor] if validated else float(epoch))
            if work.parts.size < settings.batch:
                done.part = work.parts.size
            if folder is not None:
                record = {each.name: getattr(done, each.name) for each in fields(done) if each.name != "best"}
                checkpoint.write(folder, task.weights, work.optimizer, done.best, record)
            bar.set_postfix(epoch=epoch, loss=f"{entry['train_loss']:.3f}", accuracy=f"{entry['val_accuracy']:.3f}")


def _keep_best(done: Fitted, task: Task, score: float) -> None:
    if done.best_score is None or score > done.best_score:
        done.best_epoch, done.best_score = len(done.history), score
        done.best = {name: value.detach().cpu().clone() for name, value in task.weights.items()}


def _put(weights: Mapping[str, Tensor], task: Task) -> None:
    with torch.no_grad():
        for name, value in weights.items():
            task.weights[name].copy_(value)
