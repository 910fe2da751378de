"""Samples of a data set: listed, split, hashed, decoded once, memory-mapped."""

from dataclasses import replace

from heatproof.base import splits
from heatproof.base.records import Samples
from heatproof.base.registry import Bound
from heatproof.base.settings import LoadSettings
from heatproof.base.sources import source_of
from heatproof.base.store import Store
from heatproof.stages.load.alike import alike, with_groups
from heatproof.stages.load.audit import audit
from heatproof.stages.load.cache import decoded
from heatproof.stages.load.table import sample_table

__all__ = ["load", "source_of"]


def load(dataset: Bound, settings: LoadSettings, store: Store) -> Samples:
    """The frozen sample table and the pixels of a data set, uint8 at (size, size, channels), memory-mapped.

    Which images are used is known before one is decoded; a drawn split is made afterwards, when near-duplicates are
    known, too, and of the images that can be read alone.

    Images are decoded when their content is new to the store, never twice. Raises a HeatproofError that names every
    broken file (`on_bad_image` "skip": they are left out, and remarks say so), and what `source_of` and
    `splits.assign` refuse.
    """
    source = source_of(dataset, settings)
    assigned = splits.assign(source.rows, settings, classes=source.classes)
    chosen = [i for i, split in enumerate(assigned) if split is not None]
    rows = [source.rows[i] for i in chosen]
    found = decoded(dataset, source, rows, settings, store)
    kept = [chosen[i] for i in found.kept]
    pairs = alike(found.folder, source, settings, store)
    grouped = with_groups(source, kept, found.hashes, pairs, settings)
    kind = splits.kind_of(source.rows, settings)
    if len(kept) < len(chosen) and kind in ("grouped", "random"):
        readable = replace(settings, split=kind, n=None, cap=None)
        names = list(map(str, splits.assign([grouped[i] for i in kept], readable, classes=source.classes)))
    else:
        assigned = splits.assign(grouped, settings, classes=source.classes)
        names = [str(assigned[i]) for i in kept]
    samples = sample_table(found.folder, source, [grouped[i] for i in kept], names, kind, settings, near=pairs)
    audited = audit(samples, settings)
    return replace(samples, audit=audited, remarks=(*found.remarks, *audited.warnings, *samples.remarks))
