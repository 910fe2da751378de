"""Agreement over views: does a method give the same map, moved along, when the image is moved a little?

Conventions: reruns of the whole method on R small views (shift, rotation, magnification, gamma), none of them in the
default sets of views. Each rerun's map is warped back and compared, over the valid pixels, with E(x) sent through the
same warp and back (`reference`), so that a method that moves its map along scores best at any resolution. Views count
in the main column only if their family is in `families`: the plan takes out the families that a fusion of the run uses,
as averaging over a group raises stability by construction (Crabbé & van der Schaar 2023); where none is left the metric
is undefined (`family`). A column per family is there in any case.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Generator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from heatproof.base.case import Case, Rerun, RerunMaps
from heatproof.base.correlations import fractional_ranks, spearman
from heatproof.base.regions import area, iou, tied_share, top_region
from heatproof.base.registry import choice, preset
from heatproof.base.values import is_constant

Columns = dict[str, Float[Tensor, " b"]]
Stream = Generator[tuple[Rerun, ...], tuple[RerunMaps, ...], Columns]


@choice(
    better="down",
    range=(0, 1),
    columns=(
        "view_variance",
        "view_variance_shift",
        "view_variance_rotation",
        "view_variance_scale",
        "view_variance_photometric",
    ),
    needs=("order",),
    reruns=("view",),
    floor=True,
    version=1,
    source="RobustCAM",
)
def view_variance(case: Case, *, views: list, families: list) -> Stream:
    """Spread of a pixel's rank over views: mean over pixels valid in all of the population variance of R + 1 ranks.

    The ranks are fractional, in (0, 1): of E(x), and of each view's map. A view's rank enters as rank(E(x)) plus its
    difference to the rank of the reference, so that resampling alone adds nothing; where warps lose nothing this is the
    plain variance of the R + 1 ranks. 0 = the same map in every view, about 1/12 for unrelated maps; down.
    Undefined on a map without order, where a view's map has none (`rerun`) and where no view counts (`family`).
    Source: RobustCAM, on ranks instead of min-max maps, where one outlier pixel would win.
    """

    reruns = yield _seen(case, views)
    _require_order(case, reruns)

    def spread(rows: Sequence[int]) -> Float[Tensor, " b"]:
        chosen = [reruns[row] for row in rows]
        valid = functools.reduce(torch.logical_and, [rerun.valid for rerun in chosen])
        # The own rank's difference is 0. Sums over a first dimension take several times as long.
        total, squares = torch.zeros_like(valid, dtype=torch.float64), torch.zeros_like(valid, dtype=torch.float64)
        for rerun in chosen:
            difference = fractional_ranks(rerun.maps, valid).sub_(fractional_ranks(rerun.reference, valid))
            total += difference
            squares.addcmul_(difference, difference)
        mean, square = total.div_(len(chosen) + 1), squares.div_(len(chosen) + 1)
        return (square - mean.square()).clamp_min(0).flatten(1).nanmean(1)

    return _by_family(case, "view_variance", views, families, spread)


@choice(
    better="up",
    range=(0, 1),
    columns=(
        "view_iou",
        "view_iou_shift",
        "view_iou_rotation",
        "view_iou_scale",
        "view_iou_photometric",
        "view_iou_area",
        "view_iou_tied",
    ),
    needs=("order",),
    reruns=("view",),
    floor=True,
    version=1,
    source="RobustCAM",
)
def view_iou(case: Case, *, q: float, views: list, families: list) -> Stream:
    """Overlap of the top q of valid pixels in each view with the reference's: mean over r of their IoU.

    0 to 1, up; chance q / (2 - q) for independent pixels. Undefined as in `view_variance`. Source: RobustCAM.
    """

    region = top_region(case.maps, q, case.tie_seeds(), case.valid)
    reruns = yield _seen(case, views)
    _require_order(case, reruns)
    each = []
    for view, rerun in zip(views, reruns, strict=True):
        own = top_region(rerun.reference, q, case.tie_seeds(), rerun.valid)
        each.append(iou(own, top_region(rerun.maps, q, case.tie_seeds(f"view:{view}"), rerun.valid)))
    return {
        **_by_family(case, "view_iou", views, families, lambda rows: torch.stack([each[r] for r in rows]).mean(0)),
        "view_iou_area": area(region),
        "view_iou_tied": tied_share(case.maps, region, case.valid),
    }


@choice(
    better="up",
    range=(-1, 1),
    columns=(
        "view_spearman",
        "view_spearman_shift",
        "view_spearman_rotation",
        "view_spearman_scale",
        "view_spearman_photometric",
    ),
    needs=("order",),
    reruns=("view",),
    floor=True,
    version=1,
    source="RobustCAM",
)
def view_spearman(case: Case, *, views: list, families: list) -> Stream:
    """Likeness of each view's map and the reference in rank: mean over r of Spearman over valid pixels, mid-ranks.

    -1 to 1, up. Blur alone raises it: read it beside the blurred control. Undefined as in `view_variance`.
    Source: RobustCAM.
    """

    reruns = yield _seen(case, views)
    _require_order(case, reruns)
    each = [spearman(rerun.reference, rerun.maps, rerun.valid) for rerun in reruns]
    return _by_family(case, "view_spearman", views, families, lambda rows: torch.stack([each[r] for r in rows]).mean(0))


def _seen(case: Case, views: Sequence[str]) -> tuple[Rerun, ...]:
    return tuple(case.rerun(view=view) for view in views)


def _require_order(case: Case, reruns: Sequence[RerunMaps]) -> None:
    """An image is undefined where one map has no order on the pixels that its view shares with the image."""
    for rerun in reruns:
        case.undefine(is_constant(rerun.maps, rerun.valid) | is_constant(rerun.reference, rerun.valid), "rerun")


def _by_family(
    case: Case,
    name: str,
    views: Sequence[str],
    families: Sequence[str],
    value: Callable[[Sequence[int]], Float[Tensor, " b"]],
) -> Columns:
    """The value over the views that count, and over those of each family alone; `value` takes view numbers."""
    members: dict[str, list[int]] = {}
    for number, view in enumerate(views):
        members.setdefault(str(preset("view", view).facts["family"]), []).append(number)
    columns = {f"{name}_{family}": value(numbers) for family, numbers in members.items()}
    counted = [number for family, numbers in members.items() if family in families for number in numbers]
    if not counted:
        case.undefine(torch.ones_like(case.p, dtype=torch.bool), "family", main_only=True)
        return {name: torch.full_like(case.p, torch.nan), **columns}
    return {name: value(counted), **columns}
