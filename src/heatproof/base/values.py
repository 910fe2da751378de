"""Values of maps: their status and the one named step that scales them to [0, 1]."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

# A map whose range is at most this share of its largest magnitude orders nothing but rounding errors.
CONSTANT_SHARE = 1e-6


def status_of(maps: Float[Tensor, "b h w"]) -> list[str]:
    """Status per map, first match of: `nonfinite`, `zero`, `constant` (max - min <= 1e-6 max|a|), `ok`.

    >>> status_of(torch.tensor([[[0.0, 0.0]], [[2.0, 2.0]], [[0.0, 1.0]], [[0.0, torch.inf]]]))
    ['zero', 'constant', 'ok', 'nonfinite']
    """
    finite = torch.isfinite(maps).flatten(1).all(1)
    safe = torch.where(finite[:, None, None], maps, torch.zeros_like(maps))
    zero = (safe == 0).flatten(1).all(1)
    flat = is_constant(safe)
    names = []
    for is_finite, is_zero, is_flat in zip(finite.tolist(), zero.tolist(), flat.tolist(), strict=True):
        names.append("nonfinite" if not is_finite else "zero" if is_zero else "constant" if is_flat else "ok")
    return names


def is_constant(maps: Float[Tensor, "b h w"], valid: Bool[Tensor, "b h w"] | None = None) -> Bool[Tensor, " b"]:
    """Whether a map is constant over its valid pixels: max - min <= 1e-6 max|a|; so is a map without valid pixels."""
    low, high = extremes(maps, valid)
    return ~(high - low > CONSTANT_SHARE * torch.maximum(low.abs(), high.abs()))


def partly(valid: Bool[Tensor, "b h w"] | None) -> Bool[Tensor, "b h w"] | None:
    """None where every pixel is valid, which costs less than masks do."""
    return None if valid is None or bool(valid.all()) else valid


def extremes(
    maps: Float[Tensor, "b h w"], valid: Bool[Tensor, "b h w"] | None = None
) -> tuple[Float[Tensor, " b"], Float[Tensor, " b"]]:
    """Minimum and maximum over the valid pixels, in float64; 0 and 0 where there is none."""
    flat = maps.flatten(1)
    valid = partly(valid)
    if valid is None:
        return flat.amin(1).double(), flat.amax(1).double()
    seen = valid.flatten(1)
    some = seen.any(1)
    low = flat.masked_fill(~seen, torch.inf).amin(1).double()
    high = flat.masked_fill(~seen, -torch.inf).amax(1).double()
    return torch.where(some, low, 0.0), torch.where(some, high, 0.0)


def norm(maps: Float[Tensor, "b h w"]) -> Float[Tensor, "b h w"]:
    """`(a - min) / (max - min)` per map, in [0, 1]; zeros for a map whose values are all equal.

    >>> norm(torch.tensor([[[1.0, 3.0, 2.0]], [[5.0, 5.0, 5.0]]])).tolist()
    [[[0.0, 1.0, 0.5]], [[0.0, 0.0, 0.0]]]
    """
    low = maps.amin((1, 2), keepdim=True)
    width = maps.amax((1, 2), keepdim=True) - low
    return torch.where(width > 0, (maps - low) / torch.where(width > 0, width, 1.0), torch.zeros_like(maps))


def as_measured(maps: Float[Tensor, "b h w"], sign: str) -> Float[Tensor, "b h w"]:
    """Maps as metrics see them: zeros in the place of a map that is not finite, magnitudes where `sign` is "absolute".

    >>> as_measured(torch.tensor([[[-1.0, 2.0]], [[torch.nan, 1.0]]]), "absolute").tolist()
    [[[1.0, 2.0]], [[0.0, 0.0]]]
    """
    finite = torch.isfinite(maps).flatten(1).all(1)
    maps = torch.where(finite[:, None, None], maps, torch.zeros_like(maps))
    return maps.abs() if sign == "absolute" else maps
