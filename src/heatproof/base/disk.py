"""A disk that is full, read-only or forbidden, as the user's error that it is."""

from __future__ import annotations

import errno
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from heatproof.base.errors import HeatproofError, fault

FULL = "no space left on the disk"
REASONS = {
    errno.ENOSPC: FULL,
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the disk is read-only",
    errno.EACCES: "no permission",
}
# numpy's short writes have no number, safetensors' errors are no OSError.
FULL_TEXT = re.compile(r"^\d+ requested and \d+ written$|No space left on device")


@dataclass(frozen=True)
class Place:
    """A folder that is written to, its name in messages, and what to do where it takes nothing."""

    name: str
    folder: Path
    hint: str


@contextmanager
def disk_errors(*places: Place) -> Iterator[None]:
    """What the block raises; an error that the disk of one of the places is to blame for as a HeatproofError."""
    try:
        yield
    except HeatproofError:
        raise
    except Exception as error:
        reason = _reason(error)
        place = None if reason is None else _blamed(error, reason, places)
        if place is None:
            raise
        at = getattr(error, "filename", None) or place.folder
        raise HeatproofError(fault(place.name, f"{reason} at {at}", hint=place.hint)) from error


def _reason(error: Exception) -> str | None:
    known = REASONS.get(error.errno or 0) if isinstance(error, OSError) else None
    return known or (FULL if FULL_TEXT.search(str(error)) else None)


def _blamed(error: Exception, reason: str, places: tuple[Place, ...]) -> Place | None:
    """The place that the file of the error lies in; of a full disk without a file, the place with the least room. None
    where a file elsewhere must not be touched: that says nothing of these disks."""
    file = getattr(error, "filename", None)
    if file is not None:
        inside = [place for place in places if Path(file).absolute().is_relative_to(place.folder.absolute())]
        return inside[0] if inside else None if reason == REASONS[errno.EACCES] else places[0]
    return min(places, key=_room) if reason == FULL else places[0]


def _room(place: Place) -> int:
    folder = place.folder.absolute()
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free
