"""Order of the values of each row: what ranks, regions and percentiles are made of.

Conventions: values (b, n), largest last or first as the name says; NaN counts as the largest. On a CPU NumPy's
vectorised sorts do the work, which give what torch's give in a fifth of the time or less.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Int64, Shaped
from torch import Tensor


def ascending(values: Shaped[Tensor, "b n"]) -> tuple[Shaped[Tensor, "b n"], Int64[Tensor, "b n"]]:
    """Values from the lowest to the highest, and where each of them was; equal ones in any order."""
    if not _on_cpu(values):
        return values.sort(dim=1)
    place = torch.from_numpy(np.argsort(values.detach().numpy(), axis=1))
    return values.gather(1, place), place


def descending(values: Shaped[Tensor, "b n"]) -> tuple[Shaped[Tensor, "b n"], Int64[Tensor, "b n"]]:
    """Values from the highest to the lowest, and where each of them was; equal ones in any order."""
    if not _on_cpu(values):
        return values.sort(dim=1, descending=True)
    ordered, place = ascending(values)
    return ordered.flip(1), place.flip(1)


def largest(values: Shaped[Tensor, "b n"], k: int) -> Shaped[Tensor, "b k"]:
    """The k largest values, from the highest to the lowest."""
    if not _on_cpu(values):
        return values.topk(k, dim=1).values
    n = values.shape[1]
    top = np.partition(values.detach().numpy(), n - k, axis=1)[:, n - k :]
    return torch.from_numpy(np.sort(top, axis=1)).flip(1)


def among_largest(keys: Int64[Tensor, "b n"], count: Int64[Tensor, " b"]) -> Bool[Tensor, "b n"]:
    """Which keys are among the `count` largest of their row: exactly so many, of equal keys any."""
    if not _on_cpu(keys):
        return _chosen(keys, count)
    n = keys.shape[1]
    cuts = [
        np.partition(row, n - k)[n - k] if k else np.iinfo(np.int64).max
        for row, k in zip(keys.numpy(), count.tolist(), strict=True)
    ]
    inside = keys >= torch.tensor(cuts, dtype=torch.int64)[:, None]
    shared = torch.nonzero(inside.sum(1) != count)[:, 0]
    if len(shared):  # equal keys at the cut
        inside[shared] = _chosen(keys[shared], count[shared])
    return inside


def _chosen(keys: Tensor, count: Tensor) -> Tensor:
    most = int(count.max()) if len(keys) else 0
    order = keys.topk(most, dim=1).indices
    chosen = torch.arange(most, device=keys.device)[None] < count[:, None]
    return torch.zeros_like(keys, dtype=torch.bool).scatter_(1, order, chosen)


def _on_cpu(values: Tensor) -> bool:
    return values.device.type == "cpu"
