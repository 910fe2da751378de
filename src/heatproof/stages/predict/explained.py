"""Which images are explained: a seeded, class-stratified choice that depends neither on order nor on the net."""

from pathlib import PurePosixPath

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from heatproof.base.errors import HeatproofError, fault
from heatproof.base.fields import image_seed
from heatproof.base.records import SPLITS, Samples
from heatproof.base.settings import EvalSettings
from heatproof.base.shards import shard_of


def explained_rows(
    samples: Samples, table: pd.DataFrame, settings: EvalSettings, dataset_seed: int
) -> NDArray[np.int64]:
    """Rows of `Samples.table` to explain, ordered by image id: the part of one shard (`base/shards`).

    Class-stratified: each class gets its share of `images` (largest remainder first, at least one where there is room),
    and in it the images with the smallest hash of (dataset_seed, image id). So the choice depends neither on order nor
    on the net, and a smaller one is part of a larger one but for rounding. Those of `also` are added to it.
    """
    if not 0 <= settings.shard < settings.shards:
        raise HeatproofError(fault("eval.shard", f"must lie in 0 .. {settings.shards - 1}", got=settings.shard))
    if settings.images is not None and settings.images < 1:
        raise HeatproofError(fault("eval.images", "must be at least 1, or null for all", got=settings.images))
    chosen = table[table["split"] == settings.split]
    if chosen.empty:
        there = [split for split in SPLITS if (samples.table["split"] == split).any()]
        raise HeatproofError(fault("eval.split", "no images in this split", got=settings.split, choices=there))
    if settings.only_correct:
        if chosen["label"].isna().any():
            raise HeatproofError(fault("eval.only_correct", "the data set has no labels"))
        chosen = chosen[chosen["correct"].astype(bool)]
        if chosen.empty:
            raise HeatproofError(
                fault("eval.only_correct", f"the net is right on no image of the split {settings.split!r}")
            )
    wanted = chosen[[_named(str(image), settings.also) for image in chosen["image"]]]
    missing = [one for one in settings.also if not any(_named(str(image), (one,)) for image in wanted["image"])]
    if missing and not settings.only_correct:
        known = sorted(map(str, chosen["image"]))
        raise HeatproofError(
            *(fault("eval.also", f"no such image in the split {settings.split!r}", got=one, choices=known[:10])
              for one in missing)
        )  # fmt: skip
    if settings.images is not None and settings.images < len(chosen):
        keys = [image_seed(dataset_seed, image, "explained") for image in chosen["image"]]
        chosen = chosen.iloc[np.argsort(np.array(keys), kind="stable")]
        classes = chosen["label"].astype("Float64").fillna(-1).to_numpy(dtype=np.float64)
        names, counts = np.unique(classes, return_counts=True)
        shares = dict(zip(names, _shares(counts, settings.images), strict=True))
        rank = pd.Series(classes).groupby(classes).cumcount().to_numpy()
        chosen = chosen[[r < shares[c] for r, c in zip(rank, classes, strict=True)]]
    chosen = pd.concat([chosen, wanted[~wanted.index.isin(chosen.index)]])
    ordered = chosen.sort_values("image").index.to_numpy().astype(np.int64)
    return ordered[shard_of(len(ordered), settings.shard, settings.shards)]


def _named(image: str, names: tuple[str, ...]) -> bool:
    """Whether an image is one of those, by its id or its file name without ending."""
    return image in names or PurePosixPath(image).stem in names


def _shares(counts: np.ndarray, total: int) -> np.ndarray:
    """`total` divided in proportion to `counts`, largest remainder first; at least 1 each where total allows it.

    >>> _shares(np.array([90, 9, 1]), 10).tolist()
    [8, 1, 1]
    """
    exact = counts * total / counts.sum()
    shares = np.floor(exact).astype(int)
    if total >= len(counts):
        shares = np.maximum(shares, 1)
    order = np.argsort(-(exact - shares), kind="stable")
    while (left := total - shares.sum()) > 0:
        shares[order[: int(left)]] += 1
    while shares.sum() > total:
        shares[np.argmax(np.where(shares > 1, shares - exact, -np.inf))] -= 1
    result: np.ndarray = shares
    return result
