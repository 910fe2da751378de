"""The store under what happens to stores: two processes, kills, full disks, broken bytes."""

import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from heatproof.base.errors import HeatproofError
from heatproof.base.store import MANIFEST, Store

IDENTITY = {"data": "abc", "size": 64}


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


def fill(text="hello"):
    def make(folder: Path) -> None:
        (folder / "a.txt").write_text(text)
        (folder / "inner").mkdir()
        (folder / "inner" / "b.bin").write_bytes(b"123")

    return make


def never(folder: Path) -> None:
    raise AssertionError("made again")


def start(program: str, *arguments: object) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", program, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_what_is_made_is_found_and_not_made_again(store):
    assert store.find("pixels", IDENTITY) is None
    folder = store.get_or_make("pixels", IDENTITY, fill(), what="pixels")
    assert (folder / "a.txt").read_text() == "hello"
    assert store.get_or_make("pixels", dict(reversed(IDENTITY.items())), never, what="pixels") == folder
    assert Store(store.root).find("pixels", IDENTITY) == folder
    assert store.find("pixels", {**IDENTITY, "size": 65}) is None
    assert store.find("maps", IDENTITY) is None


def test_the_place_comes_from_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("HEATPROOF_STORE", str(tmp_path / "there"))
    assert Store().root == tmp_path / "there"
    assert not Store().root.exists()
    assert Store().entries() == []


def test_a_failure_leaves_nothing(store):
    def fails(folder: Path) -> None:
        (folder / "half").write_text("x")
        raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"):
        store.get_or_make("pixels", IDENTITY, fails, what="pixels")
    assert store.find("pixels", IDENTITY) is None
    assert list((store.root / "tmp").iterdir()) == []
    assert store.get_or_make("pixels", IDENTITY, fill(), what="pixels").is_dir()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full here")
def test_a_full_disk_is_an_error_that_says_so_and_leaves_nothing(store):
    def fills(folder: Path) -> None:
        (folder / "half").write_text("x")
        with open("/dev/full", "wb") as full:  # noqa: PTH123
            full.write(b"x")

    with pytest.raises(HeatproofError, match=r"no space left on the disk.*HEATPROOF_STORE"):
        store.get_or_make("pixels", IDENTITY, fills, what="pixels")
    assert store.find("pixels", IDENTITY) is None
    assert list((store.root / "tmp").iterdir()) == []


def test_a_store_that_cannot_be_made_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises((HeatproofError, NotADirectoryError)):
        Store(tmp_path / "file" / "store").get_or_make("pixels", IDENTITY, fill(), what="pixels")


@pytest.mark.parametrize("damage", ["flip", "cut", "missing", "manifest"])
def test_a_broken_entry_is_moved_aside_and_made_again(store, damage, caplog):
    folder = store.get_or_make("pixels", IDENTITY, fill(), what="pixels")
    file = folder / (MANIFEST if damage == "manifest" else "a.txt")
    if damage == "missing":
        file.unlink()
    else:
        file.write_text({"flip": "hellp", "cut": "hel", "manifest": "{"}[damage])
    assert store.find("pixels", IDENTITY) is None
    with caplog.at_level(logging.WARNING):
        again = store.get_or_make("pixels", IDENTITY, fill(), what="pixels")
    assert "fails its checksums" in caplog.text
    assert (again / "a.txt").read_text() == "hello"
    assert len(list((store.root / "broken").iterdir())) == 1


