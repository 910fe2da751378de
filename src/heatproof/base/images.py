"""Image files to uint8 arrays: one place that knows modes, bit depths, orientation and resizing."""

import functools
import io
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from heatproof.base import dicom
from heatproof.base.errors import HeatproofError, fault

if TYPE_CHECKING:
    from PIL.Image import Image

# Endings and the formats that they stand for; what a file is called otherwise says nothing.
FORMATS: dict[str, tuple[str, ...]] = {
    ".png": ("PNG",),
    ".jpg": ("JPEG", "MPO"),
    ".jpeg": ("JPEG", "MPO"),
    ".bmp": ("BMP", "DIB"),
    ".tif": ("TIFF",),
    ".tiff": ("TIFF",),
    ".webp": ("WEBP",),
    ".pgm": ("PPM",),
    **dict.fromkeys(dicom.EXTENSIONS, ("DICOM",)),
}
EXTENSIONS = frozenset(FORMATS)
RESIZES = ("squash", "fit", "crop")


def decode(path: str | os.PathLike[str] | bytes, name: str | None = None) -> np.ndarray:
    """The image of a file (or of its bytes), as stored: uint8 (H, W) for grey, (H, W, 3) for colour.

    Orientation tags are applied. Transparent pixels come out black. More than 8 bits: see `deep_to_uint8`; pixels in
    floating point of at most 1 are shares of white; DICOM: see `decode_dicom`. Raises a HeatproofError that names the
    file where it is broken, truncated, empty, no image, larger than `MAX_PIXELS`, of several frames (which of them is
    meant, nobody says), or of another format than its ending says.
    """
    where = name or ("image" if isinstance(path, bytes) else str(path))
    ending = "" if isinstance(path, bytes) else Path(path).suffix.lower()
    start = path[:132] if isinstance(path, bytes) else _start(path, where)
    if not start:
        raise HeatproofError(fault(where, "an empty file"))
    if dicom.is_dicom(start) or (ending in dicom.EXTENSIONS and not _known_to_pillow(start)):
        _check_format(where, ending, "DICOM")
        return dicom.decode_dicom(path, where)
    return _decode_picture(path, where, ending)


def _start(path: str | os.PathLike[str], where: str) -> bytes:
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            return file.read(dicom.PREAMBLE + len(dicom.MARK))
    except OSError as error:
        wrong = "no such file" if isinstance(error, FileNotFoundError) else f"cannot be read ({error.strerror})"
        raise HeatproofError(fault(where, wrong)) from None


def _known_to_pillow(start: bytes) -> bool:
    return start.startswith((b"\x89PNG", b"\xff\xd8", b"BM", b"II*\0", b"MM\0*", b"RIFF", b"P5"))


def _check_format(where: str, ending: str, found: str) -> None:
    wanted = FORMATS.get(ending)
    if wanted and found not in wanted:
        raise HeatproofError(
            fault(where, f"holds {found}, and its ending says {wanted[0]}", hint="Rename it if its content is right.")
        )


def _decode_picture(path: str | os.PathLike[str] | bytes, where: str, ending: str) -> np.ndarray:
    from PIL import Image, ImageOps, UnidentifiedImageError

    _silence_bombs()
    try:
        with Image.open(io.BytesIO(path) if isinstance(path, bytes) else path) as image:
            _check_format(where, ending, str(image.format))
            if image.width * image.height > dicom.MAX_PIXELS:
                raise ValueError(f"{image.width} x {image.height} pixels, the limit is {dicom.MAX_PIXELS}")
            frames = getattr(image, "n_frames", 1)
            if frames > 1 and image.format != "MPO":  # a camera's further frames are previews of the first
                raise HeatproofError(dicom.several_frames(where, frames))
            ImageOps.exif_transpose(image, in_place=True)
            return _to_uint8(image)
    except UnidentifiedImageError:
        raise HeatproofError(fault(where, "no image that can be read")) from None
    except (
        OSError, SyntaxError, ValueError, Image.DecompressionBombError, Image.DecompressionBombWarning
    ) as error:  # fmt: skip
        raise HeatproofError(fault(where, f"broken image ({error})")) from error


