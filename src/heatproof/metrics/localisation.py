"""Localisation: how the region that a map calls important lies on an annotated mask M."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from heatproof.base.case import Case
from heatproof.base.regions import area, tied_share, top_region
from heatproof.base.registry import choice


@choice(
    better="up",
    range=(0, 1),
    columns=("loc_acc", "loc_acc_precision", "loc_acc_chance", "loc_acc_ceiling", "loc_acc_area", "loc_acc_tied"),
    needs=("mask", "order"),
    version=1,
    source="Panboonyuen 2026, Eq. 4",
)
def loc_acc(case: Case, *, q: float) -> dict[str, Float[Tensor, " b"]]:
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
