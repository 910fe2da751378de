"""UTKFace as image files and as the hub's parquet file: labels by choice, malformed names left out and named."""

from collections import Counter

import layouts
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from shelves import picture

from heatproof.base.errors import HeatproofError
from heatproof.base.images import decode
from heatproof.base.registry import bind
from heatproof.datasets.utkface import Face, face_of


def read(root, **settings):
    return bind("dataset", "utkface", {"root": str(root), **settings})()


@pytest.mark.parametrize(
    ("name", "face"),
    [
        ("1_0_0_20161219140623097.jpg.chip.jpg", Face(1, 0, 0)),
        ("116_1_3_20170120134744096.jpg", Face(116, 1, 3)),
        ("24_0_1_20170116220224657 .jpg.chip.jpg", Face(24, 0, 1)),
        ("61_1_20170109142408075.jpg.chip.jpg", None),
        ("53__0_20170116184028385.jpg", None),
        ("61_3_20170109150557335.jpg.chip.jpg", None),
        ("200_1_3_20170120134744096.jpg", None),
        ("20_2_3_20170120134744096.jpg", None),
        ("20_1_5_20170120134744096.jpg", None),
        ("20_1_4_.jpg", None),
        ("20_1_4_20170120134744096_2.jpg", None),
        ("scan.jpg", None),
    ],
)
def test_faces_come_from_names(name, face):
    assert face_of(name) == face


def test_malformed_names_are_left_out_and_named(tmp_path):
    layouts.utkface(tmp_path)
    found = read(tmp_path)
    assert found.classes == ("male", "female")
    assert Counter(row.label for row in found.rows) == {0: 10, 1: 10}
    assert found.rows[0].image.startswith("part1/20_0_0_")
    (remark,) = found.remarks
    assert remark.startswith("3 image(s) left out, the name is not [age]_[gender]_[race]_[date]: ")
    for name in ("61_1_20170109142408075.jpg.chip.jpg", "53__0_20170116184028385.jpg", "44_1_4_x.jpg"):
        assert f"part1/{name}" in remark
    assert found.read(found.rows[0]).shape == (10, 12, 3)


def test_race_and_age_band_by_choice(tmp_path):
    layouts.utkface(tmp_path)
    assert read(tmp_path, label="race").classes == ("White", "Black", "Asian", "Indian", "Others")
    ages = read(tmp_path, label="age")
    assert ages.classes == ("18-39",)  # all faces here are 20 to 39
    finer = read(tmp_path, label="age", age_bands=(0, 25, 30))
    assert finer.classes == ("0-24", "25-29", "30+")
    assert Counter(row.label for row in finer.rows) == {0: 5, 1: 5, 2: 10}
    for bands in ((18, 40), (0,), (0, 40, 40)):
        with pytest.raises(HeatproofError, match=r"dataset\.age_bands: first years of at least two bands"):
            read(tmp_path, label="age", age_bands=bands)


def test_the_form_of_the_hub_gives_the_same_pictures(tmp_path):
    encoded = layouts.utkface_parquet(tmp_path)
    found = read(tmp_path)
    assert Counter(row.label for row in found.rows) == {0: 10, 1: 10}
    assert found.rows[12].image == "data/train-00000-of-00001.parquet/000012"
    for row, data in zip(found.rows, encoded, strict=True):
        np.testing.assert_array_equal(found.read(row), decode(data))
    assert read(tmp_path, label="race").classes == ("White", "Black", "Asian", "Indian", "Others")
    assert read(tmp_path, label="age").classes == ("0-17", "18-39", "40-59", "60+")


def test_the_content_of_a_parquet_file_is_its_identity(tmp_path):
    layouts.utkface_parquet(tmp_path)
    first = read(tmp_path).identity
    assert first == read(tmp_path, label="race").identity
    path = next(tmp_path.glob("*/*.parquet"))
    pq.write_table(pq.read_table(path).slice(1), path)
    assert read(tmp_path).identity != first


def test_rows_of_a_table_with_other_values_are_left_out_and_named(tmp_path):
    data = picture(tmp_path / "x.png").read_bytes()
    columns = {"image": [data] * 4, "gender": ["Male", "FEMALE", None, "2"]}
    pq.write_table(pa.table(columns), tmp_path / "faces.parquet")
    found = read(tmp_path)
    assert [row.label for row in found.rows] == [0, 1]
    assert "2 row(s) left out, the column gender holds no gender" in found.remarks[0]
    assert "faces.parquet/000002 (None)" in found.remarks[0]
    with pytest.raises(HeatproofError, match=r"faces\.parquet: no column race\. There are: image, gender"):
        read(tmp_path, label="race")


def test_refusals(tmp_path):
    with pytest.raises(HeatproofError, match="no parquet file and no image named like 26_1_0_"):
        read(tmp_path)
    picture(tmp_path / "face.png")
    with pytest.raises(HeatproofError, match=r"no image named like .*, got \('face\.png',\)"):
        read(tmp_path)
