"""What images say of each other: near-duplicates, looked for once per set of pixels, and the groups that follow."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from heatproof.base import duplicates
from heatproof.base.duplicates import Pairs
from heatproof.base.records import Row, Source
from heatproof.base.settings import LoadSettings
from heatproof.base.store import Store


def alike(folder: Path, source: Source, settings: LoadSettings, store: Store) -> Pairs | None:
    """Pairs of similar images among the pixels of a folder of the store.

    None where nobody asked, and for generated data: each of their images is drawn by itself.
    """
    if not settings.near or source.identity is not None:
        return None

    def make(to: Path) -> None:
        import pandas as pd

        signed = duplicates.signatures(np.load(folder / "pixels.npy", mmap_mode="r"))
        found = duplicates.near_pairs(signed)
        pd.DataFrame(vars(found)).to_parquet(to / "pairs.parquet")

    identity = {"version": duplicates.VERSION, "pixels": folder.name}
    made = store.get_or_make("alike", identity, make, what=f"near-duplicates among the pixels {folder.name}")
    import pandas as pd

    table = pd.read_parquet(made / "pairs.parquet")
    return Pairs(*(table[name].to_numpy() for name in ("first", "second", "similarity", "distance")))


def with_groups(
    source: Source, chosen: Sequence[int], hashes: Sequence[str], pairs: Pairs | None, settings: LoadSettings
) -> list[Row]:
    """The rows of a source with what equal files and near-duplicates add to their groups.

    `chosen`: rows that have pixels, in their order; `hashes`: of their files.
    """
    rows = source.rows
    result = list(rows)
    if source.identity is not None:
        return result
    near = None if pairs is None else pairs.near(settings.near_similarity, settings.near_distance)
    images, known = [rows[i].image for i in chosen], [rows[i].group for i in chosen]
    for i, group in zip(chosen, duplicates.joined(images, known, hashes, near), strict=True):
        result[i] = replace(rows[i], group=group)
    return result
