"""One epoch: every batch a step of the optimiser, then the images to validate."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from heatproof.base.errors import HeatproofError, fault
from heatproof.base.fields import image_seed
from heatproof.base.settings import Phase, TrainSettings
from heatproof.stages.train.figures import MONITORS, figures
from heatproof.stages.train.memory import Parts
from heatproof.stages.train.sampler import balanced, batches
from heatproof.stages.train.schedule import learning_rate


@dataclass(frozen=True)
class Task:
    """What a phase learns: `logits(rows, epoch)` runs the net on rows of the sample table (epoch None: no
    augmentation), `learning(on)` sets the modes of the net.

    `parameters`: what the optimiser changes; `weights`: all that any phase of the training changes, statistics
    included, by name. `labels` int64 per row of the table, on the device; `images` the ids for messages; `monitored`
    the classes of val_recall.
    """

    logits: Callable[[np.ndarray, int | None], Float[Tensor, "n k"]]
    learning: Callable[[bool], object]
    parameters: tuple[nn.Parameter, ...]
    weights: Mapping[str, Tensor]
    labels: Tensor
    images: np.ndarray
    train_rows: np.ndarray
    val_rows: np.ndarray
    num_classes: int
    monitored: tuple[int, ...] = ()


@dataclass(frozen=True)
class Work:
    """A phase at work: its task, settings and optimiser, the weights of the classes, and how many images fit."""

    task: Task
    settings: TrainSettings
    phase: Phase
    optimizer: torch.optim.Optimizer
    class_weights: Float[Tensor, " k"] | None
    parts: Parts


def balanced_weights(task: Task, *, with_val: bool = False) -> Float[Tensor, " k"]:
    """n / (K n_c): what makes each class count alike in the loss; `with_val`: of training and validation together, as
    where a study counts its whole training folder before it takes a part of it to validate."""
    rows = np.concatenate([task.train_rows, task.val_rows]) if with_val else task.train_rows
    counts = torch.bincount(task.labels[rows], minlength=task.num_classes)
    return len(rows) / (task.num_classes * counts.float())


def learn(work: Work, epoch: int, scores: list[float], bar: "tqdm[None]") -> dict[str, float]:
    """One pass over the training images: train_loss and figures over the batches as they were met, and the last lr.

    `epoch`: of the whole training, from 1; `scores`: what earlier epochs of the phase reached, for the schedule.
    """
    task, settings = work.task, work.settings
    task.learning(True)
    rows = task.train_rows
    if settings.balanced_sampling:
        rows = balanced(rows, task.labels[rows].cpu().numpy(), settings.seed, epoch)
    plan = list(batches(rows, settings.batch, settings.seed, epoch))
    losses: list[Tensor] = []
    masses: list[Tensor] = []
    predicted: list[Tensor] = []
    for number, some in enumerate(plan):
        rate = learning_rate(settings, work.phase, len(scores) * len(plan) + number, len(plan), scores)
        for group in work.optimizer.param_groups:
            group["lr"] = rate
        loss, mass, classes = _gradients(work, some, epoch, number)
        if settings.clip_norm is not None:
            nn.utils.clip_grad_norm_(task.parameters, settings.clip_norm)
        work.optimizer.step()
        losses.append(loss)
        masses.append(mass)
        predicted.append(classes)
        # One batch late: a GPU that is not waited for has the next batch by then.
        for late in {number - 1, number} if number == len(plan) - 1 else {number - 1}:
            if late >= 0:
                _require_finite(losses[late], f"loss of a batch in epoch {epoch}", task.images[plan[late]])
        bar.update()
    mass = torch.stack(masses)
    found = figures(task.labels[np.concatenate(plan)], torch.cat(predicted), task.num_classes)
    del found["recall"]
    return {
        "train_loss": float((torch.stack(losses) * mass).sum() / mass.sum()),
        **{f"train_{name}": value for name, value in found.items()},
        "lr": rate,
    }


def _gradients(work: Work, rows: np.ndarray, epoch: int, number: int) -> tuple[Tensor, Tensor, Tensor]:
    """Loss of a batch, its mass (sum of class weights) and the predicted classes; the gradients lie in the weights.

    A batch that does not fit into memory passes in parts, each entering with its share of the mass: the gradients are
    those of the whole batch, up to rounding and to what batch norm and dropout do with fewer images.
    """
    task, parts = work.task, work.parts
    labels = task.labels[rows]
    mass = torch.ones_like(labels, dtype=torch.float32) if work.class_weights is None else work.class_weights[labels]
    mass = mass.sum()

    def passed() -> tuple[Tensor, Tensor, Tensor]:
        # Dropout draws from torch's own state: seeded by epoch and batch, it needs no place in a checkpoint.
        torch.manual_seed(image_seed(work.settings.seed, f"epoch {epoch} batch {number}", "dropout"))
        work.optimizer.zero_grad(set_to_none=True)
        total, predicted = torch.zeros_like(mass), []
        for some in parts.cut(rows):
            logits = task.logits(some, epoch).float()
            smoothing = work.settings.label_smoothing
            loss = F.cross_entropy(
                logits, task.labels[some], work.class_weights, reduction="sum", label_smoothing=smoothing
            )
            loss = loss / mass
            loss.backward()
            total += loss.detach()
            predicted.append(logits.detach().argmax(1))
        return total, mass, torch.cat(predicted)

    return parts.fitting(passed, rows)


def validate(work: Work, epoch: int) -> dict[str, float]:
    """val_loss (with the class weights, without label smoothing) and figures; NaN without validation images."""
    task, parts, rows = work.task, work.parts, work.task.val_rows
    if not len(rows):
        return dict.fromkeys(MONITORS, float("nan"))
    task.learning(False)
    labels = task.labels[rows]
    with torch.inference_mode():
        logits = parts.fitting(lambda: torch.cat([task.logits(some, None).float() for some in parts.cut(rows)]), rows)
        loss = F.cross_entropy(logits, labels, work.class_weights)
    _require_finite(loss, f"validation loss of epoch {epoch}", task.images[rows])
    found = figures(labels, logits.argmax(1), task.num_classes, task.monitored)
    return {"val_loss": loss.item(), **{f"val_{name}": value for name, value in found.items()}}


def _require_finite(loss: Tensor, what: str, images: np.ndarray) -> None:
    value = loss.item()
    if np.isfinite(value):
        return
    names = ", ".join(str(image) for image in images[:8]) + (", ..." if len(images) > 8 else "")
    hint = f"Images: {names}. A smaller train.lr or train.clip_norm=1.0 often helps; look at the images, too."
    raise HeatproofError(fault("training", f"the {what} is not finite", got=value, hint=hint))
