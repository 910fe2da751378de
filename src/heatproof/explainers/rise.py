"""RISE: the target's probability under random masks, as a mean over the masks that let a pixel through."""

import math

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from heatproof.base.fields import uniform
from heatproof.base.forwards import forwards_of, scores
from heatproof.base.notes import note_halves
from heatproof.base.records import Classifier
from heatproof.base.registry import choice


@choice(stochastic=True, forwards="samples", source="Petsiuk 2018, arXiv 1806.07421, Eq. 6, section 3.2")
def rise(
    classifier: Classifier | nn.Module,
    images: Float[Tensor, "b c h w"],
    targets: Int64[Tensor, " b"],
    *,
    seeds: Int64[Tensor, " b"],
    samples: int,
    grid: int,
    keep: float,
) -> Float[Tensor, "b h w"]:
    """`sum_i p_c(x * M_i) M_i / (keep * N)` over N = `samples` smooth random masks M_i in [0, 1].

    A mask is a grid of `grid` x `grid` cells that are 1 with probability `keep`, enlarged bilinearly and moved by a
    random part of a cell. Each image has its own masks, so that images stay independent and reruns draw anew.
    Notes the rank correlation of the maps from the odd and the even masks.
    """
    b, _, height, width = images.shape
    # grid^2 cells and two offsets a mask.
    draws = uniform(seeds.to(images.device), (samples, grid * grid + 2))
    halves = torch.zeros(2 * b, height, width, device=images.device)
    pair_targets = targets.repeat_interleave(samples)
    forwards = forwards_of(classifier)
    current: dict[str, Tensor] = {}

    def masked(part: slice) -> Tensor:
        place = torch.arange(part.start, part.stop, device=images.device)
        image, number = place // samples, place % samples
        drawn = draws[image, number]
        cells = (drawn[:, :-2] < keep).to(images).view(-1, grid, grid)
        current["masks"] = smooth_masks(cells, drawn[:, -2:], height, width)
        current["half"] = 2 * image + number % 2
        return images[image] * current["masks"][:, None]

    for part, logits in forwards.made(b * samples, masked):
        p = scores(logits, pair_targets[part], "prob").to(images)
        halves.index_add_(0, current["half"], p[:, None, None] * current["masks"])
    odd, even = halves.view(b, 2, height, width).unbind(1)
    note_halves(odd, even)
    return (odd + even) / (keep * samples)


def smooth_masks(
    cells: Float[Tensor, "n g g"], offsets: Float[Tensor, "n 2"], height: int, width: int
) -> Float[Tensor, "n height width"]:
    """Grids enlarged to (g + 1) cells of ceil(size / g) pixels, of which a window that starts at a random pixel of the
    first cell is cut out; `offsets` in [0, 1) of a cell."""
    rows = _weights(cells.shape[1], height, offsets[:, 0])
    columns = _weights(cells.shape[1], width, offsets[:, 1])
    return rows @ cells @ columns.transpose(1, 2)


def _weights(grid: int, size: int, offset: Float[Tensor, " n"]) -> Float[Tensor, "n size g"]:
    """Bilinear weights (half-pixel centres, border repeated) of the cells at each pixel of the cut-out window."""
    cell = math.ceil(size / grid)
    start = (offset * cell).floor()[:, None]
    pixel = torch.arange(size, device=offset.device)
    position = ((start + pixel + 0.5) * grid / ((grid + 1) * cell) - 0.5).clamp(0, grid - 1)
    nodes = torch.arange(grid, device=offset.device)
    return (1 - (position[..., None] - nodes).abs()).clamp_min(0)
