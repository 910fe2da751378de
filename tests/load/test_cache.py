"""The cache of pixels: each content once, whatever grows, changes, breaks, is killed or runs at the same time."""

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from shelves import mask, picture

from heatproof.base import images
from heatproof.base.errors import HeatproofError
from heatproof.base.registry import bind
from heatproof.base.settings import LoadSettings
from heatproof.base.store import Store
from heatproof.stages.load import cache, load, parallel

SETTINGS = LoadSettings(42, "grouped", (0.6, 0.2, 0.2), None, None, 8, 1, None)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


@pytest.fixture
def folder(tmp_path):
    """Two classes of ten different images; the first of class b has a mask."""
    for name in ("a", "b"):
        for number in range(10):
            picture(tmp_path / "data" / name / f"{number}.png", level=60 if name == "a" else 120)
    mask(tmp_path / "data" / "b" / "0_mask.png", (0, 0, 6, 10))
    return tmp_path / "data"


@pytest.fixture
def decoded(monkeypatch) -> list[str]:
    """Names of images that are decoded from here on."""
    seen: list[str] = []

    def counting(path, name=None):
        seen.append("/".join(Path(path).parts[-2:]))
        return images.decode(path, name)

    monkeypatch.setattr("heatproof.datasets.image_folder.decode", counting)
    return seen


def data(root: Path):
    return bind("dataset", "image_folder", {"root": str(root)})


def blocks(store: Store) -> list[Path]:
    """Complete blocks on their way into a data set."""
    return list((store.root / "decoded").glob("*/manifest.json"))


def expected(samples) -> np.ndarray:
    return np.stack([images.fit(images.decode(path), 8, 1) for path in samples.table["path"]])


def test_ten_more_files_decode_ten(folder, store, decoded):
    load(data(folder), SETTINGS, store)
    assert len(decoded) == 20
    decoded.clear()
    added = {f"a/{n}.png" for n in range(10, 20)}
    for name in added:
        picture(folder / name, level=90)
    grown = load(data(folder), SETTINGS, Store(store.root))
    assert set(decoded) == added
    assert len(decoded) == 10
    np.testing.assert_array_equal(grown.pixels, expected(grown))
    annotated = grown.table["annotation"].notna().to_numpy()
    assert grown.masks[annotated][0].mean() == 0.5
    assert not grown.masks[~annotated].any()
    assert grown.table["mask_area"].dropna().tolist() == [0.5]


def test_a_subset_after_the_whole_decodes_nothing_and_the_whole_after_a_subset_the_rest(folder, store, decoded):
    load(data(folder), replace(SETTINGS, n=10), store)
    assert len(decoded) == 10
    whole = load(data(folder), SETTINGS, store)
    assert len(decoded) == len(set(decoded)) == 20
    part = load(data(folder), replace(SETTINGS, n=12), store)
    assert len(decoded) == 20
    np.testing.assert_array_equal(whole.pixels, expected(whole))
    np.testing.assert_array_equal(part.pixels, expected(part))


def test_renamed_moved_and_copied_files_are_known_by_content(folder, store, decoded):
    load(data(folder), SETTINGS, store)
    (folder / "a" / "1.png").rename(folder / "a" / "first.png")
    (folder / "b" / "2.png").rename(folder / "a" / "2b.png")
    (folder / "b" / "copy.png").write_bytes((folder / "b" / "3.png").read_bytes())
    changed = load(data(folder), SETTINGS, store)
    assert len(decoded) == 20
    np.testing.assert_array_equal(changed.pixels, expected(changed))


