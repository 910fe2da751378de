"""People's own tables: columns by name, several rows of an image, paths of any kind, and what is refused."""

import csv
import os
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydicom.data import get_testdata_file
from shelves import mask, picture

from heatproof.base.errors import HeatproofError
from heatproof.base.registry import bind


def read(place, root=None, **settings):
    return bind("dataset", "table", {"root": root and str(root), "file": str(place), **settings})()


def write(folder, rows, name="scans.csv"):
    """A table of rows; the images that it names are made."""
    for row in rows:
        if row.get("path"):
            picture(folder / row["path"].strip())
        for path in filter(None, row.get("mask", "").split(";")):
            mask(folder / path)
    with (folder / name).open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    return folder / name


ROWS = [
    {"path": "a/1 ü, left.png", "label": "ill", "group": "p1", "split": "train", "mask": "m/1.png;m/2.png"},
    {"path": "a/2.png\n", "label": "well", "group": "p1", "split": "Training", "mask": ""},
    {"path": "./a/3.png", "label": "ill", "group": "", "split": "test", "mask": "m/3.png"},
]


def test_columns_of_the_usual_names_are_read(tmp_path):
    found = read(write(tmp_path, ROWS))
    assert found.classes == ("ill", "well")
    assert [(r.image, r.label, r.group, r.split, r.annotation) for r in found.rows] == [
        ("a/1 ü, left.png", 0, "p1", "train", "mask"),
        ("a/2.png", 1, "p1", "train", None),
        ("a/3.png", 0, None, "test", "mask"),
    ]
    assert found.read(found.rows[0]).shape == (10, 12)
    assert found.read_mask(found.rows[0]).sum() == 16
    assert found.read_mask(found.rows[1]) is None
    assert found.mask_paths(found.rows[0]) == (str(tmp_path / "m/1.png"), str(tmp_path / "m/2.png"))
    assert "1 image(s) have no group in the table: each is a group of its own" in found.remarks


def test_columns_by_name_and_those_not_read(tmp_path):
    rows = [{"file": r["path"].strip(), "diagnosis": r["label"], "patient": r["group"], "age": "7"} for r in ROWS]
    for row in rows:
        picture(tmp_path / row["file"])
    place = write(tmp_path, rows)
    found = read(place, path="file", label="diagnosis", group="patient")
    assert [(row.label, row.group) for row in found.rows] == [(0, "p1"), (1, "p1"), (0, None)]
    assert "columns of the table that are not read: age" in found.remarks
    assert {row.label for row in read(place, path="file", label=None).rows} == {None}
    with pytest.raises(HeatproofError) as caught:
        read(place, path="file", label="diagnose", group="patients")
    assert len(caught.value.faults) == 2
    assert "dataset.label: scans.csv has no such column, got 'diagnose'. Did you mean 'diagnosis'?" in str(caught.value)
    assert "dataset.group: scans.csv has no such column, got 'patients'. Did you mean 'patient'?" in str(caught.value)


def test_paths_are_relative_to_the_root_or_to_the_table(tmp_path, monkeypatch):
    picture(tmp_path / "images" / "a.png")
    picture(tmp_path / "far" / "b.png")
    (tmp_path / "tables").mkdir()
    inside, outside = tmp_path / "images" / "a.png", tmp_path / "far" / "b.png"
    place = tmp_path / "tables" / "t.csv"
    place.write_text(f"path,label\n{inside},x\n{outside},y\n")
    found = read(place, root=tmp_path / "images")
    assert [row.image for row in found.rows] == ["a.png", str(outside)]
    place.write_text("path,label\na.png,x\n../far/b.png,y\n")
    assert [row.image for row in read(place, root=tmp_path / "images").rows] == ["a.png", "../far/b.png"]
    (tmp_path / "images" / "t.csv").write_text("path,label\na.png,x\n../far/b.png,y\n")
    assert len(read("t.csv", root=tmp_path / "images").rows) == 2
    monkeypatch.chdir(tmp_path / "images")
    assert read("t.csv").rows[0].path == str(inside)
    with pytest.raises(HeatproofError, match=r"files that are not there; paths are relative to .*tables: .*a\.png"):
        read(place)


def test_dicom_files_are_grouped_by_their_patient(tmp_path):
    for name in ("a.dcm", "b.DCM"):
        shutil.copy(get_testdata_file("CT_small.dcm", download=False), tmp_path / name)
    (tmp_path / "t.csv").write_text("path,label\na.dcm,x\nb.DCM,y\n")
    found = read(tmp_path / "t.csv")
    (group,) = {row.group for row in found.rows}
    assert group.startswith("patient-")
    assert found.read(found.rows[0]).shape == (128, 128)
    (tmp_path / "t.csv").write_text("path,label,group\na.dcm,x,1\nb.DCM,y,\n")
    assert [row.group for row in read(tmp_path / "t.csv").rows] == ["1", None]


def test_rows_of_one_image_are_one_image(tmp_path):
    picture(tmp_path / "a.png")
    picture(tmp_path / "b.png")
    place = tmp_path / "boxes.csv"
    place.write_text("path,label,xmin,ymin,xmax,ymax\na.png,x,0,0,2,3\nb.png,y,,,,\na.png,x,6,5,12,10\n")
    found = read(place)
    assert [row.annotation for row in found.rows] == ["box", None]
    expected = np.zeros((10, 12), bool)
    expected[:3, :2] = expected[5:, 6:] = True
    np.testing.assert_array_equal(found.read_mask(found.rows[0]), expected)
    assert found.mask_shapes(found.rows[0]) == ((0, 0, 2, 3), (6, 5, 12, 10))
    place.write_text("path,label\na.png,x\na.png,y\n")
    with pytest.raises(HeatproofError, match=r"another label, group or split than an earlier row.*row 3 \(a\.png\)"):
        read(place)


