"""Stage `explain`: maps of every method for the explained images, block by block, stored by content.

A method whose maps are in the store is not run again; the missing ones of a block share their passes. A kill costs at
most the block in work.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from tqdm import tqdm

from heatproof.base import given, values
from heatproof.base import methods as maps_of
from heatproof.base.altered import gaussian_blur, matched_blur_px
from heatproof.base.blocks import blocks_of
from heatproof.base.device import images_at_once
from heatproof.base.equal_maps import equal_groups, in_words
from heatproof.base.errors import HeatproofError, fault
from heatproof.base.forwards import shared_forwards
from heatproof.base.halving import Batch, in_batches
from heatproof.base.records import Classifier, MapBatch, Maps, Method, Predictions, Samples
from heatproof.base.settings import ExplainSettings
from heatproof.base.store import Store
from heatproof.base.targets import predicted_classes, targets_of

# Raise it when the maps of an unchanged method change.
VERSION = 4
# What a map was made from, beside it in its folder of the store.
PARTS = ("raw", "views", "seen", "leave_one_out")
# How a method may be altered whose maps are made here; the others are made from those.
MADE = (None, "other_class", "random_weights")
# Images that the blur of the "blurred" controls is matched on.
MATCHED = 64


def explain(
    samples: Samples,
    classifier: Classifier,
    predictions: Predictions,
    methods: Sequence[Method],
    settings: ExplainSettings,
    *,
    protocol: str,
    store: Store,
    progress: bool = True,
    keep_views: bool = False,
    keep_copies: bool = False,
) -> Maps:
    """Maps of all methods but the shifted controls, which `measure` moves from them.

    `keep_views`: the parts of a fusion are kept, too (`Maps.parts`), which takes 2 V times the room of its maps. Of
    methods under test that turn out to be one only the first is left, with its controls, and a remark names the others;
    `keep_copies`: all are (the shards of a run must have the same methods). Methods that combine others count copies
    among those once.

    Raises HeatproofError where there is nothing to explain or `settings.target` is no class.
    """
    rows = np.asarray(predictions.explained)
    if not len(rows):
        raise HeatproofError(
            fault("eval", "no image is left to explain", hint="Loosen eval.split or eval.only_correct.")
        )
    predicted = predicted_classes(samples, classifier, rows, _batch(samples, classifier, settings))
    targets = targets_of(samples, classifier.classes, rows, predicted, settings.target)
    ids = [str(image) for image in samples.table["image"].iloc[rows]]
    methods = [_known(method, ids) for method in methods]
    made = [method for method in methods if method.alter in MADE]
    images = {
        "data": samples.data_hash,
        "images": ids,
        "targets": targets.tolist(),
        "classifier": classifier.identity,
        "seed": settings.seed,
        "protocol": protocol,
        "version": VERSION,
        **({"views": True} if keep_views else {}),
    }
    passes = {"maps": 0, "again": 0}

    def mapped(wanted: Sequence[Method]) -> dict[str, Path]:
        """Folders of the maps of some methods, those that are missing made together."""
        folders = {str(method.name): store.find("maps", identity_of(method, images)) for method in wanted}
        known = {name: folder for name, folder in folders.items() if folder is not None}
        missing = [method for method in wanted if str(method.name) not in known]
        if missing:
            known |= _explain_missing(
                samples, classifier, rows, targets, missing, images, settings, protocol, store, progress, passes
            )
        return known

    folders = mapped(made)
    same = _same_methods(made, folders)
    remarks = in_words(same, len(rows))
    methods, twice = _counted_once(methods, same)
    if twice:
        made = [method for method in methods if method.alter in MADE]
        folders |= mapped([method for method in made if method.of])
        same = _same_methods(made, folders)
        remarks = (*in_words(same, len(rows)), *twice)
    by_name = {str(method.name): method for method in made}
    final = list(made)
    for method in methods:
        if method.alter == "blurred":
            done, folder = _blurred(method, by_name, folders, images, store)
            final.append(done)
            folders[str(method.name)] = folder
        elif method.alter == "shifted":
            final.append(method)
    order = {str(method.name): place for place, method in enumerate(methods)}
    final.sort(key=lambda method: order[str(method.name)])
    final = final if keep_copies else _without_copies(final, same)
    folders = {str(method.name): folders[str(method.name)] for method in final if str(method.name) in folders}
    return Maps(
        rows,
        targets,
        predicted,
        tuple(final),
        {name: folder / "maps.npy" for name, folder in folders.items()},
        {name: folder / "sd.npy" for name, folder in folders.items() if (folder / "sd.npy").exists()},
        {name: _status(folder / "maps.npy") for name, folder in folders.items()},
        {name: _notes(folder) for name, folder in folders.items()},
        passes,
        remarks,
        {name: held for name, folder in folders.items() if (held := _parts(folder))},
    )


def _batch(samples: Samples, classifier: Classifier, settings: ExplainSettings) -> int:
    return settings.batch or images_at_once(classifier.device, samples.pixels.shape[1])


def identity_of(method: Method, images: Mapping[str, Any]) -> dict[str, Any]:
    """What decides a method's maps: the key of its entry in the store."""
    return {**images, "method": method.identity()}


