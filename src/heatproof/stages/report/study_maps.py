"""Maps of all arms of a study on the same images: those that were published, and some that each net gets wrong."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from heatproof.base.fields import image_seed
from heatproof.base.images import decode
from heatproof.base.study import Study
from heatproof.stages.report.drawing import PAGE, Drawing, short
from heatproof.stages.report.merge import Stored
from heatproof.stages.report.shown import bare, unit
from heatproof.stages.report.study_runs import Runs, explained_in

# The studies' own look of an overlay: jet, at this strength.
COLOURS, ALPHA = "jet", 0.4
WRONG = 3  # misclassified images of each arm


@dataclass(frozen=True)
class Kept:
    """The maps that a run kept, of its first method under test. `maps`: image -> (h, w)."""

    arm: str
    run: Stored
    method: str
    maps: dict[str, np.ndarray]


def map_drawings(study: Study, runs: Runs) -> Iterator[Drawing]:
    """Fixed images with the maps of all arms beside each other, and misclassified ones of each arm; under the sound
    protocol where it was run. Nothing where no run kept its maps (`report.maps=true`) or the images are gone."""
    kept = [found for arm in runs.arms if (found := _kept(runs, arm)) is not None]
    fixed = list(dict.fromkeys(row.image for table in study.published for row in table.rows if row.image))
    fixed = [image for image in fixed if any(image in one.maps for one in kept)]
    if kept and fixed and _read(kept[0].run, fixed[0]) is not None:
        figure = _grid([(image, kept, "") for image in fixed])
        yield Drawing("study_images", figure, f"The study's own images. {_caption(kept)}")
    outcomes = [
        (image, [one], f"{outcome}: ") for one in kept for outcome, image in _outcomes(one)
        if _read(one.run, image) is not None
    ]  # fmt: skip
    if outcomes:
        text = "One image of each outcome (TP, TN, FP, FN) of each arm, drawn at random from those explained."
        yield Drawing("study_outcomes", _grid(outcomes), f"{text} {_caption(kept)}")
    wrong = [(image, [one], "") for one in kept for image in _wrong(one) if _read(one.run, image) is not None]
    if wrong:
        figure = _grid(wrong)
        text = f"Images that a net gets wrong, up to {WRONG} of each arm, drawn at random from those explained."
        yield Drawing("study_wrong", figure, f"{text} {_caption(kept)}")


def _kept(runs: Runs, arm: str | None) -> Kept | None:
    for protocol in ("sound", "study"):
        for run in runs.of(arm, protocol)[:1]:
            method = run.summary["tested"][0]
            path = run.folder / "maps" / f"{method.replace(':', '__')}.npy"
            if path.is_file():
                maps = np.load(path, mmap_mode="r")
                return Kept(arm or "", run, method, dict(zip(explained_in(run), maps, strict=True)))
    return None


def _wrong(one: Kept) -> list[str]:
    table = one.run.table("predictions")
    missed = table[(table["label"] != table["predicted"]) & table["label"].notna() & table["image"].isin(one.maps)]
    return _drawn(one, missed["image"])[:WRONG]


def _outcomes(one: Kept) -> Iterator[tuple[str, str]]:
    """An image of each outcome that explained images have; two classes alone have outcomes."""
    table = one.run.table("predictions")
    some = table[table["outcome"].notna() & table["image"].isin(one.maps)]
    for outcome in ("TP", "TN", "FP", "FN"):
        for image in _drawn(one, some.loc[some["outcome"] == outcome, "image"])[:1]:
            yield outcome, image


def _drawn(one: Kept, images: Iterable[str]) -> list[str]:
    """The images in an order drawn by the seed of the run."""
    return sorted(images, key=lambda image: image_seed(one.run.summary["seed"], image, "shown"))


def _grid(lines: Sequence[tuple[str, Sequence[Kept], str]]) -> Figure:
    """One row per image, with a word before its name: the image, then map and overlay of each arm, titled by what its
    net says."""
    across = 1 + 2 * max(len(arms) for _, arms, _ in lines)
    width = min(PAGE, 1.25 * across)
    figure = Figure(figsize=(width, (width / across + 0.28) * len(lines)))
    grid = figure.subplots(len(lines), across, squeeze=False)
    for axes, (image, arms, word) in zip(grid, lines, strict=True):
        for one in axes:
            bare(one)
        pixels = _read(arms[0].run, image)
        if pixels is None:
            continue
        _show(axes[0], pixels)
        axes[0].set_title(f"{word}{short(Path(image).stem, 22)}", fontsize=5)
        for number, arm in enumerate(arms):
            alone, over = axes[1 + 2 * number], axes[2 + 2 * number]
            if image not in arm.maps:
                continue
            heat = unit(np.asarray(arm.maps[image]))
            alone.imshow(heat, cmap=COLOURS, vmin=0, vmax=1, extent=(0, 1, 0, 1))
            alone.set_title(f"{arm.arm} {arm.method}", fontsize=5)
            _show(over, pixels)
            over.imshow(heat, cmap=COLOURS, vmin=0, vmax=1, extent=(0, 1, 0, 1), alpha=ALPHA)
            over.set_title(_says(arm.run, image), fontsize=5)
    return figure


def _says(run: Stored, image: str) -> str:
    row = run.table("predictions").set_index("image").loc[image]
    chances = row.filter(like="p_").astype(float)
    text = f"{chances.idxmax().removeprefix('p_')} {chances.max():.3f}"
    return text if pd.isna(row["label"]) or row["label"] == row["predicted"] else f"{text}, wrong"


def _show(axes: Axes, pixels: np.ndarray) -> None:
    axes.imshow(pixels, cmap="gray", vmin=0, vmax=255, extent=(0, 1, 0, 1))


def _read(run: Stored, image: str) -> np.ndarray | None:
    """The picture, as the file holds it; None where there is no file any more."""
    found = run.table("samples").set_index("image")["path"].get(image)
    return decode(str(found)) if found is not None and Path(str(found)).is_file() else None


def _caption(kept: Sequence[Kept]) -> str:
    protocols = ", ".join(dict.fromkeys(str(one.run.records["config"]["protocol"]) for one in kept))
    return (
        f"Left the image, then map (scaled from its minimum to its maximum) and overlay ({COLOURS}, {ALPHA:g}) of each "
        f"arm with what its net says and how surely; protocol {protocols}."
    )
