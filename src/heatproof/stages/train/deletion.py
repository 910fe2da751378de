"""Cells of training images that go black, so that a net has met what metrics show it that delete cells."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from heatproof.base.fields import hash_keys, image_seed, uniform


def cells_deleted(
    images: Float[Tensor, "b c h w"], most: int, grid: int, seed: int, epoch: int, image_ids: Sequence[str]
) -> Float[Tensor, "b c h w"]:
    """Images with 0 to `most` cells of a grid of `grid` x `grid` black, their number and places drawn uniformly.

    Drawn anew per (seed, epoch, image). Cells are cut as evenly as whole pixels allow.
    Source: Hesse et al. 2024 (IDSDS): one cell of 4 x 4, or none.
    """
    if not most:
        return images
    seeds = torch.tensor([image_seed(seed, image, f"cells epoch {epoch}") for image in image_ids], device=images.device)
    number = (uniform(seeds, (1,)) * (most + 1)).long()
    # hash_keys of the same seeds start with the bits of `uniform`: drawn behind them.
    rank = hash_keys(seeds, grid**2 + 1)[:, 1:].argsort(dim=1).argsort(dim=1)
    kept = (rank >= number).view(len(images), 1, grid, grid).float()
    return images * F.interpolate(kept, size=images.shape[-2:], mode="nearest-exact")
