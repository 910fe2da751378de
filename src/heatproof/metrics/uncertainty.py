"""Uncertainty of a fusion: how far its views disagree, to be read against the errors that it should announce."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from heatproof.base.case import Case
from heatproof.base.regions import quantised
from heatproof.base.registry import choice
from heatproof.base.values import is_constant


@choice(
    better="neither",
    range=(0, 1000),
    columns=("uncertainty", "uncertainty_missed"),
    needs=("spread",),
    version=1,
    source="Panboonyuen 2026 (RobustCAM)",
)
def uncertainty(case: Case) -> dict[str, Float[Tensor, " b"]]:
    """Mean over the image of the per-pixel standard deviation over a fusion's aligned views, on the fusion's scale.

    0 upwards; 0 where all views agree. `_missed`: 1 where no maximum of the fused map lies on the annotation, 0 where
    one does, undefined without one. The report makes `uncertainty_error_auc` of both: the ROC area of the image's
    uncertainty for a wrong prediction, and for a missed annotation (chance 0.5). Undefined for single views
    (`single_view`). Source: Panboonyuen 2026 (RobustCAM).
    """
    assert case.spread is not None, "the engine leaves out methods without one"
    seen = case.valid.flatten(1)
    mean = case.spread.flatten(1).double().masked_fill(~seen, 0).sum(1) / seen.sum(1)
    steps = quantised(case.maps, case.valid)
    hit = ((steps == steps.amax(1, keepdim=True)) & case.masks.flatten(1)).any(1)
    known = case.masks.flatten(1).any(1) & ~is_constant(case.maps, case.valid)
    return {"uncertainty": mean, "uncertainty_missed": torch.where(known, (~hit).double(), torch.nan)}
