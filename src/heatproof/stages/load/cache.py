"""Pixels of a data set from the store: each image is decoded once per size, number of channels and resize policy.

    pixels/<key>/    all images of one data set, in its order
    decoded/<key>/   a block of images on their way there: what a kill leaves, to be taken up by the next run

Both are found again by the keys of the images in them, whatever data set they were decoded for: of a data set that has
grown by ten images, ten are decoded and the rest is copied. Two processes that want the same data set wait for each
other; two that share some images decode those twice at worst.
"""

import hashlib
import logging
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from heatproof.base import images
from heatproof.base.annotations import at_image
from heatproof.base.errors import HeatproofError, fault
from heatproof.base.records import Row, Source
from heatproof.base.registry import Bound, hash_of
from heatproof.base.settings import LoadSettings
from heatproof.base.store import Store
from heatproof.stages.load.blocks import Facts, Reader, facts_of, write_decoded
from heatproof.stages.load.hashing import Content, contents_of
from heatproof.stages.load.parallel import in_order, progress

VERSION = 4  # raise it when decoding or resizing changes a pixel
SHOWN_FAULTS = 20
# A kill loses the block in work: a few seconds, whatever an image takes.
BLOCK_SECONDS = 5.0
FIRST_BLOCK, LEAST_BLOCK, MOST_BLOCK = 64, 16, 4096
ATTEMPTS = 3
log = logging.getLogger(__name__)

Place = tuple[Path, int]  # a folder of decoded images and a position in it


@dataclass(frozen=True)
class Decoded:
    """Decoded images: their folder, which of the rows they are, hashes of their files (of their pixels where several
    share a file or there is none), and remarks on the rows that are left out."""

    folder: Path
    kept: tuple[int, ...]
    hashes: tuple[str, ...]
    remarks: tuple[str, ...]


def decoded(dataset: Bound, source: Source, rows: Sequence[Row], settings: LoadSettings, store: Store) -> Decoded:
    """The pixels of the rows, decoded where they are new to the store.

    Raises one HeatproofError that names every image that cannot be read, and where none of a class can;
    `settings.on_bad_image` = "skip" leaves the others out.
    """
    contents = contents_of(dataset, source, rows, store)
    policy = {
        "version": VERSION,
        "size": settings.size,
        "channels": settings.channels,
        "resize": settings.resize,
    }
    broken = {i: content.wrong for i, content in enumerate(contents) if content.wrong is not None}
    what = f"pixels of {dataset.name} ({len(rows)} images)"
    folder = store.find("pixels", _identity(policy, contents, broken))
    if folder is None:
        job = _Job(source, rows, contents, settings, store, policy)
        with store.locked("decoding", _identity(policy, contents, broken), what):
            folder = job.folder(broken, what)
    _refuse(broken, rows, source.classes, settings.on_bad_image)
    kept = tuple(i for i in range(len(rows)) if i not in broken)
    assert folder is not None, "where every image is broken, that is refused"
    texts = [text for _, text in sorted(broken.items())]
    remarks = (f"{len(broken)} of {len(rows)} image(s) cannot be read and are left out", *shown(texts)) if texts else ()
    return Decoded(folder, kept, tuple(facts_of(folder)["file_hash"]), remarks)


def _identity(policy: Mapping[str, Any], contents: Sequence[Content], broken: Mapping[int, str]) -> dict[str, Any]:
    keys = [content.key for i, content in enumerate(contents) if i not in broken]
    return {"policy": policy, "num": len(keys), "images": hash_of(keys)}


def _refuse(broken: Mapping[int, str], rows: Sequence[Row], classes: Sequence[str], on_bad_image: str) -> None:
    if not broken:
        return
    texts = shown([text for _, text in sorted(broken.items())])
    if on_bad_image != "skip":
        hint = "dataset.on_bad_image=skip leaves them out and says so in the report."
        raise HeatproofError(*texts, fault("dataset", f"{len(broken)} of {len(rows)} images cannot be read", hint=hint))
    left = {row.label for i, row in enumerate(rows) if i not in broken}
    lost = {row.label for row in rows} - left
    names = [classes[label] if label is not None else "any class" for label in sorted(lost, key=str)]
    if names:
        raise HeatproofError(*texts, *(fault("dataset", "no image that can be read", got=name) for name in names))


def shown(texts: Sequence[str]) -> list[str]:
    """The first lines, and how many more there are."""
    more = len(texts) - SHOWN_FAULTS
    return [*texts[:SHOWN_FAULTS], *([f"... and {more} more broken files."] if more > 0 else [])]


