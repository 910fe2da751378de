"""Blocks of images: the unit in which maps and scores are made, kept and lost."""

import numpy as np

from heatproof.base import shards


def blocks_of(n: int) -> list[np.ndarray]:
    """Row numbers 0..n-1 in blocks of at most 64, as even as they go, so that none is too small for the between-image
    floor.

    >>> [len(block) for block in blocks_of(130)]
    [44, 43, 43]
    """
    return [np.array(block) for block in shards.blocks_of(n)]