def _known(method: Method, images: Sequence[str]) -> Method:
    """The method with the content of the files that it, or one that it is made of, reads; missing ones are told here,
    before work starts."""
    parts = tuple(_known(part, images) for part in method.of)
    if method.explainer is None or not method.explainer.facts.get("given"):
        return replace(method, of=parts)
    return replace(method, content=given.digest(given.files_of(method.explainer.settings["folder"], images)), of=parts)


def _explain_missing(
    samples: Samples,
    classifier: Classifier,
    rows: np.ndarray,
    targets: np.ndarray,
    methods: Sequence[Method],
    images: Mapping[str, Any],
    settings: ExplainSettings,
    protocol: str,
    store: Store,
    progress: bool,
    passes: dict[str, int],
) -> dict[str, Path]:
    work = {**images, "methods": [method.identity() for method in methods]}
    # Two processes that explain the same would take each other's blocks away.
    with store.locked("maps-blocks", work, f"maps of {len(methods)} methods"):
        stored = {str(method.name): store.find("maps", identity_of(method, images)) for method in methods}
        known = {name: folder for name, folder in stored.items() if folder is not None}
        if len(known) == len(methods):
            return known
        scratch = store.scratch("maps-blocks", work)
        made = (samples, classifier, rows, targets, methods, images, settings, protocol)
        return _explain_into(scratch, *made, store, progress, passes)


def _explain_into(
    scratch: Path,
    samples: Samples,
    classifier: Classifier,
    rows: np.ndarray,
    targets: np.ndarray,
    methods: Sequence[Method],
    images: Mapping[str, Any],
    settings: ExplainSettings,
    protocol: str,
    store: Store,
    progress: bool,
    passes: dict[str, int],
) -> dict[str, Path]:
    blocks = blocks_of(len(rows))
    with (
        tqdm(total=len(rows), desc="explain", unit="image", disable=None if progress else True) as bar,
        shared_forwards(classifier, batch=_batch(samples, classifier, settings), lasting=True),
    ):
        for number, block in enumerate(blocks):
            path = scratch / f"block_{number:05d}.safetensors"
            if not path.exists():
                _explain_block(
                    samples, classifier, rows[block], targets[block], methods, images, settings, protocol, path, passes
                )
            bar.update(len(block))
    parts = [load_file(scratch / f"block_{number:05d}.safetensors") for number in range(len(blocks))]
    folders = {}
    for place, method in enumerate(methods):

        def write(folder: Path, place: int = place) -> None:
            def joined(key: str) -> np.ndarray:
                return np.concatenate([part[key].numpy() for part in parts])

            for kind in ("maps", "sd", *PARTS):
                if f"{kind}/{place}" in parts[0]:
                    np.save(folder / f"{kind}.npy", joined(f"{kind}/{place}"))
            prefix = f"note/{place}/"
            said = {key.removeprefix(prefix): joined(key) for key in parts[0] if key.startswith(prefix)}
            if said:
                with (folder / "notes.npz").open("wb") as file:
                    np.savez(file, **said)  # type: ignore[arg-type]

        folders[str(method.name)] = store.get_or_make(
            "maps", identity_of(method, images), write, what=f"maps of {method.name}"
        )
    shutil.rmtree(scratch, ignore_errors=True)
    return folders