def test_bytes_that_change_without_a_trace_are_found_by_the_next_process(store):
    folder = store.get_or_make("pixels", IDENTITY, fill(), what="pixels")
    stat = (folder / "a.txt").stat()
    (folder / "a.txt").write_text("hellp")
    os.utime(folder / "a.txt", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert Store(store.root).find("pixels", IDENTITY) is None


SLOW_MAKER = """
import sys, time
from pathlib import Path
from heatproof.base.store import Store
def make(folder):
    with open(sys.argv[2], "a") as log:
        log.write("made\\n")
    (folder / "half").write_text("x")
    print("making", flush=True)
    time.sleep(float(sys.argv[3]))
    (folder / "whole").write_text("x")
print(Store(sys.argv[1]).get_or_make("pixels", {"data": "abc", "size": 64}, make, what="the pixels"), flush=True)
"""


def test_two_processes_make_once_and_the_second_says_that_it_waits(store, tmp_path):
    first = start(SLOW_MAKER, store.root, tmp_path / "log", 2)
    assert first.stdout.readline() == "making\n"
    second = start(SLOW_MAKER, store.root, tmp_path / "log", 2)
    (out, _), (out_2, err_2) = first.communicate(timeout=60), second.communicate(timeout=60)
    assert (first.returncode, second.returncode) == (0, 0)
    assert (tmp_path / "log").read_text() == "made\n"
    assert out == out_2
    assert "Waiting for another process that makes the pixels" in err_2


def test_a_kill_in_the_middle_leaves_nothing_half(store, tmp_path):
    victim = start(SLOW_MAKER, store.root, tmp_path / "log", 60)
    assert victim.stdout.readline() == "making\n"
    victim.send_signal(signal.SIGKILL)
    victim.communicate(timeout=30)
    assert store.find("pixels", IDENTITY) is None
    assert store.entries() == []
    start_time = time.monotonic()
    folder = store.get_or_make("pixels", IDENTITY, fill(), what="pixels")
    assert time.monotonic() - start_time < 30  # no lock of the dead is waited for
    assert not (folder / "half").exists()
    assert list((store.root / "tmp").iterdir()) == []


def test_scratch_outlives_a_failure_and_ends_with_the_entry(store):
    scratch = store.scratch("classifier", IDENTITY)
    (scratch / "epoch1").write_text("x")

    def fails(folder: Path) -> None:
        raise RuntimeError("boom")

    with pytest.raises(RuntimeError):
        store.get_or_make("classifier", IDENTITY, fails, what="training")
    assert (store.scratch("classifier", IDENTITY) / "epoch1").exists()
    store.get_or_make("classifier", IDENTITY, fill(), what="training")
    assert not scratch.exists()


def test_entries_tell_sizes_and_trim_removes_what_was_used_longest_ago(store):
    for number in range(3):
        folder = store.get_or_make("maps", {"n": number}, fill("x" * 97), what=f"maps {number}")
        os.utime(folder / MANIFEST, (number, number))
    store.scratch("maps", {"n": 9})
    assert [(e.kind, e.what, e.num_bytes, e.used) for e in store.entries()] == [
        ("maps", f"maps {n}", 100, float(n)) for n in range(3)
    ]
    store.find("maps", {"n": 0})  # used just now
    assert [entry.what for entry in store.trim(250)] == ["maps 1"]
    assert [entry.what for entry in store.entries()] == ["maps 2", "maps 0"]
    assert store.find("maps", {"n": 1}) is None
    assert store.trim(250) == []


def test_kin_share_a_part_of_their_identity_and_can_be_removed(store):
    one, two, _ = (
        store.get_or_make("blocks", {"policy": policy, "n": n}, fill(str(n)), what="a block")
        for policy, n in (({"size": 8, "pair": (1, 2)}, 1), ({"size": 8, "pair": (1, 2)}, 2), ({"size": 9}, 3))
    )
    assert set(store.kin("blocks", "policy", {"pair": [1, 2], "size": 8})) == {one, two}
    assert store.kin("maps", "policy", {"size": 9}) == []
    assert store.intact(one)
    (one / "a.txt").write_text("other")
    assert not Store(store.root).intact(one)
    assert store.remove(one)
    assert not one.exists()
    assert store.remove(one)  # gone is gone
    assert store.kin("blocks", "policy", {"pair": [1, 2], "size": 8}) == [two]


def test_what_another_process_makes_is_not_removed(store):
    folder = store.get_or_make("blocks", {"n": 1}, fill(), what="a block")
    with store.locked("blocks", {"n": 1}, "a block"):
        assert not Store(store.root).remove(folder)
    assert folder.exists()
