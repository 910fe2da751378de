"""Samples of a data set: listed, split, hashed, decoded once, memory-mapped."""

import hashlib
import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from heatproof.base import images, splits
from heatproof.base.errors import HeatproofError, fault
from heatproof.base.records import Row, Samples, Source
from heatproof.base.registry import Bound, hash_of
from heatproof.base.settings import LoadSettings
from heatproof.base.sources import source_of
from heatproof.base.store import Store, checksum

if TYPE_CHECKING:
    import pandas as pd

VERSION = 1  # raise it when decoding or resizing changes a pixel
BLOCK = 256  # images in work at once: bounds the memory of decoding
SHOWN_FAULTS = 20

__all__ = ["load", "source_of"]


def load(dataset: Bound, settings: LoadSettings, store: Store) -> Samples:
    """The frozen sample table and the pixels of a data set, uint8 at (size, size, channels), memory-mapped.

    Images are decoded when their content is new to the store, never twice. Raises a HeatproofError that names every
    broken file, and what `source_of` and `splits.assign` refuse.
    """
    source = source_of(dataset, settings)
    assigned = splits.assign(source.rows, settings, classes=source.classes)
    rows = [row for row, split in zip(source.rows, assigned, strict=True) if split is not None]
    names = [split for split in assigned if split is not None]
    hashes = _content_hashes(source, rows, store)
    identity = {
        "version": VERSION,
        "content": hash_of(hashes),
        "images": hash_of([row.image for row in rows]),
        "annotated": hash_of([row.annotation for row in rows]),
        "size": settings.size,
        "channels": settings.channels,
    }
    folder = store.get_or_make(
        "pixels",
        identity,
        lambda to: _decode(source, rows, hashes, settings, to),
        what=f"pixels of {dataset.name} ({len(rows)} images)",
    )
    return _samples(folder, source, rows, names, splits.kind_of(source.rows, settings), settings)


@dataclass(frozen=True)
class _Facts:
    """What decoding learns of one image: size as stored, hash of its content, pixel sums per channel."""

    width: int
    height: int
    file_hash: str
    sums: tuple[int, ...]
    mask_lost: bool


def _content_hashes(source: Source, rows: Sequence[Row], store: Store) -> list[Any]:
    """What decides the pixels: the source's identity for generated data, else SHA-256 of each image's files."""
    if source.identity is not None:
        return [dict(source.identity)]
    paths: list[list[str]] = []
    for row in rows:
        if row.path is None:
            raise HeatproofError(fault(f"image {row.image}", "the data set gives neither a path nor an identity"))
        masks = source.mask_paths(row) if source.mask_paths is not None and row.annotation else ()
        paths.append([row.path, *masks])
    known = _hash_files([path for own in paths for path in own], store)
    return [[known[path] for path in own] for own in paths]


def _hash_files(paths: Sequence[str], store: Store) -> dict[str, str]:
    """SHA-256 per path; those whose size and time of change are as noted are not read again."""
    if not paths:
        return {}
    parents = Counter(str(Path(path).parent.parent) for path in paths)
    notes = store.root / "hashes" / f"{hash_of(sorted(parents))}.json"
    noted: dict[str, list[Any]] = {}
    if notes.is_file():
        try:
            noted = json.loads(notes.read_text())
        except ValueError:  # cut short by a kill: hash again
            noted = {}

    def one(path: str) -> tuple[str, list[Any]]:
        try:
            stat = os.stat(path)  # noqa: PTH116
            state = [stat.st_size, stat.st_mtime_ns]
            old = noted.get(path)
            return path, old if old and old[:2] == state else [*state, checksum(Path(path))]
        except OSError as error:
            raise HeatproofError(fault(path, f"cannot be read ({error.strerror})")) from error

    fresh = dict(_in_order(one, list(dict.fromkeys(paths)), "hash"))
    if any(noted.get(path) != facts for path, facts in fresh.items()):
        _write_notes(notes, {**noted, **fresh})
    return {path: facts[2] for path, facts in fresh.items()}


def _write_notes(notes: Path, content: dict[str, list[Any]]) -> None:
    """The notes only save time: where they cannot be written, files are hashed again."""
    try:
        notes.parent.mkdir(parents=True, exist_ok=True)
        temporary = notes.with_suffix(f".{os.getpid()}")
        temporary.write_text(json.dumps(content))
        temporary.replace(notes)
    except OSError:
        return


