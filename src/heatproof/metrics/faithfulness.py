"""Faithfulness: what the classifier does when the region that a map calls important is filled in, or kept alone.

Conventions: T = exactly the top q of the map (`regions.top_region`); p_c = probability of the explained class. The fill
decides much of the number: read two fills beside each other, and the excess over shifted copies of the same map.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from heatproof.base.case import Case, Perturbed
from heatproof.base.regions import area, tied_share, top_region
from heatproof.base.registry import choice

Answers = tuple[Float[Tensor, " b"], ...]
Stream = Generator[tuple[Perturbed, ...], Answers, dict[str, Float[Tensor, " b"]]]


@choice(
    better="up",
    range=(-1, 1),
    columns=("faith", "faith_area", "faith_tied"),
    needs=("order",),
    asks=(("without", "1"),),
    shifted=True,
    version=1,
    source="Panboonyuen 2026, Eq. 5",
)
def faith(case: Case, *, q: float, fill: str) -> Stream:
    """Drop of p_c when the top q of the map is filled in: `p_c(x) - p_c(fill(x, T_q))`.

    A share of 1; -1 to 1, up; 0 for a map off every pixel that the net uses. Undefined on a map without order.
    Columns: `faith_area` selected share of the image, `faith_tied` share of T chosen by the tie rule.
    Source: Panboonyuen 2026, Eq. 5; there T is every pixel at or above a percentile, here exactly k pixels.
    """
    region = top_region(case.maps, q, case.tie_seeds(), case.valid)
    (p_without,) = yield (case.without(region, fill),)
    return {
        "faith": case.p - p_without,
        "faith_area": area(region),
        "faith_tied": tied_share(case.maps, region, case.valid),
    }


@choice(
    better="up",
    range=(-1, 1),
    columns=("fidelity", "fidelity_prob", "fidelity_area", "fidelity_tied"),
    needs=("order",),
    asks=(("without", "1"), ("only", "1")),
    shifted=True,
    version=1,
    source="Akgündoğdu 2025, Eq. 11-15",
)
def fidelity(case: Case, *, q: float, fill: str) -> Stream:
    """Whether the top q alone keeps the class, minus whether the rest alone does: `1[f(keep T)=c] - 1[f(remove T)=c]`.

    -1, 0 or 1, up. Chance is not 0: a share q of the image is kept against 1 - q. `fidelity_prob`: the same with p_c.
    Undefined on a map without order. Further columns as in `faith`.
    Source: Akgündoğdu 2025, Eq. 11-15; Fid+ - Fid- reduces to this where the explained class is the predicted one.
    """
    region = top_region(case.maps, q, case.tie_seeds(), case.valid)
    hit_kept, hit_removed, p_kept, p_removed = yield (
        case.only(region, fill, "hit"),
        case.without(region, fill, "hit"),
        case.only(region, fill),
        case.without(region, fill),
    )
    return {
        "fidelity": hit_kept - hit_removed,
        "fidelity_prob": p_kept - p_removed,
        "fidelity_area": area(region),
        "fidelity_tied": tied_share(case.maps, region, case.valid),
    }


@choice(
    better="up",
    range=(-1, 1),
    columns=("comprehensiveness",),
    needs=("order",),
    asks=(("tops", "len(shares)"),),
    shifted=True,
    version=1,
    source="DeYoung 2020, section 4",
)
def comprehensiveness(case: Case, *, shares: list, fill: str) -> Stream:
    """Mean drop of p_c over several shares when the top of the map is filled in: `p_c(x) - p_c(fill(x, T_q))`.

    -1 to 1, up. Undefined on a map without order. Source: DeYoung 2020, section 4.
    """
    answers = yield tuple(case.without(region, fill) for region in _tops(case, shares))
    return {"comprehensiveness": torch.stack([case.p - p for p in answers], 1).mean(1)}


@choice(
    better="down",
    range=(-1, 1),
    columns=("sufficiency",),
    needs=("order",),
    asks=(("rests", "len(shares)"),),
    shifted=True,
    version=1,
    source="DeYoung 2020, section 4",
)
def sufficiency(case: Case, *, shares: list, fill: str) -> Stream:
    """Mean drop of p_c over several shares when only the top of the map is kept: `p_c(x) - p_c(fill(x, not T_q))`.

    -1 to 1, down. Undefined on a map without order. Source: DeYoung 2020, section 4.
    """
    answers = yield tuple(case.only(region, fill) for region in _tops(case, shares))
    return {"sufficiency": torch.stack([case.p - p for p in answers], 1).mean(1)}


def _tops(case: Case, shares: Sequence[float]) -> list[Bool[Tensor, "b h w"]]:
    return [top_region(case.maps, q, case.tie_seeds(), case.valid) for q in shares]
