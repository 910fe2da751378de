"""People's own images listed in a table: path, label, patient, split, masks or boxes in columns."""

import csv
import math
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from heatproof.base.annotations import Box, box_mask, read_masks
from heatproof.base.dicom import default_group
from heatproof.base.errors import Faults, HeatproofError, fault
from heatproof.base.folders import SPLIT_NAMES, root_folder
from heatproof.base.images import decode
from heatproof.base.records import Row, Source
from heatproof.base.registry import choice

CORNERS = ("xmin", "ymin", "xmax", "ymax")
DELIMITERS = {".csv": ",;\t", ".tsv": "\t", ".txt": "\t;,"}
SHOWN = 3  # rows of a kind in an error; how many more there are is said

Columns = dict[str, Sequence[Any]]


@choice(
    annotation="mask",
    needs_root=False,
    official=True,
    study=False,
    grouped=True,
    version=1,
    source="your own images",
)
def table(
    *,
    root: str | None,
    file: str | None,
    path: str,
    label: str | None,
    group: str | None,
    split_column: str | None,
    mask: str | None,
    box: tuple[str, ...] | None,
) -> Source:
    """Images listed in a csv, tsv or parquet file; several rows of one image are one image with several annotations.

    `file`: the table, absolute or inside `root`. Paths in it are absolute, or relative to `root`, or to the table's
    folder where `root` is not given. The other settings are names of columns; `label` = None means data without labels,
    None for another one the column `group`, `split`, `mask` or `box` where there is one (also the four xmin, ymin,
    xmax, ymax). A cell of `mask` holds paths, one of `box` holds left, top, right and bottom as edges in pixels from
    the upper left corner; several are separated by `;`. An empty cell is none.
    Without a column of groups, DICOM files are grouped by their patient.

    Raises one HeatproofError for what is wrong with the table: a column that is missing, files that are missing, rows
    without a label, rows of one image that contradict each other.
    """
    place, base = _places(root, file)
    content = _content(place)
    named = {"path": path, "label": label, "group": group, "split": split_column, "mask": mask}
    used = _used(place, content, named, box)
    entries = _entries(place, base, content, used)
    classes = tuple(sorted({entry.label for entry in entries.values() if entry.label is not None}, key=_rank))
    number = {name: position for position, name in enumerate(classes)}
    return Source(
        tuple(
            Row(
                image,
                entry.path,
                None if entry.label is None else number[entry.label],
                entry.group,
                entry.split,
                annotation="mask" if entry.masks else "box" if entry.boxes else None,
            )
            for image, entry in entries.items()
        ),
        classes,
        read=lambda row: decode(str(row.path)),
        read_mask=lambda row: _mask(entries[row.image]),
        mask_paths=lambda row: entries[row.image].masks,
        mask_shapes=lambda row: entries[row.image].boxes,
        remarks=tuple(_remarks(content, used, entries)),
    )


@dataclass(frozen=True)
class Entry:
    """What the rows of one image say."""

    path: str
    label: str | None
    group: str | None
    split: str | None
    masks: tuple[str, ...] = ()
    boxes: tuple[Box, ...] = ()


def _places(root: str | None, file: str | None) -> tuple[Path, Path]:
    """The table and the folder that its paths are relative to."""
    base = None if root is None else root_folder("table", root)
    if file is None:
        raise HeatproofError(
            fault(
                "dataset.file", "the table of the images is missing", hint="dataset.file=scans.csv (csv, tsv, parquet)"
            )
        )
    place = (base or Path()) / Path(file).expanduser()
    if not place.is_file():
        folder = place.parent
        there = sorted(p.name for p in folder.iterdir() if p.is_file()) if folder.is_dir() else ()
        raise HeatproofError(fault("dataset.file", "no such file", got=str(place), choices=there[:20]))
    return place, base or place.absolute().parent


