"""Maps that the store has not: block by block, each stored as it is finished."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from tqdm import tqdm

from heatproof.base import methods as maps_of
from heatproof.base.blocks import blocks_of
from heatproof.base.device import images_at_once
from heatproof.base.forwards import shared_forwards
from heatproof.base.halving import Batch, in_batches
from heatproof.base.records import Classifier, MapBatch, Method, Samples
from heatproof.base.settings import ExplainSettings
from heatproof.base.store import Store

# Raise it when the maps of an unchanged method change.
VERSION = 4
# What a map was made from, beside it in its folder of the store.
PARTS = ("raw", "views", "seen", "leave_one_out")


@dataclass(frozen=True)
class Asked:
    """Which images are explained, for which classes, by which net and rules; `passes` counts the images run for it."""

    samples: Samples
    classifier: Classifier
    rows: np.ndarray
    targets: np.ndarray
    settings: ExplainSettings
    protocol: str
    keep_views: bool = False
    passes: dict[str, int] = field(default_factory=lambda: {"maps": 0, "again": 0})

    @property
    def ids(self) -> list[str]:
        """The images by name."""
        return [str(image) for image in self.samples.table["image"].iloc[self.rows]]

    @property
    def batch(self) -> int:
        """Images that go through the net together."""
        return self.settings.batch or images_at_once(self.classifier.device, self.samples.pixels.shape[1])

    def identity(self) -> dict[str, Any]:
        """What decides the maps of any method."""
        return {
            "data": self.samples.data_hash,
            "images": self.ids,
            "targets": self.targets.tolist(),
            "classifier": self.classifier.identity,
            "seed": self.settings.seed,
            "protocol": self.protocol,
            "version": VERSION,
            **({"views": True} if self.keep_views else {}),
        }


def identity_of(method: Method, images: Mapping[str, Any]) -> dict[str, Any]:
    """What decides a method's maps: the key of its entry in the store."""
    return {**images, "method": method.identity()}


def make(asked: Asked, methods: Sequence[Method], store: Store, *, progress: bool) -> dict[str, Path]:
    """The folders in the store of the methods' maps, by name; those that are not there yet are made together."""
    images = asked.identity()
    known, missing = _stored(methods, images, store)
    if not missing:
        return known
    work = {**images, "methods": [method.identity() for method in missing]}
    # Two processes that explain the same would take each other's blocks away.
    with store.locked("maps-blocks", work, f"maps of {len(missing)} methods"):
        meanwhile, left = _stored(missing, images, store)
        if not left:
            return known | meanwhile
        scratch = store.scratch("maps-blocks", work)
        blocks = _blocks(asked, missing, scratch, progress=progress)
        for place, method in enumerate(missing):
            known[str(method.name)] = store.get_or_make(
                "maps", identity_of(method, images), _writer(blocks, place), what=f"maps of {method.name}"
            )
        shutil.rmtree(scratch, ignore_errors=True)
        return known


def _stored(methods: Sequence[Method], images: Mapping[str, Any], store: Store) -> tuple[dict[str, Path], list[Method]]:
    """Folders of the maps that the store has, and the methods of which it has none."""
    found = {str(method.name): store.find("maps", identity_of(method, images)) for method in methods}
    known = {name: folder for name, folder in found.items() if folder is not None}
    return known, [method for method in methods if str(method.name) not in known]


def _blocks(asked: Asked, methods: Sequence[Method], scratch: Path, *, progress: bool) -> list[dict[str, torch.Tensor]]:
    """What was made of each block, those that an earlier run finished among them."""
    blocks = blocks_of(len(asked.rows))
    paths = [scratch / f"block_{number:05d}.safetensors" for number in range(len(blocks))]
    with (
        tqdm(total=len(asked.rows), desc="explain", unit="image", disable=None if progress else True) as bar,
        shared_forwards(asked.classifier, batch=asked.batch, lasting=True),
    ):
        for block, path in zip(blocks, paths, strict=True):
            if not path.exists():
                temporary = path.with_suffix(".part")
                save_file(_made(asked, methods, block), temporary)
                temporary.replace(path)
            bar.update(len(block))
    return [load_file(path) for path in paths]


def _made(asked: Asked, methods: Sequence[Method], block: np.ndarray) -> dict[str, torch.Tensor]:
    """Maps, parts and notes of one block by kind and the method's place."""
    rows, targets = asked.rows[block], asked.targets[block]
    parts: dict[str, list[torch.Tensor]] = {}

    def run(part: slice) -> dict[str, MapBatch]:
        chunk, counted = rows[part], maps_of.MapPasses()
        try:
            made = maps_of.explain_batch(
                asked.classifier,
                asked.samples.images(chunk).to(asked.classifier.device),
                torch.as_tensor(targets[part], device=asked.classifier.device),
                methods,
                ids=[str(image) for image in asked.samples.table["image"].iloc[chunk]],
                seed=asked.settings.seed,
                protocol=asked.protocol,
                passes=counted,
                describe=True,
                keep_views=asked.keep_views,
            )
        except torch.OutOfMemoryError:
            asked.passes["again"] += counted.images
            raise
        asked.passes["maps"] += counted.images
        return made

    for _, made in in_batches(len(rows), Batch(asked.batch), run):
        for place, method in enumerate(methods):
            of = made[str(method.name)]
            found = {"maps": of.maps, **({} if of.sd is None else {"sd": of.sd}), **maps_of.parts_of(method, of)}
            for kind, tensor in found.items():
                parts.setdefault(f"{kind}/{place}", []).append(tensor.cpu())
            for name, said in of.notes.items():
                parts.setdefault(f"note/{place}/{name}", []).append(said.cpu())
    return {key: torch.cat(tensors).contiguous() for key, tensors in parts.items()}


def _writer(blocks: Sequence[Mapping[str, torch.Tensor]], place: int) -> Callable[[Path], None]:
    """Writes what all blocks hold of one method into its folder."""

    def joined(key: str) -> np.ndarray:
        return np.concatenate([block[key].numpy() for block in blocks])

    def write(folder: Path) -> None:
        for kind in ("maps", "sd", *PARTS):
            if f"{kind}/{place}" in blocks[0]:
                np.save(folder / f"{kind}.npy", joined(f"{kind}/{place}"))
        prefix = f"note/{place}/"
        said = {key.removeprefix(prefix): joined(key) for key in blocks[0] if key.startswith(prefix)}
        if said:
            with (folder / "notes.npz").open("wb") as file:
                np.savez(file, **said)  # type: ignore[arg-type]

    return write
