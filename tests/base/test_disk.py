"""Errors of disks: what counts as one, and which of two places is named."""

import errno
import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from heatproof.base import disk
from heatproof.base.disk import Place, disk_errors
from heatproof.base.errors import HeatproofError

Usage = namedtuple("Usage", "total used free")


def places(root: Path) -> tuple[Place, Place]:
    return Place("results", root / "a", "Start elsewhere."), Place("store", root / "b", "Put it elsewhere.")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES])
def test_the_file_tells_the_place(number: int, tmp_path: Path) -> None:
    file = str(tmp_path / "b" / "x.npy")
    with pytest.raises(HeatproofError, match=f"store: {disk.REASONS[number]} at .*x.npy. Put it elsewhere."), disk_errors(*places(tmp_path)):  # fmt: skip  # noqa: E501
        raise OSError(number, "why", file)


@pytest.mark.parametrize("error", [OSError("1024 requested and 992 written"), RuntimeError("No space left on device (os error 28)")])  # fmt: skip  # noqa: E501
def test_without_a_file_the_fullest_place_is_named(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in places(tmp_path):
        place.folder.mkdir()
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(9, 0, 0 if Path(path).name == "b" else 9))
    with pytest.raises(HeatproofError, match=r"store: no space left on the disk at .*/b. Put it"), disk_errors(*places(tmp_path)):  # fmt: skip  # noqa: E501
        raise error


def test_other_errors_pass(tmp_path: Path) -> None:
    unreadable = PermissionError(errno.EACCES, "denied", "/elsewhere/image.png")
    for error in (unreadable, FileNotFoundError(errno.ENOENT, "no such file"), ValueError("x"), HeatproofError("a: b")):
        with pytest.raises(type(error)) as found, disk_errors(*places(tmp_path)):
            raise error
        assert found.value is error
