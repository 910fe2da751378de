"""CBIS-DDSM: joins by series, lesions merged, crop and mask in either order, patients across the shipped sets."""

import shutil
from collections import Counter
from pathlib import Path

import layouts
import numpy as np
import pytest
from shelves import mask, picture, real

from heatproof.base import splits
from heatproof.base.errors import HeatproofError
from heatproof.base.registry import bind
from heatproof.base.settings import LoadSettings
from heatproof.datasets import cbis_ddsm as cbis

SETTINGS = LoadSettings(42, "grouped", (0.6, 0.2, 0.2), None, None, 64, 1, None)


def read(root, **settings):
    return bind("dataset", "cbis_ddsm", {"root": str(root), **settings})()


@pytest.fixture
def layout(tmp_path):
    layouts.cbis_ddsm(tmp_path)
    return tmp_path


def test_lesions_of_an_image_are_merged(layout):
    found = read(layout)
    assert found.classes == ("benign", "malignant")
    assert len(found.rows) == 24
    first = next(row for row in found.rows if row.image == "jpeg/1.3.0.2/1-1.jpg")
    # Its lesions are BENIGN_WITHOUT_CALLBACK and MALIGNANT.
    assert (first.label, first.group, first.split, first.annotation) == (1, "P_00000", "train", "mask")
    inside = found.read_mask(first)
    assert inside.shape == (96, 64)
    assert inside[25, 14]
    assert inside[25, 24]
    assert abs(inside.mean() - 2 * 80 / (64 * 96)) < 0.005
    assert len(found.mask_paths(first)) == 2
    assert len(read(layout, mixed="leave_out").rows) == 23
    assert any(
        "they show benign and malignant lesions: jpeg/1.3.0.2/1-1.jpg" in r
        for r in read(layout, mixed="leave_out").remarks
    )


def test_benign_without_callback_is_benign(layout):
    found = read(layout)
    labels = {row.group: row.label for row in found.rows if row.split == "train" and row.group != "P_00000"}
    for number in range(2, 11):
        if number != 4:
            assert labels[f"P_{number:05d}"] == int(layouts.PATHOLOGIES[(number + 1) % 3] == "MALIGNANT")


def test_masses_or_calcifications_alone(layout):
    assert {row.group for row in read(layout, lesions="mass").rows} == {f"P_{n:05d}" for n in range(0, 12, 2)}
    assert len(read(layout, lesions="calc").rows) == 12


def test_patients_across_the_shipped_sets_are_remarked_and_kept_together(layout):
    found = read(layout)
    assert any(remark.startswith("1 of 11 patients lie in the shipped train and test") for remark in found.remarks)
    assigned = splits.assign(found.rows, SETTINGS, classes=found.classes)
    assert splits.straddling(found.rows, assigned) == ()
    official = [row.split for row in found.rows]
    assert Counter(official) == {"train": 20, "test": 4}
    assert splits.straddling(found.rows, official) == ("P_00001",)


def test_crop_and_mask_are_told_apart_by_description_then_by_content(layout):
    found = read(layout)
    for row in found.rows:
        for path in found.mask_paths(row):
            assert cbis.is_mask(path)
    crops = read(layout, view="crop")
    assert len(crops.rows) == 25
    assert {row.annotation for row in crops.rows} == {None}
    assert {crops.read(row).shape for row in crops.rows} == {(14, 16)}
    # Where the description lies about the order of the files, it is still what counts.
    info = layout / "csv" / "dicom_info.csv"
    info.write_text(
        info.read_text()
        .replace("cropped images", "@")
        .replace("ROI mask images", "cropped images")
        .replace("@", "ROI mask images")
    )
    swapped = {row.image for row in read(layout, view="crop").rows}
    assert len(swapped - {row.image for row in crops.rows}) == 23  # all but the two without a description


