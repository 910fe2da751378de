"""Faithfulness along a path of pixels: deletion, insertion, and ROAD's removal of whole shares.

Conventions: p_c = probability of the explained class; pixels in the order of falling values, ties broken per image by a
seeded permutation; step i of n has reached round(i HW / n) pixels. Areas are trapezoids over the true share of pixels.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from heatproof.base.case import Case, Perturbed, Regions
from heatproof.base.regions import compact, ranking
from heatproof.base.registry import choice

Answers = tuple[Float[Tensor, "..."], ...]
Stream = Generator[tuple[Perturbed | Regions, ...], Answers, dict[str, Float[Tensor, " b"]]]
CURVE_POINTS = 101


@choice(
    better="down",
    range=(0, 1),
    columns=("deletion", "deletion_norm"),
    needs=("order",),
    asks=(("deletion", "steps"),),
    shifted=True,
    version=1,
    source="Petsiuk 2018, section 3.3",
)
def deletion(case: Case, *, steps: int, fill: str) -> Stream:
    """Area under p_c as pixels are filled in, the highest values first, from the image to nothing.

    0 to 1, down. `_norm`: divided by p_c(x). Undefined on a map without order. Source: Petsiuk 2018, section 3.3.
    """
    order, shares = pixel_steps(case, steps)
    (p,) = yield (case.steps(order, steps, fill),)
    curve = torch.cat([case.p[:, None], p], 1)
    case.curve(*_even(shares, curve))
    area = _area_under(shares, curve)
    return {"deletion": area, "deletion_norm": area / case.p}


@choice(
    better="up",
    range=(0, 1),
    columns=("insertion", "insertion_norm"),
    needs=("order",),
    asks=(("insertion", "steps"),),
    shifted=True,
    version=1,
    source="Petsiuk 2018, section 3.3",
)
def insertion(case: Case, *, steps: int, fill: str) -> Stream:
    """Area under p_c as pixels come back into an image that is filled in everywhere, the highest values first.

    0 to 1, up. `_norm`: divided by p_c(x). Undefined on a map without order. Source: Petsiuk 2018, section 3.3.
    """
    order, shares = pixel_steps(case, steps)
    nothing, p = yield (
        case.without(torch.ones_like(case.valid), fill),
        case.steps(order, steps, fill, backwards=True),
    )
    curve = torch.cat([nothing[:, None], p], 1)
    case.curve(*_even(shares, curve))
    area = _area_under(shares, curve)
    return {"insertion": area, "insertion_norm": area / case.p}


@choice(
    better="up",
    range=(-1, 1),
    columns=("road_morf",),
    needs=("order",),
    asks=(("road_morf", "len(shares)"),),
    shifted=True,
    version=1,
    source="Rong 2022, section 4",
)
def road_morf(case: Case, *, shares: list, fill: str) -> Stream:
    """Mean drop of p_c after exactly these shares of pixels, the highest values first, are imputed.

    -1 to 1, up. Undefined on a map without order. Source: Rong 2022, section 4.
    """
    drops = yield from _drops(case, shares, fill)
    return {"road_morf": drops.mean(1)}


@choice(
    better="down",
    range=(-1, 1),
    columns=("road_lerf",),
    needs=("order",),
    asks=(("road_lerf", "len(shares)"),),
    shifted=True,
    version=1,
    source="Rong 2022, section 4",
)
def road_lerf(case: Case, *, shares: list, fill: str) -> Stream:
    """Mean drop of p_c after exactly these shares of pixels, the lowest values first, are imputed.

    -1 to 1, down. Undefined on a map without order. Source: Rong 2022, section 4.
    """
    drops = yield from _drops(case, shares, fill, least_first=True)
    return {"road_lerf": drops.mean(1)}


@choice(
    better="up",
    range=(-1, 1),
    columns=("road",),
    needs=("order",),
    asks=(("road_morf", "len(shares)"), ("road_lerf", "len(shares)")),
    shifted=True,
    version=1,
    source="Rong 2022, section 4",
)
def road(case: Case, *, shares: list, fill: str) -> Stream:
    """Half the difference of the two orders, `(road_morf - road_lerf) / 2`: what the order itself is worth.

    -1 to 1, up; chance 0. Undefined on a map without order. Source: Rong 2022, section 4.
    """
    most = yield from _drops(case, shares, fill, keep=False)
    least = yield from _drops(case, shares, fill, least_first=True, keep=False)
    return {"road": ((most - least) / 2).mean(1)}


def pixel_steps(case: Case, steps: int) -> tuple[Int[Tensor, "b h w"], Float[Tensor, " n"]]:
    """The step at which each pixel is reached, and the share of pixels reached after steps 0 to n."""
    places = ranking(case.maps, case.tie_seeds(), case.valid)
    size = case.maps[0].numel()
    reached = torch.tensor([round(i * size / steps) for i in range(steps + 1)], device=places.device)
    return compact(torch.bucketize(places, reached), steps), reached.double() / size


def _drops(
    case: Case, shares: Sequence[float], fill: str, *, least_first: bool = False, keep: bool = True
) -> Generator[tuple[Regions, ...], Answers, Float[Tensor, "b s"]]:
    places = ranking(-case.maps if least_first else case.maps, case.tie_seeds(), case.valid)
    size = case.maps[0].numel()
    shares = sorted(shares)
    most = torch.tensor([max(1, round(share * size)) for share in shares], device=places.device)
    (p,) = yield (case.steps(compact(torch.bucketize(places, most) + 1, len(shares)), len(shares), fill),)
    if keep:
        x = torch.tensor([0.0, *shares], dtype=torch.float64)
        case.curve(x, torch.cat([case.p[:, None], p], 1))
    return case.p[:, None] - p


def _area_under(x: Float[Tensor, " n"], y: Float[Tensor, "b n"]) -> Float[Tensor, " b"]:
    return ((y[:, 1:] + y[:, :-1]) / 2 * x.diff()).sum(1)


def _even(x: Float[Tensor, " n"], y: Float[Tensor, "b n"]) -> tuple[Float[Tensor, " m"], Float[Tensor, "b m"]]:
    """The curve at 101 evenly spaced shares, linear in between."""
    at = torch.linspace(0, 1, CURVE_POINTS, dtype=torch.float64, device=x.device)
    right = torch.searchsorted(x, at).clamp(1, len(x) - 1)
    t = (at - x[right - 1]) / (x[right] - x[right - 1])
    return at, y[:, right - 1] + t * (y[:, right] - y[:, right - 1])
