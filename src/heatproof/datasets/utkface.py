"""UTKFace: faces whose age, gender and race stand in the file name, or in the columns of the hub's parquet file."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Literal

from heatproof.base.errors import HeatproofError, fault
from heatproof.base.folders import images_below, left_out, root_folder
from heatproof.base.images import decode
from heatproof.base.records import Row, Source
from heatproof.base.registry import choice
from heatproof.base.store import checksum

GENDERS = ("male", "female")
RACES = ("White", "Black", "Asian", "Indian", "Others")
OLDEST = 116
# [age]_[gender]_[race]_[date and time], whatever follows: some names end in "..jpg" or " .jpg.chip.jpg".
NAME = re.compile(r"(\d{1,3})_([01])_([0-4])_\d{8,}(?!\d|_)")


@choice(
    annotation=None,
    needs_root=True,
    official=False,
    study=False,
    grouped=False,
    version=1,
    source="Zhang, Song and Qi 2017, CVPR (UTKFace)",
)
def utkface(*, root: str | None, label: Literal["gender", "race", "age"], age_bands: tuple[int, ...]) -> Source:
    """Faces labelled by gender (male, female), race (White, Black, Asian, Indian, Others) or age band.

    `root` holds image files called `[age]_[gender]_[race]_[date].jpg`, at any depth, or parquet files with the columns
    `image` (struct with `bytes`), `age`, `gender`, `race`, of which only that of `label` must be there. `age_bands`:
    first years of the bands, the first of them 0. Files with another name, and rows with another value, are left out
    and named in a remark. No person is known: the set may hold several pictures of one.
    """
    folder = root_folder("utkface", root)
    classes, class_of = _classes(label, age_bands)
    tables = sorted(path for path in (*folder.glob("*.parquet"), *folder.glob("*/*.parquet")))
    if tables:
        return _from_tables(folder, tables, label, classes, class_of)
    files, remarks = images_below(folder)
    rows: list[Row] = []
    malformed = []
    for file in files:
        face = face_of(Path(file).name)
        if face is None:
            malformed.append(file)
        else:
            rows.append(Row(file, str(folder / file), class_of(getattr(face, label))))
    if not rows:
        raise HeatproofError(
            fault(str(folder), "no parquet file and no image named like 26_1_0_20170116184024662.jpg", got=files[:3])
        )
    return Source(
        *_present(rows, classes),
        read=lambda row: decode(str(row.path)),
        remarks=(*remarks, *left_out(malformed, "the name is not [age]_[gender]_[race]_[date]")),
    )


@dataclass(frozen=True)
class Face:
    """What a name says: age in years, gender and race as the numbers of UTKFace."""

    age: int
    gender: int
    race: int


def face_of(name: str) -> Face | None:
    """Age, gender and race in a file name, or None for a malformed one.

    >>> face_of("26_1_0_20170116184024662.jpg.chip.jpg")
    Face(age=26, gender=1, race=0)
    >>> face_of("61_1_20170109142408075.jpg.chip.jpg") is None  # the race is missing
    True
    """
    match = NAME.match(name)
    if match is None or int(match[1]) > OLDEST:
        return None
    return Face(int(match[1]), int(match[2]), int(match[3]))


def _classes(label: str, bands: Sequence[int]) -> tuple[tuple[str, ...], Callable[[int], int]]:
    """Class names, and the class of a number as UTKFace writes it."""
    if label != "age":
        return (GENDERS if label == "gender" else RACES), lambda value: value
    if list(bands) != sorted(set(bands)) or len(bands) < 2 or bands[0] != 0:
        raise HeatproofError(fault("dataset.age_bands", "first years of at least two bands, rising from 0", got=bands))
    ends = [*(f"{start}-{after - 1}" for start, after in pairwise(bands)), f"{bands[-1]}+"]
    return tuple(ends), lambda age: sum(age >= start for start in bands) - 1


def _present(rows: Sequence[Row], classes: Sequence[str]) -> tuple[tuple[Row, ...], tuple[str, ...]]:
    """The rows, and the classes; those without a face are no classes of this copy."""
    seen = sorted({row.label for row in rows if row.label is not None})
    return tuple(Row(row.image, row.path, seen.index(row.label or 0)) for row in rows), tuple(classes[c] for c in seen)


def _from_tables(
    folder: Path, tables: Sequence[Path], label: str, classes: tuple[str, ...], class_of: Callable[[int], int]
) -> Source:
    """Faces of parquet files: labels are read at once, pictures a row group at a time."""
    import pyarrow.parquet as pq

    rows: list[Row] = []
    strange = []
    places: dict[str, tuple[Path, int, int]] = {}
    for path in tables:
        file = pq.ParquetFile(path)
        lacking = [name for name in ("image", label) if name not in file.schema_arrow.names]
        if lacking:
            raise HeatproofError(fault(str(path), f"no column {lacking[0]}", choices=file.schema_arrow.names))
        for group in range(file.num_row_groups):
            for inside, value in enumerate(file.read_row_group(group, columns=[label])[label].to_pylist()):
                image = f"{path.relative_to(folder).as_posix()}/{len(places):06d}"
                places[image] = (path, group, inside)
                number = _number(value, label)
                if number is None:
                    strange.append(f"{image} ({value})")
                else:
                    rows.append(Row(image, None, class_of(number)))
    fetch = _fetcher()
    return Source(
        *_present(rows, classes),
        read=lambda row: decode(fetch(*places[row.image]), row.image),
        identity={"utkface": {path.name: checksum(path) for path in tables}},
        remarks=left_out(strange, f"the column {label} holds no {label} of UTKFace", "row"),
    )


def _number(value: object, label: str) -> int | None:
    """A label as the number that UTKFace writes: numbers, text of numbers and names are understood."""
    names = {"gender": GENDERS, "race": RACES, "age": ()}[label]
    text = str(value).strip().lower()
    by_name = {name.lower(): number for number, name in enumerate(names)}
    number = by_name.get(text, int(text) if text.isdecimal() else None)
    return number if number is not None and number <= (OLDEST if label == "age" else len(names) - 1) else None


def _fetcher() -> Callable[[Path, int, int], bytes]:
    """The bytes of an encoded picture; the last row groups are kept, since pictures are asked for in order."""
    import pyarrow.parquet as pq

    @lru_cache(maxsize=4)
    def pictures(path: Path, group: int) -> list[bytes]:
        cells: Iterator[dict[str, bytes] | bytes] = iter(
            pq.ParquetFile(path).read_row_group(group, columns=["image"])["image"].to_pylist()
        )
        return [cell["bytes"] if isinstance(cell, dict) else cell for cell in cells]

    return lambda path, group, inside: pictures(path, group)[inside]