def test_a_file_that_changes_in_place_is_noticed_even_with_its_old_size_and_time(folder, store, decoded):
    for number in range(2):
        Image.fromarray(np.full((10, 12), number, np.uint8)).save(folder / "a" / f"{number}.bmp")
    load(data(folder), SETTINGS, store)
    decoded.clear()
    changed = folder / "a" / "0.bmp"
    before = changed.stat()
    Image.fromarray(np.full((10, 12), 7, np.uint8)).save(changed)
    os.utime(changed, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert changed.stat().st_size == before.st_size
    samples = load(data(folder), SETTINGS, store)
    assert decoded == ["a/0.bmp"]
    np.testing.assert_array_equal(samples.pixels, expected(samples))


def test_size_channels_and_policy_are_part_of_the_key(folder, store, decoded):
    made = [
        load(data(folder), replace(SETTINGS, **changes), store)
        for changes in ({}, {"size": 16}, {"channels": 3}, {"resize": "fit"}, {"resize": "crop"})
    ]
    assert len(decoded) == 100
    assert len({samples.data_hash for samples in made}) == 5
    padded, cut = made[3], made[4]
    assert not padded.pixels[:, 7].any()  # 12 x 10 pixels are 8 x 7
    np.testing.assert_array_equal(padded.masks[10, :, :4], [[1] * 4] * 7 + [[0] * 4])
    assert cut.masks[10].mean() == 0.5
    assert cut.pixels[:, 7].any()


def test_bad_files_are_left_out_where_asked(folder, store):
    for number in (3, 4):
        (folder / "a" / f"{number}.png").write_bytes(b"")
    load_skipping = replace(SETTINGS, on_bad_image="skip")
    samples = load(data(folder), load_skipping, store)
    assert len(samples.table) == len(samples.pixels) == 18
    assert not {"a/3.png", "a/4.png"} & set(samples.table["image"])
    np.testing.assert_array_equal(samples.pixels, expected(samples))
    assert "2 of 20 image(s) cannot be read and are left out" in samples.remarks
    assert [remark for remark in samples.remarks if "a/3.png: an empty file" in remark]
    picture(folder / "a" / "3.png", level=60)
    assert len(load(data(folder), load_skipping, store).table) == 19
    for path in (folder / "a").iterdir():
        path.write_bytes(b"")
    with pytest.raises(HeatproofError, match="no image that can be read, got 'a'"):
        load(data(folder), load_skipping, store)


@pytest.mark.parametrize("split", ["grouped", "random"])
def test_no_split_is_left_short_by_files_that_are_left_out(folder, store, split):
    chosen = replace(SETTINGS, on_bad_image="skip", split=split)
    whole = load(data(folder), chosen, store).table
    for image in whole["image"][whole["split"] == "test"]:
        (folder / image).write_bytes(b"")
    table = load(data(folder), chosen, store).table
    counts = table.groupby(["label_name", "split"]).size().unstack()
    assert counts.sum(axis=1).tolist() == [8, 8]
    assert (counts["train"] == 5).all()
    assert counts[["val", "test"]].isin([1, 2]).all(axis=None)
    subset = load(data(folder), replace(chosen, n=10), store).table  # drawn before the files are opened
    assert set(subset["image"]) < set(table["image"])
    assert set(subset["split"]) == {"train", "val", "test"}


def test_a_file_that_cannot_be_opened_is_listed_with_the_others(folder, store):
    (folder / "a" / "3.png").unlink()
    (folder / "a" / "3.png").symlink_to(folder / "nowhere.png")
    (folder / "b" / "4.png").write_bytes(b"")
    with pytest.raises(HeatproofError) as caught:
        load(data(folder), SETTINGS, store)
    assert "a/3.png: cannot be read (No such file or directory)" in caught.value.faults[0]
    assert "b/4.png: an empty file" in caught.value.faults[1]


def test_an_error_keeps_what_was_decoded(folder, store, decoded):
    good = (folder / "b" / "4.png").read_bytes()
    (folder / "b" / "4.png").write_bytes(b"")
    for _ in range(2):
        with pytest.raises(HeatproofError, match=r"4\.png: an empty file"):
            load(data(folder), SETTINGS, store)
    assert len(decoded) == 21  # the bad one twice
    (folder / "b" / "4.png").write_bytes(good)
    load(data(folder), SETTINGS, store)
    assert decoded[21:] == ["b/4.png"]
    assert not blocks(store)
    assert {entry.kind for entry in store.entries()} == {"pixels"}


def test_damage_is_found_when_the_pixels_are_opened(folder, store, decoded, caplog):
    first = load(data(folder), SETTINGS, store)
    (entry,) = store.entries()
    with (entry.path / "pixels.npy").open("r+b") as file:
        file.seek(-3, os.SEEK_END)
        file.write(b"\xff\xff\xff")
    again = load(data(folder), SETTINGS, Store(store.root))
    assert len(decoded) == 40
    np.testing.assert_array_equal(again.pixels, expected(again))
    assert again.data_hash == first.data_hash
    assert "fails its checksums" in caplog.text


def test_damaged_pixels_are_not_copied_into_another_data_set(folder, store):
    load(data(folder), SETTINGS, store)
    (entry,) = store.entries()
    with (entry.path / "pixels.npy").open("r+b") as file:
        file.seek(-3, os.SEEK_END)
        file.write(b"\xff\xff\xff")
    picture(folder / "a" / "10.png", level=90)
    grown = load(data(folder), SETTINGS, Store(store.root))
    np.testing.assert_array_equal(grown.pixels, expected(grown))


def test_blocks_that_vanish_while_they_are_copied_are_looked_for_again(folder, store, decoded, monkeypatch):
    original, calls = cache._copied, []

    def vanishing(places):
        places = list(places)
        if not calls:
            store.remove(places[0][0])
        calls.append(len(places))
        return original(places)

    monkeypatch.setattr(cache, "_copied", vanishing)
    samples = load(data(folder), SETTINGS, store)
    assert calls == [20, 20]
    assert len(decoded) == 40
    np.testing.assert_array_equal(samples.pixels, expected(samples))


def test_generated_images_are_kept_like_files(store):
    def phantoms(num_images):
        return bind("dataset", "phantom", {"root": None, "num_images": num_images})

    settings = replace(SETTINGS, size=16)
    few, more = (load(phantoms(n), settings, store) for n in (30, 45))
    np.testing.assert_array_equal(more.pixels[:30], few.pixels)
    np.testing.assert_array_equal(more.masks[:30], few.masks)
    assert more.table["file_hash"][:30].tolist() == few.table["file_hash"].tolist()


SCRIPT = """
import sys, time
from pathlib import Path
from heatproof.base import images
from heatproof.base.registry import bind
from heatproof.base.settings import LoadSettings
from heatproof.base.store import Store
from heatproof.datasets import image_folder
from heatproof.stages.load import cache, load

root, store, log, pause = sys.argv[1:]
cache.FIRST_BLOCK = cache.LEAST_BLOCK = cache.MOST_BLOCK = 4

def slow(path, name=None):
    time.sleep(float(pause))
    with Path(log).open("a") as file:
        file.write("/".join(Path(path).parts[-2:]) + "\\n")
    return images.decode(path, name)

image_folder.decode = slow
settings = LoadSettings(42, "grouped", (0.6, 0.2, 0.2), None, None, 8, 1, None)
print("ready", flush=True)
samples = load(bind("dataset", "image_folder", {"root": root}), settings, Store(store))
print(samples.data_hash, int(samples.pixels.astype(int).sum()))
"""


def start(folder: Path, store: Store, log: Path, pause: float) -> subprocess.Popen:
    command = [sys.executable, "-c", SCRIPT, str(folder), str(store.root), str(log), str(pause)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def test_a_kill_half_way_keeps_what_was_decoded(folder, store, tmp_path, decoded):
    log = tmp_path / "log"
    process = start(folder, store, log, 0.05)
    while len(blocks(store)) < 2:
        assert process.poll() is None
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    every = [f"{name}/{number}.png" for name in "ab" for number in range(10)]
    kept = every[: 4 * len(blocks(store))]
    assert 8 <= len(kept) < 20
    assert set(kept) <= set(log.read_text().split())
    (folder / "a" / "9.png").unlink()  # what is kept serves another data set, too
    samples = load(data(folder), SETTINGS, store)
    assert sorted(decoded) == sorted(set(every) - set(kept) - {"a/9.png"})
    np.testing.assert_array_equal(samples.pixels, expected(samples))
    assert not list((store.root / "tmp").glob("pixels-*"))


def test_two_processes_decode_each_image_once(folder, store, tmp_path):
    logs = [tmp_path / "first", tmp_path / "second"]
    processes = [start(folder, store, log, 0.02) for log in logs]
    outcomes = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outcomes
    assert outcomes[0][0] == outcomes[1][0]
    lines = [line for log in logs if log.exists() for line in log.read_text().split()]
    assert len(lines) == len(set(lines)) == 20
    samples = load(data(folder), SETTINGS, store)
    np.testing.assert_array_equal(samples.pixels, expected(samples))
    assert outcomes[0][0].split() == [samples.data_hash, str(int(samples.pixels.astype(int).sum()))]


def test_work_in_threads_is_in_order_and_bounded():
    held, most, lock = 0, 0, threading.Lock()

    def work(number):
        nonlocal held, most
        with lock:
            held += 1
            most = max(most, held)
        return number

    ticks = []
    for position, number in enumerate(parallel.in_order(work, range(500), lambda: ticks.append(1))):
        assert position == number
        with lock:
            held -= 1
    assert len(ticks) == 500
    assert most <= parallel.AHEAD * min(16, os.cpu_count() or 1) + 1
