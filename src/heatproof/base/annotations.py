"""Annotations of any form (mask files, boxes, circles) as masks of an image.

Conventions: a mask is bool (H, W) with True inside. Coordinates are pixels from the left and from the top, as edges:
the first pixel reaches from 0 to 1, and a pixel belongs to a shape when its centre does. A mask may come at any
resolution, as long as its aspect is that of its image.
"""

import os
from collections.abc import Iterable, Sequence

import numpy as np

from heatproof.base.errors import HeatproofError, fault
from heatproof.base.images import decode

ASPECT_TOLERANCE = 0.01

Box = tuple[float, float, float, float]
Circle = tuple[float, float, float]


def read_masks(paths: Iterable[str | os.PathLike[str]]) -> np.ndarray:
    """The union of mask files of any mode, bool (H, W): True above half of each file's maximum, so that {0, 1} and
    {0, 255} both work. Files of other sizes are brought to the size of the largest one (nearest neighbour).

    Raises a HeatproofError that names the file where two of them differ in aspect.
    """
    named = [(str(path), _file_mask(path)) for path in paths]
    assert named, "read_masks needs at least one file"
    height, width = max((mask.shape for _, mask in named), key=lambda shape: shape[0] * shape[1])
    union = np.zeros((height, width), bool)
    for name, mask in named:
        union |= at_image(mask, height, width, name)
    return union


def _file_mask(path: str | os.PathLike[str]) -> np.ndarray:
    pixels = decode(path)
    pixels = pixels.max(axis=2) if pixels.ndim == 3 else pixels
    return pixels > pixels.max() / 2


def at_image(mask: np.ndarray, height: int, width: int, where: str) -> np.ndarray:
    """The mask at the resolution of its image, bool (height, width), nearest neighbour.

    Raises a HeatproofError that names `where` for a mask of another aspect, which is never stretched: one that differs
    by more than 1 %, unless one side rounded to whole pixels accounts for it.
    """
    rows, columns = mask.shape
    if (rows, columns) == (height, width):
        return mask
    rounded = min(abs(columns - width * rows / height), abs(rows - height * columns / width))
    if abs(columns * height / (rows * width) - 1) > ASPECT_TOLERANCE and rounded > 0.5:
        raise HeatproofError(
            fault(
                where,
                f"the annotation is {columns} x {rows} pixels and the image {width} x {height}: another aspect",
                hint="It is not stretched: correct it, or leave the image out.",
            )
        )
    vertical = (np.arange(height) * rows + rows / 2) // height
    horizontal = (np.arange(width) * columns + columns / 2) // width
    return mask[np.ix_(vertical.astype(np.intp), horizontal.astype(np.intp))]


def box_mask(boxes: Sequence[Box], height: int, width: int) -> np.ndarray:
    """The union of boxes (left, top, right, bottom), bool (height, width); what lies outside the image is cut off.

    >>> box_mask([(1, 0, 3, 1)], 2, 4).astype(int).tolist()
    [[0, 1, 1, 0], [0, 0, 0, 0]]
    """
    y, x = np.arange(height) + 0.5, np.arange(width) + 0.5
    union = np.zeros((height, width), bool)
    for left, top, right, bottom in boxes:
        union |= ((top <= y) & (y < bottom))[:, None] & ((left <= x) & (x < right))
    return union


def circle_mask(circles: Sequence[Circle], height: int, width: int) -> np.ndarray:
    """The union of discs (x, y, radius), bool (height, width).

    A disc too small to hold a pixel's centre is the pixel that holds its own centre.

    >>> circle_mask([(1.5, 1.5, 1)], 3, 4).astype(int).tolist()
    [[0, 1, 0, 0], [1, 1, 1, 0], [0, 1, 0, 0]]
    """
    y, x = np.ogrid[0.5:height, 0.5:width]
    union = np.zeros((height, width), bool)
    for across, down, radius in circles:
        disc = (x - across) ** 2 + (y - down) ** 2 <= radius**2
        if not disc.any() and 0 <= across < width and 0 <= down < height:
            disc[int(down), int(across)] = True
        union |= disc
    return union
