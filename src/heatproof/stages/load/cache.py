"""Pixels of a data set, decoded in threads and written to a folder of the store."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from heatproof.base import images
from heatproof.base.annotations import at_image
from heatproof.base.errors import HeatproofError
from heatproof.base.records import Row, Source
from heatproof.base.settings import LoadSettings
from heatproof.stages.load.parallel import in_order

VERSION = 2  # raise it when decoding or resizing changes a pixel
SHOWN_FAULTS = 20


@dataclass(frozen=True)
class _Facts:
    """What decoding learns of one image: size as stored, hash of its content, pixel sums per channel, share of it
    inside its annotation (None without one), and whether none of that is left at this size."""

    width: int
    height: int
    file_hash: str
    sums: tuple[int, ...]
    mask_area: float | None
    mask_lost: bool


def write_pixels(source: Source, rows: Sequence[Row], hashes: list[Any], settings: LoadSettings, to: Path) -> None:
    """Write pixels.npy, masks.npy where there are annotations, and images.parquet."""
    size, channels = settings.size, settings.channels
    annotated = source.read_mask is not None and any(row.annotation for row in rows)
    generated = source.identity is not None

    def one(number: int) -> tuple[np.ndarray, np.ndarray | None, _Facts] | str:
        row = rows[number]
        try:
            stored = source.read(row)
            pixels = images.fit(stored, size, channels)
            mask = None
            area, lost = None, False
            if annotated:
                assert source.read_mask is not None
                found = source.read_mask(row) if row.annotation else None
                if found is None:
                    mask = np.zeros((size, size), np.uint8)
                else:
                    found = at_image(found, stored.shape[0], stored.shape[1], f"image {row.image}")
                    mask = images.fit_mask(found, size)
                    area, lost = float(found.mean()), bool(found.any()) and not mask.any()
        except HeatproofError as error:
            return " ".join(error.faults)
        digest = hashlib.sha256(stored.tobytes()).hexdigest() if generated else hashes[number][0]
        sums = tuple(int(s) for s in pixels.sum(axis=(0, 1), dtype=np.int64))
        return pixels, mask, _Facts(stored.shape[1], stored.shape[0], digest, sums, area, lost)

    facts: list[_Facts] = []
    broken: list[str] = []
    # Plain writes: a full disk is then an error, where a memory map would kill the process.
    with (to / "pixels.npy").open("wb") as pixel_file, (to / "masks.npy").open("wb") as mask_file:
        _write_header(pixel_file, (len(rows), size, size, channels))
        _write_header(mask_file, (len(rows), size, size))
        for result in in_order(one, range(len(rows)), "decode"):
            if isinstance(result, str):
                broken.append(result)
                continue
            pixels, mask, fact = result
            pixel_file.write(np.ascontiguousarray(pixels).data)
            if mask is not None:
                mask_file.write(np.ascontiguousarray(mask).data)
            facts.append(fact)
    if broken:
        more = len(broken) - SHOWN_FAULTS
        tail = [f"... and {more} more broken files."] if more > 0 else []
        raise HeatproofError(*broken[:SHOWN_FAULTS], *tail)
    if not annotated:
        (to / "masks.npy").unlink()
    _write_facts(facts, to / "images.parquet")


def _write_header(file: Any, shape: tuple[int, ...]) -> None:
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})


def _write_facts(facts: Sequence[_Facts], path: Path) -> None:
    import pandas as pd

    table = pd.DataFrame(
        {
            "width": [fact.width for fact in facts],
            "height": [fact.height for fact in facts],
            "file_hash": [fact.file_hash for fact in facts],
            "mask_area": pd.Series([fact.mask_area for fact in facts], dtype=float),
            "mask_lost": [fact.mask_lost for fact in facts],
            **{f"sum_{c}": [fact.sums[c] for fact in facts] for c in range(len(facts[0].sums))},
        }
    )
    table.to_parquet(path)
