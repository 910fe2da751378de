"""Localisation: how the region that a map calls important lies on an annotated mask M."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from heatproof.base.case import Case
from heatproof.base.correlations import midranks
from heatproof.base.order import descending
from heatproof.base.regions import area, iou, quantised, ranking, tied_share, top_region
from heatproof.base.registry import choice
from heatproof.base.values import norm

Columns = dict[str, Float[Tensor, " b"]]


@choice(
    better="up",
    range=(0, 1),
    columns=("loc_acc", "loc_acc_precision", "loc_acc_chance", "loc_acc_ceiling", "loc_acc_area", "loc_acc_tied"),
    needs=("mask", "order"),
    version=1,
    source="Panboonyuen 2026, Eq. 4",
)
def loc_acc(case: Case, *, q: float) -> Columns:
    """Share of the annotated pixels inside the top q of the map: `|T_q and M| / |M|`.

    0 to 1, up. Columns: `_precision` = |T and M| / |T|; `_chance` = |T| / HW, what a map that knows nothing expects;
    `_ceiling` = min(1, |T| / |M|), the best that any map can get; `_area`, `_tied` as in `faith`.
    Undefined without a mask (`no_mask`), for an empty one (`empty_mask`) and on a map without order.
    Source: Panboonyuen 2026, Eq. 4.
    """
    region = top_region(case.maps, q, case.tie_seeds(), case.valid)
    size = case.masks.flatten(1).sum(1).double()
    selected = region.flatten(1).sum(1).double()
    found = (region & case.masks).flatten(1).sum(1).double()
    case.undefine(size == 0, "empty_mask")
    share = area(region)
    return {
        "loc_acc": found / size,
        "loc_acc_precision": found / selected,
        "loc_acc_chance": share,
        "loc_acc_ceiling": torch.where(size > 0, (selected / size).clamp_max(1), torch.nan),
        "loc_acc_area": share,
        "loc_acc_tied": tied_share(case.maps, region, case.valid),
    }


@choice(
    better="up",
    range=(0, 1),
    columns=("pointing_game", "pointing_game_chance"),
    needs=("mask", "order"),
    version=1,
    source="Zhang 2018, section 4.1",
)
def pointing_game(case: Case, *, tolerance: float) -> Columns:
    """Share of the map's maxima that lie on the annotation, widened by `tolerance` px at 224 px, scaled to the image.

    0 to 1, up; 0 or 1 where the maximum is one pixel. `_chance`: share of the image that the widened annotation covers.
    Undefined without a mask, for an empty one (`empty_mask`) and on a map without order. Source: Zhang 2018.
    """
    h, w = case.maps.shape[-2:]
    wide = _dilated(case.masks, tolerance * min(h, w) / 224)
    return {"pointing_game": _hits(case, wide), "pointing_game_chance": area(wide)}


@choice(
    better="up",
    range=(0, 1),
    columns=("hit_rate", "hit_rate_chance"),
    needs=("mask", "order"),
    version=1,
    source="Saporta 2022, Methods",
)
def hit_rate(case: Case) -> Columns:
    """Share of the map's maxima that lie on the annotation itself: the pointing game without tolerance.

    0 to 1, up; chance |M| / HW. Undefined as `pointing_game`. Source: Saporta 2022, Methods.
    """
    return {"hit_rate": _hits(case, case.masks), "hit_rate_chance": area(case.masks)}


@choice(
    better="up",
    range=(0, 1),
    columns=("energy_pointing", "energy_pointing_chance"),
    needs=("mask",),
    version=1,
    source="Wang 2020, Eq. 7; Arras 2022 (relevance mass accuracy)",
)
def energy_pointing(case: Case, *, values: str) -> Columns:
    """Share of the map's positive part that lies on the annotation.

    0 to 1, up; chance |M| / HW. `values`: "positive" (negative values count nothing) or "minmax" (the map scaled to
    [0, 1] first). Defined on a constant map; undefined where nothing is positive (`zero`), without a mask and for an
    empty one. Source: Wang 2020, Eq. 7; Arras 2022.
    """
    mass = (norm(case.maps) if values == "minmax" else case.maps.clamp_min(0)).double().masked_fill(~case.valid, 0)
    total = mass.flatten(1).sum(1)
    case.undefine(_empty(case), "empty_mask")
    case.undefine(total <= 0, "zero")
    inside = (mass * case.masks).flatten(1).sum(1)
    share = torch.where((total > 0) & ~_empty(case), inside / total.clamp_min(1e-300), torch.nan)
    return {"energy_pointing": share, "energy_pointing_chance": area(case.masks)}


@choice(
    better="up",
    range=(0, 1),
    columns=("relevance_rank", "relevance_rank_chance"),
    needs=("mask", "order"),
    version=1,
    source="Arras 2022, Eq. 3",
)
def relevance_rank(case: Case) -> Columns:
    """Share of the annotation among the k highest pixels, k = |M|.

    0 to 1, up; chance |M| / HW. Undefined as `loc_acc`. Source: Arras 2022, Eq. 3.
    """
    size = case.masks.flatten(1).sum(1)
    case.undefine(size == 0, "empty_mask")
    top = ranking(case.maps, case.tie_seeds(), case.valid) <= size[:, None, None]
    return {
        "relevance_rank": (top & case.masks).flatten(1).sum(1) / size.double(),
        "relevance_rank_chance": area(case.masks),
    }


@choice(
    better="up",
    range=(0, 1),
    columns=("mask_iou", "mask_iou_area", "mask_iou_tied"),
    needs=("mask", "order"),
    shifted=True,
    version=1,
    source="intersection over union of the top region and the annotation",
)
def mask_iou(case: Case, *, q: float) -> Columns:
    """Overlap of the top q of the map with the annotation: `|T and M| / |T or M|`.

    0 to 1, up; 1 needs an annotation of just this size. Undefined as `loc_acc`. Source: Jaccard 1912.
    """
    region = top_region(case.maps, q, case.tie_seeds(), case.valid)
    case.undefine(_empty(case), "empty_mask")
    overlap = iou(region, case.masks).masked_fill(_empty(case), torch.nan)
    return {
        "mask_iou": overlap,
        "mask_iou_area": area(region),
        "mask_iou_tied": tied_share(case.maps, region, case.valid),
    }


@choice(
    better="neither",
    range=(0, 1),
    columns=("iou_best", "iou_best_area"),
    needs=("mask", "order"),
    shifted=True,
    version=1,
    source="upper bound of mask_iou",
)
def iou_best(case: Case) -> Columns:
    """Largest overlap with the annotation over all numbers of top pixels; `_area` is the share that reaches it.

    0 to 1. The threshold is picked with the annotation: an upper bound, never ranked. Undefined as `loc_acc`.
    Source: upper bound of `mask_iou`.
    """
    places = ranking(case.maps, case.tie_seeds(), case.valid).flatten(1)
    masks = case.masks.flatten(1)
    found = torch.zeros_like(places).scatter_(1, places - 1, masks.long()).cumsum(1).double()
    count = torch.arange(1, places.shape[1] + 1, device=places.device)
    overlap = found / (masks.sum(1, keepdim=True) + count - found)
    best = overlap.max(1)
    empty = _empty(case)
    case.undefine(empty, "empty_mask")
    share = (best.indices + 1).double() / places.shape[1]
    return {"iou_best": best.values.masked_fill(empty, torch.nan), "iou_best_area": share.masked_fill(empty, torch.nan)}


@choice(
    better="up",
    range=(0, 1),
    columns=("pixel_auc", "pixel_auc_chance"),
    needs=("mask", "order"),
    version=1,
    source="Mann & Whitney 1947",
)
def pixel_auc(case: Case) -> Columns:
    """Probability that a pixel of the annotation has a higher value than one outside, ties counted half (ROC AUC).

    0 to 1, up; chance 0.5. Undefined without a mask, where it covers nothing (`empty_mask`) or everything
    (`full_mask`), and on a map without order. Source: Mann & Whitney 1947.
    """
    inside = case.masks & case.valid
    m = inside.flatten(1).sum(1).double()
    rest = case.valid.flatten(1).sum(1) - m
    case.undefine(m == 0, "empty_mask")
    case.undefine((m > 0) & (rest == 0), "full_mask")
    ranks = midranks(_steps(case), case.valid).masked_fill(~inside, 0).flatten(1).sum(1)
    auc = torch.where((m > 0) & (rest > 0), (ranks / m - (m + 1) / 2) / rest, torch.nan)
    return {"pixel_auc": auc, "pixel_auc_chance": torch.full_like(auc, 0.5)}


@choice(
    better="up",
    range=(0, 1),
    columns=("pixel_ap", "pixel_ap_chance"),
    needs=("mask", "order"),
    version=1,
    source="area under precision over recall, tied values one step",
)
def pixel_ap(case: Case) -> Columns:
    """Average precision of the pixels' values for the annotation: `sum (R_k - R_{k-1}) P_k` over distinct values.

    0 to 1, up; chance |M| / HW. Undefined as `loc_acc`. Source: area under precision over recall, as in scikit-learn.
    """
    values, order = descending(_steps(case).masked_fill(~case.valid, -1).flatten(1))
    hits = case.masks.flatten(1).gather(1, order).long().cumsum(1)
    last = torch.ones_like(values, dtype=torch.bool)
    last[:, :-1] = values[:, 1:] != values[:, :-1]
    last &= values >= 0
    size = case.masks.flatten(1).sum(1)
    case.undefine(size == 0, "empty_mask")
    # Hits up to the step before: the running maximum over the ends of steps, moved by one.
    ends = torch.where(last, hits, 0).cummax(1).values
    before = torch.zeros_like(ends)
    before[:, 1:] = ends[:, :-1]
    count = torch.arange(1, values.shape[1] + 1, device=values.device, dtype=torch.float64)
    gained = torch.where(last, (hits - before) * (hits / count), 0.0).sum(1)
    return {"pixel_ap": gained / size.double(), "pixel_ap_chance": area(case.masks)}


@choice(
    better="up",
    range=(0, 1),
    columns=("lesion_hit", "lesion_hit_count"),
    needs=("mask", "order"),
    shifted=True,
    version=1,
    source="lesion-level sensitivity of the top |M| pixels",
)
def lesion_hit(case: Case) -> Columns:
    """Share of the annotation's parts (8-connected) that hold a pixel of the k highest, k = |M|; `_count`: how many.

    0 to 1, up. Undefined as `loc_acc`. Source: lesion-level sensitivity.
    """
    from scipy.ndimage import label

    size = case.masks.flatten(1).sum(1)
    case.undefine(size == 0, "empty_mask")
    top = (ranking(case.maps, case.tie_seeds(), case.valid) <= size[:, None, None]).cpu().numpy()
    shares, counts = [], []
    for mask, region in zip(case.masks.cpu().numpy(), top, strict=True):
        parts, count = label(mask, structure=[[1] * 3] * 3)
        shares.append(len(set(parts[region & mask].tolist())) / count if count else torch.nan)
        counts.append(float(count))
    return {
        "lesion_hit": torch.tensor(shares, dtype=torch.float64, device=case.maps.device),
        "lesion_hit_count": torch.tensor(counts, dtype=torch.float64, device=case.maps.device),
    }


def _empty(case: Case) -> Tensor:
    return ~case.masks.flatten(1).any(1)


def _steps(case: Case) -> Float[Tensor, "b h w"]:
    """Values in the steps that ties are counted in."""
    return quantised(case.maps, case.valid).double().view(case.maps.shape)


def _hits(case: Case, wide: Tensor) -> Float[Tensor, " b"]:
    """Share of the tied maxima that lie in a region; notes empty annotations."""
    steps = quantised(case.maps, case.valid)
    top = steps == steps.amax(1, keepdim=True)
    empty = _empty(case)
    case.undefine(empty, "empty_mask")
    share = (top & wide.flatten(1)).sum(1) / top.sum(1).double()
    return share.masked_fill(empty, torch.nan)


def _dilated(masks: Tensor, radius: float) -> Tensor:
    """Masks widened by a disc: every pixel whose centre lies within `radius` of a mask pixel's."""
    reach = int(radius)
    if reach < 1:
        return masks
    offsets = torch.arange(-reach, reach + 1, device=masks.device)
    disc = (offsets[:, None] ** 2 + offsets[None] ** 2 <= radius**2).float()
    # One row of the disc at a time: a row is a run of pixels, so its widening is a running maximum.
    padded = torch.nn.functional.pad(masks[:, None].float(), (0, 0, reach, reach))
    wide = torch.zeros_like(masks)
    for i, row in enumerate(disc):
        run = int(row.sum())
        lines = padded[:, :, i : i + masks.shape[-2]]
        wide |= torch.nn.functional.max_pool2d(lines, (1, run), 1, (0, run // 2))[:, 0] > 0
    return wide
