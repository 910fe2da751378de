"""IQ-OTH/NCCD: CT slices of normal, benign and malignant lungs."""

import random
from functools import cache
from pathlib import Path

from heatproof.base.folders import class_folders, list_images, no_images, root_folder
from heatproof.base.images import decode
from heatproof.base.records import Row, Source
from heatproof.base.registry import choice

# Class, folder (its spelling is the data set's), first words of its files, files in the whole set.
CLASSES = (
    ("Normal", "Normal cases", "Normal case", 416),
    ("Benign", "Bengin cases", "Bengin case", 120),
    ("Malignant", "Malignant cases", "Malignant case", 561),
)


@choice(
    annotation=None,
    needs_root=True,
    official=False,
    study=True,
    grouped=False,
    version=1,
    source="Al-Yasriy et al. 2020, IQ-OTH/NCCD lung cancer data set",
)
def iq_othnccd(*, root: str | None, classes: tuple[str, ...] | None) -> Source:
    """Slices in the classes Normal, Benign, Malignant, with the split of the RobustCAM study by file name.

    No patient is known: neighbouring slices of one patient lie in any split, which a remark says. A file whose name is
    not one of the 1097 published ones has no place in the study split.
    """
    folder = root_folder("iq_othnccd", root)
    known = tuple(name for name, *_ in CLASSES)
    chosen = [entry for entry in CLASSES if classes is None or entry[0] in classes]
    rows = []
    remarks = ["patients are unknown (110 in the whole set): slices of one may lie in several splits"]
    for (name, *_), path in zip(chosen, class_folders(folder, [entry[1] for entry in chosen]), strict=True):
        files, notes = list_images(path)
        remarks += notes
        if not files:
            raise no_images(path)
        rows += [
            Row(f"{path.name}/{file}", str(path / file), known.index(name), study_split=study_split(Path(file).stem))
            for file in files
        ]
    return Source(tuple(rows), known, read=lambda row: decode(str(row.path)), remarks=tuple(remarks))


def study_split(stem: str) -> str | None:
    """Split of a published file by its name without ending, or None for another file.

    The study shuffles the three name-sorted class lists, joined, with `random.Random(42)` and cuts 60/20/20: 251/74/333
    training, 90/22/107 validation and 75/24/121 test slices (Normal/Benign/Malignant). It is computed from the full
    list, so that a part of the set keeps its places.

    >>> study_split("Bengin case (110)")
    'test'
    """
    return _study_splits().get(stem)


@cache
def _study_splits() -> dict[str, str]:
    stems = [
        Path(file).stem
        for _, _, words, count in CLASSES
        for file in sorted(f"{words} ({number}).jpg" for number in range(1, count + 1))
    ]
    random.Random(42).shuffle(stems)
    first, second = int(0.6 * len(stems)), int(0.6 * len(stems)) + int(0.2 * len(stems))
    parts = {"train": stems[:first], "val": stems[first:second], "test": stems[second:]}
    return {stem: split for split, part in parts.items() for stem in part}
