"""DICOM files to uint8 arrays as a viewer shows them, and the patient they belong to without the patient's name."""

from __future__ import annotations

import functools
import hashlib
import io
import os
from typing import TYPE_CHECKING, Any

import numpy as np

from heatproof.base.errors import HeatproofError, fault

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

EXTENSIONS = frozenset({".dcm", ".dicom"})
PREAMBLE = 128  # bytes before the mark
MARK = b"DICM"
BIT_DEPTHS = (8, 12, 16)
MAX_PIXELS = 89_478_485  # Pillow's limit; a broken header asks for more memory than there is


def is_dicom(start: bytes) -> bool:
    """Whether a file that starts so is DICOM: the mark stands after 128 bytes."""
    return start[PREAMBLE : PREAMBLE + len(MARK)] == MARK


def decode_dicom(path: str | os.PathLike[str] | bytes, name: str) -> np.ndarray:
    """The image of a single-frame DICOM file: uint8 (H, W) for grey, (H, W, 3) for colour.

    Grey: modality rescale or LUT, then the file's first VOI LUT or window over its whole output range, MONOCHROME1
    inverted. Without LUT and window, stored values are divided by the range of the smallest usual depth (8, 12 or 16
    bits) that holds the brightest one, as for other deep files; where some are negative, the image's own range counts.
    Pixels marked as padding are black. Palettes and YBR become RGB.

    Raises a HeatproofError for several frames (which of them is meant, nobody says), for a transfer syntax without an
    installed decoder, and for what is broken or no image. Source: DICOM PS3.3 C.7.6.3, C.11.1, C.11.2.
    """
    pydicom = _pydicom()
    try:
        data = pydicom.dcmread(io.BytesIO(path) if isinstance(path, bytes) else path, force=True)
        _refuse(data, name)
        return _shown(data, _stored(data, name))
    except HeatproofError:
        raise
    except Exception as error:  # pydicom raises what a broken file happens to lead to
        raise HeatproofError(fault(name, f"broken DICOM file ({' '.join(str(error).split())})")) from error


