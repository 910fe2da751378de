"""Miniatures of the layouts that data sets come in."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

REAL = Path(__file__).parents[2] / "shared" / "data"


def picture(path: Path, size=(12, 10), level: int = 80, mode: str = "L") -> Path:
    """A small image file with noise, (width, height) as asked."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng([level, *path.name.encode()])
    pixels = rng.integers(0, 2 * level, (size[1], size[0]), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(path)
    return path


def mask(path: Path, box=(2, 2, 6, 6), size=(12, 10)) -> Path:
    """A mask file {0, 255} with a bright box (left, top, right, bottom)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("L", size)
    image.paste(255, box)
    image.save(path)
    return path


def real(name: str) -> str:
    """A folder of the real data beside the repository, or the test is skipped."""
    folder = REAL / name
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}")
    return str(folder)
