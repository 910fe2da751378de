"""Maps of many methods for one batch of images: every view seen once, every explainer run once a view, then fused.

A method is a black box image -> map (explainer, layer, views, fusion). Methods that share a view, an explainer or a
layer share the passes; gradient explainers of one view share one forward and one backward pass (`hooks.shared_pass`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

from heatproof.base import fields, hooks, notes
from heatproof.base.aggregate import spread
from heatproof.base.altered import gaussian_blur
from heatproof.base.forwards import forwards_of, shared_forwards
from heatproof.base.records import Classifier, MapBatch, Method
from heatproof.base.registry import Bound, hash_of


@dataclass
class MapPasses:
    """Counts the images that a network was run on to make maps: one for each image of each view, and those that
    explainers without gradient run themselves."""

    images: int = 0


@dataclass(frozen=True)
class _Single:
    """One explainer at one layer: what methods of different views and fusions share."""

    explainer: Bound
    layer: str | None

    @classmethod
    def of(cls, method: Method) -> _Single:
        assert method.explainer is not None, f"the maps of {method.name} cannot be made again"
        return cls(method.explainer, method.layer)

    @property
    def key(self) -> str:
        return hash_of([self.explainer.identity(), self.layer])


@dataclass
class _View:
    """One view of the batch: which single explainers it must run."""

    view: Bound | None
    singles: dict[str, _Single] = field(default_factory=dict)


def explain_batch(
    classifier: Classifier,
    images: Float[Tensor, "b c h w"],
    targets: Int64[Tensor, " b"],
    methods: Sequence[Method],
    *,
    ids: Sequence[str],
    seed: int,
    role: str = "base",
    protocol: str = "sound",
    keep_views: bool = False,
    passes: MapPasses | None = None,
) -> dict[str, MapBatch]:
    """Maps of each method by its name, at input resolution.

    `role` names the rerun ("base", "noise3", "view:rerun_shift"): stochastic views and explainers draw anew in each.
    Blurred controls are made from the single view of the same explainer by their `blur_px`; shifted ones are not made
    here (they are moved copies of maps that exist).
    """
    methods = [method for method in methods if method.alter != "shifted"]
    with shared_forwards(classifier):
        made = _Made()
        seen = _views_of(methods)
        for key, entry in seen.items():
            if entry.view is None:
                raws = _run(classifier, images, targets, entry, ids, seed, role, passes, made)
                made.singles |= {name: _enlarge(raw, images.shape[-2:], protocol) for name, raw in raws.items()}
                continue
            seeds = _seeds(seed, ids, f"{role}:view:{key}", images.device)
            seen_images, unwarp = entry.view(images, seeds)
            same = bool(torch.equal(seen_images, images))
            if same and _SINGLE in seen and set(entry.singles) <= set(made.singles) and protocol == "sound":
                raws = {name: made.singles[name] for name in entry.singles}
                made.notes |= {(key, name): made.notes[_SINGLE, name] for name in entry.singles}
            else:
                raws = _run(classifier, seen_images, targets, entry, ids, seed, f"{role}:{key}", passes, made, key)
                raws = {n: _enlarge(raw, images.shape[-2:], protocol, fused=True) for n, raw in raws.items()}
            for name, enlarged in raws.items():
                made.stacks.setdefault(name, {})[key] = unwarp(enlarged)
        return {str(method.name): _assemble(method, made, keep_views) for method in methods}


@dataclass
class _Made:
    """What the explainers gave: single views by explainer, aligned views by explainer and view, notes by view and
    explainer."""

    singles: dict[str, Tensor] = field(default_factory=dict)
    stacks: dict[str, dict[str, tuple[Tensor, Tensor]]] = field(default_factory=dict)
    notes: dict[tuple[str, str], dict[str, Tensor]] = field(default_factory=dict)


# The single view goes first, so that an identity view of a fusion can take its maps from it.
_SINGLE = ""


def _views_of(methods: Sequence[Method]) -> dict[str, _View]:
    seen: dict[str, _View] = {}
    if any(not method.views for method in methods):
        seen[_SINGLE] = _View(None)
    for method in methods:
        single = _Single.of(method)
        for view in method.views or (None,):
            key = _SINGLE if view is None else hash_of(view.identity())
            seen.setdefault(key, _View(view)).singles[single.key] = single
    return seen


def _run(
    classifier: Classifier,
    images: Tensor,
    targets: Tensor,
    entry: _View,
    ids: Sequence[str],
    seed: int,
    role: str,
    passes: MapPasses | None,
    made: _Made,
    view: str = _SINGLE,
) -> dict[str, Tensor]:
    """Raw maps of the view's explainers, gradient ones from one shared pass; their notes go to `made`."""
    forwards = forwards_of(classifier)
    before = forwards.passes
    layers = sorted(
        {
            single.layer or classifier.layers[-1]
            for single in entry.singles.values()
            if "layer" in single.explainer.facts.get("needs", ())
        }
    )
    raws: dict[str, Tensor] = {}
    with hooks.shared_pass(classifier, images, targets, layers):
        for key, single in entry.singles.items():
            supplied = single.explainer.choice.supplied
            more: dict[str, Any] = {}
            if "layer" in supplied:
                more["layer"] = single.layer
            if "seeds" in supplied:
                more["seeds"] = _seeds(seed, ids, f"{role}:{key}", images.device)
            with notes.collected() as found:
                raws[key] = single.explainer(classifier, images, targets, **more).detach().float()
            made.notes[view, key] = found
    if passes is not None:
        passes.images += forwards.passes - before
        if layers or any(_plain(single.explainer) for single in entry.singles.values()):
            passes.images += len(images)
    return raws


