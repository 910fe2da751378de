"""The data of a plan: which images there are, in which split, before one of them is decoded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from heatproof.base import sources, splits
from heatproof.base.errors import Faults
from heatproof.base.records import SPLITS, Source
from heatproof.base.registry import Bound
from heatproof.base.settings import LoadSettings

Counts = dict[str, dict[str, int]]


def source_of(dataset: Bound, load: LoadSettings, faults: Faults) -> Source | None:
    """What the data set's function finds, or None after noting its faults; files are listed, none is decoded."""
    if dataset.facts.get("needs_root") and dataset.settings.get("root") in (None, ""):
        faults.add("dataset.root", f"{dataset.name} reads files, so it needs their folder", hint="dataset.root=FOLDER")
        return None
    with faults.gathered():
        return sources.source_of(dataset, load)
    return None


def counted(source: Source, load: LoadSettings, faults: Faults) -> Counts:
    """Images per split and class; empty after noting why there is no such split."""
    with faults.gathered():
        assigned = splits.assign(source.rows, load, classes=source.classes)
        found = Counter(
            (split, source.classes[row.label] if row.label is not None else "unlabelled")
            for row, split in zip(source.rows, assigned, strict=True)
        )
        names = [*source.classes, *(["unlabelled"] if any(row.label is None for row in source.rows) else [])]
        return {split: {name: found[split, name] for name in names} for split in SPLITS}
    return {}


def check_counts(counts: Counts, evaluation: Mapping[str, Any], policy: str, faults: Faults) -> list[str]:
    """Note splits and classes that a run cannot do without; returns warnings."""
    split, wanted = evaluation["split"], evaluation["images"]
    there = sum(counts.get(split, {}).values())
    if not there:
        faults.add("eval.split", f"the split {split!r} holds no image", hint="See dataset.fractions and dataset.split.")
    if policy != "none":
        empty = [part for part in ("train", "val") if not sum(counts[part].values())]
        if empty:
            hint = "See dataset.split and dataset.fractions; train=none explains a net that is trained already."
            faults.add("dataset.split", f"training needs images to train and to validate, none in {', '.join(empty)}",
                       hint=hint)  # fmt: skip
        without = [name for name, n in counts["train"].items() if not n and name != "unlabelled"]
        if without and "train" not in empty:
            faults.add("dataset", f"no training image of {', '.join(without)}", hint="See dataset.n and dataset.cap.")
    if isinstance(wanted, int) and wanted > there > 0:
        return [f"eval.images={wanted}, but {split} holds {there}: all of them are explained."]
    return []
