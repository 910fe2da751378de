"""Rank and linear correlations of maps, batched, in float64, over valid pixels.

Conventions: maps (b, h, w), `valid` bool of the same shape or None = all pixels; NaN where a side is constant over the
valid pixels (max - min <= 1e-6 max|a|).
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from heatproof.base.order import ascending
from heatproof.base.values import is_constant, partly


def pearson(
    a: Float[Tensor, "b h w"], b: Float[Tensor, "b h w"], valid: Bool[Tensor, "b h w"] | None = None
) -> Float[Tensor, " b"]:
    """Pearson's r per image, -1 to 1; NaN where a map is constant.

    >>> pearson(torch.tensor([[[1.0, 2.0, 3.0]]]), torch.tensor([[[6.0, 4.0, 2.0]]]))
    tensor([-1.], dtype=torch.float64)
    """
    valid = partly(valid)
    r = _pearson_of(a.flatten(1).double(), b.flatten(1).double(), None if valid is None else valid.flatten(1))
    return r.masked_fill(is_constant(a, valid) | is_constant(b, valid), torch.nan)


def spearman(
    a: Float[Tensor, "b h w"], b: Float[Tensor, "b h w"], valid: Bool[Tensor, "b h w"] | None = None
) -> Float[Tensor, " b"]:
    """Spearman's rho per image with mid-ranks for ties, -1 to 1; NaN where a map is constant."""
    valid = partly(valid)
    r = _pearson_of(
        midranks(a, valid).flatten(1), midranks(b, valid).flatten(1), None if valid is None else valid.flatten(1)
    )
    return r.masked_fill(is_constant(a, valid) | is_constant(b, valid), torch.nan)


def midranks(maps: Float[Tensor, "b h w"], valid: Bool[Tensor, "b h w"] | None = None) -> Float[Tensor, "b h w"]:
    """Rank of each pixel among the valid ones, 1 = lowest, ties share their mean rank; NaN on invalid pixels.

    >>> midranks(torch.tensor([[[10.0, 30.0, 10.0]]])).tolist()
    [[[1.5, 3.0, 1.5]]]
    """
    flat = maps.flatten(1)
    if valid is not None:
        flat = flat.masked_fill(~valid.flatten(1), torch.inf)
    ordered, place = ascending(flat)
    b, n = flat.shape
    starts = torch.ones_like(flat, dtype=torch.bool)
    starts[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    # Runs of equal values of all rows behind each other: where each starts, how long it is, and the mean of its ranks.
    first = torch.nonzero(starts.view(-1))[:, 0]
    length = torch.diff(first, append=torch.tensor([b * n], device=maps.device))
    mean = (first % n + 1).double().add_((length - 1).double(), alpha=0.5)
    ranks = torch.empty_like(flat, dtype=torch.float64).scatter_(1, place, mean.repeat_interleave(length).view(b, n))
    if valid is not None:
        ranks = ranks.masked_fill(~valid.flatten(1), torch.nan)
    return ranks.view(maps.shape)


def fractional_ranks(
    maps: Float[Tensor, "b h w"], valid: Bool[Tensor, "b h w"] | None = None
) -> Float[Tensor, "b h w"]:
    """Mid-ranks as a share of the n valid pixels, (rank - 1/2) / n, inside (0, 1); NaN on invalid pixels."""
    if valid is None:
        return (midranks(maps) - 0.5) / maps[0].numel()
    return (midranks(maps, valid) - 0.5) / valid.flatten(1).sum(1).clamp_min(1)[:, None, None]


def _pearson_of(
    a: Float[Tensor, "b n"], b: Float[Tensor, "b n"], valid: Bool[Tensor, "b n"] | None
) -> Float[Tensor, " b"]:
    if valid is None:
        a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
    else:
        n = valid.sum(1, keepdim=True)
        a, b = a.masked_fill(~valid, 0), b.masked_fill(~valid, 0)
        a = (a - a.sum(1, keepdim=True) / n).masked_fill(~valid, 0)
        b = (b - b.sum(1, keepdim=True) / n).masked_fill(~valid, 0)
    # Unit length before the product: squares of tiny gradients would underflow.
    a = a / a.abs().amax(1, keepdim=True)
    b = b / b.abs().amax(1, keepdim=True)
    return ((a * b).sum(1) / (a.square().sum(1) * b.square().sum(1)).sqrt()).clamp(-1, 1)
