"""Chest X-rays: patients from file names, official test, validation carved from train."""

from collections import Counter
from dataclasses import replace

import pytest
from shelves import picture, real

from heatproof.base import splits
from heatproof.base.errors import HeatproofError
from heatproof.base.registry import bind
from heatproof.base.settings import LoadSettings
from heatproof.datasets.chest_xray import patient

SETTINGS = LoadSettings(42, "official", (0.6, 0.2, 0.2), None, None, 64, 1, None)


def read(root, classes=None):
    return bind("dataset", "chest_xray", {"root": str(root)})(classes=classes)


@pytest.fixture
def layout(tmp_path):
    for number in range(20):
        picture(tmp_path / "train" / "NORMAL" / f"IM-{number // 2:04d}-{number:04d}.jpeg")
        picture(tmp_path / "train" / "PNEUMONIA" / f"person{number // 3}_bacteria_{number}.jpeg")
    for number in range(4):
        picture(tmp_path / "test" / "NORMAL" / f"NORMAL2-IM-{number:04d}-0001.jpeg")
        picture(tmp_path / "test" / "PNEUMONIA" / f"person{number + 50}_virus_{number}.jpeg")
    picture(tmp_path / "val" / "NORMAL" / "NORMAL2-IM-1427-0001.jpeg")
    return tmp_path


def test_the_split_of_study_2_is_that_of_keras(layout):
    """`validation_split=0.2` takes the first fifth of each class's training files by name."""
    rows = read(layout).rows
    val = [row.image for row in rows if row.study_split == "val"]
    assert val == [
        *(f"train/NORMAL/IM-{number // 2:04d}-{number:04d}.jpeg" for number in range(4)),
        *(f"train/PNEUMONIA/{name}.jpeg" for name in ("person0_bacteria_0", "person0_bacteria_1", "person0_bacteria_2",
                                                      "person1_bacteria_3")),
    ]  # fmt: skip
    assert Counter(row.study_split for row in rows) == {"train": 32, "val": 8, "test": 8}


@pytest.mark.parametrize(
    ("stem", "group"),
    [
        ("person123_bacteria_4", "person123"),
        ("person123_virus_9", "person123"),
        ("person1372_virus_2365_2", "person1372"),
        ("IM-0115-0001", "IM-0115"),
        ("IM-0115-0001-0002", "IM-0115"),
        ("NORMAL2-IM-0300-0001", "NORMAL2-IM-0300"),
        ("scan7", None),
    ],
)
def test_patients_come_from_names(stem, group):
    assert patient(stem) == group


def test_the_test_is_official_and_validation_is_carved_by_patient(layout):
    found = read(layout)
    assert found.classes == ("NORMAL", "PNEUMONIA")
    assert len(found.rows) == 48
    assert not any("val/" in row.image for row in found.rows)
    assert any("val is left out" in remark for remark in found.remarks)
    assigned = splits.assign(found.rows, SETTINGS, classes=found.classes)
    assert Counter(assigned)["test"] == 8
    assert 7 <= Counter(assigned)["val"] <= 13
    assert splits.straddling(found.rows, assigned) == ()


def test_person_numbers_on_both_sides_are_remarked(layout):
    assert not any("person number" in remark for remark in read(layout).remarks)
    picture(layout / "test" / "PNEUMONIA" / "person1_virus_9.jpeg")
    picture(layout / "test" / "PNEUMONIA" / "person2_bacteria_99.jpeg")
    assert any(
        remark.startswith("2 person number(s)") and "1 of them with the same" in remark
        for remark in read(layout).remarks
    )


def test_refusals(layout):
    (layout / "test" / "NORMAL").rename(layout / "test" / "normals")
    with pytest.raises(HeatproofError, match=r"test: the class folder 'NORMAL' is missing"):
        read(layout)
    (layout / "test").rename(layout / "held_out")
    with pytest.raises(HeatproofError, match=r"the folder 'test' is missing\. There are: held_out, train, val"):
        read(layout)


def test_the_real_radiographs():
    found = read(real("chest_xray"))
    assert Counter((row.split, row.label) for row in found.rows) == {
        ("train", 0): 450,
        ("train", 1): 450,
        ("test", 0): 234,
        ("test", 1): 390,
    }
    assert all(row.group for row in found.rows)
    assigned = splits.assign(found.rows, SETTINGS, classes=found.classes)
    inner = [None if split == "test" else split for split in assigned]
    assert splits.straddling(found.rows, inner) == ()
    # Numbers that train and test share name images of different kinds: most likely different children.
    assert any("0 of them with the same kind" in remark for remark in found.remarks)
    regrouped = splits.assign(found.rows, replace(SETTINGS, split="grouped"), classes=found.classes)
    assert splits.straddling(found.rows, regrouped) == ()
