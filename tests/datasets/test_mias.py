"""mini-MIAS: odd rows of Info.txt, circles with y from the bottom, pairs of breasts."""

from collections import Counter
from pathlib import Path

import layouts
import numpy as np
import pytest
from shelves import picture, real

from heatproof.base.errors import HeatproofError
from heatproof.base.images import decode
from heatproof.base.registry import bind


def read(root, **settings):
    return bind("dataset", "mias", {"root": str(root), **settings})()


@pytest.fixture
def layout(tmp_path):
    layouts.mias(tmp_path)
    return tmp_path


def test_rows_are_images_and_the_worst_finding_counts(layout):
    found = read(layout)
    named = {row.image: (found.classes[row.label], row.annotation, row.group) for row in found.rows}
    assert named["mdb003.pgm"] == ("normal", None, "pair 002")
    assert named["mdb001.pgm"][1:] == ("mask", "pair 001")
    assert named["mdb002.pgm"][1:] == ("mask", "pair 001")
    assert named["mdb005.pgm"] == (*named["mdb144.pgm"][:2], "pair 003") == ("malignant", "mask", "pair 003")
    assert named["mdb059.pgm"] == ("benign", None, "pair 030")
    assert named["mdb216.pgm"] == ("malignant", None, "pair 108")
    assert len(named) == len(found.rows) == 10
    assert len(found.remarks) == 2
    assert any("1 image(s) of Info.txt are not in" in remark for remark in found.remarks)
    assert any("finding without a circle: mdb059.pgm, mdb216.pgm" in remark for remark in found.remarks)


def test_classes_of_lesions_by_choice(layout):
    found = read(layout, label="class")
    assert found.classes == ("NORM", "CALC", "CIRC")
    assert any("findings are of several classes: mdb144.pgm" in remark for remark in found.remarks)
    assert "mdb144.pgm" not in {row.image for row in found.rows}


def test_a_circle_counts_from_the_bottom(layout):
    found = read(layout)
    row = next(row for row in found.rows if row.image == "mdb001.pgm")
    inside = found.read_mask(row)
    assert inside.shape == (1024, 1024)
    y, x = np.argwhere(inside).mean(0) + 0.5
    assert (x, y) == pytest.approx((512, 1024 - 768), abs=0.01)
    assert inside.sum() == pytest.approx(np.pi * 256**2, rel=1e-3)
    both = found.read_mask(next(row for row in found.rows if row.image == "mdb005.pgm"))
    assert both[1024 - 133, 477]
    assert both[1024 - 168, 500]


def test_units_are_stated_or_chosen(layout):
    text = (layout / "Info.txt").read_text()
    (layout / "Info.txt").write_text(text.replace("1024 pixels x 1024", "512 pixels x 512"))
    assert read(layout).read_mask(read(layout).rows[0]).shape == (512, 512)
    assert read(layout, units=2048).read_mask(read(layout).rows[0]).shape == (2048, 2048)
    (layout / "Info.txt").write_text("\n".join(line for line in text.splitlines() if line.startswith("mdb")))
    assert read(layout).read_mask(read(layout).rows[0]).shape == (1024, 1024)


def test_shapes_follow_the_numbers_of_the_list(layout):
    first = read(layout)
    (layout / "Info.txt").write_text((layout / "Info.txt").read_text().replace("512 768 256", "512 768 255"))
    second = read(layout)
    changed = [row.image for row in first.rows if first.mask_shapes(row) != second.mask_shapes(row)]
    assert changed == ["mdb001.pgm"]


def test_refusals(layout):
    picture(layout / "mdb777.pgm")
    assert any("Info.txt does not list them: mdb777.pgm" in remark for remark in read(layout).remarks)
    (layout / "Info.txt").write_text("mdb001 G CIRC B 512 768 256\nmdb002 Q CIRC\n")
    with pytest.raises(HeatproofError, match=r"Info\.txt, line 2: no row such as .*, got 'mdb002 Q CIRC'"):
        read(layout)
    (layout / "Info.txt").unlink()
    with pytest.raises(HeatproofError, match=r"no Info\.txt, which says"):
        read(layout)


def test_the_real_mammograms_have_their_lesions_inside_the_circles():
    found = read(real("mias"))
    assert len(found.rows) == 20
    assert Counter(found.classes[row.label] for row in found.rows)["malignant"] > 3
    contrast = []
    for row in found.rows:
        if row.annotation:
            pixels, inside = decode(row.path).astype(float), found.read_mask(row)
            assert inside.shape == pixels.shape == (512, 512)
            assert inside.any()
            contrast.append(pixels[inside].mean() - pixels[inside[::-1]].mean())
    # Lesions are bright, in the breast; the circle mirrored top to bottom lies on other tissue or beside the breast.
    assert np.mean(contrast) > 10
    assert {Path(row.path).stem for row in found.rows if row.label and not row.annotation} == {"mdb059"}