def _refuse(data: Dataset, name: str) -> None:
    """Raise for a data set that is not one image of a size that can be."""
    if "Rows" not in data or not any(tag in data for tag in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
        wrong = "a DICOM file without an image" if "SOPClassUID" in data else "no DICOM file that can be read"
        raise HeatproofError(fault(name, wrong))
    frames = int(data.get("NumberOfFrames") or 1)
    if frames > 1:
        raise HeatproofError(several_frames(name, frames))
    if int(data.Rows) * int(data.Columns) > MAX_PIXELS:
        raise HeatproofError(fault(name, f"{data.Columns} x {data.Rows} pixels, the limit is {MAX_PIXELS}"))


def patient_group(path: str | os.PathLike[str]) -> str | None:
    """The group of a DICOM file: `patient-` and 16 hexadecimal digits of SHA-256 of its PatientID, None without one.

    Equal patients have equal groups in every data set. The ID itself is neither kept nor shown; whoever holds a list of
    possible IDs can still tell which of them it is.
    """
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            if not is_dicom(file.read(PREAMBLE + len(MARK))):
                return None
        data = _pydicom().dcmread(path, stop_before_pixels=True, specific_tags=["PatientID"])
        patient = str(data.get("PatientID") or "").strip()
    except Exception:  # what is broken is told when the image is decoded
        return None
    return f"patient-{hashlib.sha256(patient.encode()).hexdigest()[:16]}" if patient else None


def default_group(path: str | os.PathLike[str]) -> str | None:
    """`patient_group` of a file whose name ends like a DICOM file's; None for others, which are not opened."""
    return patient_group(path) if os.fspath(path).lower().endswith(tuple(EXTENSIONS)) else None


@functools.cache
def _pydicom() -> Any:
    import pydicom
    from pydicom import config

    # Odd values in tags that nobody reads would print a warning per file, some of them with patients' names.
    config.settings.reading_validation_mode = config.IGNORE
    return pydicom


def _stored(data: Dataset, name: str) -> np.ndarray:
    """Pixels as stored, decompressed; colour as RGB but for palettes."""
    from pydicom.pixels import pixel_array

    if "TransferSyntaxUID" not in data.file_meta:
        data.file_meta.TransferSyntaxUID = _guessed_syntax(data)
    syntax = data.file_meta.TransferSyntaxUID
    try:
        pixels: np.ndarray = pixel_array(data)
    except (RuntimeError, NotImplementedError) as error:
        lacking = any(words in str(error) for words in ("missing dependencies", "does not support", "No pixel data"))
        if not (syntax.is_compressed and lacking):
            raise
        hint = "pip install pylibjpeg-libjpeg (JPEG, JPEG-LS), or decompress the files."
        wrong = f"compressed as {syntax.name}, and no decoder for it is installed"
        raise HeatproofError(fault(name, wrong, hint=hint)) from error
    return pixels


def _guessed_syntax(data: Dataset) -> Any:
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    implicit, little = data.original_encoding
    if implicit:
        return ImplicitVRLittleEndian
    return ExplicitVRLittleEndian if little else ExplicitVRBigEndian


def _shown(data: Dataset, stored: np.ndarray) -> np.ndarray:
    """Stored pixels as grey or colour bytes."""
    from pydicom.pixels import apply_color_lut, apply_modality_lut, apply_voi_lut, apply_windowing

    kind = str(data.get("PhotometricInterpretation", ""))
    if kind == "PALETTE COLOR":
        stored = apply_color_lut(stored, data)
        return _scaled(stored, 0, np.iinfo(stored.dtype).max)
    if data.get("BitsStored") == 1:
        stored = stored * np.uint8(255)
    if stored.ndim == 3:
        return deep_to_uint8(stored) if stored.dtype != np.uint8 else np.ascontiguousarray(stored)
    values = apply_modality_lut(stored, data)
    if data.get("VOILUTSequence"):
        bits = int(data.VOILUTSequence[0].LUTDescriptor[2])
        shown = _scaled(apply_voi_lut(values, data, prefer_lut=True), 0, 2**bits - 1)
    elif data.get("WindowCenter") is not None and data.get("WindowWidth") is not None:
        # What the window gives far below and far above it is the range of its output.
        centre, width = (float(np.atleast_1d(data[tag].value)[0]) for tag in ("WindowCenter", "WindowWidth"))
        low, high = apply_windowing(np.array([centre - 20 * width, centre + 20 * width]), data)
        shown = _scaled(apply_windowing(values, data), low, high)
    else:
        plain = values if data.get("ModalityLUTSequence") else stored
        shown = _scaled(plain, plain.min(), plain.max()) if plain.min() < 0 else deep_to_uint8(plain)
        if plain is stored and float(data.get("RescaleSlope") or 1) < 0:
            shown = 255 - shown
    if kind == "MONOCHROME1":
        shown = 255 - shown
    if "PixelPaddingValue" in data and stored.dtype.kind in "iu":
        last = int(data.get("PixelPaddingRangeLimit", data.PixelPaddingValue))
        first, last = sorted((int(data.PixelPaddingValue), last))
        shown = np.where((stored >= first) & (stored <= last), 0, shown).astype(np.uint8)
    return np.ascontiguousarray(shown)


def _scaled(values: np.ndarray, low: float, high: float) -> np.ndarray:
    if not high > low:
        return np.zeros(values.shape, np.uint8)
    return (np.clip((values.astype(np.float64) - low) / (high - low), 0, 1) * 255 + 0.5).astype(np.uint8)


def several_frames(name: str, frames: int) -> str:
    """What is wrong with a file of several images."""
    hint = "Write the frames that you mean as files of their own."
    return fault(name, f"holds {frames} frames, and one image is wanted", hint=hint)


def deep_to_uint8(values: np.ndarray) -> np.ndarray:
    """Pixels of any depth as uint8: divided by the range of the smallest usual depth (8, 12, 16 bits) that holds the
    brightest one, so that images of one scanner share a scale. Raises ValueError for negative or larger values."""
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise ValueError("pixels that are not finite")
    if values.min(initial=0) < 0:
        raise ValueError("pixels that are negative")
    top = values.max(initial=0)
    for bits in BIT_DEPTHS:
        if top < 2**bits:
            return (values.astype(np.float64) * (255 / (2**bits - 1)) + 0.5).astype(np.uint8)
    raise ValueError("more than 16 bits a pixel")
