"""The CT slices of IQ-OTH/NCCD and the split of the study that used them."""

from collections import Counter

import pytest
from shelves import picture, real

from heatproof.base.errors import HeatproofError
from heatproof.base.records import SPLITS
from heatproof.base.registry import bind
from heatproof.datasets.iq_othnccd import study_split

COUNTS = {"Normal": 416, "Bengin": 120, "Malignant": 561}


def read(root, classes=None):
    return bind("dataset", "iq_othnccd", {"root": str(root)})(classes=classes)


def test_the_study_split_has_the_published_counts():
    found = Counter(
        (study_split(f"{word} case ({i})"), word) for word, count in COUNTS.items() for i in range(1, count + 1)
    )
    assert [[found[split, word] for word in COUNTS] for split in SPLITS] == [
        [251, 74, 333],
        [90, 22, 107],
        [75, 24, 121],
    ]
    assert study_split("Bengin case (121)") is None


def test_a_part_of_the_set_keeps_its_places(tmp_path):
    for word in COUNTS:
        for number in (3, 20):
            picture(tmp_path / f"{word} cases" / f"{word} case ({number}).png")
    picture(tmp_path / "Normal cases" / "extra.png")
    found = read(tmp_path)
    assert found.classes == ("Normal", "Benign", "Malignant")
    assert [(row.image, row.label) for row in found.rows][-1] == ("Malignant cases/Malignant case (3).png", 2)
    splits = {row.image: row.study_split for row in found.rows}
    assert splits.pop("Normal cases/extra.png") is None
    assert splits["Bengin cases/Bengin case (20).png"] == study_split("Bengin case (20)")
    assert None not in splits.values()
    assert any("patients are unknown" in remark for remark in found.remarks)


def test_a_missing_class_is_refused_unless_others_are_chosen(tmp_path):
    for word in ("Normal", "Malignant"):
        picture(tmp_path / f"{word} cases" / "1.png")
    with pytest.raises(HeatproofError, match=r"'Bengin cases' is missing\. There are: Malignant cases, Normal cases\."):
        read(tmp_path)
    assert {row.label for row in read(tmp_path, classes=("Malignant", "Normal")).rows} == {0, 2}
    (tmp_path / "Bengin cases").mkdir()
    with pytest.raises(HeatproofError, match="Bengin cases: the class folder holds no images"):
        read(tmp_path)


def test_the_real_slices_are_the_test_split_of_the_study():
    found = read(real("iq_othnccd"))
    assert {row.study_split for row in found.rows} == {"test"}
    assert [Counter(row.label for row in found.rows)[c] for c in range(3)] == [75, 24, 121]
    assert found.read(found.rows[0]).shape == (224, 224)
