"""Views that move content: maps made on them are warped back, with validity.

Conventions: what a view draws depends on the image's seed and the view's settings alone.
"""

from jaxtyping import Float, Int64
from torch import Tensor

from heatproof.base import warps
from heatproof.base.fields import uniform
from heatproof.base.registry import choice
from heatproof.base.warps import Unwarp, UnwarpEach

Images = Float[Tensor, "b c h w"]
Seeds = Int64[Tensor, " b"]


@choice(family="identity")
def identity(images: Images, seeds: Seeds) -> tuple[Images, Unwarp]:
    """The image itself."""
    return images, Unwarp()


@choice(family="flip")
def flip(images: Images, seeds: Seeds) -> tuple[Images, Unwarp]:
    """Left and right swapped; exact both ways."""
    return _seen(images, warps.FLIP)


@choice(family="rotation")
def rotate(images: Images, seeds: Seeds, *, angle: float) -> tuple[Images, Unwarp]:
    """Content turned counter-clockwise by `angle` degrees about the centre, outside mirrored."""
    return _seen(images, warps.rotation(angle))


@choice(family="shift")
def shift(images: Images, seeds: Seeds, *, dx: float, dy: float) -> tuple[Images, Unwarp]:
    """Content moved right by round(dx W) and down by round(dy H) whole pixels, outside mirrored."""
    height, width = images.shape[-2:]
    return _seen(images, warps.translation(round(dx * width), round(dy * height)))


@choice(family="scale")
def magnify(images: Images, seeds: Seeds, *, factor: float) -> tuple[Images, Unwarp]:
    """Content enlarged by `factor` about the centre (below 1: made smaller, outside mirrored)."""
    return _seen(images, warps.magnification(factor))


@choice(family="scale")
def centre_crop(images: Images, seeds: Seeds, *, fraction: float) -> tuple[Images, Unwarp]:
    """The middle `fraction` of each side, enlarged to full size; a map says nothing of what was cut off."""
    return _seen(images, warps.magnification(1 / fraction))


@choice(family="scale")
def random_crop(images: Images, seeds: Seeds, *, fraction: float, draw: int) -> tuple[Images, Unwarp]:
    """A window of `fraction` of each side, at a place drawn for each image, enlarged to full size.

    `draw` numbers the crops of a set: each number draws anew.
    """
    height, width = images.shape[-2:]
    room = (1 - fraction) / 2
    places = (2 * uniform(seeds + draw, (2,)).double() - 1) * room
    warps_of = tuple(
        ((fraction, 0.0, across * width), (0.0, fraction, down * height)) for across, down in places.tolist()
    )
    return _seen_each(images, warps_of)


@choice(family="rotation")
def random_rotate(images: Images, seeds: Seeds, *, most: float, draw: int) -> tuple[Images, Unwarp]:
    """Content turned by an angle drawn for each image, uniform in -most .. most degrees, outside mirrored.

    `draw` numbers the rotations of a set: each number draws anew.
    """
    angles = (2 * uniform(seeds + draw, (1,)).double()[:, 0] - 1) * most
    return _seen_each(images, tuple(warps.rotation(angle) for angle in angles.tolist()))


def _seen_each(images: Images, each: tuple[warps.Affine, ...]) -> tuple[Images, Unwarp]:
    return warps.warped_each(images, each), UnwarpEach(affines=each)


def _seen(images: Images, warp: warps.Affine) -> tuple[Images, Unwarp]:
    return warps.warped(images, warp), Unwarp(warp)
