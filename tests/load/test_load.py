"""Loading: the table and pixels, decoded once, equal to a plain reading of the files, honest about what is odd."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from shelves import mask, picture, real

from heatproof.base import images
from heatproof.base.annotations import box_mask
from heatproof.base.errors import HeatproofError
from heatproof.base.registry import bind
from heatproof.base.settings import LoadSettings
from heatproof.base.store import Store
from heatproof.stages.load import hashing, load

SETTINGS = LoadSettings(42, "grouped", (0.6, 0.2, 0.2), None, None, 8, 1, None)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


@pytest.fixture
def folder(tmp_path):
    """Two classes of ten images; the first of class b has a mask."""
    for name in ("a", "b"):
        for number in range(10):
            picture(tmp_path / "data" / name / f"{number}.png", level=60 if name == "a" else 120)
    mask(tmp_path / "data" / "b" / "0_mask.png", (0, 0, 6, 10))
    return tmp_path / "data"


def folder_data(root: Path, **settings):
    return bind("dataset", "image_folder", {"root": str(root), **settings})


def phantoms(**settings):
    return bind("dataset", "phantom", {"root": None, "num_images": 30, **settings})


@pytest.fixture
def decoded(monkeypatch) -> list[str]:
    """Files that are decoded from here on."""
    seen: list[str] = []
    original: Callable[..., np.ndarray] = images.decode

    def counting(path, name=None):
        seen.append(str(path))
        return original(path, name)

    monkeypatch.setattr("heatproof.datasets.image_folder.decode", counting)
    return seen


def test_pixels_masks_and_table_are_those_of_the_files(folder, store):
    samples = load(folder_data(folder), SETTINGS, store)
    assert list(samples.table.columns) == [
        "image", "path", "label", "label_name", "group", "split", "width", "height", "file_hash", "annotation",
        "mask_area",
    ]  # fmt: skip
    assert samples.table.index.tolist() == list(range(20))
    assert samples.pixels.shape == (20, 8, 8, 1)
    assert samples.pixels.dtype == np.uint8
    for i, row in samples.table.iterrows():
        stored = np.asarray(Image.open(folder / row["image"]))
        np.testing.assert_array_equal(samples.pixels[i], images.fit(stored, 8, 1))
        assert (row["width"], row["height"]) == (12, 10)
        assert row["label_name"] == samples.classes[row["label"]] == Path(row["image"]).parent.name
    annotated = samples.table["annotation"].notna().to_numpy()
    assert samples.table["image"][annotated].tolist() == ["b/0.png"]
    assert samples.masks.dtype == np.uint8
    np.testing.assert_array_equal(samples.masks[annotated][0], np.repeat([[1] * 4 + [0] * 4], 8, 0))
    assert not samples.masks[~annotated].any()
    assert samples.table["mask_area"][annotated].tolist() == [0.5]
    assert samples.table["mask_area"].isna().sum() == 19
    assert samples.split_kind == "grouped"
    assert samples.table["split"].value_counts().to_dict() == {"train": 12, "val": 4, "test": 4}
    assert samples.rows("val").tolist() == np.flatnonzero(samples.table["split"] == "val").tolist()


def test_the_mean_is_that_of_the_training_pixels(folder, store):
    colour = load(folder_data(folder), replace(SETTINGS, channels=3), store)
    expected = colour.pixels[colour.rows("train")].mean((0, 1, 2)) / 255
    np.testing.assert_allclose(colour.train_mean, expected, rtol=1e-12)
    untrained = load(folder_data(folder), replace(SETTINGS, fractions=(0.0, 0.0, 1.0)), store)
    assert untrained.train_mean is None


def test_a_second_load_decodes_nothing_and_gives_the_same(folder, store, decoded):
    first = load(folder_data(folder), SETTINGS, store)
    assert len(decoded) == 20
    second = load(folder_data(folder), SETTINGS, Store(store.root))
    assert len(decoded) == 20
    pd.testing.assert_frame_equal(first.table, second.table)
    np.testing.assert_array_equal(first.pixels, second.pixels)
    assert first.data_hash == second.data_hash


def test_another_split_of_the_same_images_decodes_nothing(folder, store, decoded):
    first = load(folder_data(folder), SETTINGS, store)
    other = load(folder_data(folder), replace(SETTINGS, seed=1), store)
    assert len(decoded) == 20
    assert first.data_hash != other.data_hash


def test_a_second_load_reads_no_file_whose_time_and_size_are_as_noted(folder, store, monkeypatch):
    load(folder_data(folder), SETTINGS, store)
    monkeypatch.setattr(hashing, "checksum", lambda path: pytest.fail(f"{path} was read again"))
    load(folder_data(folder), SETTINGS, store)


def test_notes_that_were_cut_short_are_made_again(folder, store):
    first = load(folder_data(folder), SETTINGS, store)
    (notes,) = (store.root / "hashes").iterdir()
    notes.write_text(notes.read_text()[:50])
    assert load(folder_data(folder), SETTINGS, store).data_hash == first.data_hash


def test_a_changed_file_and_a_changed_mask_are_noticed(folder, store):
    hashes = [load(folder_data(folder), SETTINGS, store).data_hash]
    picture(folder / "a" / "0.png", level=99, size=(13, 10))
    changed = load(folder_data(folder), SETTINGS, store)
    hashes.append(changed.data_hash)
    assert changed.table["width"][0] == 13
    mask(folder / "b" / "0_mask.png", (0, 0, 12, 10))
    again = load(folder_data(folder), SETTINGS, store)
    hashes.append(again.data_hash)
    assert again.masks[10].all()
    assert len(set(hashes)) == 3


def test_the_place_of_the_data_does_not_count(folder, store, decoded):
    first = load(folder_data(folder), SETTINGS, store)
    folder.rename(folder.parent / "elsewhere")
    moved = load(folder_data(folder.parent / "elsewhere"), SETTINGS, store)
    assert len(decoded) == 20
    assert moved.data_hash == first.data_hash
    assert moved.table["path"][0] == str(folder.parent / "elsewhere" / "a" / "0.png")


def test_all_broken_files_are_named(folder, store):
    data = (folder / "a" / "1.png").read_bytes()
    (folder / "a" / "1.png").write_bytes(data[: len(data) // 2])
    (folder / "b" / "7.png").write_text("no image")
    (folder / "b" / "8.png").write_bytes(b"")
    picture(folder / "b" / "9.bmp").rename(folder / "b" / "9.png")
    with pytest.raises(HeatproofError) as caught:
        load(folder_data(folder), SETTINGS, store)
    expected = ["a/1.png: broken image", "b/7.png: no image", "b/8.png: an empty file", "b/9.png: holds BMP"]
    assert all(text in told for text, told in zip(expected, caught.value.faults, strict=False))
    assert caught.value.faults[4:] == (
        "dataset: 4 of 20 images cannot be read. dataset.on_bad_image=skip leaves them out and says so in the report.",
    )
    assert not any(entry.kind == "pixels" for entry in store.entries())
    assert list((store.root / "tmp").iterdir()) == []


def test_many_broken_files_are_counted(folder, store):
    for number in range(10, 34):
        (folder / "a" / f"{number}.png").write_text("no image")
    with pytest.raises(HeatproofError, match=r"\.\.\. and 4 more broken files"):
        load(folder_data(folder), SETTINGS, store)


def test_classes_choose_and_order(folder, store):
    picture(folder / "c" / "1.png")
    chosen = load(folder_data(folder), replace(SETTINGS, classes=("b", "a")), store)
    assert chosen.classes == ("b", "a")
    assert (chosen.table["label"] == (chosen.table["label_name"] == "a")).all()
    assert "c/1.png" not in set(chosen.table["image"])


def test_a_subset_decodes_its_images_alone(folder, store, decoded):
    subset = load(folder_data(folder), replace(SETTINGS, n=10), store)
    assert len(decoded) == len(subset.table) == 10
    assert subset.table["label"].value_counts().to_dict() == {0: 5, 1: 5}


def test_copies_and_lost_masks_are_remarked(folder, store):
    for number in range(10):
        (folder / "a" / f"{number}.png").write_bytes((folder / "a" / "0.png").read_bytes())
    mask(folder / "b" / "1_mask.png", (0, 0, 1, 1))
    remarks = load(folder_data(folder), replace(SETTINGS, size=2, split="random"), store).remarks
    assert "9 image(s) are exact copies of another one; 1 of them lie in two splits" in remarks
    assert "1 annotation(s) vanish at this size, e.g. b/1.png" in remarks


def test_areas_of_masks_and_empty_ones_are_remarked(folder, store):
    mask(folder / "b" / "1_mask.png", (0, 0, 0, 0))
    samples = load(folder_data(folder), SETTINGS, store)
    assert samples.table["mask_area"].dropna().tolist() == [0.5, 0.0]
    assert any(remark.startswith("2 of 20 images are annotated") for remark in samples.remarks)
    assert "1 annotation(s) are empty, e.g. b/1.png" in samples.remarks


def test_masks_of_another_aspect_are_all_named(folder, store):
    for number in (1, 2):
        mask(folder / "b" / f"{number}_mask.png", size=(10, 12))
    with pytest.raises(HeatproofError) as caught:
        load(folder_data(folder), SETTINGS, store)
    assert [text.split(":")[0] for text in caught.value.faults] == ["image b/1.png", "image b/2.png", "dataset"]
    assert "10 x 12 pixels and the image 12 x 10: another aspect" in caught.value.faults[0]


def test_shapes_that_a_mask_is_drawn_from_are_part_of_its_content(folder, store):
    def with_box(right):
        made = folder_data(folder, mask_pattern=None)(classes=None)
        rows = tuple(replace(row, annotation="box") for row in made.rows)
        boxes = [(0, 0, right, 10)]
        return replace(made, rows=rows, read_mask=lambda row: box_mask(boxes, 10, 12), mask_shapes=lambda row: boxes)

    data = folder_data(folder)
    half, full = (hashing.contents_of(data, with_box(right), with_box(right).rows, store) for right in (6, 12))
    assert half != full
    assert [content.file_hash for content in half] == [content.file_hash for content in full]


def test_groups_torn_apart_by_a_random_split_are_remarked(folder, store):
    data = folder_data(folder, group_pattern=r"^\d")
    torn = load(data, replace(SETTINGS, split="random"), store)
    assert any("have images in several splits" in remark for remark in torn.remarks)
    assert not any("several splits" in remark for remark in load(data, SETTINGS, store).remarks)


def test_a_table_written_by_one_run_is_the_split_of_the_next(folder, store, tmp_path):
    first = load(folder_data(folder), SETTINGS, store)
    first.table.to_parquet(tmp_path / "samples.parquet")
    from_file = replace(SETTINGS, split=str(tmp_path / "samples.parquet"), seed=7)
    again = load(folder_data(folder), from_file, store)
    assert again.table["split"].tolist() == first.table["split"].tolist()
    assert again.data_hash == first.data_hash
    assert again.split_kind == "file"
    stored, table = (t.astype(object) for t in (pd.read_parquet(tmp_path / "samples.parquet"), first.table))
    pd.testing.assert_frame_equal(stored.where(stored.notna(), None), table.where(table.notna(), None))


def test_generated_data_are_hashed_by_their_pixels(store):
    first = load(phantoms(), replace(SETTINGS, size=32), store)
    assert first.table["path"].isna().all()
    assert first.table["file_hash"].nunique() == 30
    assert (first.masks.reshape(30, -1).any(1) == first.table["annotation"].notna()).all()
    assert first.data_hash == load(phantoms(), replace(SETTINGS, size=32), store).data_hash
    assert first.data_hash != load(phantoms(noise=0.05), replace(SETTINGS, size=32), store).data_hash


def test_a_data_set_of_two_phantom_classes_keeps_its_masks(store):
    pair = load(phantoms(), replace(SETTINGS, size=32, classes=("smooth", "no_nodule")), store)
    annotated = pair.masks.reshape(len(pair.table), -1).any(1)
    assert (annotated == (pair.table["label_name"] == "smooth")).all()
    assert (pair.table["label"] == (pair.table["label_name"] == "no_nodule")).all()


def test_pixels_cannot_be_written(store):
    samples = load(phantoms(), replace(SETTINGS, size=16), store)
    with pytest.raises(ValueError, match="read-only"):
        samples.pixels[0] = 0


def test_the_real_slices_load(store):
    samples = load(bind("dataset", "iq_othnccd", {"root": real("iq_othnccd")}), replace(SETTINGS, size=32), store)
    assert samples.pixels.shape == (220, 32, 32, 1)
    assert samples.masks is None
    assert len(set(samples.table["split"])) == 3
