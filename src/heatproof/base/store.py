"""What is made once and kept: complete folders, found by the hash of what decides their content.

    <root>/<kind>/<key>/         files and manifest.json: complete, or it would not be there
    <root>/work/<kind>/<key>/    work in progress that a killed run can take up again
    <root>/tmp/, locks/, broken/ folders being filled, locks, entries that failed their checksums

A folder is filled under a temporary name, synced, then renamed: a kill at any moment leaves the old state or the new.
"""

import hashlib
import json
import logging
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from heatproof.base.disk import Place, disk_errors
from heatproof.base.errors import HeatproofError, fault
from heatproof.base.registry import hash_of

MANIFEST = "manifest.json"
SERVICE = ("work", "tmp", "locks", "broken")
ELSEWHERE = "HEATPROOF_STORE=<folder> puts the store elsewhere."
PATIENCE_SECONDS = 24 * 3600.0
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Entry:
    """One complete folder of the store; times in seconds since 1970."""

    kind: str
    key: str
    what: str
    path: Path
    num_bytes: int
    made: float
    used: float


class Store:
    """Complete folders by content, under `root` (default: HEATPROOF_STORE, else ~/.cache/heatproof).

    Belongs on a local disk: network file systems do not keep the promises of locks and renames.
    """

    def __init__(self, root: Path | str | None = None) -> None:
        chosen = root or os.environ.get("HEATPROOF_STORE") or "~/.cache/heatproof"
        self.root = Path(chosen).expanduser().absolute()
        # Checked once a process; a file that changes afterwards is checked again.
        self._checked: dict[Path, tuple[int, int]] = {}

    def get_or_make(self, kind: str, identity: Mapping[str, Any], make: Callable[[Path], None], *, what: str) -> Path:
        """The complete folder of `identity`, filled by `make(folder)` where it is not there yet.

        Processes that want the same folder wait for the first one, with a message that names `what`. An entry that
        fails its checksums is moved aside and made again. What `make` raises comes through, and nothing is left of the
        folder; a full disk is a HeatproofError.
        """
        key = hash_of(identity)
        found = self._complete(kind, key)
        if found is not None:
            return found
        with self._locked(kind, key, what):
            found = self._complete(kind, key)
            if found is None:
                self._set_aside(kind, key)
                found = self._make(kind, key, identity, make, what)
            return found

    def find(self, kind: str, identity: Mapping[str, Any]) -> Path | None:
        """The complete folder of `identity`, or None."""
        return self._complete(kind, hash_of(identity))

    def kin(self, kind: str, name: str, value: Any) -> list[Path]:
        """Complete folders of a kind whose identity has `value` under `name`, newest first, unchecked: see `intact`."""
        wanted = json.loads(_as_json({name: value}))[name]
        found = []
        for manifest in (self.root / kind).glob(f"*/{MANIFEST}"):
            content = _read_manifest(manifest.parent)
            if content is not None and content.get("identity", {}).get(name) == wanted:
                found.append((content["made"], manifest.parent))
        return [folder for _, folder in sorted(found, reverse=True)]

    def intact(self, folder: Path) -> bool:
        """Whether a folder of the store is complete and its files have their checksums."""
        return self._complete(folder.parent.name, folder.name) is not None

    def remove(self, folder: Path) -> bool:
        """Remove a folder of the store, unless another process holds its lock; whether it is gone."""
        kind, key = folder.parent.name, folder.name
        try:
            with self._lock(kind, key).acquire(timeout=0):
                # Renamed first, so that nobody meets half an entry.
                gone = self._temporary(kind, key)
                folder.rename(gone)
                shutil.rmtree(gone)
        except (Timeout, FileNotFoundError):
            return not folder.exists()
        return True

    @contextmanager
    def locked(self, kind: str, identity: Mapping[str, Any], what: str) -> Iterator[None]:
        """Only one process at a time in the block; others wait, with a message that names `what`."""
        with self._locked(kind, hash_of(identity), what):
            yield

    def scratch(self, kind: str, identity: Mapping[str, Any]) -> Path:
        """A folder for work in progress on `identity`; it stays, also after a kill, until the entry is complete."""
        folder = self.root / "work" / kind / hash_of(identity)
        with _disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        return folder

    def entries(self) -> list[Entry]:
        """All complete folders, least recently used first."""
        found = []
        for manifest in self.root.glob(f"*/*/{MANIFEST}"):
            kind, key = manifest.parts[-3:-1]
            content = _read_manifest(manifest.parent)
            if kind in SERVICE or content is None:
                continue
            num_bytes = sum(int(facts["bytes"]) for facts in content["files"].values())
            used = manifest.stat().st_mtime
            found.append(Entry(kind, key, content["what"], manifest.parent, num_bytes, content["made"], used))
        return sorted(found, key=lambda entry: (entry.used, entry.kind, entry.key))

    def trim(self, max_bytes: int) -> list[Entry]:
        """Entries removed, least recently used first, until the rest takes at most `max_bytes`.

        Broken entries and abandoned temporary folders go first. What another process holds a lock on stays.
        """
        shutil.rmtree(self.root / "broken", ignore_errors=True)
        entries = self.entries()
        total = sum(entry.num_bytes for entry in entries)
        removed = []
        for entry in entries:
            if total <= max_bytes:
                break
            if self.remove(entry.path):
                total -= entry.num_bytes
                removed.append(entry)
        return removed

    def _complete(self, kind: str, key: str) -> Path | None:
        folder = self.root / kind / key
        manifest = _read_manifest(folder)
        if manifest is None:
            return None
        for name, facts in manifest["files"].items():
            path = folder / name
            try:
                stat = path.stat()
            except OSError:
                return None
            state = (stat.st_size, stat.st_mtime_ns)
            if self._checked.get(path) != state:
                if stat.st_size != facts["bytes"] or checksum(path) != facts["sha256"]:
                    return None
                self._checked[path] = state
        # The manifest's time says when the entry was last used; a store that is only readable works, too.
        try:
            os.utime(folder / MANIFEST)
        except OSError:
            log.debug("%s: time of use not noted", folder)
        return folder

    def _make(self, kind: str, key: str, identity: Mapping[str, Any], make: Callable[[Path], None], what: str) -> Path:
        # The lock is held: temporary folders of this key belong to processes that were killed.
        for stale in (self.root / "tmp").glob(f"{kind}-{key}-*"):
            shutil.rmtree(stale, ignore_errors=True)
        folder = self._temporary(kind, key)
        final = self.root / kind / key
        try:
            with _disk_errors(folder):
                folder.mkdir(parents=True)
                make(folder)
                _write_manifest(folder, identity, what)
                for path in sorted(folder.rglob("*")):
                    _sync(path)
                _sync(folder)
                final.parent.mkdir(parents=True, exist_ok=True)
                folder.rename(final)
                _sync(final.parent)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        for path in final.rglob("*"):
            if path.is_file() and path.name != MANIFEST:
                stat = path.stat()
                self._checked[path] = (stat.st_size, stat.st_mtime_ns)
        shutil.rmtree(self.root / "work" / kind / key, ignore_errors=True)
        return final

    def _set_aside(self, kind: str, key: str) -> None:
        folder = self.root / kind / key
        if not folder.exists():
            return
        broken = self.root / "broken" / f"{kind}-{key}-{uuid.uuid4().hex[:8]}"
        log.warning("%s: fails its checksums; moved to %s and made again", folder, broken)
        with _disk_errors(folder):
            broken.parent.mkdir(parents=True, exist_ok=True)
            folder.rename(broken)

    def _temporary(self, kind: str, key: str) -> Path:
        folder = self.root / "tmp"
        with _disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{kind}-{key}-{uuid.uuid4().hex[:8]}"

    def _lock(self, kind: str, key: str) -> FileLock:
        folder = self.root / "locks"
        with _disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        return FileLock(folder / f"{kind}-{key}.lock")

    @contextmanager
    def _locked(self, kind: str, key: str, what: str) -> Iterator[None]:
        lock = self._lock(kind, key)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            log.warning("Waiting for another process that makes %s", what)
            try:
                lock.acquire(timeout=PATIENCE_SECONDS)
            except Timeout:
                raise HeatproofError(
                    fault(
                        "store",
                        f"{lock.lock_file} was held for {PATIENCE_SECONDS / 3600:g} hours to make {what}",
                        hint="End that process, then start again.",
                    )
                ) from None
        try:
            yield
        finally:
            lock.release()


def checksum(path: Path) -> str:
    """SHA-256 of a file's bytes, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write_manifest(folder: Path, identity: Mapping[str, Any], what: str) -> None:
    files = {
        path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "sha256": checksum(path)}
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    content = {"what": what, "made": time.time(), "files": files, "identity": json.loads(_as_json(identity))}
    (folder / MANIFEST).write_text(json.dumps(content, indent=1))


def _as_json(identity: Mapping[str, Any]) -> str:
    """The identity for people to read; the key is what `hash_of` says."""
    return json.dumps(identity, default=lambda value: getattr(value, "identity", lambda: str(value))())


def _read_manifest(folder: Path) -> dict[str, Any] | None:
    try:
        content = json.loads((folder / MANIFEST).read_text())
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) and {"what", "made", "files"} <= set(content) else None


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _disk_errors(path: Path) -> AbstractContextManager[None]:
    return disk_errors(Place("store", path, ELSEWHERE))