@pytest.mark.parametrize("cell", ["0 0 2 3;6 5 12 10", "0,0,2,3; 6,5,12,10", "[0, 0, 2, 3];(6, 5, 12, 10)"])
def test_boxes_in_one_cell(tmp_path, cell):
    picture(tmp_path / "a.png")
    (tmp_path / "t.csv").write_text(f'path,label,where\na.png,x,"{cell}"\n')
    found = read(tmp_path / "t.csv", box=("where",))
    assert found.mask_shapes(found.rows[0]) == ((0, 0, 2, 3), (6, 5, 12, 10))


def test_parquet_keeps_its_types(tmp_path):
    for name in ("a.png", "b.png", "c.png"):
        picture(tmp_path / name)
    columns = {
        "path": ["a.png", "b.png", "c.png"],
        "label": [10.0, 2.0, 2.0],
        "group": [7, None, 7],
        "box": [[[0, 0, 2, 3], [6, 5, 12, 10]], None, []],
    }
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    found = read(tmp_path / "t.parquet")
    assert found.classes == ("2", "10")
    assert [(r.label, r.group, r.annotation) for r in found.rows] == [(1, "7", "box"), (0, None, None), (0, "7", None)]
    flags = {"path": columns["path"], "label": [True, False, True]}
    pq.write_table(pa.table(flags), tmp_path / "t.parquet")
    assert read(tmp_path / "t.parquet").classes == ("false", "true")


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_delimiters_and_byte_order_marks(tmp_path, delimiter):
    picture(tmp_path / "a.png")
    text = f"path{delimiter} label\r\na.png{delimiter}x\r\n\r\n"
    (tmp_path / "t.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert read(tmp_path / "t.csv").classes == ("x",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,label\n", "the table has no rows"),
        ("", r"no table that can be read \(the file is empty\)"),
        ("path,label\na.png\n", "row 2 has 1 cells and the header 2"),
        ("path,label\na.png,\n", r"no label; dataset\.label=null .*: row 2 \(a\.png\)"),
        ("path,label\n,x\n", "no path: row 2"),
        ("path,label,split\na.png,x,holdout\n", r"a split that is none of train, .*: row 2 \(a\.png\): holdout"),
        ("path,label,box\na.png,x,1 2 3\n", "3 numbers where left, top, right, bottom are expected"),
        ("path,label,box\na.png,x,5 5 2 9\n", "5, 5, 2, 9 encloses nothing"),
        ("path,label,box\na.png,x,1 2 3 four\n", "could not convert string to float"),
        ("path,label\nz1.png,x\nz2.png,x\nz3.png,x\nz4.png,x\n", r"not there.*z1\.png; .*z3\.png and 1 more"),
        ("name,label\na.png,x\n", "dataset.path: t.csv has no such column, got 'path'. There are: name, label"),
    ],
)
def test_refusals(tmp_path, text, message):
    picture(tmp_path / "a.png")
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(HeatproofError, match=message):
        read(tmp_path / "t.csv")


def test_more_refusals(tmp_path):
    with pytest.raises(HeatproofError, match=r"dataset\.file: the table of the images is missing"):
        bind("dataset", "table", {"root": str(tmp_path)})()
    picture(tmp_path / "a.png")
    with pytest.raises(HeatproofError, match=r"its name ends in none of \.csv"):
        read(tmp_path / "a.png")
    with pytest.raises(HeatproofError, match=r"no such file, got '.*scan\.csv'\. There are: a\.png"):
        read("scan.csv", root=tmp_path)
    (tmp_path / "t.parquet").write_text("no parquet")
    with pytest.raises(HeatproofError, match=r"t\.parquet: no table that can be read"):
        read(tmp_path / "t.parquet")
    mask(tmp_path / "m.png")
    (tmp_path / "t.csv").write_text("path,label,mask,xmin\na.png,x,m.png,3\n")
    with pytest.raises(HeatproofError, match=r"dataset\.box: one column, or four"):
        read(tmp_path / "t.csv", box=("xmin", "xmin"))
    (tmp_path / "t.csv").write_text("path,label,mask,box\na.png,x,m.png,1 1 2 2\n")
    with pytest.raises(HeatproofError, match=r"a mask and a box: .*: a\.png"):
        read(tmp_path / "t.csv", box=("box",))
    assert "columns of the table that are not read: box" in read(tmp_path / "t.csv").remarks


def test_a_hundred_thousand_rows(tmp_path):
    sources = [picture(tmp_path / f"{number}.png") for number in range(3)]
    names = [f"ward {number % 50}/scan {number}.png" for number in range(100_000)]
    for ward in range(50):
        (tmp_path / f"ward {ward}").mkdir()
    for number, name in enumerate(names):
        os.link(sources[number % 3], f"{tmp_path}/{name}")  # a file may have 65 000 names on some disks
    lines = [f"{name},{number % 3},p{number // 4}" for number, name in enumerate(names)]
    (tmp_path / "t.csv").write_text("\n".join(["path,label,group", *lines, ""]))
    found = read(tmp_path / "t.csv")
    assert len(found.rows) == 100_000
    assert found.classes == ("0", "1", "2")
    assert found.rows[-1].image == "ward 49/scan 99999.png"
    os.unlink(f"{tmp_path}/{names[77]}")  # noqa: PTH108
    with pytest.raises(HeatproofError, match=r"files that are not there.*ward 27/scan 77\.png\."):
        read(tmp_path / "t.csv")