@dataclass(frozen=True)
class _Job:
    """One data set to be decoded."""

    source: Source
    rows: Sequence[Row]
    contents: Sequence[Content]
    settings: LoadSettings
    store: Store
    policy: Mapping[str, Any]

    def folder(self, broken: dict[int, str], what: str) -> Path | None:
        """The complete folder of all images that can be read; rows that cannot are added to `broken`.

        None where images are broken and that is an error, or nothing is left.
        """
        for attempt in range(1, ATTEMPTS + 1):
            self._decode_missing(broken)
            wanted = [i for i in range(len(self.rows)) if i not in broken]
            if not wanted or (broken and self.settings.on_bad_image != "skip"):
                return None
            places = self._places()
            try:
                folder = self.store.get_or_make(
                    "pixels",
                    _identity(self.policy, self.contents, broken),
                    lambda to, wanted=wanted, places=places: self._assemble(wanted, places, to),  # type: ignore[misc]
                    what=what,
                )
            except (FileNotFoundError, KeyError):  # another process has removed what was about to be copied
                if attempt == ATTEMPTS:
                    raise
                log.info("Decoded images went away while they were copied; looking again")
                continue
            self._tidy({self.contents[i].key for i in wanted})
            return folder
        raise AssertionError("the last attempt returns or raises")

    def _places(self) -> dict[str, Place]:
        """Where each image that is decoded already lies, by key; folders that fail their checksums do not count."""
        wanted = {content.key for content in self.contents}
        found: dict[str, Place] = {}
        for folder, keys in self._folders("pixels", "decoded"):
            new = {key: i for i, key in enumerate(keys) if key in wanted and key not in found}
            if new and self.store.intact(folder):
                found |= {key: (folder, i) for key, i in new.items()}
        return found

    def _folders(self, *kinds: str) -> Iterator[tuple[Path, list[str]]]:
        import pyarrow.parquet as pq

        for kind in kinds:
            for folder in self.store.kin(kind, "policy", self.policy):
                try:
                    yield folder, pq.read_table(folder / "images.parquet", columns=["key"])["key"].to_pylist()
                except (OSError, ValueError):  # gone or broken: its images count as not decoded
                    continue

    def _decode_missing(self, broken: dict[int, str]) -> None:
        """Decode what is new, block by block; each block is kept as soon as it is complete."""
        places = self._places()
        first: dict[str, int] = {}
        for i, content in enumerate(self.contents):
            if i not in broken and content.key not in places:
                first.setdefault(content.key, i)
        missing = list(first.values())
        bad: dict[str, str] = {}
        with progress(len(missing), "decode") as tick:
            start, block = 0, FIRST_BLOCK
            while start < len(missing):
                part = missing[start : start + block]
                begun = time.monotonic()
                self._keep(_good(zip(part, in_order(self._one, part, tick), strict=True), self.contents, bad))
                start += len(part)
                seconds = max(time.monotonic() - begun, 1e-3)
                block = min(max(int(len(part) * BLOCK_SECONDS / seconds), LEAST_BLOCK), MOST_BLOCK)
        broken |= {i: bad[content.key] for i, content in enumerate(self.contents) if content.key in bad}

    def _keep(self, results: Iterator[tuple[np.ndarray, np.ndarray | None, Facts]]) -> None:
        """Store a block of decoded images, if there is at least one."""
        one = next(results, None)
        if one is None:
            return
        self.store.get_or_make(
            "decoded",
            {"policy": self.policy, "block": uuid.uuid4().hex},
            lambda to: write_decoded(chain([one], results), to, masks=self._annotated()),
            what="decoded images",
        )

    def _annotated(self) -> bool:
        return self.source.read_mask is not None and any(row.annotation for row in self.rows)

    def _one(self, number: int) -> tuple[np.ndarray, np.ndarray | None, Facts] | str:
        """One image decoded and resized, or what is wrong with it."""
        row, content, settings = self.rows[number], self.contents[number], self.settings
        try:
            stored = self.source.read(row)
            height, width = stored.shape[:2]
            found = self.source.read_mask(row) if self.source.read_mask is not None and row.annotation else None
            found = None if found is None else at_image(found, height, width, f"image {row.image}")
        except HeatproofError as error:
            return " ".join(error.faults)
        except OSError as error:
            return fault(row.path or row.image, f"cannot be read ({error})")
        pixels = images.fit(stored, settings.size, settings.channels, settings.resize)
        mask = None if found is None else images.fit_mask(found, settings.size, settings.resize)
        facts = Facts(
            key=content.key,
            width=width,
            height=height,
            file_hash=content.file_hash or hashlib.sha256(stored.tobytes()).hexdigest(),
            sums=tuple(int(s) for s in pixels.sum(axis=0, dtype=np.int64).sum(axis=0)),
            mask_area=None if found is None else float(np.mean(found, dtype=np.float64)),
            mask_lost=found is not None and mask is not None and bool(found.any()) and not mask.any(),
        )
        return pixels, mask, facts

    def _assemble(self, wanted: Sequence[int], places: Mapping[str, Place], to: Path) -> None:
        """Copy the images of the data set, in its order, from where they lie."""
        keys = [self.contents[i].key for i in wanted]
        write_decoded(_copied([places[key] for key in keys]), to, masks=self._annotated())

    def _tidy(self, done: set[str]) -> None:
        """Remove blocks whose images all lie in the complete folder."""
        for folder, keys in self._folders("decoded"):
            if done.issuperset(keys):
                self.store.remove(folder)


def _good(
    results: Iterable[tuple[int, tuple[np.ndarray, np.ndarray | None, Facts] | str]],
    contents: Sequence[Content],
    bad: dict[str, str],
) -> Iterator[tuple[np.ndarray, np.ndarray | None, Facts]]:
    """Results that are images; the others are noted in `bad` by key."""
    for number, result in results:
        if isinstance(result, str):
            bad[contents[number].key] = result
        else:
            yield result


def _copied(places: Iterable[Place]) -> Iterator[tuple[np.ndarray, np.ndarray | None, Facts]]:
    current: Path | None = None
    with ExitStack() as stack:
        for folder, position in places:
            if folder != current:
                stack.close()
                reader = stack.enter_context(Reader(folder))
                facts = _facts(folder)
                current = folder
            yield reader.pixels(position), reader.mask(position), facts[position]


def _facts(folder: Path) -> list[Facts]:
    table = facts_of(folder)
    sums = table[[name for name in table.columns if name.startswith("sum_")]].to_numpy()
    area = [None if np.isnan(value) else value for value in table["mask_area"].to_numpy(float)]
    columns = (table[name].tolist() for name in ("key", "width", "height", "file_hash", "mask_lost"))
    return [
        Facts(key, width, height, file_hash, tuple(map(int, sums[i])), area[i], lost)
        for i, (key, width, height, file_hash, lost) in enumerate(zip(*columns, strict=True))
    ]
