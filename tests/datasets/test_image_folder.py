"""People's own folders: layouts, masks, groups, and what is refused."""

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file
from shelves import mask, picture

from heatproof.base.errors import HeatproofError
from heatproof.base.registry import bind


def read(root, classes=None, **settings):
    return bind("dataset", "image_folder", {"root": str(root), **settings})(classes=classes)


@pytest.fixture
def flat(tmp_path):
    for name in ("b/2.png", "b/10.JPG", "a/x.bmp", "a/y.tiff"):
        picture(tmp_path / name)
    return tmp_path


def test_classes_are_the_folders_and_images_the_files(flat):
    (flat / "a" / ".DS_Store").write_text("x")
    (flat / ".git").mkdir()
    found = read(flat)
    assert found.classes == ("a", "b")
    assert [(r.image, r.label, r.split, r.group, r.annotation) for r in found.rows] == [
        ("a/x.bmp", 0, None, None, None),
        ("a/y.tiff", 0, None, None, None),
        ("b/10.JPG", 1, None, None, None),
        ("b/2.png", 1, None, None, None),
    ]
    assert found.read(found.rows[3]).shape == (10, 12)
    assert found.remarks == ()


def test_other_files_and_inner_folders_are_remarked(flat):
    (flat / "a" / "notes.csv").write_text("x")
    (flat / "b" / "old").mkdir()
    remarks = read(flat).remarks
    assert any("1 file(s) left out that are no images" in remark for remark in remarks)
    assert any("1 folder(s) inside it left out" in remark for remark in remarks)


def test_split_folders_are_the_official_split(tmp_path):
    for split in ("Train", "validation", "test"):
        picture(tmp_path / split / "a" / "1.png")
        picture(tmp_path / split / "b" / "1.png")
    found = read(tmp_path)
    assert found.classes == ("a", "b")
    assert [(row.image, row.split) for row in found.rows if row.label == 0] == [
        ("Train/a/1.png", "train"),
        ("test/a/1.png", "test"),
        ("validation/a/1.png", "val"),
    ]
    picture(tmp_path / "c" / "1.png")
    with pytest.raises(HeatproofError, match=r"folders of splits .* and others side by side"):
        read(tmp_path)


def test_a_class_that_a_split_lacks_is_refused_unless_others_are_chosen(tmp_path):
    for name in ("train/a", "train/b", "train/c", "test/a", "test/b"):
        picture(tmp_path / name / "1.png")
    with pytest.raises(HeatproofError, match=r"test: the class folder 'c' is missing\. There are: a, b\."):
        read(tmp_path)
    assert read(tmp_path, classes=("b", "a")).classes == ("b", "a")


def test_masks_beside_images_are_merged_and_no_images(flat):
    mask(flat / "a" / "x_mask.png", (0, 0, 3, 3))
    mask(flat / "a" / "X_MASK_2.PNG".replace("X_", "x_"), (9, 0, 12, 3))
    mask(flat / "b" / "lost_mask.png")
    found = read(flat)
    assert [row.image for row in found.rows] == ["a/x.bmp", "a/y.tiff", "b/10.JPG", "b/2.png"]
    assert [row.annotation for row in found.rows] == ["mask", None, None, None]
    expected = np.zeros((10, 12), bool)
    expected[:3, :3] = expected[:3, 9:] = True
    np.testing.assert_array_equal(found.read_mask(found.rows[0]), expected)
    assert found.read_mask(found.rows[1]) is None
    assert len(found.mask_paths(found.rows[0])) == 2
    assert any("lost_mask.png: a mask without an image" in remark for remark in found.remarks)


def test_the_pattern_of_masks_is_the_users(flat):
    mask(flat / "a" / "seg-x.png")
    found = read(flat, mask_pattern="seg-{stem}.png")
    assert [row.annotation for row in found.rows] == ["mask", None, None, None]
    assert len(read(flat, mask_pattern=None).rows) == 5
    with pytest.raises(HeatproofError, match=r"mask_pattern: holds \{stem\} once"):
        read(flat, mask_pattern="*_mask")


def test_masks_in_a_parallel_folder(flat):
    mask(flat / "masks" / "a" / "x.png")
    mask(flat / "masks" / "a" / "y_mask1.png")
    found = read(flat, masks="masks")
    assert found.classes == ("a", "b")
    assert [row.annotation for row in found.rows] == ["mask", "mask", None, None]
    assert found.read_mask(found.rows[0]).sum() == 16
    assert [r.annotation for r in read(flat, masks=str(flat / "masks"), classes=("a", "b")).rows][:2] == ["mask"] * 2
    with pytest.raises(HeatproofError, match=r"dataset\.masks: no such folder"):
        read(flat, masks="mask")
    for file in (flat / "masks" / "a").iterdir():
        file.unlink()
    with pytest.raises(HeatproofError, match=r"no image has a mask there.*Masks of a/x\.bmp would lie in"):
        read(flat, masks="masks")


def test_groups_come_from_the_file_name(tmp_path):
    for name in ("a/p1_1.png", "a/p1_2.png", "b/p2_1.png", "b/other.png"):
        picture(tmp_path / name)
    found = read(tmp_path, group_pattern=r"^(p\d+)_")
    assert [row.group for row in found.rows] == ["p1", "p1", None, "p2"]
    assert any("1 image(s) do not match dataset.group_pattern" in remark for remark in found.remarks)
    assert [row.group for row in read(tmp_path, group_pattern=r"p\d").rows] == ["p1", "p1", None, "p2"]
    with pytest.raises(HeatproofError, match="group_pattern: no regular expression"):
        read(tmp_path, group_pattern="(")


def test_refusals(tmp_path):
    for nothing in (None, ""):
        with pytest.raises(HeatproofError, match="needs the folder of its data"):
            bind("dataset", "image_folder", {"root": nothing})(classes=None)
    with pytest.raises(HeatproofError, match="no class folders inside"):
        read(tmp_path)
    picture(tmp_path / "data" / "a" / "1.png")
    with pytest.raises(HeatproofError, match=r"no such folder, got '.*dta'\. (Did you mean 'data'\? )?There are: data"):
        read(tmp_path / "dta")
    (tmp_path / "data" / "b").mkdir()
    (tmp_path / "data" / "b" / "x.txt").write_text("x")
    with pytest.raises(
        HeatproofError, match=r"data/b: the class folder holds no images, got \['x\.txt'\]\. Images end in"
    ):
        read(tmp_path / "data")
    with pytest.raises(HeatproofError, match=r"no such class folder in .*, got 'c'"):
        read(tmp_path / "data", classes=("a", "c"))
    with pytest.raises(HeatproofError) as caught:
        read("/surely-not-here")
    assert str(caught.value) == "dataset.root: no such folder, got '/surely-not-here'."
    with pytest.raises(HeatproofError, match="a file, not a folder"):
        read(tmp_path / "data" / "a" / "1.png")


def test_dicom_files_are_grouped_by_patient_unless_names_say_otherwise(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for number, patient in enumerate(("one", "one", "two")):
            data = dcmread(get_testdata_file("MR_small.dcm", download=False))
            data.PatientID = patient
            data.save_as(tmp_path / name / f"{number}-{patient}.dcm")
    groups = [row.group for row in read(tmp_path).rows]
    assert groups[0] == groups[1] == groups[3] != groups[2] == groups[5]
    assert not any("one" in str(group) or "two" in str(group) for group in groups)
    named = read(tmp_path, group_pattern=r"^\d").rows
    assert [row.group for row in named] == ["0", "1", "2"] * 2
    assert read(tmp_path).read(named[0]).shape == (64, 64)
