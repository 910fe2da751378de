"""Sensitivity: how far a map moves when the image is disturbed a little, and whether it follows the image.

Conventions: reruns of the whole method (views, fusion and all), the class kept. Sensitivities: uniform noise in
[-radius, radius] in pixel units, equal for all methods of an image; both maps centred on their mean, so that an offset
counts for nothing. A map that never changes has sensitivity 0 and equivariance below 1: read both.
"""

from __future__ import annotations

from collections.abc import Generator

import torch
from jaxtyping import Float
from torch import Tensor

from heatproof.base.case import Case, Rerun, RerunMaps
from heatproof.base.registry import choice

Stream = Generator[tuple[Rerun, ...], tuple[RerunMaps, ...], dict[str, Float[Tensor, " b"]]]


@choice(
    better="down",
    range=(0, 1000),
    columns=("max_sensitivity", "max_sensitivity_changed"),
    needs=("order",),
    reruns=("noise",),
    version=1,
    source="Yeh 2019, section 3.1",
)
def max_sensitivity(case: Case, *, noises: int, radius: float) -> Stream:
    """Largest relative change of the map over noisy copies: `max_n ||E(x + e_n) - E(x)|| / ||E(x)||`, maps centred.

    0 upwards, down. `_changed`: share of noisy copies of another predicted class. Undefined on a map without order and
    where a rerun has none (`rerun`). Source: Yeh 2019, section 3.1.
    """
    reruns = yield _noisy(case, noises, radius)
    found = _changes(reruns)
    return {"max_sensitivity": found.amax(1), "max_sensitivity_changed": _changed(reruns)}


@choice(
    better="down",
    range=(0, 1000),
    columns=("avg_sensitivity", "avg_sensitivity_changed"),
    needs=("order",),
    reruns=("noise",),
    version=1,
    source="Yeh 2019, section 3.1; Bhatt 2020, Definition 3",
)
def avg_sensitivity(case: Case, *, noises: int, radius: float) -> Stream:
    """Mean relative change of the map over noisy copies: as `max_sensitivity`, averaged over n.

    0 upwards, down. Columns and undefined values as there. Source: Yeh 2019, section 3.1; Bhatt 2020, Definition 3.
    """
    reruns = yield _noisy(case, noises, radius)
    return {"avg_sensitivity": _changes(reruns).mean(1), "avg_sensitivity_changed": _changed(reruns)}


@choice(
    better="up",
    range=(-1, 1),
    columns=("equivariance",),
    needs=("order",),
    reruns=("view",),
    version=1,
    source="Crabbé & van der Schaar 2023, Definition 3.2",
)
def equivariance(case: Case, *, views: list) -> Stream:
    """Mean over a group of transformations g of the cosine of E(g x) and g E(x), compared in the frame of x.

    -1 to 1, up; 1 for a method that follows the image exactly. Both sides go through the same warp and back, so that
    resampling costs nothing. Averaging a method over a group makes it equivariant under it by construction. Undefined
    on a map without order and where a rerun has none (`rerun`).
    Source: Crabbé & van der Schaar 2023, Definition 3.2.
    """
    reruns = yield tuple(case.rerun(view=view) for view in views)
    return {"equivariance": torch.stack([_cosine(rerun) for rerun in reruns], 1).mean(1)}


def _noisy(case: Case, noises: int, radius: float) -> tuple[Rerun, ...]:
    return tuple(case.rerun(noise=n, std=radius, uniform=True) for n in range(noises))


def _changed(reruns: tuple[RerunMaps, ...]) -> Float[Tensor, " b"]:
    return torch.stack([rerun.changed for rerun in reruns], 1).double().mean(1)


def _changes(reruns: tuple[RerunMaps, ...]) -> Float[Tensor, "b n"]:
    """Relative change of each rerun over the valid pixels."""
    found = []
    for rerun in reruns:
        valid = rerun.valid.flatten(1)
        a, b = (_centred(maps.flatten(1).double(), valid) for maps in (rerun.reference, rerun.maps))
        # One unit for both: squares of tiny gradients would underflow.
        unit = a.abs().amax(1, keepdim=True)
        found.append(((b - a) / unit).norm(dim=1) / (a / unit).norm(dim=1))
    return torch.stack(found, 1)


def _centred(values: Float[Tensor, "b n"], valid: Tensor) -> Float[Tensor, "b n"]:
    mean = values.masked_fill(~valid, 0).sum(1, keepdim=True) / valid.sum(1, keepdim=True)
    return (values - mean).masked_fill(~valid, 0)


def _cosine(rerun: RerunMaps) -> Float[Tensor, " b"]:
    a, b = (maps.flatten(1).double().masked_fill(~rerun.valid.flatten(1), 0) for maps in (rerun.reference, rerun.maps))
    a = a / a.abs().amax(1, keepdim=True)
    b = b / b.abs().amax(1, keepdim=True)
    return ((a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1))).clamp(-1, 1)
