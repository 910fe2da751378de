"""Chest X-rays of children, with and without pneumonia, grouped by patient as far as file names tell."""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from heatproof.base.folders import class_folders, list_images, named_folders, no_images, root_folder, subfolders
from heatproof.base.images import decode
from heatproof.base.records import Row, Source
from heatproof.base.registry import choice

CLASSES = ("NORMAL", "PNEUMONIA")
PATIENT = re.compile(r"(person\d+)(?=_)|((?:NORMAL2-)?IM-\d+)(?=-)")
# Study 2: the share of each class's training files, the first by name, that validates.
STUDY_VAL = 0.2
KIND = re.compile(r"person\d+_([a-z]+)_")


@choice(
    annotation=None,
    needs_root=True,
    official=True,
    study=True,
    grouped=True,
    version=2,
    source="Kermany et al. 2018, Cell 172; Mendeley Data rscbjbr9sj",
)
def chest_xray(*, root: str | None, classes: tuple[str, ...] | None) -> Source:
    """Radiographs of the classes NORMAL and PNEUMONIA with the official train and test.

    The 16 images of the folder `val` are left out: too few to choose a net by. The official split has no validation
    then, so one is carved from train with patients kept together. The split of study 2 is that of Keras's
    `validation_split=0.2`: the first fifth of each class's training files by name, patients torn apart.
    """
    folder = root_folder("chest_xray", root)
    chosen = [name for name in CLASSES if classes is None or name in classes]
    rows: list[Row] = []
    remarks: list[str] = []
    tops = named_folders(
        folder, ("train", "test"), what="folder", hint="The data come with both; image_folder reads other layouts."
    )
    for split, top in zip(("train", "test"), tops, strict=True):
        for name, path in zip(chosen, class_folders(top, chosen), strict=True):
            files, notes = list_images(path)
            remarks += notes
            if not files:
                raise no_images(path)
            rows += [
                Row(
                    f"{top.name}/{path.name}/{file}",
                    str(path / file),
                    CLASSES.index(name),
                    group=patient(Path(file).stem),
                    split=split,
                    study_split=split if split == "test" or number >= int(STUDY_VAL * len(files)) else "val",
                )
                for number, file in enumerate(sorted(files))
            ]
    remarks += [
        f"the folder {folder / name} is left out: validation is carved from train, patients kept together"
        for name in subfolders(folder)
        if name.lower() == "val"
    ]
    return Source(
        tuple(rows), CLASSES, read=lambda row: decode(str(row.path)), remarks=(*remarks, *_patient_remarks(rows))
    )


def patient(stem: str) -> str | None:
    """The patient in a file name without its ending, or None.

    Bacterial and viral images count persons with the same numbers. Nothing says whether one number is one child, so it
    is taken as one: at worst two children stay in one split, where the opposite would leak one child into two.

    >>> patient("person123_bacteria_4"), patient("IM-0115-0001"), patient("NORMAL2-IM-0300-0001")
    ('person123', 'IM-0115', 'NORMAL2-IM-0300')
    """
    match = PATIENT.match(stem)
    return match[0] if match else None


def _patient_remarks(rows: Sequence[Row]) -> Iterable[str]:
    """Patients that the official split has on both sides, by name."""
    unknown = sum(row.group is None for row in rows)
    if unknown:
        yield f"{unknown} image(s) have a name that tells no patient: each is a group of its own"
    sides: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for row in rows:
        if row.group is not None and row.split is not None:
            kind = KIND.match(Path(row.image).stem)
            sides[row.group][row.split].add(kind[1] if kind else "")
    both = {group: kinds for group, kinds in sides.items() if len(kinds) > 1}
    if both:
        same = sum(bool(kinds["train"] & kinds["test"]) for kinds in both.values())
        yield (
            f"{len(both)} person number(s) occur in the official train and test, {same} of them with the same kind of "
            "image (bacteria, virus, normal): where the kind differs they may be two children"
        )
