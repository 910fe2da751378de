"""Decoded images in a folder, written and read one by one: a data set of any size passes through little memory.

pixels.npy      uint8 (n, size, size, channels)
masks.npy       uint8 0/1 (n, size, size), where there are annotations
images.parquet  a row of facts per image; `key` finds it again
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Self

import numpy as np

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Facts:
    """What decoding learns of one image: size as stored, hash of its content, pixel sums per channel, share of the
    image that its mask covers (None without a mask), whether the mask vanishes at the size asked for."""

    key: str
    width: int
    height: int
    file_hash: str
    sums: tuple[int, ...]
    mask_area: float | None
    mask_lost: bool

    def columns(self) -> dict[str, object]:
        """One row of `images.parquet`."""
        plain = {name: value for name, value in vars(self).items() if name != "sums"}
        return plain | {f"sum_{c}": value for c, value in enumerate(self.sums)}


def write_decoded(images: Iterable[tuple[np.ndarray, np.ndarray | None, Facts]], to: Path, *, masks: bool) -> None:
    """Write images as they come; those without a mask get an empty one where `masks` are wanted."""
    import pandas as pd

    facts = []
    pixel_file = mask_file = None
    try:
        for pixels, mask, fact in images:
            if pixel_file is None:
                pixel_file = _ArrayFile(to / "pixels.npy", pixels.shape)
                mask_file = _ArrayFile(to / "masks.npy", pixels.shape[:2]) if masks else None
            pixel_file.append(pixels)
            if mask_file is not None:
                mask_file.append(np.zeros(pixels.shape[:2], np.uint8) if mask is None else mask)
            facts.append(fact.columns())
    finally:
        for file in (pixel_file, mask_file):
            if file is not None:
                file.close()
    pd.DataFrame(facts).to_parquet(to / "images.parquet")


class _ArrayFile:
    """A .npy file of uint8 that grows along its first axis.

    Plain writes: a full disk is then an error, where a memory map would kill the process.
    """

    def __init__(self, path: Path, shape: tuple[int, ...]) -> None:
        self._file: IO[bytes] = path.open("wb")
        self._shape = shape
        self._num = 0
        self._header()

    def append(self, image: np.ndarray) -> None:
        self._file.write(np.ascontiguousarray(image, np.uint8).data)
        self._num += 1

    def close(self) -> None:
        self._file.seek(0)
        self._header()  # numpy leaves room for any length in it
        self._file.close()

    def _header(self) -> None:
        facts = {"descr": "|u1", "fortran_order": False, "shape": (self._num, *self._shape)}
        np.lib.format.write_array_header_1_0(self._file, facts)


class Reader:
    """Images of one folder by position, read from the files: mapped pages would count as memory."""

    def __init__(self, folder: Path) -> None:
        self._arrays: dict[str, tuple[IO[bytes], int, tuple[int, ...]]] = {}
        for name in ("pixels", "masks"):
            path = folder / f"{name}.npy"
            if path.is_file() or name == "pixels":
                mapped = np.load(path, mmap_mode="r")
                self._arrays[name] = (path.open("rb"), int(mapped.offset), mapped.shape[1:])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        for file, _, _ in self._arrays.values():
            file.close()

    def pixels(self, position: int) -> np.ndarray:
        """uint8 (size, size, channels)."""
        return self._read("pixels", position)

    def mask(self, position: int) -> np.ndarray | None:
        """uint8 (size, size), or None where the folder has no masks."""
        return self._read("masks", position) if "masks" in self._arrays else None

    def _read(self, name: str, position: int) -> np.ndarray:
        file, offset, shape = self._arrays[name]
        num_bytes = int(np.prod(shape))
        return np.frombuffer(os.pread(file.fileno(), num_bytes, offset + position * num_bytes), np.uint8).reshape(shape)


def facts_of(folder: Path) -> "pd.DataFrame":
    """The facts of a folder, one row per image."""
    import pandas as pd

    return pd.read_parquet(folder / "images.parquet")