def _content(place: Path) -> Columns:
    """Columns of the table by name, as text (csv) or as stored (parquet)."""
    kind = place.suffix.lower()
    try:
        if kind == ".parquet":
            import pyarrow.parquet as pq

            content: Columns = pq.read_table(place).to_pydict()
        elif kind in DELIMITERS:
            with place.open(newline="", encoding="utf-8-sig") as file:
                head = file.readline()
                if not head:
                    raise ValueError("the file is empty")
                file.seek(0)
                # The delimiter that the header holds most often; the first of them where it holds none.
                delimiter = max(DELIMITERS[kind], key=head.count)
                names, *lines = csv.reader(file, delimiter=delimiter) or [[]]
            names = [name.strip() for name in names]
            ragged = [number for number, line in enumerate(lines, 2) if line and len(line) != len(names)]
            if ragged:
                raise ValueError(f"row {ragged[0]} has {len(lines[ragged[0] - 2])} cells and the header {len(names)}")
            content = dict(zip(names, zip(*filter(None, lines), strict=True), strict=False))
        else:
            raise ValueError("its name ends in none of .csv, .tsv, .txt, .parquet")
    except (OSError, ValueError, csv.Error) as error:  # a broken parquet file is a ValueError, broken text too
        raise HeatproofError(fault(str(place), f"no table that can be read ({error})")) from error
    if not content or not len(next(iter(content.values()))):
        raise HeatproofError(fault(str(place), "the table has no rows"))
    return content


def _used(
    place: Path, content: Columns, wanted: Mapping[str, str | None], box: Sequence[str] | None
) -> dict[str, tuple[str, ...]]:
    """The columns of the table that are read, by what they hold."""
    faults = Faults()
    used: dict[str, tuple[str, ...]] = {}
    for setting, name in wanted.items():
        if name is not None:
            used[setting] = (name,)
        elif setting != "label" and setting in content:
            used[setting] = (setting,)
    if box is not None:
        used["box"] = tuple(box)
        if len(box) not in (1, 4):
            faults.add("dataset.box", "one column, or four for left, top, right, bottom", got=list(box))
    elif "mask" not in used:
        given = ("box",) if "box" in content else CORNERS
        used |= {"box": given} if set(given) <= set(content) else {}
    for setting, names in used.items():
        for name in names:
            if name not in content:
                where = "dataset.split_column" if setting == "split" else f"dataset.{setting}"
                faults.add(where, f"{place.name} has no such column", got=name, choices=content)
    faults.raise_any()
    return used


def _entries(place: Path, base: Path, content: Columns, used: Mapping[str, Sequence[str]]) -> dict[str, Entry]:
    """Images by id, in the order of the table."""
    entries: dict[str, Entry] = {}
    bad: dict[str, list[str]] = defaultdict(list)
    single = {what: content[used[what][0]] for what in ("path", "label", "group", "split") if what in used}
    masks = content[used["mask"][0]] if "mask" in used else None
    boxes = list(zip(*(content[name] for name in used["box"]), strict=True)) if "box" in used else None
    for number in range(len(single["path"])):
        cell = {what: _text(column[number]) for what, column in single.items()}
        where = f"row {number + 2} ({cell['path']})"
        if not cell["path"]:
            bad["no path"].append(f"row {number + 2}")
            continue
        image, path = _located(cell["path"], base)
        split = cell.get("split", "")
        if split and split.lower() not in SPLIT_NAMES:
            bad[f"a split that is none of {', '.join(SPLIT_NAMES)}"].append(f"{where}: {split}")
        if "label" in cell and not cell["label"]:
            bad["no label; dataset.label=null reads the images without labels"].append(where)
        own_masks = tuple(_located(text, base)[1] for text in _parts(masks[number])) if masks is not None else ()
        try:
            own_boxes = _boxes(boxes[number]) if boxes is not None else ()
        except ValueError as error:
            bad["no box"].append(f"{where}: {error}")
            continue
        new = Entry(
            path,
            cell.get("label") or None,
            (cell["group"] or None) if "group" in cell else default_group(path),
            SPLIT_NAMES.get(split.lower()),
            own_masks,
            own_boxes,
        )
        old = entries.get(image)
        if old is None:
            entries[image] = new
        elif (old.label, old.group, old.split) != (new.label, new.group, new.split):
            bad["another label, group or split than an earlier row of the image"].append(where)
        else:
            entries[image] = Entry(
                path,
                old.label,
                old.group,
                old.split,
                tuple(dict.fromkeys(old.masks + new.masks)),
                tuple(dict.fromkeys(old.boxes + new.boxes)),
            )
    bad["a mask and a box: dataset.mask or dataset.box names what counts"] = [
        image for image, entry in entries.items() if entry.masks and entry.boxes
    ]
    bad["files that are not there; paths are relative to " + str(base)] = missing(
        path for entry in entries.values() for path in (entry.path, *entry.masks)
    )
    faults = Faults()
    for wrong, rows in bad.items():
        if rows:
            more = f" and {len(rows) - SHOWN} more" if len(rows) > SHOWN else ""
            faults.add(str(place), f"{wrong}: {'; '.join(rows[:SHOWN])}{more}")
    faults.raise_any()
    return entries


