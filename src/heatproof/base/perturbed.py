"""Perturbed images of all metrics and methods of a block: one queue, in which equal (image, region, fill) are run once,
on the inference twin, in full batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from heatproof.base import fields, fills
from heatproof.base.case import Perturbed, Regions, Request, Rows, Weighted
from heatproof.base.halving import in_batches
from heatproof.base.tasks import Block, Running, Seen, Task

Asked = Perturbed | Regions | Weighted
# An image of the block, what is in the place of its pixels, and two hashes of where.
Key = tuple[int, str, int, int]
WEIGHTED = "weighted"


class PerturbedImages:
    """Answers requests for perturbed images of one block; what was run is kept until the next one."""

    def __init__(self, running: Running, block: Block) -> None:
        self.running = running
        self.block = block
        # Logits of many images and the row: a tensor for each of a million images would fill a gigabyte.
        self._logits: dict[Key, tuple[Tensor, int]] = {}
        self._hashed: dict[int, list[list[Key]]] = {}
        self._ready: dict[str, Tensor] = {}

    def run(self, asked: Sequence[tuple[Task, Request]]) -> None:
        """Run each distinct (image, region, fill) once, fill by fill in full batches."""
        self._hashed = {}
        queue: dict[str, dict[Key, tuple[Asked, int, list[int]]]] = {}
        for task, request in asked:
            if not isinstance(request, Asked):
                continue
            for step, keys in enumerate(self._keys(task, request)):
                self.running.passes.requested += len(keys)
                for place, key in enumerate(keys):
                    if key not in self._logits and not _untouched(key):
                        queue.setdefault(key[1], {}).setdefault(key, (request, step, [place]))
        for kind, entries in queue.items():
            keys = list(entries)

            def run(rows: slice, kind: str = kind, keys: list[Key] = keys, entries: dict = entries) -> Tensor:
                part = keys[rows]
                return self._run(kind, part, torch.cat([_content(*entries[key]) for key in part]))

            # One tensor for all: what is kept of each batch would lie between what is freed and let memory grow.
            kept: Tensor | None = None
            for rows, logits in in_batches(len(keys), self.running, run):
                if kept is None:
                    kept = torch.empty(len(keys), logits.shape[1], dtype=logits.dtype, device=logits.device)
                kept[rows] = logits
                self._logits.update((keys[row], (kept, row)) for row in range(rows.start, rows.stop))
                self.running.perturbed(rows.stop - rows.start)

    def answer(self, task: Task, request: Asked) -> Tensor:
        """What a request asked for, of images that were run before."""
        found = [self._read(task, keys, request.read) for keys in self._keys(task, request)]
        return torch.stack(found, 1) if isinstance(request, Regions) else found[0]

    def _run(self, kind: str, part: Sequence[Key], content: Tensor) -> Tensor:
        """Logits of images of which the content of a region, or the weight of each pixel, is another."""
        rows = torch.tensor([key[0] for key in part], device=self.block.images.device)
        images = self.block.images[rows]
        if kind == WEIGHTED:
            changed = images * content[:, None]
        else:
            ready = self._prepared(kind)
            changed = fills.put(kind, images, content, ready if len(ready) == 1 else ready[rows], *self._means())
        logits = self.running.twin(changed)
        if self.running.watch is not None:
            self.running.watch(Seen(kind, rows, changed, logits))
        return logits

    def _prepared(self, kind: str) -> Tensor:
        """What a fill has ready for the images of the block, made once."""
        if kind not in self._ready:
            seeds = [fields.image_seed(self.running.seed, image, f"fill:{kind}") for image in self.block.ids]
            images = self.block.images
            of_images = torch.tensor(seeds, dtype=torch.int64, device=images.device)
            self._ready[kind] = fills.prepared(kind, images, of_images, *self._means())
        return self._ready[kind]

    def _means(self) -> tuple[Tensor | None, Tensor | None]:
        """The train mean per channel and the model's normalisation mean, where there are any."""
        classifier, device = self.running.classifier, self.block.images.device
        train, norm = (
            None if mean is None else torch.tensor(mean, device=device)
            for mean in (classifier.train_mean, classifier.norm_mean)
        )
        return train, norm

    def _read(self, task: Task, keys: Sequence[Key], read: str) -> Float[Tensor, " r"]:
        logits = torch.stack([self._logits_of(key) for key in keys]).double()
        targets = task.case.targets
        if read == "p":
            return logits.softmax(1).gather(1, targets[:, None])[:, 0]
        if read == "rest":
            return logits.softmax(1).scatter(1, targets[:, None], 0.0).sum(1)
        if read == "hit":
            return (logits.argmax(1) == targets).double()
        assert read == "logit", read
        return logits.gather(1, targets[:, None])[:, 0]

    def _logits_of(self, key: Key) -> Tensor:
        if _untouched(key):
            return self.block.logits[key[0]]
        batch, row = self._logits[key]
        return batch[row]

    def _keys(self, task: Task, request: Asked) -> list[list[Key]]:
        """The key of each image (inner) of each region (outer) of a request; hashed once."""
        if id(request) not in self._hashed:
            rows = task.rows.tolist()
            self._hashed[id(request)] = [
                [(row, _kind(request), *hashed) for row, hashed in zip(rows, hashes(content), strict=True)]
                for content in _contents(request)
            ]
        return self._hashed[id(request)]


def _untouched(key: Key) -> bool:
    """Whether it is the image itself: a region without a pixel."""
    return key[1] != WEIGHTED and key[2:] == (0, 0)


def _kind(request: Asked) -> str:
    """The queue that a request belongs to: its fill, or that it weighs pixels."""
    return WEIGHTED if isinstance(request, Weighted) else request.fill


def _contents(request: Asked) -> Iterator[Tensor]:
    """Regions or weights (b, h, w) of each image of a request, made one at a time: together they may fill memory."""
    for i in range(request.n if isinstance(request, Regions) else 1):
        yield _content(request, i, slice(None))


def _content(request: Asked, i: int, rows: Rows) -> Tensor:
    if isinstance(request, Regions):
        return request.region(i, rows)
    return (request.weights if isinstance(request, Weighted) else request.region)[rows]


def hashes(content: Bool[Tensor, "b h w"] | Float[Tensor, "b h w"]) -> list[tuple[int, int]]:
    """Two 64-bit hashes of each region or map of weights, both 0 for an empty region: words of eight bytes are weighted
    with fixed random odd numbers."""
    flat = content.flatten(1).contiguous().view(torch.uint8)
    pad = -flat.shape[1] % 8
    if pad:
        flat = torch.nn.functional.pad(flat, (0, pad))
    words = flat.contiguous().view(torch.int64)
    seeds = torch.tensor([1, 2], dtype=torch.int64, device=content.device)
    weights = fields.hash_keys(seeds, words.shape[1]) | 1
    first = (words * weights[0]).sum(1)
    second = ((words ^ (words >> 17)) * weights[1]).sum(1)
    return list(zip(first.tolist(), second.tolist(), strict=True))
