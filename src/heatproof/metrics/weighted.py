"""Faithfulness of an image weighted by its map: average drop, increase and gain, and ADCC.

Conventions: o = p_c of the image multiplied by norm(a), the map scaled to [0, 1]; p = p_c of the image. All of them
favour wide maps (a map of ones changes nothing), so they are reported and take no part in verdicts.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from heatproof.base.case import Case, Request
from heatproof.base.correlations import pearson
from heatproof.base.registry import choice
from heatproof.base.values import norm

Stream = Generator[tuple[Request, ...], tuple[Any, ...], dict[str, Float[Tensor, " b"]]]


@choice(
    better="down",
    range=(0, 1),
    columns=("average_drop",),
    needs=("order",),
    asks=(("weighted", "1"),),
    shifted=True,
    ranked=False,
    version=1,
    source="Chattopadhay 2018, section 4.1",
)
def average_drop(case: Case) -> Stream:
    """Relative drop of p_c on the weighted image: `max(0, p - o) / p`.

    0 to 1, down; never ranked, for it favours wide maps. Undefined on a map without order.
    Source: Chattopadhay 2018, section 4.1, there in percent.
    """
    (o,) = yield (case.weighted(norm(case.maps)),)
    return {"average_drop": _drop(case.p, o)}


@choice(
    better="up",
    range=(0, 1),
    columns=("average_increase",),
    needs=("order",),
    asks=(("weighted", "1"),),
    shifted=True,
    ranked=False,
    version=1,
    source="Chattopadhay 2018, section 4.1",
)
def average_increase(case: Case) -> Stream:
    """Whether p_c is higher on the weighted image: `1[o > p]`.

    0 or 1, up; never ranked. Undefined on a map without order. Source: Chattopadhay 2018, section 4.1, in percent.
    """
    (o,) = yield (case.weighted(norm(case.maps)),)
    return {"average_increase": (o > case.p).double()}


@choice(
    better="up",
    range=(0, 1),
    columns=("average_gain",),
    needs=("order",),
    asks=(("weighted", "1"),),
    shifted=True,
    ranked=False,
    version=1,
    source="Zhang 2023 (Opti-CAM), Eq. 17",
)
def average_gain(case: Case) -> Stream:
    """Share of what p_c lacks to 1 that the weighted image adds: `max(0, o - p) / (1 - p)`.

    0 to 1, up; never ranked. 1 - p is summed from the other classes. Undefined on a map without order and where p is 1
    (`certain`). Source: Zhang 2023 (Opti-CAM), Eq. 17.
    """
    weights = norm(case.maps)
    lacking, left = yield (case.without(torch.zeros_like(case.valid), "black", "rest"), case.weighted(weights, "rest"))
    case.undefine(lacking == 0, "certain")
    # o - p = (1 - p) - (1 - o), which keeps its digits where both are near 1.
    return {"average_gain": torch.where(lacking > 0, (lacking - left).clamp_min(0) / lacking, torch.nan)}


@choice(
    better="up",
    range=(0, 1),
    columns=("adcc", "adcc_coherency", "adcc_complexity", "adcc_drop"),
    needs=("order",),
    asks=(("weighted", "1"),),
    reruns=("weighted",),
    shifted=True,
    version=2,
    source="Poppi 2021, Eq. 6",
)
def adcc(case: Case) -> Stream:
    """Harmonic mean of coherency, 1 - complexity and 1 - average drop; 0 where one of them is 0.

    `_coherency`: Pearson of E(x) and E(x norm(a)), brought to [0, 1] by (r + 1) / 2; `_complexity`: mean of norm(a);
    `_drop`: average drop. 0 to 1, up. Undefined on a map without order and where the map of the weighted image has none
    (`rerun`). Source: Poppi 2021, Eq. 6.
    """
    weights = norm(case.maps)
    o, again = yield (case.weighted(weights), case.rerun(weights=weights))
    coherency = (pearson(again.reference, again.maps, again.valid) + 1) / 2
    complexity = weights.flatten(1).double().mean(1)
    drop = _drop(case.p, o)
    terms = torch.stack([coherency, 1 - complexity, 1 - drop])
    mean = torch.where((terms <= 0).any(0), 0.0, 3 / (1 / terms.clamp_min(1e-300)).sum(0))
    return {"adcc": mean, "adcc_coherency": coherency, "adcc_complexity": complexity, "adcc_drop": drop}


def _drop(p: Float[Tensor, " b"], o: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
    return (p - o).clamp_min(0) / p
