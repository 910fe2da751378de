"""People's own images: one folder per class, with masks and groups where they have them."""

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from heatproof.base.annotations import read_masks
from heatproof.base.dicom import default_group
from heatproof.base.errors import HeatproofError, fault
from heatproof.base.folders import (
    SPLIT_NAMES,
    class_folders,
    inner_folder,
    list_images,
    no_images,
    root_folder,
    subfolders,
)
from heatproof.base.images import decode, is_image
from heatproof.base.records import Row, Source
from heatproof.base.registry import choice


@choice(
    annotation="mask",
    needs_root=True,
    official=True,
    study=False,
    grouped=True,
    version=1,
    source="your own images",
)
def image_folder(
    *,
    root: str | None,
    classes: tuple[str, ...] | None,
    masks: str | None,
    mask_pattern: str | None,
    group_pattern: str | None,
) -> Source:
    """Images in `root/<class>/`, or in `root/{train,val,test}/<class>/`, which is then the official split.

    `masks`: a folder, absolute or inside `root`, that repeats the folders of the images; an image's masks there have
    its stem or match `mask_pattern`. `mask_pattern`: how mask files beside an image are called, `{stem}` being the
    image's name and `*` anything, or None for none; such files are no images. Several masks of an image are merged.
    `group_pattern`: regular expression searched in the file name without its ending; its first bracket, or else all it
    matches, is the group (patient) that must not straddle splits. Without it, DICOM files are grouped by their
    PatientID, of which only a hash is kept.
    """
    folder = root_folder("image_folder", root)
    group_of = _compiled(group_pattern)
    naming = _mask_naming(mask_pattern)
    mask_root = None if masks is None else inner_folder(folder, masks, "dataset.masks")
    tops = [name for name in subfolders(folder) if mask_root is None or (folder / name) != mask_root]
    found = _class_folders(folder, tops, classes)
    names = tuple(classes or dict.fromkeys(sorted(entry.name for entry in found)))
    rows: list[Row] = []
    mask_files: dict[str, tuple[str, ...]] = {}
    remarks: list[str] = []
    ungrouped = 0
    for entry in found:
        files, notes = list_images(entry.folder)
        remarks += notes
        beside, images = _tell_apart(files, naming)
        if not images:
            raise no_images(entry.folder)
        inside = entry.folder.relative_to(folder)
        parallel = _parallel(mask_root / inside, naming) if mask_root is not None else {}
        stems = {Path(name).stem for name in images}
        remarks += [
            f"{entry.folder / name}: a mask without an image"
            for s in sorted(beside)
            if s not in stems
            for name in beside[s]
        ]
        for name in images:
            stem = Path(name).stem
            image = (inside / name).as_posix()
            own = [str(entry.folder / mask) for mask in beside.get(stem, ())] + parallel.get(stem, [])
            group = _group(group_of, stem) if group_of else default_group(entry.folder / name)
            ungrouped += group_of is not None and group is None
            rows.append(
                Row(
                    image,
                    str(entry.folder / name),
                    names.index(entry.name),
                    group=group,
                    split=entry.split,
                    annotation="mask" if own else None,
                )
            )
            if own:
                mask_files[image] = tuple(own)
    if mask_root is not None and not mask_files:
        raise HeatproofError(
            fault(
                "dataset.masks",
                "no image has a mask there",
                got=str(mask_root),
                hint=f"Masks of {rows[0].image} would lie in {mask_root / Path(rows[0].image).parent}.",
            )
        )
    if ungrouped:
        remarks.append(f"{ungrouped} image(s) do not match dataset.group_pattern: each is a group of its own")
    return Source(
        tuple(rows),
        names,
        read=lambda row: decode(str(row.path)),
        read_mask=lambda row: read_masks(mask_files[row.image]) if row.image in mask_files else None,
        mask_paths=lambda row: mask_files.get(row.image, ()),
        remarks=tuple(remarks),
    )


@dataclass(frozen=True)
class _ClassFolder:
    name: str
    split: str | None
    folder: Path


def _class_folders(root: Path, tops: Sequence[str], classes: Sequence[str] | None) -> list[_ClassFolder]:
    splits = {name: SPLIT_NAMES[name.lower()] for name in tops if name.lower() in SPLIT_NAMES}
    if not splits:
        if not tops:
            raise HeatproofError(
                fault(
                    "dataset.root",
                    "no class folders inside",
                    got=str(root),
                    hint="Put the images of each class into a folder of its own.",
                )
            )
        return list(_of_split(root, tops, None, classes))
    mixed = [name for name in tops if name not in splits]
    if mixed:
        raise HeatproofError(
            fault(
                "dataset.root", f"folders of splits ({', '.join(splits)}) and others side by side in {root}", got=mixed
            )
        )
    everywhere = sorted({name for top in splits for name in subfolders(root / top)})
    found: list[_ClassFolder] = []
    for top, split in splits.items():
        found += _of_split(root / top, everywhere, split, classes)
    return found


def _of_split(
    folder: Path, names: Sequence[str], split: str | None, classes: Sequence[str] | None
) -> Iterator[_ClassFolder]:
    if classes is not None:
        unknown = [name for name in classes if name not in names]
        if unknown:
            raise HeatproofError(
                *(
                    fault("dataset.classes", f"no such class folder in {folder}", got=name, choices=names)
                    for name in unknown
                )
            )
    wanted = list(names if classes is None else classes)
    for name, path in zip(wanted, class_folders(folder, wanted), strict=True):
        yield _ClassFolder(name, split, path)


def _tell_apart(files: Sequence[str], naming: re.Pattern[str] | None) -> tuple[dict[str, list[str]], list[str]]:
    """Mask files by the stem of their image, and the images."""
    beside: dict[str, list[str]] = defaultdict(list)
    images = []
    for name in files:
        match = naming.fullmatch(name) if naming else None
        if match:
            beside[match["stem"]].append(name)
        else:
            images.append(name)
    return beside, images


def _parallel(folder: Path, naming: re.Pattern[str] | None) -> dict[str, list[str]]:
    """Mask files of a parallel folder by the stem of their image."""
    found: dict[str, list[str]] = defaultdict(list)
    if folder.is_dir():
        for name in sorted(path.name for path in folder.iterdir() if path.is_file() and is_image(path.name)):
            match = naming.fullmatch(name) if naming else None
            found[match["stem"] if match else Path(name).stem].append(str(folder / name))
    return found


def _mask_naming(pattern: str | None) -> re.Pattern[str] | None:
    if pattern is None:
        return None
    if pattern.count("{stem}") != 1 or pattern.replace("*", "") == "{stem}":
        raise HeatproofError(
            fault("dataset.mask_pattern", "holds {stem} once and more text, such as {stem}_mask*", got=pattern)
        )
    parts = re.split(r"(\{stem\}|\*)", pattern)
    text = "".join({"{stem}": "(?P<stem>.+)", "*": ".*"}.get(part, re.escape(part)) for part in parts)
    ending = "" if Path(pattern.replace("*", "x")).suffix else r"\.[^.]+"
    return re.compile(text + ending, re.IGNORECASE)


def _compiled(pattern: str | None) -> re.Pattern[str] | None:
    if pattern is None:
        return None
    try:
        return re.compile(pattern)
    except re.error as error:
        raise HeatproofError(fault("dataset.group_pattern", f"no regular expression ({error})", got=pattern)) from error


def _group(pattern: re.Pattern[str] | None, stem: str) -> str | None:
    match = pattern.search(stem) if pattern else None
    if match is None:
        return None
    return match[1] if match.re.groups else match[0]