def _explain_block(
    samples: Samples,
    classifier: Classifier,
    rows: np.ndarray,
    targets: np.ndarray,
    methods: Sequence[Method],
    images: Mapping[str, Any],
    settings: ExplainSettings,
    protocol: str,
    path: Path,
    passes: dict[str, int],
) -> None:
    parts: dict[str, list[torch.Tensor]] = {}

    def run(part: slice) -> dict[str, MapBatch]:
        chunk, counted = rows[part], maps_of.MapPasses()
        try:
            made = maps_of.explain_batch(
                classifier,
                samples.images(chunk).to(classifier.device),
                torch.as_tensor(targets[part], device=classifier.device),
                methods,
                ids=[str(image) for image in samples.table["image"].iloc[chunk]],
                seed=settings.seed,
                protocol=protocol,
                passes=counted,
                describe=True,
                keep_views=bool(images.get("views")),
            )
        except torch.OutOfMemoryError:
            passes["again"] += counted.images
            raise
        passes["maps"] += counted.images
        return made

    for _, made in in_batches(len(rows), Batch(_batch(samples, classifier, settings)), run):
        for place, method in enumerate(methods):
            of = made[str(method.name)]
            parts.setdefault(f"maps/{place}", []).append(of.maps.cpu())
            if of.sd is not None:
                parts.setdefault(f"sd/{place}", []).append(of.sd.cpu())
            for name, part in maps_of.parts_of(method, of).items():
                parts.setdefault(f"{name}/{place}", []).append(part.cpu())
            for name, said in of.notes.items():
                parts.setdefault(f"note/{place}/{name}", []).append(said.cpu())
    temporary = path.with_suffix(".part")
    save_file({key: torch.cat(tensors).contiguous() for key, tensors in parts.items()}, temporary)
    temporary.replace(path)


def _blurred(
    method: Method, by_name: Mapping[str, Method], folders: Mapping[str, Path], images: Mapping[str, Any], store: Store
) -> tuple[Method, Path]:
    """The single view blurred until it is as smooth as the fusion that it controls; its sd stands in the record."""
    assert method.control_of is not None
    fused = by_name[method.control_of]
    single = str(fused.name.single())
    if single not in folders:
        raise AssertionError(f"{method.name} needs the maps of {single}")
    identity = {**identity_of(method, images), "fused": fused.identity()}
    source = torch.from_numpy(np.load(folders[single] / "maps.npy"))

    def write(folder: Path) -> None:
        wanted = torch.from_numpy(np.load(folders[method.control_of or ""] / "maps.npy")[:MATCHED])
        sd = matched_blur_px(source[:MATCHED], wanted)
        np.save(folder / "maps.npy", gaussian_blur(source, sd).numpy())
        np.save(folder / "blur_px.npy", np.array(sd))

    folder = store.get_or_make("maps", identity, write, what=f"maps of {method.name}")
    blur_px = float(np.load(folder / "blur_px.npy"))
    return replace(method, blur_px=blur_px), folder


def _notes(folder: Path) -> dict[str, np.ndarray]:
    """What the explainer said of its maps, name -> float64 (N,)."""
    path = folder / "notes.npz"
    if not path.exists():
        return {}
    with np.load(path) as held:
        return {name: held[name] for name in held.files}


def _same_methods(methods: Sequence[Method], folders: Mapping[str, Path]) -> list[tuple[str, ...]]:
    """Groups of methods under test whose maps are one."""
    names = [str(method.name) for method in methods if method.control_of is None]
    return equal_groups({name: np.load(folders[name] / "maps.npy", mmap_mode="r") for name in names})


def _counted_once(methods: Sequence[Method], groups: Sequence[Sequence[str]]) -> tuple[list[Method], tuple[str, ...]]:
    """The methods, those that combine others (votes) without copies among them, and remarks that say so. Only methods
    with a row of their own are known to be copies."""
    first = {name: group[0] for group in groups for name in group}
    result, remarks = [], []
    for method in methods:
        kept = {first.get(str(part.name), str(part.name)): part for part in reversed(method.of)}
        parts = tuple(part for part in method.of if part in kept.values())
        if len(parts) < len(method.of):
            method = replace(method, of=parts)
            if method.alter is None:
                left = ", ".join(str(part.name) for part in parts)
                remarks.append(f"{method.name} counts methods that are one only once: it is made of {left}.")
        result.append(method)
    return result, tuple(remarks)


def _without_copies(methods: Sequence[Method], groups: Sequence[Sequence[str]]) -> list[Method]:
    """Of each group the first method; the controls of the others go with them."""
    copies = {name for group in groups for name in group[1:]}
    return [method for method in methods if str(method.name) not in copies and method.control_of not in copies]


def _parts(folder: Path) -> dict[str, Path]:
    return {name: file for name in PARTS if (file := folder / f"{name}.npy").is_file()}


def _status(path: Path) -> tuple[str, ...]:
    maps = np.load(path, mmap_mode="r")
    found: list[str] = []
    for part in blocks_of(len(maps)):
        found += values.status_of(torch.from_numpy(np.array(maps[part])))
    return tuple(found)
