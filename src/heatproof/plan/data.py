"""The data of a plan: which images there are, in which split, before one of them is decoded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from heatproof.base import splits
from heatproof.base.errors import Faults
from heatproof.base.records import SPLITS, Source
from heatproof.base.registry import Bound
from heatproof.base.settings import LoadSettings


def source_of(dataset: Bound, load: LoadSettings, faults: Faults) -> Source | None:
    """What the data set's function finds, or None after noting its faults; files are listed, none is decoded."""
    if dataset.facts.get("needs_root") and dataset.settings.get("root") is None:
        faults.add("dataset.root", f"{dataset.name} reads files: name their folder", hint="dataset.root=FOLDER")
        return None
    with faults.gathered():
        return dataset(size=load.size, channels=load.channels, seed=load.seed)
    return None


def counted(
    source: Source, load: LoadSettings, dataset: Bound, faults: Faults
) -> tuple[dict[str, dict[str, int]], tuple[str, ...]]:
    """Images per split and class, and the classes in their order."""
    classes = load.classes or source.classes
    unknown = [name for name in classes if name not in source.classes]
    for name in unknown:
        faults.add("dataset.classes", "no such class", got=name, choices=source.classes)
    if len(set(classes)) != len(classes):
        faults.add("dataset.classes", "each class once", got=list(classes))
    if unknown or not _split_is_there(source, load, dataset, faults):
        return {}, tuple(classes)
    counts: dict[str, dict[str, int]] = {}
    with faults.gathered():
        assigned = splits.assign(source.rows, load, classes=source.classes)
        names = Counter(
            (split, source.classes[row.label] if row.label is not None else "unlabelled")
            for row, split in zip(source.rows, assigned, strict=True)
            if split is not None
        )
        columns = [*classes, *(["unlabelled"] if any(name == "unlabelled" for _, name in names) else [])]
        counts = {split: {name: names[split, name] for name in columns} for split in SPLITS}
    return counts, tuple(classes)


def _split_is_there(source: Source, load: LoadSettings, dataset: Bound, faults: Faults) -> bool:
    if load.split == "study" and not any(row.study_split for row in source.rows):
        faults.add(
            "dataset.split",
            f"no study that split {dataset.name} is known",
            got="study",
            choices=("official", "grouped", "random"),
        )
    elif load.split == "official" and not any(row.split for row in source.rows):
        faults.add("dataset.split", f"{dataset.name} comes without official splits here", got="official",
                   choices=("grouped", "random"))  # fmt: skip
    elif load.split not in splits.KINDS and not load.split.endswith(".parquet"):
        faults.add("dataset.split", "no such split", got=load.split, choices=[*splits.KINDS, "a samples.parquet"])
    else:
        return True
    return False


def check_counts(
    counts: Mapping[str, Mapping[str, int]], config: Mapping[str, Any], policy: str, faults: Faults
) -> list[str]:
    """Note splits and classes that a run cannot do without; returns warnings."""
    warnings = []
    split = config["eval"]["split"]
    if not sum(counts.get(split, {}).values()):
        faults.add("eval.split", f"the split {split!r} holds no image", hint="See dataset.fractions and dataset.split.")
    if policy != "none":
        for part in ("train", "val"):
            if not sum(counts[part].values()):
                faults.add("dataset.fractions", f"training needs images in {part!r}, there are none")
        empty = [name for name, n in counts["train"].items() if not n]
        if empty and sum(counts["train"].values()):
            faults.add("dataset", f"no training image of {', '.join(empty)}", hint="See dataset.n, dataset.cap.")
    wanted, there = config["eval"]["images"], sum(counts.get(split, {}).values())
    if wanted is not None and wanted > there > 0:
        warnings.append(f"eval.images={wanted}, but {split} holds {there}: all of them are explained.")
    return warnings
