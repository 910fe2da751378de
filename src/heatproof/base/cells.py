"""Grids of cells over an image: cell i of g covers the rows floor(i H / g) .. floor((i + 1) H / g) - 1, columns alike.

Conventions: cells are numbered row by row, 0 to g g - 1; relevance of a cell is the sum or the mean of its pixels.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from heatproof.base.errors import HeatproofError, fault


def cell_numbers(maps: Float[Tensor, "b h w"], grid: int) -> Int64[Tensor, "h w"]:
    """The cell that each pixel of the maps lies in. Raises HeatproofError for more cells than pixels on a side.

    >>> cell_numbers(torch.zeros(1, 2, 3), 2).tolist()
    [[0, 1, 1], [2, 3, 3]]
    """
    height, width = maps.shape[-2:]
    if grid > min(height, width):
        raise HeatproofError(fault("grid", f"more cells than the {min(height, width)} pixels of a side", got=grid))

    def along(size: int) -> Tensor:
        starts = torch.tensor([i * size // grid for i in range(1, grid)], dtype=torch.int64, device=maps.device)
        return torch.bucketize(torch.arange(size, device=maps.device), starts, right=True)

    return along(height)[:, None] * grid + along(width)[None]


def cell_sums(maps: Float[Tensor, "b h w"], cells: Int64[Tensor, "h w"]) -> Float[Tensor, "b g"]:
    """Summed value of each cell, float64."""
    flat = maps.flatten(1).double()
    count = int(cells.max()) + 1
    return torch.zeros(len(maps), count, dtype=torch.float64, device=maps.device).index_add_(1, cells.flatten(), flat)


def cell_means(maps: Float[Tensor, "b h w"], cells: Int64[Tensor, "h w"]) -> Float[Tensor, "b g"]:
    """Mean value of each cell, float64."""
    sizes = torch.bincount(cells.flatten())
    return cell_sums(maps, cells) / sizes
