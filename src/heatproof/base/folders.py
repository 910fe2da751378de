"""Folders of classes on disk: listing them, and the errors when they are not as a data set needs them."""

import os
from collections.abc import Sequence
from pathlib import Path

from heatproof.base.errors import HeatproofError, fault
from heatproof.base.images import EXTENSIONS, is_image

# What folders and tables call a split.
SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
SHOWN_NAMES = 20  # in a remark or an error; how many more there are is said


def root_folder(dataset: str, root: str | os.PathLike[str] | None) -> Path:
    """The data set's folder, or a HeatproofError that says what is wrong with it."""
    if root is None or not str(root):  # as of a shell variable that is not set
        raise HeatproofError(
            fault(
                f"dataset {dataset}",
                "needs the folder of its data",
                hint=f"Set dataset.root=; see conf/dataset/{dataset}.yaml.",
            )
        )
    path = Path(root).expanduser()
    if path.exists() and not path.is_dir():
        raise HeatproofError(fault("dataset.root", "a file, not a folder", got=str(path)))
    if not path.is_dir():
        # What lies beside it helps with a misspelt name; the top of the file system would only be noise.
        beside = path.absolute().parent
        there = subfolders(beside) if beside.is_dir() and beside != Path(beside.anchor) else ()
        raise HeatproofError(fault("dataset.root", "no such folder", got=str(path), choices=there))
    return path


def subfolders(folder: Path) -> tuple[str, ...]:
    """Names of the folders inside, hidden ones left out, sorted."""
    with os.scandir(folder) as entries:
        return tuple(sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith(".")))


def list_images(folder: Path, aside: Sequence[str] = ()) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of the image files directly in a folder, sorted, and a remark on what else lies there.

    `aside`: names in lower case of files that belong there without being images.
    """
    images, others, inner = [], 0, 0
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                inner += 1
            elif is_image(entry.name):
                images.append(entry.name)
            elif entry.name.lower() not in aside:
                others += 1
    remarks = []
    if others:
        remarks.append(f"{folder}: {others} file(s) left out that are no images ({', '.join(sorted(EXTENSIONS))})")
    if inner:
        remarks.append(f"{folder}: {inner} folder(s) inside it left out; images lie directly in the class folder")
    return tuple(sorted(images)), tuple(remarks)


def inner_folder(root: Path, inside: str, setting: str) -> Path:
    """The folder that a setting names, absolute or inside `root`, or a HeatproofError."""
    folder = root / Path(inside).expanduser()
    if not folder.is_dir():
        raise HeatproofError(fault(setting, "no such folder", got=str(folder), choices=subfolders(root)))
    return folder


def images_below(folder: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Paths of the image files in a folder and all folders in it, relative to it with `/`, sorted, and remarks on what
    else lies there. Hidden files and folders are passed over; linked folders are entered once."""
    images: list[str] = []
    others = 0
    seen = set()
    for place, inner, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:
            inner.clear()
            continue
        seen.add(real)
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        shown = [name for name in files if not name.startswith(".")]
        found = [name for name in shown if is_image(name)]
        others += len(shown) - len(found)
        start = Path(place).relative_to(folder).as_posix()
        images += found if start == "." else [f"{start}/{name}" for name in found]
    remarks = [f"{folder}: {others} file(s) left out that are no images ({', '.join(sorted(EXTENSIONS))})"]
    return tuple(sorted(images)), tuple(remarks if others else ())


def left_out(names: Sequence[str], why: str, what: str = "image") -> tuple[str, ...]:
    """A remark on files that are left out for one reason, the first of them by name; none where there are none.

    >>> left_out(["b.png", "a.png"], "the name tells no age")
    ('2 image(s) left out, the name tells no age: a.png, b.png',)
    """
    if not names:
        return ()
    more = f" and {len(names) - SHOWN_NAMES} more" if len(names) > SHOWN_NAMES else ""
    return (f"{len(names)} {what}(s) left out, {why}: {', '.join(sorted(names)[:SHOWN_NAMES])}{more}",)


def named_folders(root: Path, names: Sequence[str], *, what: str, hint: str) -> tuple[Path, ...]:
    """The folders of those names in `root`, found whatever their upper and lower case.

    Raises a HeatproofError with one fault for each that is missing, naming `what` it is and what there is.
    """
    there = subfolders(root)
    by_lower = {name.lower(): name for name in there}
    missing = [name for name in names if name.lower() not in by_lower]
    if missing:
        advice = hint if there else "The folder holds no folders at all: is it the right one?"
        raise HeatproofError(
            *(fault(str(root), f"the {what} {name!r} is missing", choices=there, hint=advice) for name in missing)
        )
    return tuple(root / by_lower[name.lower()] for name in names)


def class_folders(root: Path, names: Sequence[str]) -> tuple[Path, ...]:
    """The folders of classes in `root`, as `named_folders` finds them."""
    return named_folders(
        root,
        names,
        what="class folder",
        hint="Is this the right folder? Or choose the classes that you have with dataset.classes=[...].",
    )


def no_images(folder: Path) -> HeatproofError:
    """The error for a class folder without images."""
    with os.scandir(folder) as entries:
        others = sorted(entry.name for entry in entries)[:3]
    return HeatproofError(
        fault(
            str(folder),
            "the class folder holds no images",
            got=others or None,
            hint=f"Images end in {', '.join(sorted(EXTENSIONS))}.",
        )
    )
