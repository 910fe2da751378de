"""Training of the head alone on a frozen backbone, which then runs once per image.

Conventions: everything but the head is in evaluation mode throughout (batch norm keeps its statistics, dropout is off),
so that the input of the head is a fixed feature of the image: trained on stored features or through the whole net, the
head ends the same (within 1e-5).
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from tqdm import tqdm

from heatproof.base.nets import two_logits
from heatproof.base.records import Samples

VERSION = 1


class Shelf(Protocol):
    """What this module needs of the store."""

    def get_or_make(
        self, kind: str, identity: Mapping[str, Any], make: Callable[[Path], None], *, what: str
    ) -> Path: ...


def head_input(net: nn.Module, head: nn.Module, images: Float[Tensor, "n c h w"]) -> Tensor:
    """What the head sees of some images: features (n, d) or (n, d, h, w). Without autograd; no hook stays."""
    seen: list[Tensor] = []
    handle = head.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    try:
        with torch.no_grad():
            net(images)
    finally:
        handle.remove()
    return seen[0].detach()


def tail(net: nn.Module, head: nn.Module, images: Float[Tensor, "n c h w"]) -> Callable[[Tensor], Tensor] | None:
    """What the net does after its head, found by trying on some images; None where it is none of the known ways.

    Known: nothing; two logits of one; flattening; for a head that is a convolution (SqueezeNet): ReLU and the mean over
    positions.
    """
    ways: list[Callable[[Tensor], Tensor]] = [
        lambda z: z,
        lambda z: z.flatten(1),
        lambda z: z.relu().mean((-2, -1)),
        lambda z: z.mean((-2, -1)),
    ]
    with torch.no_grad():
        wanted, made = net(images), head(head_input(net, head, images))
        for way in ways if made.ndim == 4 else (ways[0], two_logits):
            logits = way(made)
            if logits.shape == wanted.shape and torch.allclose(logits, wanted, rtol=1e-5, atol=1e-6):
                return way
    return None


def stored_features(
    net: nn.Module,
    head: nn.Module,
    samples: Samples,
    rows: np.ndarray,
    store: Shelf,
    identity: Mapping[str, Any],
    *,
    device: torch.device,
    batch: int,
    progress: bool,
) -> np.ndarray:
    """Features of rows of the sample table, float32, memory-mapped, in the order of `rows`; computed once per store."""

    def make(folder: Path) -> None:
        first = head_input(net, head, samples.images(rows[:1]).to(device))
        shape = (len(rows), *first.shape[1:])
        out = np.lib.format.open_memmap(folder / "features.npy", mode="w+", dtype=np.float32, shape=shape)
        with tqdm(total=len(rows), desc="features", unit="image", disable=not progress) as bar:
            for start in range(0, len(rows), batch):
                some = rows[start : start + batch]
                out[start : start + len(some)] = head_input(net, head, samples.images(some).to(device)).cpu().numpy()
                bar.update(len(some))
        out.flush()

    key = {"data": samples.data_hash, "rows": rows.tolist(), "version": VERSION, **identity}
    folder = store.get_or_make("features", key, make, what="features of the frozen backbone")
    features: np.ndarray = np.load(folder / "features.npy", mmap_mode="r")
    return features
