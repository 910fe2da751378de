"""Logits of many images for what needs no gradient: on the inference twin, in full batches, counted.

Conventions: whoever makes maps of a batch opens one `shared_forwards`, so that all explainers, views and reruns inside
use one twin; outside of one, `forwards_of` makes a twin for the occasion.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from heatproof.base.hooks import module_of
from heatproof.base.records import Classifier
from heatproof.base.twin import Twin

BATCH = 64


class Forwards:
    """Runs images on the net's inference twin; `passes` counts them. Out of memory halves the batch and goes on."""

    def __init__(
        self, classifier: Classifier | nn.Module, *, batch: int = BATCH, twin: Callable[[Tensor], Tensor] | None = None
    ) -> None:
        self.module = module_of(classifier)
        self.batch = batch
        self.passes = 0
        self._twin = twin

    def twin(self, example: Float[Tensor, "n c h w"]) -> Callable[[Tensor], Tensor]:
        """The net's twin, made at its first use and compared with the net on `example`."""
        if self._twin is None:
            self._twin = Twin(self.module, example[:2].detach())
        return self._twin

    def logits(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n k"]:
        """Logits of images that are all there."""
        return torch.cat([found for _, found in self.made(len(images), lambda rows: images[rows])])

    def made(self, n: int, make: Callable[[slice], Tensor]) -> Iterator[tuple[slice, Float[Tensor, "m k"]]]:
        """Logits of n images that `make(rows)` makes a batch at a time: (rows, logits) until all are through."""
        start = 0
        while start < n:
            rows = slice(start, min(start + self.batch, n))
            try:
                images = make(rows)
                found = self.twin(images)(images)
            except torch.OutOfMemoryError:
                if self.batch == 1:
                    raise
                self.batch = max(1, self.batch // 2)
                torch.cuda.empty_cache()
                continue
            self.passes += rows.stop - rows.start
            yield rows, found
            start = rows.stop


_shared: ContextVar[Forwards | None] = ContextVar("shared_forwards", default=None)


@contextmanager
def shared_forwards(
    classifier: Classifier | nn.Module, *, batch: int = BATCH, twin: Callable[[Tensor], Tensor] | None = None
) -> Iterator[Forwards]:
    """Inside, all passes of this net without gradient go through one twin; an outer block of the same net is kept.

    The weights must stay as they are inside.
    """
    outer = _shared.get()
    if outer is not None and outer.module is module_of(classifier):
        yield outer
        return
    token = _shared.set(Forwards(classifier, batch=batch, twin=twin))
    try:
        shared = _shared.get()
        assert shared is not None
        yield shared
    finally:
        _shared.reset(token)


def forwards_of(classifier: Classifier | nn.Module) -> Forwards:
    """The shared passes of this net, or new ones where nobody shares."""
    shared = _shared.get()
    return shared if shared is not None and shared.module is module_of(classifier) else Forwards(classifier)


def scores(logits: Float[Tensor, "n k"], targets: Tensor, score: str) -> Float[Tensor, " n"]:
    """The target's probability ("prob") or logit ("logit"), float64."""
    logits = logits.double()
    return (logits.softmax(1) if score == "prob" else logits).gather(1, targets[:, None])[:, 0]
