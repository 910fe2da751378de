"""Which explained images figures show, and how an image, its map and its title are drawn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from heatproof.base.records import Maps, Predictions, Samples
from heatproof.stages.report.drawing import short

HEAT, SPREAD = "inferno", "viridis"
OUTLINE = "#00e5ff"
CASES = 4


def cases_of(samples: Samples, predictions: Predictions, maps: Maps) -> list[int]:
    """Places (in the maps) of up to four cases: a wrong prediction if there is one, then correct ones of the classes in
    turn, annotated ones first; everything by position, so a rerun shows the same."""
    images = samples.table["image"].iloc[maps.rows].to_numpy()
    known = predictions.table.drop_duplicates("image").set_index("image").reindex(images)
    annotated = samples.table["annotation"].notna().iloc[maps.rows].to_numpy() if samples.masks is not None else None
    labels = known["label"].to_numpy(dtype=np.float64, na_value=np.nan)
    correct = labels == known["predicted"].to_numpy(dtype=np.float64, na_value=np.nan)
    order = np.arange(len(images)) if annotated is None else np.argsort(~annotated, kind="stable")
    wrong = [int(i) for i in order if not correct[i] and np.isfinite(labels[i])][:1]
    by_class: dict[float, list[int]] = {}
    for i in order:
        if int(i) not in wrong:
            by_class.setdefault(float(np.nan_to_num(labels[i], nan=-1)), []).append(int(i))
    right = []
    queues = [by_class[label] for label in sorted(by_class)]
    for turn in range(CASES):
        right += [queue[turn] for queue in queues if turn < len(queue)]
    room = CASES - len(wrong)
    return sorted(right[:room], key=lambda i: (np.nan_to_num(labels[i], nan=-1), i)) + wrong


def case_title(samples: Samples, predictions: Predictions, row: int) -> str:
    image = samples.table["image"].iloc[row]
    found = predictions.table[predictions.table["image"] == image].iloc[0]
    # Data without labels name no classes: those of the net stand in the columns.
    classes = samples.classes or [str(name)[2:] for name in found.index if str(name).startswith("p_")]
    predicted = classes[int(found["predicted"])]
    text = f"pred. {short(predicted, 16)} {float(found.get(f'p_{predicted}', np.nan)):.2f}"
    return text if pd.isna(found["label"]) else f"true {short(classes[int(found['label'])], 16)}\n{text}"


def held(held: Path | np.ndarray) -> np.ndarray:
    return held if isinstance(held, np.ndarray) else np.asarray(np.load(held, mmap_mode="r"))


def unit(found: np.ndarray) -> np.ndarray:
    """A map from its own minimum to its own maximum; what is not finite is left out."""
    finite = np.isfinite(found)
    low, high = (found[finite].min(), found[finite].max()) if finite.any() else (0.0, 0.0)
    return np.where(finite, (found - low) / (high - low), np.nan) if high > low else np.zeros_like(found)


def wrapped(text: str) -> str:
    """A method's name on several lines, broken at its parts."""
    parts = text.replace(":", ":\n").replace("sd of ", "sd of\n").split("\n")
    return "\n".join(part if len(part) <= 16 else part.replace(".", ".\n", 1) for part in parts)


def show_image(axes: Axes, samples: Samples, row: int) -> None:
    """The image without ticks."""
    pixels = samples.pixels[row]
    axes.imshow(pixels[..., 0] if pixels.shape[-1] == 1 else pixels, cmap="gray", vmin=0, vmax=255)
    bare(axes)


def outline(axes: Axes, samples: Samples, row: int) -> None:
    """The annotation's outline, where the image has one."""
    if samples.masks is not None and np.asarray(samples.masks[row]).any():
        axes.contour(np.asarray(samples.masks[row]), levels=[0.5], colors=[OUTLINE], linewidths=0.8)


def bare(axes: Axes) -> None:
    """No ticks, no frame."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
