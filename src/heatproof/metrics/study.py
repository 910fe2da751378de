"""The nine as the studies behind them compute them (`protocol=study`), kept so that published tables can be redone.

Conventions: maps come made by the study's rules (scaled to [0, 1], enlarged bilinearly, clipped); T = every pixel with
a >= the 80th percentile; noise in units of the normalised input. What is not comparable in such a table: rows are
perturbed differently; a fusion's views are compared with a mean that contains them; the stability of a fusion is that
of its single view. So verdicts compare no rows in these six (`ranked=False`). A constant map is undefined here, too,
where the studies' code calls it perfectly consistent.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from itertools import combinations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from heatproof.base.case import Case, Perturbed, Rerun, RerunMaps
from heatproof.base.correlations import pearson, spearman
from heatproof.base.regions import area, inclusive_region, iou
from heatproof.base.registry import choice

Columns = dict[str, Float[Tensor, " b"]]
PassStream = Generator[tuple[Perturbed, ...], tuple[Float[Tensor, " b"], ...], Columns]
RerunStream = Generator[tuple[Rerun, ...], tuple[RerunMaps, ...], Columns]


@choice(
    better="up",
    range=(-1, 1),
    columns=("faith_study", "faith_study_area"),
    needs=("order",),
    asks=(("without", "1"),),
    protocol="study",
    version=1,
    source="Panboonyuen 2026, Eq. 5, code of study 5",
)
def faith_study(case: Case, *, percentile: float, fill: str) -> PassStream:
    """Drop of p_c when T is set to what normalisation makes zero: `p_c(x) - p_c(fill(x, T))`; -1 to 1, up.

    `faith_study_area`: what the inclusive percentile selected. Source: Panboonyuen 2026, Eq. 5.
    """
    region = inclusive_region(case.maps, percentile)
    (p_without,) = yield (case.without(region, fill),)
    return {"faith_study": case.p - p_without, "faith_study_area": area(region)}


@choice(
    better="up",
    range=(0, 1),
    columns=("loc_acc_study", "loc_acc_study_area"),
    needs=("mask", "order"),
    protocol="study",
    version=1,
    source="Panboonyuen 2026, Eq. 4, code of study 5",
)
def loc_acc_study(case: Case, *, percentile: float) -> Columns:
    """Share of the annotated pixels inside T: `|T and M| / |M|`; 0 to 1, up; undefined for an empty mask.

    Source: Panboonyuen 2026, Eq. 4.
    """
    region = inclusive_region(case.maps, percentile)
    size = case.masks.flatten(1).sum(1).double()
    case.undefine(size == 0, "empty_mask")
    return {
        "loc_acc_study": (region & case.masks).flatten(1).sum(1) / size,
        "loc_acc_study_area": area(region),
    }


@choice(
    better="up",
    range=(-1, 1),
    columns=("fidelity_study", "fidelity_study_prob", "fidelity_study_area"),
    needs=("order",),
    asks=(("without", "1"), ("only", "1")),
    protocol="study",
    version=1,
    source="Akgündoğdu 2025, Eq. 11-15, code of study 5",
)
def fidelity_study(case: Case, *, percentile: float, fill: str) -> PassStream:
    """`1[f(keep T)=c] - 1[f(remove T)=c]`; -1, 0 or 1, up; `_prob`: the same with p_c.

    Source: Akgündoğdu 2025, Eq. 11-15.
    """
    region = inclusive_region(case.maps, percentile)
    hit_kept, hit_removed, p_kept, p_removed = yield (
        case.only(region, fill, "hit"),
        case.without(region, fill, "hit"),
        case.only(region, fill),
        case.without(region, fill),
    )
    return {
        "fidelity_study": hit_kept - hit_removed,
        "fidelity_study_prob": p_kept - p_removed,
        "fidelity_study_area": area(region),
    }


@choice(
    better="up",
    range=(-1, 1),
    columns=("stability_study",),
    needs=("order",),
    reruns=("noise",),
    protocol="study",
    ranked=False,
    version=1,
    source="Akgündoğdu 2025, Eq. 16-17, code of study 5",
)
def stability_study(case: Case, *, noises: int, noise_std: float) -> RerunStream:
    """Mean over n of `Pearson(E(x), E(x + e_n))` of the single-view explainer, in the rows of its fusions, too.

    -1 to 1, up. Pearsons of constant maps leave the mean; undefined (`rerun`) where none is left.
    Source: Akgündoğdu 2025, Eq. 16-17.
    """
    reruns = yield tuple(case.rerun(noise=n, std=noise_std, single=True, normalized=True) for n in range(noises))
    return {"stability_study": _mean_of_defined(case, [pearson(rerun.reference, rerun.maps) for rerun in reruns])}


@choice(
    better="up",
    range=(0, 1),
    columns=("consist_iou_study",),
    needs=("order",),
    reruns=("noise",),
    protocol="study",
    ranked=False,
    version=1,
    source="Panboonyuen 2026, Eq. 6, code of study 5",
)
def consist_iou_study(case: Case, *, percentile: float, noises: int, noise_std: float) -> RerunStream:
    """Fusions: mean over aligned views of `IoU(T(view), T(fused))`; single views: over noisy reruns against the map.

    0 to 1, up. The two kinds of row answer different questions. Source: Panboonyuen 2026, Eq. 6.
    """
    own = inclusive_region(case.maps, percentile)
    others = yield from _views_or_reruns(case, noises, noise_std)
    overlaps = [iou(inclusive_region(other, percentile), own) for other in others]
    return {"consist_iou_study": torch.stack(overlaps).mean(0)}


@choice(
    better="up",
    range=(-1, 1),
    columns=("consist_pearson_study",),
    needs=("order",),
    reruns=("noise",),
    protocol="study",
    ranked=False,
    version=1,
    source="Akgündoğdu 2025, Eq. 18, code of study 5",
)
def consist_pearson_study(case: Case, *, noises: int, noise_std: float) -> RerunStream:
    """Mean Pearson of all pairs: of a fusion's aligned views, or of a single view's noisy reruns.

    -1 to 1, up. Pearsons of constant maps leave the mean; undefined (`rerun`) where none is left.
    Source: Akgündoğdu 2025, Eq. 18.
    """
    others = yield from _views_or_reruns(case, noises, noise_std)
    return {"consist_pearson_study": _mean_of_defined(case, [pearson(a, b) for a, b in combinations(others, 2)])}


@choice(
    better="down",
    range=(0, 1),
    columns=("view_variance_study",),
    needs=("order",),
    protocol="study",
    ranked=False,
    version=1,
    source="RobustCAM, code of study 5",
)
def view_variance_study(case: Case) -> Columns:
    """Mean over pixels of the population variance of the fusion's aligned views; down; undefined for single views.

    Views are in [0, 1], so at most 1/4. Source: RobustCAM.
    """
    if case.view_maps is None:
        return {"view_variance_study": _single_view(case)}
    return {"view_variance_study": case.view_maps.double().var(0, correction=0).mean((1, 2))}


@choice(
    better="up",
    range=(0, 1),
    columns=("view_iou_study",),
    needs=("order",),
    protocol="study",
    ranked=False,
    version=1,
    source="RobustCAM, code of study 5",
)
def view_iou_study(case: Case, *, q: float) -> Columns:
    """Mean over views of the IoU of the floor(q HW) highest pixels of the view and of the fused map; 0 to 1, up.

    Ties fall by position, as sorting leaves them. Undefined for single views. Source: RobustCAM.
    """
    if case.view_maps is None:
        return {"view_iou_study": _single_view(case)}
    own = _highest(case.maps, q)
    return {"view_iou_study": torch.stack([iou(_highest(view, q), own) for view in case.view_maps]).mean(0)}


@choice(
    better="up",
    range=(-1, 1),
    columns=("view_spearman_study",),
    needs=("order",),
    protocol="study",
    ranked=False,
    version=1,
    source="RobustCAM, code of study 5",
)
def view_spearman_study(case: Case) -> Columns:
    """Mean over views of Spearman of the view and the fused map, NaN counted as 0; -1 to 1, up.

    Undefined for single views. Source: RobustCAM.
    """
    if case.view_maps is None:
        return {"view_spearman_study": _single_view(case)}
    each = torch.stack([spearman(view, case.maps) for view in case.view_maps])
    return {"view_spearman_study": each.nan_to_num(0.0).mean(0)}


def _views_or_reruns(
    case: Case, noises: int, noise_std: float
) -> Generator[tuple[Rerun, ...], tuple[RerunMaps, ...], list[Float[Tensor, "b h w"]]]:
    """What a row is compared over: the aligned views of a fusion, noisy reruns of a single view."""
    if case.view_maps is not None:
        return list(case.view_maps)
    reruns = yield tuple(case.rerun(noise=n, std=noise_std, normalized=True) for n in range(noises))
    return [rerun.maps for rerun in reruns]


def _highest(maps: Float[Tensor, "b h w"], q: float) -> Bool[Tensor, "b h w"]:
    flat = maps.flatten(1)
    first = flat.sort(dim=1, descending=True, stable=True).indices[:, : int(q * flat.shape[1])]
    return torch.zeros_like(flat, dtype=torch.bool).scatter_(1, first, True).view(maps.shape)


def _mean_of_defined(case: Case, values: Sequence[Float[Tensor, " b"]]) -> Float[Tensor, " b"]:
    mean = torch.stack(list(values)).nanmean(0)
    case.undefine(mean.isnan(), "rerun")
    return mean


def _single_view(case: Case) -> Float[Tensor, " b"]:
    case.undefine(torch.ones_like(case.p, dtype=torch.bool), "single_view")
    return torch.full_like(case.p, torch.nan)