def _located(text: str, base: Path) -> tuple[str, str]:
    """The id of an image, its path relative to `base` where it lies in it, and the path itself."""
    relative = PurePosixPath(text)
    if relative.is_absolute() and relative.is_relative_to(base.as_posix()):
        relative = relative.relative_to(base.as_posix())
    return str(relative), os.path.join(base, text)  # noqa: PTH118  # pathlib takes seconds for 100 000 rows


def missing(paths: Iterable[str]) -> list[str]:
    """Those of the paths that are no files, found by listing each folder once."""
    wanted: dict[str, list[str]] = defaultdict(list)
    for path in dict.fromkeys(paths):
        folder, _, name = path.rpartition("/")
        wanted[folder].append(name)
    absent = []
    for folder, names in wanted.items():
        try:
            there = set(os.listdir(folder or "/"))  # noqa: PTH208
        except OSError:
            there = set()
        # A name that the listing lacks may still be one: other case, other Unicode form.
        absent += [f"{folder}/{name}" for name in names if name not in there and not Path(folder, name).is_file()]
    return absent


def _text(value: Any) -> str:
    """A cell as text: nothing and NaN are empty, whole numbers have no point."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip()


def _parts(cell: Any) -> list[str]:
    items = cell if isinstance(cell, (list, tuple)) else _text(cell).split(";")
    return [_text(item) for item in items if _text(item)]


def _boxes(cells: Sequence[Any]) -> tuple[Box, ...]:
    """Boxes of a cell, or the one of four cells."""
    if len(cells) == 4:
        texts = [_text(cell) for cell in cells]
        groups = [texts] if any(texts) else []
    elif isinstance(cells[0], (list, tuple)):
        nested = cells[0] if cells[0] and isinstance(cells[0][0], (list, tuple)) else [cells[0]] if cells[0] else []
        groups = [[_text(item) for item in one] for one in nested]
    else:
        groups = [part.translate(_BRACKETS).split() for part in _text(cells[0]).split(";") if part.strip()]
    boxes = []
    for group in groups:
        if len(group) != 4:
            raise ValueError(f"{len(group)} numbers where left, top, right, bottom are expected")
        left, top, right, bottom = (float(item) for item in group)
        if not (left < right and top < bottom):
            raise ValueError(f"{left:g}, {top:g}, {right:g}, {bottom:g} encloses nothing")
        boxes.append((left, top, right, bottom))
    return tuple(boxes)


_BRACKETS = str.maketrans("[](),", "     ")


def _rank(name: str) -> tuple[bool, float, str]:
    """Whole numbers in their order, before names."""
    return (not name.isdecimal(), float(name) if name.isdecimal() else 0.0, name)


def _mask(entry: Entry) -> np.ndarray | None:
    if entry.masks:
        return read_masks(entry.masks)
    if not entry.boxes:
        return None
    height, width = decode(entry.path).shape[:2]
    return box_mask(entry.boxes, height, width)


def _remarks(content: Columns, used: Mapping[str, Sequence[str]], entries: Mapping[str, Entry]) -> Iterable[str]:
    unused = [name for name in content if not any(name in names for names in used.values())]
    if unused:
        yield f"columns of the table that are not read: {', '.join(unused)}"
    ungrouped = sum(entry.group is None for entry in entries.values())
    if "group" in used and ungrouped:
        yield f"{ungrouped} image(s) have no group in the table: each is a group of its own"
