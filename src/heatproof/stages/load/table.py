"""The sample table: one row per image, its hash, and what a reader of the results should know of the data."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from heatproof.base.duplicates import Pairs
from heatproof.base.records import Row, Samples, Source
from heatproof.base.registry import hash_of
from heatproof.base.settings import LoadSettings
from heatproof.stages.load.cache import VERSION

if TYPE_CHECKING:
    import pandas as pd


def sample_table(
    folder: Path,
    source: Source,
    rows: Sequence[Row],
    names: Sequence[str],
    kind: str,
    settings: LoadSettings,
    *,
    near: Pairs | None = None,
) -> Samples:
    import pandas as pd

    facts = pd.read_parquet(folder / "images.parquet")
    labels = [row.label for row in rows]
    table = pd.DataFrame(
        {
            "image": [row.image for row in rows],
            "path": pd.Series([row.path for row in rows], dtype=object),
            "label": pd.array(labels, dtype="Int64") if None in labels else np.array(labels, np.int64),
            "label_name": pd.Series([None if c is None else source.classes[c] for c in labels], dtype=object),
            "group": pd.Series([row.group for row in rows], dtype=object),
            "split": list(names),
            "width": facts["width"],
            "height": facts["height"],
            "file_hash": facts["file_hash"],
            "annotation": pd.Series([row.annotation for row in rows], dtype=object),
            "mask_area": facts["mask_area"],
        }
    )
    masks = folder / "masks.npy"
    sums = facts[[name for name in facts.columns if name.startswith("sum_")]].to_numpy()[table["split"] == "train"]
    mean = tuple(float(m) for m in sums.mean(axis=0) / (255 * settings.size**2)) if len(sums) else None
    return Samples(
        table=table,
        pixels=np.load(folder / "pixels.npy", mmap_mode="r"),
        masks=np.load(masks, mmap_mode="r") if masks.is_file() else None,
        classes=source.classes,
        data_hash=_data_hash(folder, table, source.classes, settings),
        split_kind=kind,
        train_mean=mean,
        remarks=(*source.remarks, *_remarks(table, facts)),
        near=near,
    )


def _data_hash(folder: Path, table: "pd.DataFrame", classes: Sequence[str], settings: LoadSettings) -> str:
    """Hash of content and split: where the files lie does not count, nor which names their folders have."""
    columns = table[["image", "label_name", "group", "split", "file_hash", "annotation"]].astype(object)
    plain = columns.where(columns.notna(), None).to_numpy().tolist()
    return hash_of(
        {
            "version": VERSION,
            "pixels": folder.name,
            "classes": list(classes),
            "rows": plain,
            "size": settings.size,
            "channels": settings.channels,
        }
    )


def _remarks(table: "pd.DataFrame", facts: "pd.DataFrame") -> Iterable[str]:
    """What a reader of the results should know of the annotations."""
    areas = table["mask_area"].dropna()
    if len(areas):
        share = f"{areas.median():.2%} (median; {areas.min():.2%} to {areas.max():.2%})"
        yield f"{len(areas)} of {len(table)} images are annotated; the annotation covers {share} of the image"
    empty = table["image"][table["mask_area"] == 0]
    if len(empty):
        yield f"{len(empty)} annotation(s) are empty, e.g. {', '.join(empty[:3])}"
    lost = table["image"][facts["mask_lost"].to_numpy(bool)]
    if len(lost):
        yield f"{len(lost)} annotation(s) vanish at this size, e.g. {', '.join(lost[:3])}"
