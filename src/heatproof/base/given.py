"""Maps made elsewhere: which file of a folder belongs to which image, checked before work starts.

Conventions: the map of image `ward/a.png` is `ward/a.npy` or `ward/a.png` in the folder, or the same with the image's
whole name in front of the ending (`ward/a.png.npy`). An array is (h, w) of any real type and any size; a PNG is grey,
8 or 16 bits, and counts as 0 to 1. Larger = more evidence, as everywhere.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from heatproof.base.errors import HeatproofError, fault

ENDINGS = (".npy", ".png")
LISTED = 5


def files_of(folder: str | Path | None, images: Sequence[str]) -> list[Path]:
    """The file of each image. Raises one HeatproofError that lists images without a file, and with two."""
    root = checked_folder(folder)
    found = [candidates(root, image) for image in images]
    without = [image for image, files in zip(images, found, strict=True) if not files]
    faults = [
        fault(
            "files.folder",
            f"two maps of the image {image}, {files[0].name} and {files[1].name}",
            got=str(root),
            hint="Leave one.",
        )
        for image, files in zip(images, found, strict=True)
        if len(files) > 1
    ][:LISTED]
    if without:
        more = f" and {len(without) - LISTED} more" if len(without) > LISTED else ""
        there = sorted(path.relative_to(root).as_posix() for path in _maps_in(root))[:LISTED]
        faults.append(
            fault(
                "files.folder",
                f"no map of {len(without)} of {len(images)} explained images: {', '.join(without[:LISTED])}{more}",
                got=str(root),
                hint=f"An image's map is named after it, e.g. {PurePosixPath(without[0]).with_suffix('.npy')}; "
                f"the folder holds {', '.join(there) or 'no .npy and no .png'}.",
            )
        )
    if faults:
        raise HeatproofError(*faults)
    return [files[0] for files in found]


def checked_folder(folder: str | Path | None) -> Path:
    """The folder, with at least one map in it, or a HeatproofError."""
    if folder is None:
        raise HeatproofError(
            fault("files.folder", "the folder of the maps is needed", hint="explainer.files.folder=FOLDER")
        )
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise HeatproofError(fault("files.folder", "no such folder", got=str(folder)))
    if next(iter(_maps_in(root)), None) is None:
        raise HeatproofError(fault("files.folder", "holds no .npy and no .png", got=str(folder)))
    return root


def candidates(root: Path, image: str) -> list[Path]:
    """Files that may be the map of an image, in the order of `ENDINGS`."""
    names = dict.fromkeys(
        name for ending in ENDINGS for name in (f"{PurePosixPath(image).with_suffix('')}{ending}", f"{image}{ending}")
    )
    return [root / name for name in names if (root / name).is_file()]


def read_map(path: Path) -> np.ndarray:
    """The map as float32 (h, w). Raises HeatproofError for anything else than one plane of real numbers."""
    try:
        if path.suffix == ".npy":
            held = np.load(path, allow_pickle=False)
        else:
            from PIL import Image

            with Image.open(path) as image:
                held = np.asarray(image)
                held = held / (255 if held.dtype == np.uint8 else 65535)
    except (OSError, ValueError, TypeError) as error:
        raise HeatproofError(fault("files.folder", f"cannot be read ({error})", got=str(path))) from error
    if held.ndim == 3 and 1 in (held.shape[0], held.shape[2]):
        held = held.squeeze(0 if held.shape[0] == 1 else 2)
    if held.ndim != 2 or held.dtype.kind not in "fiub":
        what = "one plane of real numbers is a map; a coloured picture of one is not"
        raise HeatproofError(fault("files.folder", f"{path.name} is {held.dtype} {held.shape}: {what}", got=str(path)))
    return held.astype(np.float32)


def digest(files: Iterable[Path]) -> str:
    """A hash of the contents in their order: what decides the maps."""
    whole = hashlib.sha256()
    for path in files:
        whole.update(hashlib.sha256(path.read_bytes()).digest())
    return whole.hexdigest()[:16]


def _maps_in(root: Path) -> Iterable[Path]:
    return (path for path in root.rglob("*") if path.suffix in ENDINGS and path.is_file())
