"""Stage `explain`: maps of every method for the explained images, block by block, stored by content.

A method whose maps are in the store is not run again; the missing ones of a block share their passes. A kill costs at
most the block in work.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from heatproof.base import given, values
from heatproof.base.altered import gaussian_blur, matched_blur_px
from heatproof.base.blocks import blocks_of
from heatproof.base.device import images_at_once
from heatproof.base.equal_maps import equal_groups, in_words
from heatproof.base.errors import HeatproofError, fault
from heatproof.base.records import Classifier, Maps, Method, Predictions, Samples
from heatproof.base.settings import ExplainSettings
from heatproof.base.store import Store
from heatproof.base.targets import predicted_classes, targets_of
from heatproof.stages.explain.making import PARTS, Asked, identity_of, make

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
    predicted = predicted_classes(
        samples, classifier, rows, settings.batch or images_at_once(classifier.device, samples.pixels.shape[1])
    )
    targets = targets_of(samples, classifier.classes, rows, predicted, settings.target)
    asked = Asked(samples, classifier, rows, targets, settings, protocol, keep_views)
    methods = [_known(method, asked.ids) for method in methods]
    made = [method for method in methods if method.alter in MADE]
    folders = make(asked, made, store, progress=progress)
    same = _same_methods(made, folders)
    remarks = in_words(same, len(rows))
    methods, twice = _counted_once(methods, same)
    if twice:
        made = [method for method in methods if method.alter in MADE]
        folders |= make(asked, [method for method in made if method.of], store, progress=progress)
        same = _same_methods(made, folders)
        remarks = (*in_words(same, len(rows)), *twice)
    by_name = {str(method.name): method for method in made}
    final = list(made)
    for method in methods:
        if method.alter == "blurred":
            done, folder = _blurred(method, by_name, folders, asked.identity(), store)
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
        asked.passes,
        remarks,
        {name: held for name, folder in folders.items() if (held := _parts(folder))},
    )


def _known(method: Method, images: Sequence[str]) -> Method:
    """The method with the content of the files that it, or one that it is made of, reads; missing ones are told here,
    before work starts."""
    parts = tuple(_known(part, images) for part in method.of)
    if method.explainer is None or not method.explainer.facts.get("given"):
        return replace(method, of=parts)
    return replace(method, content=given.digest(given.files_of(method.explainer.settings["folder"], images)), of=parts)


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
