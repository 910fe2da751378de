"""Stability: does a method give the same map when the image is disturbed by noise that nobody sees?

Conventions: reruns of the whole method (views, fusion and all) on N noisy copies x + e_n, the class kept; `noise_std`
in pixel units; e_n is equal for all methods of an image. Read every number beside its between-image floor: smooth maps
of different images resemble each other, and a map that never changes scores 1 and has excess 0. Where noise is itself a
view of a fusion in the run, it does not count (`families` without "noise"): undefined, reason `family`.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from itertools import combinations

import torch
from jaxtyping import Float
from torch import Tensor

from heatproof.base.case import Case, Rerun, RerunMaps
from heatproof.base.correlations import pearson
from heatproof.base.regions import area, iou, tied_share, top_region
from heatproof.base.registry import choice

Stream = Generator[tuple[Rerun, ...], tuple[RerunMaps, ...], dict[str, Float[Tensor, " b"]]]


@choice(
    better="up",
    range=(0, 1),
    columns=("consist_iou", "consist_iou_area", "consist_iou_tied"),
    needs=("order",),
    reruns=("noise",),
    floor=True,
    version=1,
    source="Panboonyuen 2026, Eq. 6",
)
def consist_iou(case: Case, *, q: float, noises: int, noise_std: float, families: list) -> Stream:
    """Overlap of the top region with that of noisy reruns: mean over n of `IoU(T_q(E(x + e_n)), T_q(E(x)))`.

    0 to 1, up. Chance is q / (2 - q) for independent pixels (1/9 at q = 0.2), more for smooth maps. Undefined on a map
    without order, and where one rerun has none (`rerun`). Ties of the map and of each rerun are broken independently.
    Source: Panboonyuen 2026, Eq. 6.
    """
    region = top_region(case.maps, q, case.tie_seeds(), case.valid)
    extra = {"consist_iou_area": area(region), "consist_iou_tied": tied_share(case.maps, region, case.valid)}
    if "noise" not in families:
        return {"consist_iou": _nowhere(case), **extra}
    reruns = yield _noisy(case, noises, noise_std)
    overlaps = []
    for n, rerun in enumerate(reruns):
        own = top_region(rerun.reference, q, case.tie_seeds(), rerun.valid)
        overlaps.append(iou(own, top_region(rerun.maps, q, case.tie_seeds(f"noise{n}"), rerun.valid)))
    return {"consist_iou": _mean(case, overlaps), **extra}


@choice(
    better="up",
    range=(-1, 1),
    columns=("stability",),
    needs=("order",),
    reruns=("noise",),
    floor=True,
    version=1,
    source="Akgündoğdu 2025, Eq. 16-17",
)
def stability(case: Case, *, noises: int, noise_std: float, families: list) -> Stream:
    """Likeness of the map and its noisy reruns: mean over n of `Pearson(E(x), E(x + e_n))`.

    -1 to 1, up. Undefined on a constant map, and where one rerun is constant (`rerun`), never 1.
    Source: Akgündoğdu 2025, Eq. 16-17, which reruns the single view; here the whole method is rerun.
    """
    if "noise" not in families:
        return {"stability": _nowhere(case)}
    reruns = yield _noisy(case, noises, noise_std)
    return {"stability": _mean(case, [pearson(rerun.reference, rerun.maps, rerun.valid) for rerun in reruns])}


@choice(
    better="up",
    range=(-1, 1),
    columns=("consist_pearson",),
    needs=("order",),
    reruns=("noise",),
    floor=True,
    version=1,
    source="Akgündoğdu 2025, Eq. 18",
)
def consist_pearson(case: Case, *, noises: int, noise_std: float, families: list) -> Stream:
    """Likeness of noisy reruns among themselves: mean over n < m of `Pearson(E(x + e_n), E(x + e_m))`.

    -1 to 1, up. Undefined on a constant map, and where one rerun is constant (`rerun`).
    Source: Akgündoğdu 2025, Eq. 18.
    """
    if "noise" not in families:
        return {"consist_pearson": _nowhere(case)}
    reruns = yield _noisy(case, noises, noise_std)
    pairs = [pearson(a.maps, b.maps, a.valid & b.valid) for a, b in combinations(reruns, 2)]
    return {"consist_pearson": _mean(case, pairs)}


def _noisy(case: Case, noises: int, noise_std: float) -> tuple[Rerun, ...]:
    return tuple(case.rerun(noise=n, std=noise_std) for n in range(noises))


def _mean(case: Case, values: Sequence[Float[Tensor, " b"]]) -> Float[Tensor, " b"]:
    """Mean over reruns or pairs; an image with one that says nothing is undefined."""
    mean = torch.stack(list(values)).mean(0)
    case.undefine(mean.isnan(), "rerun")
    return mean


def _nowhere(case: Case) -> Float[Tensor, " b"]:
    case.undefine(torch.ones_like(case.p, dtype=torch.bool), "family", main_only=True)
    return torch.full_like(case.p, torch.nan)
