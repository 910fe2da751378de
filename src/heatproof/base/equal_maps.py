"""Methods that turn out to be one: their maps are the same on every image of the run.

Conventions: maps float32 (N, H, W); two are the same where they differ by at most `TOLERANCE` of the image's largest
magnitude at every pixel, after a positive factor per image is taken out, which no ranking sees. Maps that are zero
everywhere say nothing about their methods.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float32

from heatproof.base.blocks import blocks_of

# Sums over some hundred channels in another order differ by this much in float32.
TOLERANCE = 1e-5


def equal_groups(maps: Mapping[str, Float32[np.ndarray, "n h w"]]) -> list[tuple[str, ...]]:
    """Names whose maps are the same, each group in the order of `maps`, first names first; only groups of two or more.

    >>> one = np.arange(8, dtype=np.float32).reshape(2, 2, 2)
    >>> equal_groups({"a": one, "b": -one, "c": 3 * one})
    [('a', 'c')]
    """
    groups: list[list[str]] = []
    for name, given in maps.items():
        home = next((group for group in groups if _same(maps[group[0]], given)), None)
        if home is None:
            groups.append([name])
        else:
            home.append(name)
    return [tuple(group) for group in groups if len(group) > 1]


def in_words(groups: Sequence[Sequence[str]], n: int) -> tuple[str, ...]:
    """One remark a group, in words."""
    return tuple(
        f"{', '.join(group[:-1])} and {group[-1]} give the same map on all {n} images: on this net they are one method."
        for group in groups
    )


def _same(first: np.ndarray, second: np.ndarray) -> bool:
    if first.shape != second.shape:
        return False
    spoken = False
    for block in blocks_of(len(first)):
        a, b = _scaled(first[block]), _scaled(second[block])
        if not np.array_equal(np.isfinite(a), np.isfinite(b)) or np.nanmax(np.abs(a - b), initial=0) > TOLERANCE:
            return False
        spoken |= bool(np.nanmax(np.abs(a), initial=0) > 0)
    return spoken


def _scaled(maps: np.ndarray) -> np.ndarray:
    maps = np.where(np.isfinite(maps), np.asarray(maps, dtype=np.float64), np.nan)
    peak = np.nanmax(np.abs(maps), axis=(1, 2), keepdims=True, initial=0)
    return maps / np.where(peak > 0, peak, 1)
