"""Image files to uint8 arrays: one place that knows modes, bit depths, orientation and resizing."""

import io
import os
from pathlib import Path

import numpy as np

from heatproof.base.errors import HeatproofError, fault

EXTENSIONS = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".pgm"})
BIT_DEPTHS = (8, 12, 16)


def decode(path: str | os.PathLike[str] | bytes, name: str | None = None) -> np.ndarray:
    """The first frame of an image file (or of its bytes), as stored: uint8 (H, W) for grey, (H, W, 3) for colour.

    Orientation tags are applied. Transparent pixels come out black. More than 8 bits are divided by the range of the
    smallest usual depth (12 or 16 bits) that holds the brightest pixel, so that slices of one scanner share a scale.
    Raises a HeatproofError that names the file where it is broken, truncated or no image.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    where = name or ("image" if isinstance(path, bytes) else str(path))
    try:
        with Image.open(io.BytesIO(path) if isinstance(path, bytes) else path) as image:
            return _to_uint8(ImageOps.exif_transpose(image))
    except UnidentifiedImageError:
        raise HeatproofError(fault(where, "no image that can be read")) from None
    except FileNotFoundError:
        raise HeatproofError(fault(where, "no such file")) from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise HeatproofError(fault(where, f"broken image ({error})")) from error


def _to_uint8(image) -> np.ndarray:  # type: ignore[no-untyped-def]
    """Grey or colour bytes of an opened image of any mode."""
    from PIL import Image

    if image.mode.startswith(("I", "F")):
        return _from_deep(np.asarray(image))
    if image.mode in ("1", "L", "RGB"):
        return np.array(image.convert("L") if image.mode == "1" else image)
    if image.mode == "LA" or "A" in image.getbands() or "transparency" in image.info:
        solid = image.convert("RGBA")
        black = Image.new("RGBA", solid.size, (0, 0, 0, 255))
        solid = Image.alpha_composite(black, solid).convert("RGB")
        return _grey_if_grey(np.array(solid)) if image.mode in ("LA", "La", "P") else np.array(solid)
    pixels = np.array(image.convert("RGB"))
    return _grey_if_grey(pixels) if image.mode == "P" else pixels


def _grey_if_grey(pixels: np.ndarray) -> np.ndarray:
    """A palette may be grey or not: only its colours tell."""
    grey = (pixels[..., 0] == pixels[..., 1]).all() and (pixels[..., 1] == pixels[..., 2]).all()
    return np.ascontiguousarray(pixels[..., 0]) if grey else pixels


def _from_deep(values: np.ndarray) -> np.ndarray:
    values = values.astype(np.float64)
    if not np.isfinite(values).all() or values.min(initial=0) < 0:
        raise ValueError("pixels that are negative or not finite")
    top = values.max(initial=0)
    for bits in BIT_DEPTHS:
        if top < 2**bits:
            return (values * (255 / (2**bits - 1)) + 0.5).astype(np.uint8)
    raise ValueError("more than 16 bits a pixel")


def fit(pixels: np.ndarray, size: int, channels: int) -> np.ndarray:
    """An image as uint8 (size, size, channels): grey by luma (ITU-R 601) or grey repeated, resized without keeping the
    aspect ratio (bilinear, antialiased when it shrinks)."""
    from PIL import Image

    image = Image.fromarray(np.ascontiguousarray(pixels))
    if channels == 1 and image.mode != "L":
        image = image.convert("L")
    if image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BILINEAR)
    result = np.asarray(image)
    if result.ndim == 2:
        result = result[..., None]
    return np.repeat(result, channels, axis=2) if result.shape[2] != channels else result


def fit_mask(mask: np.ndarray, size: int) -> np.ndarray:
    """A mask as uint8 0/1 (size, size), resized to the nearest neighbour."""
    return _nearest(np.asarray(mask, bool), (size, size)).astype(np.uint8)


def _nearest(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    from PIL import Image

    if (mask.shape[1], mask.shape[0]) == size:
        return mask
    image = Image.fromarray(mask.astype(np.uint8) * 255)
    return np.asarray(image.resize(size, Image.Resampling.NEAREST)) > 0


def is_image(name: str) -> bool:
    """Whether a file name ends like an image's and is not hidden (`.x`, `._x`)."""
    return not name.startswith(".") and Path(name).suffix.lower() in EXTENSIONS
