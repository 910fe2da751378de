"""Logits of many images for what needs no gradient: on the inference twin, in full batches, counted.

Conventions: whoever makes maps of a batch opens one `shared_forwards`, so that all explainers, views and reruns inside
use one twin; outside of one, `forwards_of` makes a twin for the occasion.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from heatproof.base.halving import in_batches
from heatproof.base.hooks import ActivationsAndGradients, layers_and_logits, layers_of, module_of
from heatproof.base.records import Classifier
from heatproof.base.twin import Twin

BATCH = 64

# How far a layer's output and gradient in the twin may be from the net's own, as a share of their largest magnitude.
SAME = 1e-4


class Forwards:
    """Runs images on the net's inference twin; `passes` counts them. Out of memory halves the batch and goes on.

    `lasting`: many batches will come, so that a twin pays for gradients of layers, too.
    """

    def __init__(
        self,
        classifier: Classifier | nn.Module,
        *,
        batch: int = BATCH,
        twin: Callable[[Tensor], Tensor] | None = None,
        lasting: bool = False,
    ) -> None:
        self.module = module_of(classifier)
        self.batch = batch
        self.passes = 0
        self.lasting = lasting
        self._twin = twin
        self._noted: Tensor | None = None
        self._logits: Tensor | None = None

    @contextmanager
    def noting(self, images: Float[Tensor, "n c h w"]) -> Iterator[Callable[[], Tensor | None]]:
        """Gives a function for the logits of these very images, None until a pass for gradients of layers made them."""
        self._noted, self._logits = images, None
        try:
            yield lambda: self._logits
        finally:
            self._noted = self._logits = None

    def twin(self, example: Float[Tensor, "n c h w"]) -> Callable[[Tensor], Tensor]:
        """The net's twin, made at its first use and compared with the net on `example`."""
        if self._twin is None:
            self._twin = Twin(self.module, example[:2].detach())
        return self._twin

    def layers(
        self, images: Float[Tensor, "n c h w"], targets: Int64[Tensor, " n"], layers: Sequence[str]
    ) -> dict[str, ActivationsAndGradients]:
        """Outputs of layers and gradients of the target logits, from one pass of the twin where it gives the same ones.

        Compared on the first images that a layer is asked for: folding changes what leaves a convolution.
        """
        if not layers:
            return {}
        twin = self._agreeing(images, targets, layers) if self.lasting else None
        net, seen = (self.module, images) if twin is None else (twin.net, twin.laid_out(images))
        found, logits = layers_and_logits(net, seen, targets, layers)
        if images is self._noted:
            self._logits = logits
        return found

    def _agreeing(self, images: Tensor, targets: Tensor, layers: Sequence[str]) -> Twin | None:
        """The twin, if all of these layers give in it what they give in the net."""
        twin = self.twin(images)
        if not isinstance(twin, Twin) or twin.remarks:
            return None
        if unknown := [layer for layer in layers if layer not in twin.agree]:
            wanted = layers_of(self.module, images[:2], targets[:2], unknown)
            names = dict(twin.net.named_modules())
            found = layers_of(
                twin.net, twin.laid_out(images[:2]), targets[:2], [one for one in unknown if one in names]
            )
            twin.agree |= {layer: layer in found and _same(found[layer], wanted[layer]) for layer in unknown}
        return twin if all(twin.agree[layer] for layer in layers) else None

    def logits(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n k"]:
        """Logits of images that are all there."""
        return torch.cat([found for _, found in self.made(len(images), lambda rows: images[rows])])

    def made(self, n: int, make: Callable[[slice], Tensor]) -> Iterator[tuple[slice, Float[Tensor, "m k"]]]:
        """Logits of n images that `make(rows)` makes a batch at a time: (rows, logits) until all are through."""

        def run(rows: slice) -> Tensor:
            images = make(rows)
            return self.twin(images)(images)

        for rows, found in in_batches(n, self, run):
            self.passes += rows.stop - rows.start
            yield rows, found


def _same(found: ActivationsAndGradients, wanted: ActivationsAndGradients) -> bool:
    return all(
        a.shape == b.shape and bool(((a - b).abs() <= SAME * b.abs().max()).all())
        for a, b in zip(found, wanted, strict=True)
    )


_shared: ContextVar[Forwards | None] = ContextVar("shared_forwards", default=None)


@contextmanager
def shared_forwards(
    classifier: Classifier | nn.Module,
    *,
    batch: int = BATCH,
    twin: Callable[[Tensor], Tensor] | None = None,
    lasting: bool = False,
) -> Iterator[Forwards]:
    """Inside, all passes of this net without gradient go through one twin; an outer block of the same net is kept.

    `lasting`: so do passes for the gradients of layers. The weights must stay as they are inside.
    """
    outer = _shared.get()
    if outer is not None and outer.module is module_of(classifier):
        yield outer
        return
    token = _shared.set(Forwards(classifier, batch=batch, twin=twin, lasting=lasting))
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