def _decode(source: Source, rows: Sequence[Row], hashes: list[Any], settings: LoadSettings, to: Path) -> None:
    """Write pixels.npy, masks.npy where there are annotations, and images.parquet."""
    size, channels = settings.size, settings.channels
    annotated = source.read_mask is not None and any(row.annotation for row in rows)
    generated = source.identity is not None

    def one(number: int) -> tuple[np.ndarray, np.ndarray | None, _Facts] | str:
        row = rows[number]
        try:
            stored = source.read(row)
            pixels = images.fit(stored, size, channels)
            mask = None
            lost = False
            if annotated:
                assert source.read_mask is not None
                found = source.read_mask(row) if row.annotation else None
                mask = np.zeros((size, size), np.uint8) if found is None else images.fit_mask(found, size)
                lost = found is not None and bool(found.any()) and not mask.any()
        except HeatproofError as error:
            return " ".join(error.faults)
        digest = hashlib.sha256(stored.tobytes()).hexdigest() if generated else hashes[number][0]
        sums = tuple(int(s) for s in pixels.sum(axis=(0, 1), dtype=np.int64))
        return pixels, mask, _Facts(stored.shape[1], stored.shape[0], digest, sums, lost)

    facts: list[_Facts] = []
    broken: list[str] = []
    # Plain writes: a full disk is then an error, where a memory map would kill the process.
    with (to / "pixels.npy").open("wb") as pixel_file, (to / "masks.npy").open("wb") as mask_file:
        _write_header(pixel_file, (len(rows), size, size, channels))
        _write_header(mask_file, (len(rows), size, size))
        for result in _in_order(one, range(len(rows)), "decode"):
            if isinstance(result, str):
                broken.append(result)
                continue
            pixels, mask, fact = result
            pixel_file.write(np.ascontiguousarray(pixels).data)
            if mask is not None:
                mask_file.write(np.ascontiguousarray(mask).data)
            facts.append(fact)
    if broken:
        more = len(broken) - SHOWN_FAULTS
        tail = [f"... and {more} more broken files."] if more > 0 else []
        raise HeatproofError(*broken[:SHOWN_FAULTS], *tail)
    if not annotated:
        (to / "masks.npy").unlink()
    _write_facts(facts, to / "images.parquet")


def _write_header(file: Any, shape: tuple[int, ...]) -> None:
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})


def _write_facts(facts: Sequence[_Facts], path: Path) -> None:
    import pandas as pd

    table = pd.DataFrame(
        {
            "width": [fact.width for fact in facts],
            "height": [fact.height for fact in facts],
            "file_hash": [fact.file_hash for fact in facts],
            "mask_lost": [fact.mask_lost for fact in facts],
            **{f"sum_{c}": [fact.sums[c] for fact in facts] for c in range(len(facts[0].sums))},
        }
    )
    table.to_parquet(path)


def _in_order(function: Callable[[Any], Any], items: Sequence[Any] | range, title: str) -> Iterator[Any]:
    """`map` over threads (decoders and hashes let go of the interpreter), in order, a bounded number at once."""
    from tqdm import tqdm

    # Short work has no bar: it would only flicker.
    quiet = not sys.stderr.isatty() or len(items) < BLOCK
    with (
        ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool,
        tqdm(total=len(items), desc=title, unit="image", disable=quiet, leave=False) as bar,
    ):
        for start in range(0, len(items), BLOCK):
            for result in pool.map(function, items[start : start + BLOCK]):
                bar.update()
                yield result


def _samples(
    folder: Path, source: Source, rows: Sequence[Row], names: Sequence[str], kind: str, settings: LoadSettings
) -> Samples:
    import pandas as pd

    facts = pd.read_parquet(folder / "images.parquet")
    labels = [row.label for row in rows]
    table = pd.DataFrame(
        {
            "image": [row.image for row in rows],
            "path": pd.Series([row.path for row in rows], dtype=object),
            "label": pd.array(labels, dtype="Int64") if None in labels else np.array(labels, np.int64),
            "label_name": pd.Series([None if c is None else source.classes[c] for c in labels], dtype=object),
            "group": pd.Series([row.group for row in rows], dtype=object),
            "split": list(names),
            "width": facts["width"],
            "height": facts["height"],
            "file_hash": facts["file_hash"],
            "annotation": pd.Series([row.annotation for row in rows], dtype=object),
        }
    )
    masks = folder / "masks.npy"
    sums = facts[[name for name in facts.columns if name.startswith("sum_")]].to_numpy()[table["split"] == "train"]
    mean = tuple(float(m) for m in sums.mean(axis=0) / (255 * settings.size**2)) if len(sums) else None
    return Samples(
        table=table,
        pixels=np.load(folder / "pixels.npy", mmap_mode="r"),
        masks=np.load(masks, mmap_mode="r") if masks.is_file() else None,
        classes=source.classes,
        data_hash=_data_hash(folder, table, source.classes, settings),
        split_kind=kind,
        train_mean=mean,
        remarks=(*source.remarks, *_remarks(table, rows, names, facts)),
    )


def _data_hash(folder: Path, table: "pd.DataFrame", classes: Sequence[str], settings: LoadSettings) -> str:
    """Hash of content and split: where the files lie does not count, nor which names their folders have."""
    columns = table[["image", "label_name", "group", "split", "file_hash", "annotation"]].astype(object)
    plain = columns.where(columns.notna(), None).to_numpy().tolist()
    return hash_of(
        {
            "version": VERSION,
            "pixels": folder.name,
            "classes": list(classes),
            "rows": plain,
            "size": settings.size,
            "channels": settings.channels,
        }
    )


def _remarks(table: "pd.DataFrame", rows: Sequence[Row], names: Sequence[str], facts: "pd.DataFrame") -> Iterable[str]:
    """What a reader of the results should know of the data: leaks between splits, copies, lost masks."""
    straddling = splits.straddling(rows, names)
    if straddling:
        yield f"{len(straddling)} group(s) have images in several splits, e.g. {', '.join(straddling[:3])}"
    by_hash = table.groupby("file_hash")["split"]
    copies = by_hash.size()
    if (copies > 1).any():
        across = int((by_hash.nunique() > 1).sum())
        yield f"{int((copies - 1).sum())} image(s) are exact copies of another one; {across} of them lie in two splits"
    lost = table["image"][facts["mask_lost"].to_numpy(bool)]
    if len(lost):
        yield f"{len(lost)} annotation(s) vanish at this size, e.g. {', '.join(lost[:3])}"
