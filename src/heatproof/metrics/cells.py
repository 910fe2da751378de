"""Faithfulness by grid cells: what the classifier does when parts of the image of equal size are perturbed.

Conventions: p_c = probability of the explained class; cells as in `base/cells`, ordered by mean relevance in steps of
2^-20 of the map's range, ties by a permutation seeded per image (the same one for a map and its negative, so that LeRF
of a is MoRF of -a). The perturbation decides much of a number: read several beside each other.
"""

from __future__ import annotations

from collections.abc import Callable, Generator

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from heatproof.base import fields
from heatproof.base.case import Case, Perturbed, Regions, Rows
from heatproof.base.cells import cell_means, cell_numbers, cell_sums
from heatproof.base.correlations import pearson, spearman
from heatproof.base.regions import compact, ranking
from heatproof.base.registry import choice

Answers = tuple[Float[Tensor, "..."], ...]
Stream = Generator[tuple[Perturbed | Regions, ...], Answers, dict[str, Float[Tensor, " b"]]]


@choice(
    better="up",
    range=(-1, 1),
    columns=("aopc_morf", "aopc_morf_norm"),
    needs=("order",),
    asks=(("morf", "steps or grid**2"),),
    shifted=True,
    version=1,
    source="Samek 2017, Eq. 12",
)
def aopc_morf(case: Case, *, grid: int, steps: int | None, fill: str) -> Stream:
    """Area over the curve of p_c as cells are perturbed, most relevant first.

    `1/(L + 1) sum_{k=1..L} [p_c(x_0) - p_c(x_k)]`, L = `steps` (None: all cells), cells perturbed cumulatively, steps
    weighted equally. -1 to 1, up. `_norm`: divided by p_c(x_0), since the area grows with the confidence. Undefined on
    a map without order. Source: Samek 2017, Eq. 12.
    """
    area, p = yield from _area(case, cell_order(case, grid), grid, steps, fill)
    return {"aopc_morf": area, "aopc_morf_norm": area / p}


@choice(
    better="down",
    range=(-1, 1),
    columns=("aopc_lerf", "aopc_lerf_norm"),
    needs=("order",),
    asks=(("lerf", "steps or grid**2"),),
    shifted=True,
    version=1,
    source="Samek 2017, section IV",
)
def aopc_lerf(case: Case, *, grid: int, steps: int | None, fill: str) -> Stream:
    """Area over the curve of p_c as cells are perturbed, least relevant first: `aopc_morf` of the negative map.

    -1 to 1, down. Columns and undefined values as in `aopc_morf`. Source: Samek 2017, section IV.
    """
    area, p = yield from _area(case, cell_order(case, grid, least_first=True), grid, steps, fill)
    return {"aopc_lerf": area, "aopc_lerf_norm": area / p}


@choice(
    better="up",
    range=(-2, 2),
    columns=("abpc", "abpc_norm"),
    needs=("order",),
    asks=(("morf", "steps or grid**2"), ("lerf", "steps or grid**2")),
    shifted=True,
    version=1,
    source="Samek 2017; Blücher 2024, Eq. 6",
)
def abpc(case: Case, *, grid: int, steps: int | None, fill: str) -> Stream:
    """Area between the two curves: `aopc_morf - aopc_lerf`, which is what one fill's symmetric relevance gain measures.

    -2 to 2, up; 0 for a map whose order tells nothing. Source: Samek 2017; Blücher 2024 (symmetric relevance gain).
    """
    most, p = yield from _area(case, cell_order(case, grid), grid, steps, fill, keep=False)
    least, _ = yield from _area(case, cell_order(case, grid, least_first=True), grid, steps, fill, keep=False)
    return {"abpc": most - least, "abpc_norm": (most - least) / p}


@choice(
    better="up",
    range=(-1, 1),
    columns=("idsds",),
    needs=("order",),
    asks=(("cells", "grid**2", "shared"),),
    shifted=True,
    same_as="occlusion",
    version=1,
    source="Hesse 2024, section 4",
)
def idsds(case: Case, *, grid: int, fill: str) -> Stream:
    """Rank correlation of the logit drops as one cell at a time is deleted with the cells' summed relevance.

    -1 to 1, up; chance 0. Undefined where all drops or all sums are equal (`flat`). Only in-domain for a net that was
    trained with deleted cells (`train.augment=[delete_cells]`). An explainer that deletes the same cells with the same
    fill scores 1 by construction. Source: Hesse 2024, section 4.
    """
    cells = cell_numbers(case.maps, grid)
    whole, without = yield (
        case.without(torch.zeros_like(case.valid), fill, "logit"),
        case.each(grid * grid, lambda cell, rows: (cells == cell).expand(case.maps[rows].shape), fill, "logit"),
    )
    drops = whole[:, None] - without
    rho = spearman(drops[:, None], cell_sums(case.maps, cells)[:, None])
    case.undefine(rho.isnan(), "flat")
    return {"idsds": rho}


