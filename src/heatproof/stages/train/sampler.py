"""Which images a training meets in which order: a function of (seed, epoch) alone."""

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Int64

from heatproof.base.fields import hash_keys, image_seed


def batches(rows: Int64[np.ndarray, " n"], batch: int, seed: int, epoch: int) -> Iterator[Int64[np.ndarray, " b"]]:
    """Rows in an order of the epoch's own, cut into batches; no batch has a single image, which batch norm could not
    take, unless there is but one."""
    shuffled = rows[_order(len(rows), seed, epoch, "batches")]
    starts = list(range(0, len(rows), batch))
    if len(starts) > 1 and len(rows) - starts[-1] == 1:
        starts.pop()
    for start, stop in zip(starts, [*starts[1:], len(rows)], strict=True):
        yield shuffled[start:stop]


def balanced(
    rows: Int64[np.ndarray, " n"], labels: Int64[np.ndarray, " n"], seed: int, epoch: int
) -> Int64[np.ndarray, " n"]:
    """As many rows, with every class n / K times (the remainder goes round the classes from epoch to epoch).

    Rows of a rare class come again, each as often as any other but one; of a frequent class a part is drawn, another
    one in each epoch.
    """
    classes = np.unique(labels)
    quotas = np.full(len(classes), len(rows) // len(classes))
    quotas[(np.arange(len(rows) % len(classes)) + epoch) % len(classes)] += 1
    drawn = []
    for label, quota in zip(classes, quotas, strict=True):
        own = rows[labels == label]
        own = own[_order(len(own), seed, epoch, f"class {label}")]
        drawn.append(np.resize(own, quota))
    return np.concatenate(drawn)


def _order(n: int, seed: int, epoch: int, role: str) -> Int64[np.ndarray, " n"]:
    seeds = torch.tensor([image_seed(seed, f"epoch {epoch}", role)])
    order: np.ndarray = torch.argsort(hash_keys(seeds, n)[0], stable=True).numpy()
    return order
