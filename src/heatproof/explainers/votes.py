"""Maps made of other explainers' maps.

Conventions: `maps` (k, b, h, w), those of the k explainers named in `of`, at input resolution. A map that is not finite
anywhere makes the consensus not finite there, so that it is flagged.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from heatproof.base.correlations import fractional_ranks
from heatproof.base.notes import note
from heatproof.base.registry import choice
from heatproof.base.values import norm

# Votes of a high-confidence pixel: two of three, study 5.
HIGH = 2


@choice(combines=True, source="Akgündoğdu 2025, Eq. 7-9")
def votes(maps: Float[Tensor, "k b h w"], *, threshold: float) -> Float[Tensor, "b h w"]:
    """Share of the explainers whose map, scaled to [0, 1], is at least `threshold` at a pixel: 0, 1/k, ..., 1.

    A constant map votes nowhere. Notes the share of the image with at least `HIGH` votes, study 5's
    high-confidence mask.
    """
    counts = vote_counts(maps, threshold)
    note("high_confidence_area", high_confidence(counts, HIGH).flatten(1).double().mean(1))
    counted = counts / len(maps)
    return torch.where(torch.isfinite(maps).all(0), counted, torch.nan)


@choice(combines=True, source="mean of fractional ranks (Borda's count)")
def mean_rank(maps: Float[Tensor, "k b h w"]) -> Float[Tensor, "b h w"]:
    """Mean over the explainers of a pixel's fractional rank in each map, inside (0, 1); ties share their mean rank."""
    ranks = torch.stack([fractional_ranks(one) for one in maps]).mean(0).float()
    return torch.where(torch.isfinite(maps).all(0), ranks, torch.nan)


def vote_counts(maps: Float[Tensor, "k b h w"], threshold: float) -> Float[Tensor, "b h w"]:
    """How many maps, each scaled to [0, 1], reach the threshold: 0 .. k."""
    return torch.stack([norm(one) >= threshold for one in maps]).sum(0).float()


def high_confidence(counts: Float[Tensor, "b h w"], at_least: int) -> Bool[Tensor, "b h w"]:
    """Pixels with that many votes."""
    return counts >= at_least