@pytest.mark.parametrize("column", ["000000.dcm", "000001.dcm"])
def test_a_crop_and_a_mask_in_swapped_series_are_found(layout, column):
    """Some case rows name the series of the crop as the mask's, and the reverse."""
    region = layout / "jpeg" / "1.3.2.2.1"
    other = layout / "jpeg" / "7.7.7"
    other.mkdir()
    info = (layout / "csv" / "dicom_info.csv").read_text()
    line = next(line for line in info.splitlines() if "/1.3.2.2.1/" in line and "ROI mask" in line)
    name = Path(line.split(",")[1]).name
    shutil.move(region / name, other / name)
    (layout / "csv" / "dicom_info.csv").write_text(info.replace(f"1.3.2.2.1/{name}", f"7.7.7/{name}"))
    cases = layout / "csv" / "mass_case_description_train_set.csv"
    cases.write_text(cases.read_text().replace(f"1.3.2.2.1/{column}", f"7.7.7/{column}"))
    found = read(layout)
    row = next(row for row in found.rows if row.image == "jpeg/1.3.2.2/1-1.jpg")
    assert found.mask_paths(row) == (str(other / name),)


def test_pictures_that_are_not_there_are_named(layout):
    shutil.rmtree(layout / "jpeg" / "1.3.5.3")
    for path in (layout / "jpeg" / "1.3.6.2.1").iterdir():
        if cbis.is_mask(str(path)):
            path.unlink()
    found = read(layout)
    assert len(found.rows) == 23
    assert any(
        "1 lesion(s) left out, their mammogram is not there: calc_case_description_train_set.csv row" in remark
        for remark in found.remarks
    )
    assert any("1 mammogram(s) lack the mask of a lesion" in remark for remark in found.remarks)
    assert next(row for row in found.rows if row.image == "jpeg/1.3.6.2/1-1.jpg").annotation is None


def test_a_compressed_mask_is_a_mask_and_a_dark_crop_is_none(tmp_path):
    roi = mask(tmp_path / "roi.jpg", (400, 700, 480, 790), (1200, 2000))
    assert cbis.is_mask(str(roi))
    assert not cbis.is_mask(str(picture(tmp_path / "dark.jpg", (300, 300), level=10)))
    assert not cbis.is_mask(str(picture(tmp_path / "crop.jpg", (300, 300), level=120)))


def test_refusals(layout):
    (layout / "csv" / "dicom_info.csv").rename(layout / "csv" / "dicom.csv")
    with pytest.raises(HeatproofError, match=r"csv: dicom_info\.csv is missing\. There are: calc_case"):
        read(layout)
    (layout / "csv" / "dicom.csv").rename(layout / "csv" / "dicom_info.csv")
    cases = layout / "csv" / "mass_case_description_train_set.csv"
    text = cases.read_text()
    cases.write_text(text.replace("BENIGN,", "BENING,"))
    with pytest.raises(HeatproofError, match=r"no such pathology, got 'BENING'\. Did you mean 'BENIGN'"):
        read(layout)
    cases.write_text(text.replace("pathology", "result"))
    with pytest.raises(HeatproofError, match="no column 'pathology'"):
        read(layout)
    shutil.rmtree(layout / "jpeg")
    with pytest.raises(HeatproofError, match="the folder 'jpeg' is missing"):
        read(layout)


def test_the_real_case_descriptions():
    folder = Path(real("cbis_ddsm")) / "csv"
    counts = {(kind, split): len(cbis.read_lesions(folder, kind, split)) for kind, split in cbis.SETS}
    assert counts == {("mass", "train"): 1318, ("mass", "test"): 378, ("calc", "train"): 1546, ("calc", "test"): 326}
    lesions = [lesion for kind, split in cbis.SETS for lesion in cbis.read_lesions(folder, kind, split)]
    assert len({lesion.full[0] for lesion in lesions}) == 3103
    assert Counter(lesion.label for lesion in lesions) == {0: 2111, 1: 1457}
    assert not any("\n" in uid or "/" in uid for lesion in lesions for uid in (*lesion.full, *lesion.region))
    by_image = {}
    for lesion in lesions:
        by_image.setdefault(lesion.full[0], set()).add(lesion.label)
    assert sum(len(labels) > 1 for labels in by_image.values()) == 17
    assert cbis.straddling(lesions)[0].startswith("31 of 1566 patients")
    assert np.unique([len(lesion.full) for lesion in lesions]).tolist() == [2]