@choice(
    better="up",
    range=(-1, 1),
    columns=("faithfulness_correlation",),
    needs=("order",),
    asks=(("subsets", "subsets", "shared"),),
    shifted=True,
    version=1,
    source="Bhatt 2020, Definition 1",
)
def faithfulness_correlation(case: Case, *, subsets: int, size: int, grid: int, fill: str) -> Stream:
    """Pearson correlation over random subsets of cells of the drop of p_c with the summed relevance of the subset.

    -1 to 1, up; chance 0. The subsets are drawn per image, equal for all methods. Undefined where one side does not
    vary (`flat`). Source: Bhatt 2020, Definition 1, with `size` of `grid` x `grid` cells in a subset.
    """
    cells = cell_numbers(case.maps, grid)
    chosen = _subsets(case, subsets, size, grid * grid)
    (p,) = yield (case.each(subsets, lambda i, rows: chosen[rows, i][:, cells], fill),)
    drops = case.p[:, None] - p
    relevance = (chosen.double() @ cell_sums(case.maps, cells)[:, :, None])[:, :, 0]
    r = pearson(drops[:, None], relevance[:, None])
    case.undefine(r.isnan(), "flat")
    return {"faithfulness_correlation": r}


@choice(
    better="down",
    range=(0, 1),
    columns=("infidelity", "infidelity_beta"),
    needs=("order",),
    asks=(("squares", "squares", "shared"),),
    shifted=True,
    version=1,
    source="Yeh 2019, Definition 2.1 and section 4.2",
)
def infidelity(case: Case, *, squares: int, smallest: float, largest: float, fill: str) -> Stream:
    """How badly summed relevance, in its best scale, predicts the logit drops as random squares are removed.

    s = summed relevance of a square, d = its logit drop, beta = max(0, sum(s d) / sum(s^2)): mean (beta s - d)^2 over
    mean d^2. 0 to 1, down; 1 where the map predicts nothing. Sides are uniform in [`smallest`, `largest`] of the
    height, squares drawn per image, equal for all methods. Undefined where no square changes the logit (`flat`).
    Source: Yeh 2019, Definition 2.1 and section 4.2; divided by mean d^2 so that nets compare.
    """
    square = _squares(case, squares, smallest, largest)
    whole, without = yield (
        case.without(torch.zeros_like(case.valid), fill, "logit"),
        case.each(squares, square, fill, "logit"),
    )
    drops = whole[:, None] - without
    relevance = torch.stack([(case.maps.double() * square(i, slice(None))).sum((1, 2)) for i in range(squares)], 1)
    # One unit for both sides of the fraction: squares of tiny gradients would underflow.
    unit = relevance.abs().amax(1, keepdim=True).clamp_min(torch.finfo(torch.float64).tiny)
    relevance = relevance / unit
    power = relevance.square().sum(1)
    beta = torch.where(power > 0, (relevance * drops).sum(1) / power.clamp_min(1e-300), 0.0).clamp_min(0)
    spread = drops.square().mean(1)
    case.undefine(spread == 0, "flat")
    error = (beta[:, None] * relevance - drops).square().mean(1)
    return {"infidelity": torch.where(spread > 0, error / spread, torch.nan), "infidelity_beta": beta / unit[:, 0]}


def cell_order(case: Case, grid: int, *, least_first: bool = False) -> Int[Tensor, "b h w"]:
    """The step, 1 to grid^2, at which each pixel's cell is perturbed."""
    cells = cell_numbers(case.maps, grid)
    means = cell_means(case.maps, cells)
    places = ranking((-means if least_first else means)[:, None], case.tie_seeds("cells"))[:, 0]
    return compact(places, grid * grid)[:, cells]


def _area(
    case: Case, order: Int[Tensor, "b h w"], grid: int, steps: int | None, fill: str, *, keep: bool = True
) -> Generator[tuple[Regions, ...], Answers, tuple[Tensor, Tensor]]:
    """The area over the curve of one order, and p_c(x_0)."""
    length = min(steps or grid * grid, grid * grid)
    (p,) = yield (case.steps(order, length, fill),)
    if keep:
        x = torch.arange(length + 1, dtype=torch.float64) / (grid * grid)
        case.curve(x, torch.cat([case.p[:, None], p], 1))
    return (case.p[:, None] - p).sum(1) / (length + 1), case.p


def _subsets(case: Case, subsets: int, size: int, cells: int) -> Bool[Tensor, "b s g"]:
    """Random subsets of `size` cells, drawn per image."""
    seeds = case.seeds("subsets")
    draws = fields.uniform(seeds, (subsets, cells))
    chosen = draws.topk(min(size, cells), dim=2).indices
    return torch.zeros_like(draws, dtype=torch.bool).scatter_(2, chosen, True)


def _squares(case: Case, squares: int, smallest: float, largest: float) -> Callable[[int, Rows], Bool[Tensor, "r h w"]]:
    """Random squares, drawn per image: side, then a place where it lies inside the image. Makes square i when asked."""
    h, w = case.maps.shape[-2:]
    draws = fields.uniform(case.seeds("squares"), (squares, 3)).double()
    low, high = max(1, round(smallest * h)), max(1, round(largest * h))
    side = (low + (draws[..., 0] * (high - low + 1)).floor()).clamp_max(min(h, w))
    top = (draws[..., 1] * (h - side + 1)).floor()
    left = (draws[..., 2] * (w - side + 1)).floor()
    rows = torch.arange(h, device=case.maps.device)[None, :, None]
    columns = torch.arange(w, device=case.maps.device)[None, None]

    def square(i: int, of: Rows) -> Tensor:
        a, b, s = (part[of, i, None, None] for part in (top, left, side))
        return (rows >= a) & (rows < a + s) & (columns >= b) & (columns < b + s)

    return square
