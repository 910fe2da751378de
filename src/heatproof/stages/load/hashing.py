"""What decides the pixels of an image: hashes of its files, noted so that unchanged files are not read again."""

import json
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from heatproof.base.errors import HeatproofError, fault
from heatproof.base.records import Row, Source
from heatproof.base.registry import hash_of
from heatproof.base.store import Store, checksum
from heatproof.stages.load.parallel import in_order


def content_hashes(source: Source, rows: Sequence[Row], store: Store) -> list[Any]:
    """What decides the pixels: the source's identity for generated data, else SHA-256 of each image's files, then the
    hash of the shapes that its mask is drawn from."""
    if source.identity is not None:
        return [dict(source.identity)]
    paths: list[list[str]] = []
    for row in rows:
        if row.path is None:
            raise HeatproofError(fault(f"image {row.image}", "the data set gives neither a path nor an identity"))
        masks = source.mask_paths(row) if source.mask_paths is not None and row.annotation else ()
        paths.append([row.path, *masks])
    known = _hash_files([path for own in paths for path in own], store)
    shapes = source.mask_shapes
    drawn = [[hash_of(shapes(row))] if shapes is not None and row.annotation else [] for row in rows]
    return [[known[path] for path in own] + more for own, more in zip(paths, drawn, strict=True)]


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

    fresh = dict(in_order(one, list(dict.fromkeys(paths)), "hash"))
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
