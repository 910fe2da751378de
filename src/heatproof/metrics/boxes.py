"""Boxes: the box that a map draws against the boxes of an annotation, as weakly supervised localisation is judged."""

from __future__ import annotations

from collections.abc import Generator

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from heatproof.base.boxes import area_of, boxes_of, largest_box, overlap
from heatproof.base.case import Annotated, Case, Validation
from heatproof.base.registry import choice
from heatproof.base.values import norm

Stream = Generator[tuple[Validation], tuple[Annotated], dict[str, Float[Tensor, " b"]]]


@choice(
    better="up",
    range=(0, 1),
    columns=("box_iou", "box_iou_threshold", "box_iou_area"),
    needs=("mask", "order", "validation"),
    shifted=True,
    version=1,
    source="Zhou 2016, section 3.2; the threshold as in Choe 2020, section 4",
)
def box_iou(case: Case, *, thresholds: list) -> Stream:
    """Overlap of the tight box of the largest part of norm(a) >= t and the annotation's box that fits it best.

    0 to 1, up. t is the one of `thresholds` with the best mean over annotated validation images, for each method its
    own: `_threshold`. `_area`: the box's share of the image. Boxes of an annotation that touch or overlap are one.
    Undefined without a mask (`no_mask`), for an empty one (`empty_mask`), on a map without order, and where no
    annotated validation image is there or has a map (`no_validation`), as where validation images are measured.
    Source: Zhou et al. 2016 (box of the largest part); Choe et al. 2020 (threshold from held-out images).
    """
    (known,) = yield (case.validation(),)
    empty = ~case.masks.flatten(1).any(1)
    case.undefine(empty, "empty_mask")
    if not len(known.maps):
        case.undefine(torch.ones_like(empty), "no_validation")
        nothing = torch.full_like(case.p, torch.nan)
        return {"box_iou": nothing, "box_iou_threshold": nothing, "box_iou_area": nothing}
    picked = max(thresholds, key=lambda t: float(_overlaps(known.maps, known.masks, t)[0].mean()))
    found, share = (torch.from_numpy(values).to(case.p) for values in _overlaps(case.maps, case.masks, picked))
    return {
        "box_iou": found.masked_fill(empty, torch.nan),
        "box_iou_threshold": torch.full_like(case.p, picked),
        "box_iou_area": share,
    }


def _overlaps(
    maps: Float[Tensor, "b h w"], masks: Bool[Tensor, "b h w"], threshold: float
) -> tuple[Float[np.ndarray, " b"], Float[np.ndarray, " b"]]:
    """Overlap with the best annotated box, 0 without one, and the box's share of the image."""
    regions = (norm(maps) >= threshold).cpu().numpy()
    boxes = [largest_box(region) if region.any() else None for region in regions]
    found = [
        max((overlap(box, one) for one in boxes_of(mask)), default=0.0) if box is not None else 0.0
        for box, mask in zip(boxes, masks.cpu().numpy(), strict=True)
    ]
    size = maps[0].numel()
    return np.array(found), np.array([0.0 if box is None else area_of(box) / size for box in boxes])