def _plain(explainer: Bound) -> bool:
    """Whether it runs the net by itself: neither a control nor one whose forwards are counted."""
    return not explainer.facts.get("control") and not explainer.facts.get("forwards")


def _seeds(seed: int, ids: Sequence[str], role: str, device: torch.device) -> Int64[Tensor, " b"]:
    return torch.tensor([fields.image_seed(seed, image, role) for image in ids], dtype=torch.int64, device=device)


def _enlarge(
    raw: Float[Tensor, "b h w"], size: tuple[int, ...], protocol: str, *, fused: bool = False
) -> Float[Tensor, "b H W"]:
    """The map at input resolution, bilinear with half-pixel centres.

    Study protocol: scaled to [0, 1] before, in fusions cut to uint8 steps, clipped after (metrics law, section 2).
    """
    if protocol == "study":
        low = raw.amin((1, 2), keepdim=True)
        high = raw.amax((1, 2), keepdim=True)
        raw = torch.where(high > low, (raw - low) / (high - low).clamp_min(1e-38), torch.zeros_like(raw))
        if fused:
            raw = (raw * 255).floor() / 255
    if tuple(raw.shape[-2:]) != tuple(size):
        raw = F.interpolate(raw[:, None], size=tuple(size), mode="bilinear", align_corners=False)[:, 0]
    return raw.clamp(0, 1) if protocol == "study" else raw


def _assemble(method: Method, made: _Made, keep_views: bool) -> MapBatch:
    key = _Single.of(method).key
    if not method.views:
        maps = made.singles[key]
        if method.alter == "blurred":
            maps = gaussian_blur(maps, method.blur_px or 0.0)
        return MapBatch(maps, torch.ones_like(maps, dtype=torch.bool), notes=made.notes[_SINGLE, key])
    assert method.fusion is not None
    views = [hash_of(view.identity()) for view in method.views]
    chosen = [made.stacks[key][view] for view in views]
    said = [made.notes[view, key] for view in views]
    maps = torch.stack([aligned for aligned, _ in chosen])
    valid = torch.stack([v for _, v in chosen])
    scale = str(method.fusion.settings.get("scale", "none"))
    return MapBatch(
        method.fusion(maps, valid),
        valid.any(0),
        spread(maps, valid, scale=scale),
        maps if keep_views else None,
        {name: torch.stack([one[name] for one in said]).mean(0) for name in said[0]},
    )


def seen_as(preset: Bound, images: Tensor, ids: Sequence[str], seed: int) -> tuple[Tensor, Any]:
    """The images through one of the metrics' views and the way back (`unwarp`)."""
    seen, unwarp = preset(images, _seeds(seed, ids, f"rerun:{hash_of(preset.identity())}", images.device))
    return seen, unwarp


def noisy(
    images: Float[Tensor, "b c h w"], ids: Sequence[str], seed: int, index: int, std: float | Tensor
) -> Float[Tensor, "b c h w"]:
    """`x + e_index`: additive Gaussian noise in pixel units, not clipped, equal for all methods of an image."""
    seeds = _seeds(seed, ids, f"noise{index}", images.device)
    return images + std * fields.normal(seeds, tuple(images.shape[1:])).to(images)


def single_of(method: Method) -> Method:
    """The single-view method that a fusion is made from."""
    return Method(method.name.single(), method.explainer, method.layer)
