"""The radiography database: lung masks in folders of their own, missing classes, the cap."""

from collections import Counter

import layouts
import pytest
from shelves import mask, real

from heatproof.base import splits
from heatproof.base.annotations import at_image
from heatproof.base.errors import HeatproofError
from heatproof.base.registry import bind, conf_file
from heatproof.base.settings import LoadSettings


def read(root, classes=None):
    return bind("dataset", "covid_radiography", {"root": str(root)})(classes=classes)


@pytest.fixture
def layout(tmp_path):
    layouts.covid_radiography(tmp_path)
    return tmp_path


def test_masks_belong_to_images_by_name(layout):
    mask(layout / "COVID" / "masks" / "COVID-77.png")
    (layout / "Normal" / "masks" / "Normal-1.png").unlink()
    found = read(layout)
    assert found.classes == ("COVID", "Lung_Opacity", "Normal", "Viral Pneumonia")
    assert Counter(row.label for row in found.rows) == {0: 10, 1: 11, 2: 14, 3: 12}
    assert [row.image for row in found.rows if row.annotation is None] == ["Normal/images/Normal-1.png"]
    assert found.rows[0].image == "COVID/images/COVID-1.png"
    assert found.read_mask(found.rows[0]).sum() == 16
    assert found.mask_paths(found.rows[0]) == (str(layout / "COVID" / "masks" / "COVID-1.png"),)
    assert "Normal: 1 image(s) have no lung mask" in found.remarks
    assert any("COVID has no X-ray of that name: COVID-77.png" in remark for remark in found.remarks)


def test_the_cap_of_its_file_is_the_smallest_class(layout):
    keys = conf_file("dataset", "covid_radiography")
    found = read(layout)
    settings = LoadSettings(42, keys["split"], tuple(keys["fractions"]), None, keys["cap"], 64, 1, None)
    assigned = splits.assign(found.rows, settings, classes=found.classes)
    kept = Counter(row.label for row, split in zip(found.rows, assigned, strict=True) if split)
    assert kept == {0: 10, 1: 10, 2: 10, 3: 10}
    assert Counter(assigned)["train"] == 32


def test_a_missing_class_is_refused_unless_others_are_chosen(layout):
    (layout / "Lung_Opacity").rename(layout / "elsewhere")
    with pytest.raises(HeatproofError, match=r"the class folder 'Lung_Opacity' is missing.*dataset\.classes"):
        read(layout)
    assert {row.label for row in read(layout, ("COVID", "Normal", "Viral Pneumonia")).rows} == {0, 2, 3}
    (layout / "Normal" / "images").rename(layout / "Normal" / "pictures")
    with pytest.raises(HeatproofError, match=r"Normal: the folder 'images' is missing\. .*There are: masks, pictures"):
        read(layout, ("COVID", "Normal"))


def test_the_real_radiographs():
    with pytest.raises(HeatproofError, match="the class folder 'Lung_Opacity' is missing"):
        read(real("covid_radiography"))
    found = read(real("covid_radiography"), ("COVID", "Normal", "Viral Pneumonia"))
    assert Counter((row.label, row.annotation) for row in found.rows) == {(0, None): 60, (2, None): 60, (3, "mask"): 60}
    row = next(row for row in found.rows if row.annotation)
    assert found.read(row).shape[:2] == (299, 299)
    lungs = at_image(found.read_mask(row), 299, 299, row.image)
    assert 0.1 < lungs.mean() < 0.6