@functools.cache
def _silence_bombs() -> None:
    """Sizes above the limit are an error of ours: Pillow's own warning beside it would only repeat it."""
    from PIL import Image

    warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


def _to_uint8(image: "Image") -> np.ndarray:
    """Grey or colour bytes of an opened image of any mode."""
    from PIL import Image

    if image.mode.startswith(("I", "F")):
        values = np.asarray(image)
        shares = values.dtype.kind == "f" and values.max(initial=0) <= 1
        return dicom.deep_to_uint8(values * 255 if shares else values)
    if image.mode in ("1", "L", "RGB"):
        return np.asarray(image.convert("L") if image.mode == "1" else image)
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


def fit(pixels: np.ndarray, size: int, channels: int, resize: str = "squash") -> np.ndarray:
    """An image as uint8 (size, size, channels), bilinear, antialiased when it shrinks.

    Grey by luma (ITU-R 601), or grey repeated. `resize`: "squash" changes the aspect ratio, "fit" keeps the whole image
    and pads it with black, "crop" keeps the central square.
    """
    from PIL import Image

    image = Image.fromarray(np.ascontiguousarray(pixels))
    if channels == 1 and image.mode != "L":
        image = image.convert("L")
    part, place = geometry(image.height, image.width, size, resize)
    if (image.height, image.width) != (size, size):
        image = image.resize(_extent(place), Image.Resampling.BILINEAR, box=part)
    result = np.asarray(image)
    if place != (0, 0, size, size):
        canvas = np.zeros((size, size, *result.shape[2:]), np.uint8)
        canvas[place[1] : place[3], place[0] : place[2]] = result
        result = canvas
    if result.ndim == 2:
        result = result[..., None]
    return np.repeat(result, channels, axis=2) if result.shape[2] != channels else result


def fit_mask(mask: np.ndarray, size: int, resize: str = "squash") -> np.ndarray:
    """A mask as uint8 0/1 (size, size), nearest neighbour, through the same geometry as an image of its size."""
    from PIL import Image

    part, place = geometry(mask.shape[0], mask.shape[1], size, resize)
    whole = Image.fromarray(np.asarray(mask, bool).astype(np.uint8))
    result = np.zeros((size, size), np.uint8)
    scaled = whole.resize(_extent(place), Image.Resampling.NEAREST, box=part)
    result[place[1] : place[3], place[0] : place[2]] = np.asarray(scaled)
    return result


Part = tuple[float, float, float, float]
Place = tuple[int, int, int, int]


def geometry(height: int, width: int, size: int, resize: str) -> tuple[Part, Place]:
    """Which part of an image is seen and where in the square it lies: (left, top, right, bottom) of both, in pixels.

    >>> geometry(100, 200, 50, "fit"), geometry(100, 200, 50, "crop")
    (((0, 0, 200, 100), (0, 12, 50, 37)), ((50.0, 0.0, 150.0, 100.0), (0, 0, 50, 50)))
    """
    whole, square = (0, 0, width, height), (0, 0, size, size)
    if resize == "squash":
        return whole, square
    if resize == "crop":
        side = min(width, height)
        left, top = (width - side) / 2, (height - side) / 2
        return (left, top, left + side, top + side), square
    if resize == "fit":
        across, down = (max(1, round(size * side / max(width, height))) for side in (width, height))
        left, top = (size - across) // 2, (size - down) // 2
        return whole, (left, top, left + across, top + down)
    raise HeatproofError(fault("dataset.resize", "no such policy", got=resize, choices=RESIZES))


def _extent(place: Place) -> tuple[int, int]:
    return place[2] - place[0], place[3] - place[1]


def is_image(name: str) -> bool:
    """Whether a file name ends like an image's and is not hidden (`.x`, `._x`)."""
    return not name.startswith(".") and Path(name).suffix.lower() in EXTENSIONS
