"""Maps of many methods for one batch of images: every view seen once, every explainer run once a view, then fused.

A method is a black box image -> map (explainer, layer, views, fusion). Methods that share a view, an explainer or a
layer share the passes; gradient explainers of one view share one forward and one backward pass (`hooks.shared_pass`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

from heatproof.base import fields, hooks, notes
from heatproof.base.aggregate import (
    any_valid,
    coefficient_of_variation,
    common_valid,
    dose_curve,
    leave_one_out,
    round_trip_error,
    spread,
)
from heatproof.base.altered import gaussian_blur
from heatproof.base.correlations import pearson
from heatproof.base.forwards import forwards_of, shared_forwards
from heatproof.base.names import MethodName
from heatproof.base.randomise import random_net
from heatproof.base.records import Classifier, MapBatch, Method
from heatproof.base.registry import Bound, hash_of
from heatproof.base.warps import Unwarp

# Pixels a side that the dose curve of a fusion is drawn from.
CURVE_SIDE = 56


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
    describe: bool = False,
    passes: MapPasses | None = None,
    others: Int64[Tensor, " b"] | None = None,
) -> dict[str, MapBatch]:
    """Maps of each method by its name, at input resolution.

    `role` names the rerun ("base", "noise3", "view:rerun_shift"): stochastic views and explainers draw anew in each.
    Blurred controls are made from the single view of the same explainer by their `blur_px`; shifted ones are not made
    here (they are moved copies of maps that exist). `others`: the classes of controls that explain another class, by
    default the most probable ones of these images but the targets. `describe`: notes say of fusions what more views
    add (`dose_1` ..) and what each view's warp alone loses (`round_trip_1_flip` ..).
    """
    methods = [method for method in methods if method.alter != "shifted"]
    if any(method.alter == "other_class" for method in methods):
        return _with_other_class(
            classifier, images, targets, methods, others, ids=ids, seed=seed, role=role, protocol=protocol,
            passes=passes, keep_views=keep_views, describe=describe,
        )  # fmt: skip
    if any(method.alter == "random_weights" for method in methods):
        return _with_random_weights(
            classifier, images, targets, methods, others=others, ids=ids, seed=seed, role=role, protocol=protocol,
            passes=passes, keep_views=keep_views, describe=describe,
        )  # fmt: skip
    if any(method.of for method in methods):
        return _with_combined(
            classifier, images, targets, methods, ids=ids, seed=seed, role=role, protocol=protocol, passes=passes,
            keep_views=keep_views, describe=describe,
        )  # fmt: skip
    with shared_forwards(classifier):
        made = _Made()
        seen = _views_of(methods)
        for key, entry in seen.items():
            if entry.view is None:
                raws = _run(classifier, images, targets, entry, ids, seed, role, passes, made)
                made.raws |= raws
                made.singles |= {name: _enlarge(raw, images.shape[-2:], protocol) for name, raw in raws.items()}
                continue
            seeds = _seeds(seed, ids, f"{role}:view:{key}", images.device)
            seen_images, unwarp = entry.view(images, seeds)
            made.ways[key] = unwarp
            same = bool(torch.equal(seen_images, images))
            if same and _SINGLE in seen and set(entry.singles) <= set(made.singles):
                raws = {name: made.singles[name] for name in entry.singles}
                if protocol == "study":  # which rounds the maps of views
                    raws = {n: _enlarge(made.raws[n], images.shape[-2:], protocol, fused=True) for n in entry.singles}
                made.notes |= {(key, name): made.notes[_SINGLE, name] for name in entry.singles}
            else:
                raws = _run(classifier, seen_images, targets, entry, ids, seed, f"{role}:{key}", passes, made, key)
                raws = {n: _enlarge(raw, images.shape[-2:], protocol, fused=True) for n, raw in raws.items()}
            for name, enlarged in raws.items():
                made.stacks.setdefault(name, {})[key] = unwarp(enlarged)
        return {str(method.name): _assemble(method, made, keep_views, describe, role == "base") for method in methods}


def _with_other_class(
    classifier: Classifier,
    images: Tensor,
    targets: Tensor,
    methods: Sequence[Method],
    others: Tensor | None,
    **more: Any,
) -> dict[str, MapBatch]:
    """The maps of the target, and those of the controls that explain another class."""
    if others is None:
        with torch.no_grad():
            others = other_classes(forwards_of(classifier).logits(images), targets)
    rest = [method for method in methods if method.alter != "other_class"]
    turned = [dataclasses.replace(method, alter=None) for method in methods if method.alter == "other_class"]
    return {
        **(explain_batch(classifier, images, targets, rest, **more) if rest else {}),
        **explain_batch(classifier, images, others, turned, **more),
    }


def _with_random_weights(
    classifier: Classifier,
    images: Tensor,
    targets: Tensor,
    methods: Sequence[Method],
    *,
    seed: int,
    role: str,
    passes: MapPasses | None,
    **more: Any,
) -> dict[str, MapBatch]:
    """The maps of the net, and those of the controls by a net whose weights are drawn anew for each rerun."""
    rest = [method for method in methods if method.alter != "random_weights"]
    turned = [dataclasses.replace(method, alter=None) for method in methods if method.alter == "random_weights"]
    net, calibrated = random_net(classifier, images, fields.image_seed(seed, role, "random weights"))
    if passes is not None:
        passes.images += calibrated
    more |= {"seed": seed, "role": role, "passes": passes}
    return {
        **(explain_batch(classifier, images, targets, rest, **more) if rest else {}),
        **explain_batch(net, images, targets, turned, **more),
    }


def other_classes(logits: Float[Tensor, "b k"], targets: Int64[Tensor, " b"]) -> Int64[Tensor, " b"]:
    """The most probable class of each image but the target."""
    return logits.scatter(1, targets[:, None], -torch.inf).argmax(1)


def _with_combined(
    classifier: Classifier, images: Tensor, targets: Tensor, methods: Sequence[Method], **more: Any
) -> dict[str, MapBatch]:
    """The maps of plain methods, those that others are made of among them, and then these."""
    # By identity, not by name: a part that is no row of the table has its explainer's own settings.
    parts = {hash_of(part.identity()): part for method in methods for part in method.of}
    unnamed = {key: dataclasses.replace(part, name=MethodName(f"part-{key}")) for key, part in parts.items()}
    plain = [method for method in methods if not method.of]
    known = {hash_of(method.identity()): str(method.name) for method in plain}
    extra = [part for key, part in unnamed.items() if key not in known]
    made = explain_batch(classifier, images, targets, [*plain, *extra], **more)
    names = {**{key: str(part.name) for key, part in unnamed.items()}, **known}
    result = {str(method.name): made[str(method.name)] for method in plain}
    for method in methods:
        if method.of:
            assert method.explainer is not None
            batches = [made[names[hash_of(part.identity())]] for part in method.of]
            with notes.collected() as found:
                maps = method.explainer(torch.stack([batch.maps for batch in batches]))
            valid = torch.stack([batch.valid for batch in batches]).all(0)
            result[str(method.name)] = MapBatch(maps.detach().float(), valid, notes=found)
    return result


@dataclass
class _Made:
    """What the explainers gave: single views by explainer, at their own resolution and the input's, aligned views by
    explainer and view, notes by view and explainer, the way back from each view."""

    raws: dict[str, Tensor] = field(default_factory=dict)
    singles: dict[str, Tensor] = field(default_factory=dict)
    stacks: dict[str, dict[str, tuple[Tensor, Tensor]]] = field(default_factory=dict)
    notes: dict[tuple[str, str], dict[str, Tensor]] = field(default_factory=dict)
    ways: dict[str, Unwarp] = field(default_factory=dict)


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
            hooks.target_layer(classifier, single.layer)
            for single in entry.singles.values()
            if "layer" in single.explainer.facts.get("needs", ())
        }
    )
    raws: dict[str, Tensor] = {}
    found_layers = forwards.layers(images, targets, layers)
    with hooks.shared_pass(classifier, images, targets, layers, found=found_layers):
        for key, single in entry.singles.items():
            supplied = single.explainer.choice.supplied
            more: dict[str, Any] = {}
            if "layer" in supplied:
                more["layer"] = single.layer
            if "ids" in supplied:
                more["ids"] = ids
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
    """Whether it runs the net by itself and once: not a control, a given map or one whose forwards are counted."""
    return not any(explainer.facts.get(fact) for fact in ("control", "given", "forwards"))


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


def _assemble(method: Method, made: _Made, keep_views: bool, describe: bool, with_spread: bool) -> MapBatch:
    key = _Single.of(method).key
    if not method.views:
        maps, raw = made.singles[key], made.raws[key]
        if method.alter == "blurred":
            maps = gaussian_blur(maps, method.blur_px or 0.0)
        own = raw if method.alter != "blurred" and raw.shape != maps.shape else None
        return MapBatch(maps, torch.ones_like(maps, dtype=torch.bool), notes=made.notes[_SINGLE, key], raw=own)
    assert method.fusion is not None
    views = [hash_of(view.identity()) for view in method.views]
    chosen = [made.stacks[key][view] for view in views]
    said = [made.notes[view, key] for view in views]
    maps = torch.stack([aligned for aligned, _ in chosen])
    valid = torch.stack([v for _, v in chosen])
    fused = method.fusion(maps, valid)
    averaged = {name: torch.stack([one[name] for one in said]).mean(0) for name in said[0]}
    if describe:
        averaged |= _described(method, maps, valid, fused, [made.ways[view] for view in views])
    kept, seen = (maps, valid) if keep_views else (None, None)
    about = spread(maps, valid, scale=_scale_of(method.fusion)) if with_spread else None
    return MapBatch(fused, any_valid(valid), about, kept, averaged, seen=seen)


def _scale_of(fusion: Bound) -> str:
    return str(fusion.settings.get("scale", "none"))


def parts_of(method: Method, made: MapBatch) -> dict[str, Tensor]:
    """What a method's maps were made from, images first: "raw" (b, h, w); and of a fusion whose views were kept
    "views", "seen" and, of two views or more, "leave_one_out" (b, v, H, W)."""
    found = {} if made.raw is None else {"raw": made.raw}
    if made.views is not None and made.seen is not None and method.fusion is not None:
        found |= {"views": made.views.transpose(0, 1), "seen": made.seen.transpose(0, 1)}
        if len(made.views) > 1:
            found["leave_one_out"] = leave_one_out(made.views, made.seen, method.fusion).transpose(0, 1)
    return found


def _described(
    method: Method, maps: Tensor, valid: Tensor, fused: Tensor, ways: Sequence[Unwarp]
) -> dict[str, Float[Tensor, " b"]]:
    """What a fusion's views add, on every so many-th pixel (`CURVE_SIDE` of a side): dose curve, leave-one-out maps
    beside the fused one (Pearson's r over the pixels that all views see), coefficient of variation (median over
    pixels); and, on all pixels, each view's round trip and the share of the image that every view sees."""
    assert method.fusion is not None
    step = max(1, min(maps.shape[-2:]) // CURVE_SIDE)
    thinned = maps[..., ::step, ::step], valid[..., ::step, ::step]
    notes_of = {f"dose_{n}": curve for n, curve in enumerate(dose_curve(*thinned, method.fusion), 1)}
    left_out = leave_one_out(*thinned, method.fusion) if len(method.views) > 1 else ()
    whole, seen = method.fusion(*thinned), common_valid(thinned[1])
    for n, (view, way) in enumerate(zip(method.views, ways, strict=True), 1):
        notes_of[f"round_trip_{n}_{view.name}"] = round_trip_error(fused, way)[0]
        if len(left_out):
            notes_of[f"leave_one_out_{n}_{view.name}"] = pearson(left_out[n - 1], whole, seen)
    share = coefficient_of_variation(*thinned, scale=_scale_of(method.fusion)).flatten(1).double()
    notes_of["coefficient_of_variation"] = share.nanmedian(1).values
    notes_of["common_area"] = common_valid(valid).flatten(1).double().mean(1)
    return notes_of


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


def jittered(
    images: Float[Tensor, "b c h w"], ids: Sequence[str], seed: int, index: int, radius: float
) -> Float[Tensor, "b c h w"]:
    """`x + e_index`: additive noise uniform in [-radius, radius] in pixel units, not clipped, equal for all methods."""
    seeds = _seeds(seed, ids, f"uniform{index}", images.device)
    return images + radius * (2 * fields.uniform(seeds, tuple(images.shape[1:])).to(images) - 1)


def single_of(method: Method) -> Method:
    """The single-view method that a fusion is made from."""
    single = Method(method.name.single(), method.explainer, method.layer, of=method.of)
    if method.alter in ("other_class", "random_weights"):
        return dataclasses.replace(single, control_of=method.control_of, alter=method.alter)
    return single
