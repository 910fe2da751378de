"""Photographs with boxes of Pascal VOC: names as labels, folders as labels, no labels; sizes that disagree."""

from collections import Counter
from pathlib import Path

import layouts
import numpy as np
import pytest
from shelves import picture, real

from heatproof.base.annotations import at_image
from heatproof.base.errors import HeatproofError
from heatproof.base.images import decode
from heatproof.base.registry import bind


def read(root, **settings):
    return bind("dataset", "imagenet_boxes", {"root": str(root), **settings})()


@pytest.fixture
def layout(tmp_path):
    layouts.imagenet_boxes(tmp_path)
    return tmp_path


def test_names_in_the_boxes_are_classes_and_boxes_are_merged(layout):
    found = read(layout)
    assert found.classes == ("n02085620", "n02086240")
    assert Counter((row.label, row.annotation) for row in found.rows) == {(0, "box"): 10, (1, "box"): 10}
    expected = np.zeros((20, 24), bool)
    expected[:4, :6] = expected[8:, 10:] = True  # corners count from 1 and belong to the box
    np.testing.assert_array_equal(found.read_mask(found.rows[0]), expected)
    assert found.remarks == ()


def test_images_with_several_names_and_without_boxes(layout):
    layouts.voc(layout / "annots/n02085620/n02085620_0.xml", {"a": [(1, 1, 2, 2)], "b": [(3, 3, 4, 4)]}, (24, 20))
    layouts.voc(layout / "annots/n02085620/n02085620_2.xml", {}, (24, 20))
    (layout / "annots/n02085620/n02085620_4.xml").unlink()
    found = read(layout)
    assert len(found.rows) == 17
    assert "1 image(s) left out, their boxes have several names: n02085620/n02085620_0.JPEG" in found.remarks
    assert any("2 image(s) left out, they have no box that names a class" in remark for remark in found.remarks)
    by_folder = read(layout, label="folder")
    assert Counter((row.label, row.annotation) for row in by_folder.rows)[0, None] == 2
    assert "1 image(s) have no boxes" in by_folder.remarks
    assert read(layout, label="none").classes == ()
    assert {row.label for row in read(layout, label="none").rows} == {None}


def test_a_stated_size_is_scaled_and_its_aspect_must_fit(layout):
    path = layout / "annots/n02085620/n02085620_0.xml"
    layouts.voc(path, {"n02085620": [(1, 1, 24, 40)]}, (48, 40))
    found = read(layout)
    row = next(row for row in found.rows if row.image.endswith("n02085620_0.JPEG"))
    inside = at_image(found.read_mask(row), 20, 24, row.image)
    assert inside[:, :12].all()
    assert not inside[:, 12:].any()
    layouts.voc(path, {"n02085620": [(0, 1, 12, 20)]}, (0, 0))  # some files of ImageNet state no size
    found = read(layout)
    assert found.read_mask(row).shape == (20, 24)
    assert found.read_mask(row).sum() == 240
    layouts.voc(path, {"n02085620": [(1, 1, 12, 20)]}, (20, 24))
    with pytest.raises(HeatproofError, match="another aspect"):
        at_image(read(layout).read_mask(row), 20, 24, row.image)


def test_refusals(layout):
    with pytest.raises(HeatproofError, match=r"dataset\.images: no such folder, got '.*pictures'\. .*annots, images"):
        read(layout, images="pictures")
    with pytest.raises(HeatproofError, match=r"no XML with the name of an image, got 'n02085620/n02085620_0\.xml'"):
        read(layout, boxes="images")
    first, second = sorted((layout / "annots/n02085620").iterdir())[:2]
    first.write_text("<annotation><object>")
    layouts.voc(second, {"dog": [(5, 5, 2, 2)]}, (24, 20))
    with pytest.raises(HeatproofError, match=r"no boxes as in Pascal VOC") as caught:
        read(layout)
    assert len(caught.value.faults) == 2
    assert "a box from 5, 5 to 2, 2" in caught.value.faults[1]
    picture(layout / "flat" / "x.jpg")
    layouts.voc(layout / "xml" / "x.xml", {"dog": [(1, 1, 2, 2)]}, (12, 10))
    with pytest.raises(HeatproofError, match=r"dataset\.label: .* has no class folders: x\.jpg lies in it"):
        read(layout, images="flat", boxes="xml", label="folder")


def test_the_real_photographs():
    found = read(real("voc_boxes"))
    assert found.classes == ("kangaroo",)
    assert [row.annotation for row in found.rows] == ["box"] * 12
    for row in found.rows:
        inside = found.read_mask(row)
        assert 0.02 < inside.mean() < 1
        if Path(row.image).name == "00090.jpg":
            with pytest.raises(HeatproofError, match=r"00090\.jpg: broken image"):
                found.read(row)
        else:
            assert inside.shape == decode(row.path).shape[:2]
