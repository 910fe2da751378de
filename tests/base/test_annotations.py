"""Masks from files, boxes and circles, against plain loops; another aspect is refused, never stretched."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from shelves import mask

from heatproof.base.annotations import at_image, box_mask, circle_mask, read_masks
from heatproof.base.errors import HeatproofError
from heatproof.base.images import decode


def test_masks_split_at_half_their_maximum_and_merge(tmp_path):
    low = np.zeros((6, 6), np.uint8)
    low[0, 0] = 1
    high = np.full((6, 6), 3, np.uint8)  # 3 is compression noise here
    high[5, 5] = 255
    Image.fromarray(low).save(tmp_path / "low.png")
    Image.fromarray(np.repeat(high[..., None], 3, 2)).save(tmp_path / "high.png")
    both = read_masks([tmp_path / "low.png", tmp_path / "high.png"])
    assert both.dtype == bool
    assert np.argwhere(both).tolist() == [[0, 0], [5, 5]]


def test_an_empty_mask_stays_empty(tmp_path):
    Image.new("L", (4, 4)).save(tmp_path / "a.png")
    assert not read_masks([tmp_path / "a.png"]).any()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_masks_of_any_mode(tmp_path, mode):
    with Image.open(mask(tmp_path / "plain.png")) as file:
        plain = file.convert("L")
    image = Image.fromarray(np.asarray(plain, np.uint16) * 257) if mode == "I;16" else plain.convert(mode)
    image.save(tmp_path / "mask.png")
    with Image.open(tmp_path / "mask.png") as file:
        assert file.mode == mode
    np.testing.assert_array_equal(read_masks([tmp_path / "mask.png"]), np.asarray(plain) > 0)


def test_masks_of_two_sizes_take_the_larger_one(tmp_path):
    Image.new("L", (4, 4)).save(tmp_path / "a.png")
    half = np.zeros((8, 8), np.uint8)
    half[:, 4:] = 255
    Image.fromarray(half).save(tmp_path / "b.png")
    np.testing.assert_array_equal(read_masks([tmp_path / "a.png", tmp_path / "b.png"]), half > 0)
    np.testing.assert_array_equal(read_masks([tmp_path / "b.png", tmp_path / "a.png"]), half > 0)
    mask(tmp_path / "c.png", size=(12, 10))
    with pytest.raises(HeatproofError, match=r"b\.png: the annotation is 8 x 8 pixels and the image 12 x 10"):
        read_masks([tmp_path / "b.png", tmp_path / "c.png"])


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 12), st.integers(1, 30), st.integers(0, 99))
def test_nearest_is_that_of_a_plain_loop(side, larger, seed):
    small = np.random.default_rng(seed).random((side, side)) > 0.5
    expected = [
        [small[int((y + 0.5) * side / larger), int((x + 0.5) * side / larger)] for x in range(larger)]
        for y in range(larger)
    ]
    large = at_image(small, larger, larger, "x")
    np.testing.assert_array_equal(large, expected)
    if larger % side == 0:
        np.testing.assert_array_equal(at_image(large, side, side, "x"), small)


def test_orientation_tags_turn_image_and_mask_alike(tmp_path):
    """An image stored lying down is shown upright; its mask fits upright, with or without a tag of its own."""
    upright = np.zeros((20, 12), np.uint8)
    upright[2:6, 1:4] = 255
    tag = Image.Exif()
    tag[0x0112] = 6  # turn by 90 degrees clockwise
    lying = Image.fromarray(np.rot90(upright))
    lying.save(tmp_path / "image.jpg", exif=tag, quality=95)
    lying.save(tmp_path / "tagged.png", exif=tag)
    lying.save(tmp_path / "bare.png")
    Image.fromarray(upright).save(tmp_path / "upright.png")
    height, width = decode(tmp_path / "image.jpg").shape
    assert (height, width) == (20, 12)
    for name in ("tagged.png", "upright.png"):
        np.testing.assert_array_equal(at_image(read_masks([tmp_path / name]), height, width, name), upright > 0)
    with pytest.raises(HeatproofError, match="20 x 12 pixels and the image 12 x 20: another aspect"):
        at_image(read_masks([tmp_path / "bare.png"]), height, width, "bare.png")


@pytest.mark.parametrize(
    ("shape", "image", "fits"),
    [
        ((256, 256), (299, 299), True),  # square on square
        ((33, 50), (667, 1000), True),  # a small mask's side is rounded to whole pixels
        ((500, 504), (500, 500), True),  # below 1 %
        ((500, 506), (500, 500), False),
        ((10, 12), (12, 10), False),  # a turned image
        ((256, 256), (299, 310), False),
    ],
)
def test_another_aspect_is_refused(shape, image, fits):
    ones = np.ones(shape, bool)
    if fits:
        assert at_image(ones, *image, "scan").shape == image
    else:
        with pytest.raises(HeatproofError, match=r"scan: the annotation is .* another aspect.*It is not stretched"):
            at_image(ones, *image, "scan")


def test_boxes_and_circles_are_those_of_a_plain_loop():
    rng = np.random.default_rng(0)
    boxes = [tuple(rng.uniform(-3, 16, 4)) for _ in range(4)]
    circles = [(*rng.uniform(-3, 16, 2), rng.uniform(1, 6)) for _ in range(4)]
    box, disc = box_mask(boxes, 11, 14), circle_mask(circles, 11, 14)
    for y in range(11):
        for x in range(14):
            u, v = x + 0.5, y + 0.5
            assert box[y, x] == any(a <= u < c and b <= v < d for a, b, c, d in boxes)
            assert disc[y, x] == any((u - a) ** 2 + (v - b) ** 2 <= r * r for a, b, r in circles)


def test_a_tiny_circle_is_one_pixel():
    assert np.argwhere(circle_mask([(2.1, 1.9, 0.1)], 4, 4)).tolist() == [[1, 2]]
    assert not circle_mask([(9, 9, 0.1)], 4, 4).any()
    assert not box_mask([], 4, 4).any()
