"""The training loop: seeded batches, weighted cross entropy, early stopping that restores the best weights."""

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from heatproof.base.errors import HeatproofError, fault
from heatproof.base.fields import hash_keys, image_seed
from heatproof.base.settings import TrainSettings
from heatproof.stages.train import checkpoint

SGD_MOMENTUM = 0.9
OPTIMIZERS: dict[str, Callable[[list[nn.Parameter], TrainSettings], torch.optim.Optimizer]] = {
    "adam": lambda weights, s: torch.optim.Adam(weights, lr=s.lr, weight_decay=s.weight_decay),
    "adamw": lambda weights, s: torch.optim.AdamW(weights, lr=s.lr, weight_decay=s.weight_decay),
    "sgd": lambda weights, s: torch.optim.SGD(weights, lr=s.lr, weight_decay=s.weight_decay, momentum=SGD_MOMENTUM),
}
# What early stopping looks at, and the sign that makes larger better.
MONITORS = {"val_loss": -1, "val_accuracy": 1, "val_macro_f1": 1}


@dataclass(frozen=True)
class Task:
    """What the loop learns: `module` holds the weights that change, `logits(rows, epoch)` runs the net on rows of the
    sample table (epoch None: no augmentation), `learning(on)` sets the modes of the net.

    `labels` int64 per row of the table, on the device; `images` the ids for messages.
    """

    module: nn.Module
    logits: Callable[[np.ndarray, int | None], Float[Tensor, "n k"]]
    learning: Callable[[bool], object]
    labels: Tensor
    images: np.ndarray
    train_rows: np.ndarray
    val_rows: np.ndarray
    num_classes: int


@dataclass
class Fitted:
    """How far a training is: one entry of `history` per epoch, the best epoch, its score and its weights."""

    history: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = 0
    best_score: float | None = None
    best: dict[str, Tensor] = field(default_factory=dict)


def fit(task: Task, settings: TrainSettings, folder: Path | None, *, progress: bool) -> Fitted:
    """Train `task.module` in place; it ends with the weights of the best epoch.

    `folder`: where checkpoints are kept and looked for; a training that was killed goes on after its last whole epoch
    and ends with the same bits on a CPU. Stops when `monitor` has not improved for `patience` epochs (0: never).
    Without validation images the last epoch is the best one.
    Raises: HeatproofError where the loss is not finite, with the images of the batch.
    """
    weights = [weight for weight in task.module.parameters() if weight.requires_grad]
    optimizer = OPTIMIZERS[settings.optimizer](weights, settings)
    class_weights = balanced_weights(task) if settings.class_weights else None
    done = _resumed(folder, task, optimizer)
    steps = len(list(batches(task.train_rows, settings, 1)))
    with tqdm(
        total=settings.epochs * steps,
        initial=len(done.history) * steps,
        desc="train",
        unit="batch",
        disable=not progress,
    ) as bar:
        for epoch in range(len(done.history) + 1, settings.epochs + 1):
            if len(task.val_rows) and 0 < settings.patience <= len(done.history) - done.best_epoch:
                bar.total = bar.n
                break
            start = time.monotonic()
            # Dropout draws from torch's own state: seeded by epoch, it needs no place in a checkpoint.
            torch.manual_seed(image_seed(settings.seed, f"epoch {epoch}", "dropout"))
            entry: dict[str, float] = {"epoch": epoch}
            entry |= _epoch(task, settings, optimizer, class_weights, epoch, bar)
            entry |= _validate(task, settings, class_weights, epoch)
            entry |= {"seconds": time.monotonic() - start, "lr": optimizer.param_groups[0]["lr"]}
            done.history.append(entry)
            score = MONITORS[settings.monitor] * entry[settings.monitor] if len(task.val_rows) else float(epoch)
            if done.best_score is None or score > done.best_score:
                done.best_epoch, done.best_score = epoch, score
                done.best = {name: value.detach().cpu().clone() for name, value in task.module.state_dict().items()}
            if len(task.val_rows):
                bar.set_postfix(epoch=epoch, loss=f"{entry['train_loss']:.3f}", accuracy=f"{entry['val_accuracy']:.3f}")
            if folder is not None:
                record = {k: v for k, v in asdict(done).items() if k != "best"}
                checkpoint.write(folder, task.module, optimizer, done.best, record)
    task.module.load_state_dict(done.best)
    task.learning(False)
    return done


