"""Boxes around parts of a region.

Conventions: a region is bool (h, w); its parts are 8-connected; a box is a pair of slices (rows, columns), tight.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from jaxtyping import Bool

Box: TypeAlias = tuple[slice, slice]
EIGHT = np.ones((3, 3), dtype=np.int64)


def boxes_of(region: Bool[np.ndarray, "h w"]) -> list[Box]:
    """The box of each part of a region."""
    from scipy.ndimage import find_objects, label

    return list(find_objects(label(region, structure=EIGHT)[0]))


def largest_box(region: Bool[np.ndarray, "h w"]) -> Box:
    """The box of the part with most pixels, of equal ones the first from the top. The region is not empty."""
    from scipy.ndimage import find_objects, label

    parts, _ = label(region, structure=EIGHT)
    sizes = np.bincount(parts.ravel())[1:]
    number = int(sizes.argmax())
    box: Box = find_objects(parts)[number]
    return box


def area_of(box: Box) -> int:
    """Pixels of a box."""
    rows, columns = box
    return max(0, rows.stop - rows.start) * max(0, columns.stop - columns.start)


def overlap(a: Box, b: Box) -> float:
    """Pixels in both boxes over pixels in either, 0 to 1.

    >>> overlap((slice(0, 2), slice(0, 2)), (slice(1, 3), slice(0, 2)))
    0.3333333333333333
    """
    common = area_of((_common(a[0], b[0]), _common(a[1], b[1])))
    return common / (area_of(a) + area_of(b) - common)


def _common(a: slice, b: slice) -> slice:
    return slice(max(a.start, b.start), min(a.stop, b.stop))
