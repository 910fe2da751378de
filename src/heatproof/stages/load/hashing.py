"""What decides the pixels of an image: hashes of its files, noted so that unchanged files are not read again."""

import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heatproof.base.errors import HeatproofError, fault
from heatproof.base.records import Row, Source
from heatproof.base.registry import Bound, hash_of
from heatproof.base.store import Store, checksum
from heatproof.stages.load.parallel import in_order, progress


@dataclass(frozen=True)
class Content:
    """What an image is made of: `key` decides its pixels at a given size, `file_hash` is SHA-256 of its file (None
    where there is none, or several images share it), `wrong` says why a file cannot be read."""

    key: str
    file_hash: str | None = None
    wrong: str | None = None


def contents_of(dataset: Bound, source: Source, rows: Sequence[Row], store: Store) -> list[Content]:
    """The content of each row: from the source's identity for generated data, else from the bytes of its files.

    Names and places of files do not count, but where several rows share a file or masks come with it: then the image's
    id tells the reader which part is meant.
    """
    if source.identity is not None:
        generated = dict(source.identity)
        return [Content(hash_of([generated, row.image, row.annotation])) for row in rows]
    files: list[list[str]] = []
    for row in rows:
        if row.path is None:
            raise HeatproofError(fault(f"image {row.image}", "the data set gives neither a path nor an identity"))
        masks = source.mask_paths(row) if source.mask_paths is not None and row.annotation else ()
        files.append([row.path, *masks])
    known = _hash_files([path for own in files for path in own], store)
    shared = Counter(row.path for row in rows)
    reader = [dataset.name, dataset.choice.version, source.reading]
    contents = []
    for row, own in zip(rows, files, strict=True):
        wrong = [path for path in own if known[path].startswith(WRONG)]
        if wrong:
            contents.append(Content("", wrong=known[wrong[0]].removeprefix(WRONG)))
            continue
        several = shared[row.path] > 1
        told = row.image if row.annotation or several else None
        shapes = source.mask_shapes(row) if source.mask_shapes is not None and row.annotation else None
        hashes = [known[path] for path in own]
        contents.append(
            Content(hash_of([reader, hashes, told, row.annotation, shapes]), None if several else hashes[0])
        )
    return contents


WRONG = "wrong: "  # no hash begins so


def _hash_files(paths: Sequence[str], store: Store) -> dict[str, str]:
    """SHA-256 per path, or WRONG and the reason; files whose size and times are as noted are not read again."""
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
            state = [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]
            old = noted.get(path)
            return path, old if old and old[:3] == state else [*state, checksum(Path(path))]
        except OSError as error:
            return path, [WRONG + fault(path, f"cannot be read ({error.strerror})")]

    unique = list(dict.fromkeys(paths))
    with progress(len(unique), "hash") as tick:
        found = dict(in_order(one, unique, tick))
    fresh = {path: facts for path, facts in found.items() if len(facts) > 1}
    if any(noted.get(path) != facts for path, facts in fresh.items()):
        _write_notes(notes, {**noted, **fresh})
    return {path: facts[-1] for path, facts in found.items()}


def _write_notes(notes: Path, content: dict[str, list[Any]]) -> None:
    """The notes only save time: where they cannot be written, files are hashed again."""
    try:
        notes.parent.mkdir(parents=True, exist_ok=True)
        temporary = notes.with_suffix(f".{os.getpid()}")
        temporary.write_text(json.dumps(content))
        temporary.replace(notes)
    except OSError:
        return
