"""A flat folder without labels: names of any kind, links, other files."""

import pytest
from shelves import picture, real

from heatproof.base import splits
from heatproof.base.errors import HeatproofError
from heatproof.base.registry import bind
from heatproof.base.settings import LoadSettings


def read(root):
    return bind("dataset", "images", {"root": str(root)})()


def test_every_image_below_is_a_row_without_label(tmp_path):
    for name in ("b.png", "a b/ü ß.jpg", "a b/deep/c.bmp", ".hidden/x.png"):
        picture(tmp_path / name)
    (tmp_path / "notes.txt").touch()
    (tmp_path / "._b.png").touch()
    found = read(tmp_path)
    assert [row.image for row in found.rows] == ["a b/deep/c.bmp", "a b/ü ß.jpg", "b.png"]
    assert found.classes == ()
    assert {row.label for row in found.rows} == {None}
    assert found.remarks[0].startswith(f"{tmp_path}: 1 file(s) left out that are no images")
    settings = LoadSettings(42, "grouped", (0.6, 0.2, 0.2), None, None, 64, 1, None)
    assert splits.assign(found.rows, settings, classes=()) == ["test"] * 3
    assert found.read(found.rows[2]).shape == (10, 12)


def test_links_are_followed_once(tmp_path):
    picture(tmp_path / "elsewhere" / "x.png")
    root = tmp_path / "root"
    picture(root / "own.png")
    (root / "link.png").symlink_to(tmp_path / "elsewhere" / "x.png")
    (root / "folder").symlink_to(tmp_path / "elsewhere")
    (root / "circle").symlink_to(root)
    (root / "gone.png").symlink_to(tmp_path / "nothing")
    (root / "round.png").symlink_to(root / "round.png")
    found = read(root)
    assert [row.image for row in found.rows] == ["folder/x.png", "gone.png", "link.png", "own.png", "round.png"]
    with pytest.raises(HeatproofError, match=r"gone\.png: no such file"):
        found.read(found.rows[1])
    with pytest.raises(HeatproofError, match=r"round\.png: .*symbolic links"):
        found.read(found.rows[4])


def test_a_folder_without_images_is_refused(tmp_path):
    with pytest.raises(HeatproofError, match=r"dataset\.root: no images inside"):
        read(tmp_path)


def test_the_real_photographs():
    found = read(real("imagenet_samples"))
    assert len(found.rows) == 13
    assert sorted(found.read(row).ndim for row in found.rows) == [2] + [3] * 12
