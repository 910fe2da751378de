"""Images with their maps for the page: small pictures that a reader switches by method."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass, field

import matplotlib
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image, ImageColor

from heatproof.base.records import Maps, Predictions, Samples
from heatproof.stages.report.shown import HEAT, OUTLINE, SPREAD, case_title, held, unit

MOST = 64
# Sides in pixels. Maps of CAMs hold less than that; a pixel-wise map is averaged down to it.
IMAGE_SIDE, MAP_SIDE = 192, 96
# A page of 10 MB leaves 4 MB for this, base64 included.
BUDGET = 4_000_000


@dataclass(frozen=True)
class Tile:
    """One image: its id, what was predicted, "right", "wrong" or "" where it has no label, its pixels and its
    annotation's outline (WebP as base64, "" for none)."""

    image: str
    title: str
    outcome: str
    pixels: str
    outline: str


@dataclass(frozen=True)
class Viewer:
    """Tiles, and for each method one map and one status a tile: what the page shows, and of how many images."""

    tiles: tuple[Tile, ...] = ()
    maps: dict[str, list[str]] = field(default_factory=dict)
    status: dict[str, list[str]] = field(default_factory=dict)
    images: int = 0


def viewer(samples: Samples, predictions: Predictions, maps: Maps, *, most: int = MOST, budget: int = BUDGET) -> Viewer:
    """Up to `most` explained images, spread evenly over all of them, with the map of every method under test and, of
    fusions, the sd over their views; fewer where their pictures would take more than `budget` bytes.

    A map is scaled from its own minimum to its own maximum, an sd from 0 to the largest one shown.
    """
    names = [str(m.name) for m in maps.methods if m.control_of is None and str(m.name) in maps.files]
    n = len(maps.rows)
    if not n or not names:
        return Viewer()
    spreads = [name for name in names if name in maps.sd_files]
    cases = np.unique(np.linspace(0, n - 1, min(n, most)).round().astype(int))
    top = {name: float(np.nanmax(held(maps.sd_files[name])[cases], initial=0)) or 1.0 for name in spreads}
    known = predictions.table.drop_duplicates("image").set_index("image")
    tiles: list[Tile] = []
    pictures: dict[str, list[str]] = {name: [] for name in [*names, *(f"sd of {name}" for name in spreads)]}
    status: dict[str, list[str]] = {name: [] for name in pictures}
    for case in cases:
        tiles.append(_tile(samples, predictions, known, int(maps.rows[case])))
        for name in names:
            pictures[name].append(_heat(unit(np.asarray(maps.array(name)[case], np.float64)), HEAT))
        for name in spreads:
            pictures[f"sd of {name}"].append(_heat(held(maps.sd_files[name])[case] / top[name], SPREAD))
        for name in status:
            status[name].append(maps.status[name.removeprefix("sd of ")][case])
    used = sum(len(tile.pixels) + len(tile.outline) for tile in tiles)
    used += sum(len(picture) for some in pictures.values() for picture in some)
    if used > budget and len(cases) > 1:
        return viewer(samples, predictions, maps, most=len(cases) // 2, budget=budget)
    return Viewer(tuple(tiles), pictures, status, n)


def _tile(samples: Samples, predictions: Predictions, known: pd.DataFrame, row: int) -> Tile:
    image = str(samples.table["image"].iloc[row])
    found = known.loc[image]
    outcome = "" if pd.isna(found["label"]) else "right" if found["label"] == found["predicted"] else "wrong"
    pixels = np.asarray(samples.pixels[row])
    shown = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).convert("RGB")
    shown.thumbnail((IMAGE_SIDE, IMAGE_SIDE))
    mask = None if samples.masks is None else np.asarray(samples.masks[row]).astype(bool)
    outline = _outline(mask) if mask is not None and mask.any() else ""
    title = case_title(samples, predictions, row).replace("\n", ", ")
    return Tile(image, title, outcome, _webp(shown, quality=70), outline)


def _heat(values: NDArray[np.floating], colours: str) -> str:
    """A map in colours; what is not finite is black."""
    small = Image.fromarray(np.nan_to_num(values).astype(np.float32))
    small.thumbnail((MAP_SIDE, MAP_SIDE), Image.Resampling.BOX)
    painted = matplotlib.colormaps[colours](np.asarray(small).clip(0, 1), bytes=True)[..., :3]
    return _webp(Image.fromarray(painted), quality=60)


def _outline(mask: NDArray[np.bool_]) -> str:
    """The outermost pixels of a mask, all else transparent."""
    padded = np.pad(mask, 1)
    inside = mask & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    drawn = np.zeros((*mask.shape, 4), np.uint8)
    drawn[mask & ~inside] = (*ImageColor.getrgb(OUTLINE)[:3], 255)
    return _webp(Image.fromarray(drawn), lossless=True)


def _webp(image: Image.Image, **settings: object) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", method=4, **settings)
    return base64.b64encode(buffer.getvalue()).decode()
