"""Properties of files that tell the class without a look at the picture: sizes, modes, encodings, single sources."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from heatproof.stages.load.parallel import in_order, progress

if TYPE_CHECKING:
    import pandas as pd

LEAST = 5  # images of a value before anything is said of it
PURE = 0.9  # share of one class among the images of a value
CHANCE = 1e-3  # probability of as many by chance, over all values looked at
TELLING_AUC = 0.8  # of picture area or aspect ratio, one class against the rest
FEW_GROUPS = 5


def clues(table: pd.DataFrame) -> pd.DataFrame:
    """One row per clue: property, value, images, the class that they are, its share there and elsewhere (for ranks: the
    AUC and its complement), and a text.

    A value of a property (size in pixels, mode, encoding of the file) is a clue where at least 90 % of its images, and
    at least 5, are of one class and chance would hardly bring them together (hypergeometric tail, Bonferroni over all
    values, below 0.001). Area and aspect ratio are clues where they rank one class against the rest with an AUC of 0.8
    or more. A class whose images come from fewer than 5 groups is one, too.
    """
    import pandas as pd

    columns = ["property", "value", "images", "class", "share", "elsewhere", "text"]
    labelled = table.dropna(subset=["label_name"])
    if labelled["label_name"].nunique() < 2:
        return pd.DataFrame(columns=columns)
    found = [*_pure(labelled), *_ranking(labelled), *_single_sources(labelled)]
    return pd.DataFrame(found, columns=columns)


def heads(paths: pd.Series) -> pd.DataFrame:
    """Mode and encoding of each file by its head; None where it is no image file that says so."""
    import pandas as pd

    with progress(len(paths), "heads") as tick:
        read = list(in_order(_head, paths, tick))
    return pd.DataFrame(read, columns=["mode", "encoding"], index=paths.index)


def _head(path: str | None) -> tuple[str | None, str | None]:
    from PIL import Image

    if not isinstance(path, str):
        return None, None
    try:
        with Image.open(path) as image:
            steps = getattr(image, "quantization", None)
            kind = image.format or Path(path).suffix
            return image.mode, f"{kind}, quantisation {sum(steps[0])}" if steps else kind
    except (OSError, ValueError, SyntaxError):
        return None, Path(path).suffix or None


def _pure(table: pd.DataFrame) -> Iterator[tuple[object, ...]]:
    from scipy.stats import hypergeom

    labels = table["label_name"].to_numpy()
    head = heads(table["path"])
    size = table["width"].astype(str) + " x " + table["height"].astype(str)
    candidates: list[tuple[str, str, np.ndarray]] = []
    for name, values in (("size", size), ("mode", head["mode"]), ("encoding", head["encoding"])):
        counts = values.value_counts()
        if len(counts) < 2:
            continue
        for value, count in counts.items():
            if count >= LEAST:
                candidates.append((name, str(value), (values == value).to_numpy()))
        other = (values != counts.index[0]).to_numpy() & values.notna().to_numpy()
        if len(counts) > 2 and other.sum() >= LEAST:
            candidates.append((name, f"any but {counts.index[0]}", other))
    tests = max(1, len(candidates) * len(set(labels)))
    for name, value, own in candidates:
        classes, counts_of = np.unique(labels[own], return_counts=True)
        top, most = str(classes[counts_of.argmax()]), int(counts_of.max())
        n, total = int(own.sum()), int((labels == top).sum())
        elsewhere = (total - most) / max(1, len(labels) - n)
        chance = float(hypergeom.sf(most - 1, len(labels), total, n)) * tests
        if most / n >= PURE and chance < CHANCE:
            text = f"{name} tells the class: {most} of {n} images with {value} are {top}, {elsewhere:.0%} of the others"
            yield name, value, n, top, most / n, elsewhere, text


def _ranking(table: pd.DataFrame) -> Iterator[tuple[object, ...]]:
    labels = table["label_name"].to_numpy()
    width, height = table["width"].to_numpy(float), table["height"].to_numpy(float)
    for name, values in (("area", width * height), ("aspect ratio", width / height)):
        if len(np.unique(values)) < 3:
            continue
        names = np.unique(labels)
        # Of two classes one is the mirror of the other.
        for label in names[:1] if len(names) == 2 else names:
            own = labels == label
            if min(own.sum(), (~own).sum()) < LEAST:
                continue
            auc = _auc(values[own], values[~own])
            if max(auc, 1 - auc) >= TELLING_AUC:
                word = "larger" if auc > 0.5 else "smaller"
                telling = max(auc, 1 - auc)
                text = f"{name} of the picture tells the class: {word} for {label} than for the rest, AUC {telling:.2f}"
                yield name, word, int(own.sum()), label, telling, 1 - telling, text


def _auc(own: np.ndarray, rest: np.ndarray) -> float:
    """Probability that a value of `own` lies above one of `rest`, ties half."""
    from scipy.stats import rankdata

    ranks = rankdata(np.concatenate([own, rest]))[: len(own)].sum()
    return float((ranks - len(own) * (len(own) + 1) / 2) / (len(own) * len(rest)))


def _single_sources(table: pd.DataFrame) -> Iterator[tuple[object, ...]]:
    """Classes of few groups, where groups are known for all of their images and other classes have more."""
    known = table[~table["group"].astype(str).str.startswith("near:") & table["group"].notna()]
    groups = known.groupby("label_name")["group"].nunique()
    images = table["label_name"].value_counts()
    complete = {c: int(n) for c, n in groups.items() if (known["label_name"] == c).sum() == images[c]}
    for label, number in complete.items():
        if number < FEW_GROUPS and images[label] >= 2 * LEAST and max(complete.values()) >= 2 * FEW_GROUPS:
            text = f"all {images[label]} images of {label} come from {number} group(s) (patients)"
            yield "groups", str(number), int(images[label]), label, 1.0, 0.0, text