def _resumed(folder: Path | None, task: Task, optimizer: torch.optim.Optimizer) -> Fitted:
    found = checkpoint.read(folder, task.module, optimizer) if folder is not None else None
    if found is None:
        return Fitted()
    best, record = found
    return Fitted(**record, best=best)


def batches(rows: np.ndarray, settings: TrainSettings, epoch: int) -> Iterator[np.ndarray]:
    """Rows in an order that depends on (seed, epoch) alone, cut into batches; no batch has a single image, which batch
    norm could not take, unless there is but one."""
    seeds = torch.tensor([image_seed(settings.seed, f"epoch {epoch}", "batches")])
    order = torch.argsort(hash_keys(seeds, len(rows))[0], stable=True).numpy()
    starts = list(range(0, len(rows), settings.batch))
    if len(starts) > 1 and len(rows) - starts[-1] == 1:
        starts.pop()
    for start, stop in zip(starts, [*starts[1:], len(rows)], strict=True):
        yield rows[order[start:stop]]


def balanced_weights(task: Task) -> Float[Tensor, "k"]:
    """n / (K n_c): what makes each class count alike in the loss."""
    counts = torch.bincount(task.labels[task.train_rows], minlength=task.num_classes)
    return len(task.train_rows) / (task.num_classes * counts.float())


def _epoch(
    task: Task,
    settings: TrainSettings,
    optimizer: torch.optim.Optimizer,
    class_weights: Tensor | None,
    epoch: int,
    bar: "tqdm[None]",
) -> dict[str, float]:
    """One pass over the training images: train_loss and train_accuracy, means over the batches as they were met."""
    task.learning(True)
    total = mass = hits = 0.0
    for rows in batches(task.train_rows, settings, epoch):
        labels = task.labels[rows]
        logits = task.logits(rows, epoch).float()
        loss = F.cross_entropy(logits, labels, class_weights)
        value = loss.item()
        if not np.isfinite(value):
            raise HeatproofError(_not_finite(f"loss of a batch in epoch {epoch}", value, task.images[rows]))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if settings.clip_norm is not None:
            nn.utils.clip_grad_norm_(task.module.parameters(), settings.clip_norm)
        optimizer.step()
        weight = float(class_weights[labels].sum()) if class_weights is not None else float(len(rows))
        total, mass = total + value * weight, mass + weight
        hits += (logits.argmax(1) == labels).sum().item()
        bar.update()
    return {"train_loss": total / mass, "train_accuracy": hits / len(task.train_rows)}


def _validate(task: Task, settings: TrainSettings, class_weights: Tensor | None, epoch: int) -> dict[str, float]:
    """val_loss (weighted as in training), val_accuracy, val_macro_f1; NaN without validation images."""
    if not len(task.val_rows):
        return dict.fromkeys(MONITORS, float("nan"))
    task.learning(False)
    chunks = np.split(task.val_rows, range(settings.batch, len(task.val_rows), settings.batch))
    with torch.inference_mode():
        logits = torch.cat([task.logits(rows, None).float() for rows in chunks])
        labels = task.labels[task.val_rows]
        loss = F.cross_entropy(logits, labels, class_weights).item()
    if not np.isfinite(loss):
        raise HeatproofError(_not_finite(f"validation loss of epoch {epoch}", loss, task.images[task.val_rows]))
    predicted = logits.argmax(1)
    confusion = torch.bincount(labels * task.num_classes + predicted, minlength=task.num_classes**2)
    confusion = confusion.view(task.num_classes, task.num_classes).double().cpu()
    hits, present = confusion.diag(), confusion.sum(0) + confusion.sum(1)
    f1 = (2 * hits / present)[present > 0].mean().item()
    return {"val_loss": loss, "val_accuracy": (predicted == labels).double().mean().item(), "val_macro_f1": f1}


def _not_finite(what: str, value: float, images: np.ndarray) -> str:
    names = ", ".join(str(image) for image in images[:8]) + (", ..." if len(images) > 8 else "")
    return fault(
        "training",
        f"the {what} is not finite",
        got=value,
        hint=f"Images: {names}. A smaller train.lr or train.clip_norm=1.0 often helps; look at the images, too.",
    )
