"""Samples of a data set: listed, split, hashed, decoded once, memory-mapped."""

from dataclasses import replace

from heatproof.base import splits
from heatproof.base.records import Samples
from heatproof.base.registry import Bound, hash_of
from heatproof.base.settings import LoadSettings
from heatproof.base.sources import source_of
from heatproof.base.store import Store
from heatproof.stages.load.alike import alike, with_groups
from heatproof.stages.load.audit import audit
from heatproof.stages.load.cache import VERSION, write_pixels
from heatproof.stages.load.hashing import content_hashes
from heatproof.stages.load.table import sample_table

__all__ = ["load", "source_of"]


def load(dataset: Bound, settings: LoadSettings, store: Store) -> Samples:
    """The frozen sample table and the pixels of a data set, uint8 at (size, size, channels), memory-mapped.

    Which images are used is known before one is decoded; a drawn split is made afterwards, when near-duplicates are
    known, too.

    Images are decoded when their content is new to the store, never twice. Raises a HeatproofError that names every
    broken file, and what `source_of` and `splits.assign` refuse.
    """
    source = source_of(dataset, settings)
    assigned = splits.assign(source.rows, settings, classes=source.classes)
    chosen = [i for i, split in enumerate(assigned) if split is not None]
    rows = [source.rows[i] for i in chosen]
    hashes = content_hashes(source, rows, store)
    identity = {
        "version": VERSION,
        "content": hash_of(hashes),
        "images": hash_of([row.image for row in rows]),
        "annotated": hash_of([row.annotation for row in rows]),
        "size": settings.size,
        "channels": settings.channels,
    }
    folder = store.get_or_make(
        "pixels",
        identity,
        lambda to: write_pixels(source, rows, hashes, settings, to),
        what=f"pixels of {dataset.name} ({len(rows)} images)",
    )
    pairs = alike(folder, source, settings, store)
    grouped = with_groups(source, chosen, hashes, pairs, settings)
    assigned = splits.assign(grouped, settings, classes=source.classes)
    names = [split for split in assigned if split is not None]
    kind = splits.kind_of(source.rows, settings)
    samples = sample_table(folder, source, [grouped[i] for i in chosen], names, kind, settings, near=pairs)
    found = audit(samples, settings)
    return replace(samples, audit=found, remarks=(*found.warnings, *samples.remarks))
