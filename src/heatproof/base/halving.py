"""Work in batches that fit into memory: a batch that does not is halved, and the work goes on where it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch

Found = TypeVar("Found")


class Sized(Protocol):
    """Who says how many things go at once, and is told where fewer must."""

    batch: int


@dataclass
class Batch:
    """How many things go at once, where nobody else says."""

    batch: int


def in_batches(n: int, sized: Sized, run: Callable[[slice], Found]) -> Iterator[tuple[slice, Found]]:
    """What `run(rows)` gives for n things, at most `sized.batch` at a time: (rows, found) until all are through.

    Out of memory halves `sized.batch`, for later work, too. Raises torch.OutOfMemoryError where one thing alone does
    not fit.
    """
    start = 0
    while start < n:
        rows = slice(start, min(start + sized.batch, n))
        try:
            found = run(rows)
        except torch.OutOfMemoryError:
            if sized.batch == 1:
                raise
            sized.batch = max(1, sized.batch // 2)
            torch.cuda.empty_cache()
            continue
        yield rows, found
        start = rows.stop
