"""Decoding and resizing against values that can be read off."""

import numpy as np
import pytest
from PIL import Image

from heatproof.base import images
from heatproof.base.errors import HeatproofError

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (7, 5), dtype=np.uint8)
COLOUR = RNG.integers(0, 256, (7, 5, 3), dtype=np.uint8)


@pytest.mark.parametrize("ending", ["png", "bmp", "tif", "pgm", "PNG"])
def test_grey_files_come_back_as_they_are(tmp_path, ending):
    path = tmp_path / f"a.{ending}"
    Image.fromarray(GREY).save(path)
    np.testing.assert_array_equal(images.decode(path), GREY)


def test_colour_comes_back_as_it_is_even_where_it_is_grey(tmp_path):
    Image.fromarray(COLOUR).save(tmp_path / "a.png")
    np.testing.assert_array_equal(images.decode(tmp_path / "a.png"), COLOUR)
    Image.fromarray(np.repeat(GREY[..., None], 3, 2)).save(tmp_path / "b.png")
    assert images.decode(tmp_path / "b.png").shape == (7, 5, 3)


def test_one_bit_images_span_the_range(tmp_path):
    Image.fromarray(GREY > 100).save(tmp_path / "a.png")
    np.testing.assert_array_equal(images.decode(tmp_path / "a.png"), (GREY > 100) * np.uint8(255))


def test_transparent_pixels_are_black(tmp_path):
    alpha = np.where(np.arange(35).reshape(7, 5) % 2, 255, 0).astype(np.uint8)
    Image.fromarray(np.dstack([COLOUR, alpha])).save(tmp_path / "rgba.png")
    np.testing.assert_array_equal(images.decode(tmp_path / "rgba.png"), COLOUR * (alpha[..., None] > 0))
    Image.fromarray(np.dstack([GREY, alpha])).save(tmp_path / "la.png")
    np.testing.assert_array_equal(images.decode(tmp_path / "la.png"), GREY * (alpha > 0))


def test_palettes_are_grey_where_their_colours_are(tmp_path):
    grey = Image.fromarray(GREY // 64)
    grey.putpalette([v for i in range(256) for v in (i * 60 % 256,) * 3])
    grey.save(tmp_path / "grey.png")
    np.testing.assert_array_equal(images.decode(tmp_path / "grey.png"), GREY // 64 * 60)
    colour = Image.fromarray(GREY // 64)
    colour.putpalette([v for i in range(256) for v in (i * 60 % 256, 0, 9)])
    colour.save(tmp_path / "colour.png")
    assert images.decode(tmp_path / "colour.png")[0, 0].tolist() == [GREY[0, 0] // 64 * 60, 0, 9]


def test_deep_images_keep_the_scale_of_their_depth(tmp_path):
    for name, values, top in (
        ("byte", [[0, 255]], 255),
        ("twelve", [[0, 4095, 2048]], 4095),
        ("dim", [[0, 300]], 4095),
        ("full", [[0, 65535]], 65535),
    ):
        Image.fromarray(np.array(values, np.uint16)).save(tmp_path / f"{name}.png")
        expected = np.round(np.array(values) * 255 / top)
        np.testing.assert_allclose(images.decode(tmp_path / f"{name}.png"), expected, atol=0.51)


def test_negative_deep_pixels_are_refused(tmp_path):
    Image.fromarray(np.array([[-5, 9]], np.int32)).save(tmp_path / "a.tif")
    with pytest.raises(HeatproofError, match=r"a\.tif: broken image \(pixels that are negative"):
        images.decode(tmp_path / "a.tif")


def test_floating_point_pixels_of_at_most_1_are_shares_of_white(tmp_path):
    for name, values, expected in (
        ("shares", [[0, 0.5, 1]], [[0, 128, 255]]),
        ("grey values", [[0, 128, 255]], [[0, 128, 255]]),
        ("black", [[0, 0, 0]], [[0, 0, 0]]),
    ):
        Image.fromarray(np.array(values, np.float32)).save(tmp_path / f"{name}.tif")
        assert images.decode(tmp_path / f"{name}.tif").tolist() == expected
    Image.fromarray(np.array([[0, np.nan]], np.float32)).save(tmp_path / "nan.tif")
    with pytest.raises(HeatproofError, match=r"nan\.tif: broken image \(pixels that are not finite"):
        images.decode(tmp_path / "nan.tif")


@pytest.mark.parametrize("ending", ["tif", "png", "webp"])
def test_several_frames_are_refused(tmp_path, ending):
    frames = [Image.fromarray(RNG.integers(0, 256, (9, 8, 3), dtype=np.uint8)) for _ in range(3)]
    frames[0].save(tmp_path / f"a.{ending}", save_all=True, append_images=frames[1:])
    with pytest.raises(
        HeatproofError, match=rf"a\.{ending}: holds 3 frames, and one image is wanted\. Write the frames"
    ):
        images.decode(tmp_path / f"a.{ending}")


def test_previews_beside_a_photograph_are_no_frames(tmp_path):
    photograph = Image.fromarray(np.full((8, 8, 3), 200, np.uint8))
    photograph.save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[photograph.resize((4, 4))])
    assert images.decode(tmp_path / "a.jpg").shape == (8, 8, 3)


def test_cmyk_becomes_rgb(tmp_path):
    Image.new("CMYK", (4, 4), (0, 255, 255, 0)).save(tmp_path / "a.tif")
    assert images.decode(tmp_path / "a.tif")[0, 0].tolist() == [255, 0, 0]


def test_orientation_tags_are_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by 90 degrees clockwise
    Image.fromarray(GREY).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(images.decode(tmp_path / "a.png"), np.rot90(GREY, -1))


def test_broken_files_are_named(tmp_path):
    Image.fromarray(RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(tmp_path / "a.jpg")
    data = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(data[: len(data) // 2])
    with pytest.raises(HeatproofError, match=r"cut\.jpg: broken image"):
        images.decode(tmp_path / "cut.jpg")
    (tmp_path / "text.png").write_text("hello")
    with pytest.raises(HeatproofError, match=r"text\.png: no image"):
        images.decode(tmp_path / "text.png")
    with pytest.raises(HeatproofError, match=r"gone\.png: no such file"):
        images.decode(tmp_path / "gone.png")
    np.testing.assert_array_equal(images.decode(data), images.decode(tmp_path / "a.jpg"))


def test_fit_makes_the_wanted_shape():
    assert images.fit(GREY, 9, 3).shape == (9, 9, 3)
    assert images.fit(COLOUR, 9, 1).shape == (9, 9, 1)
    square = GREY[:5, :5]
    np.testing.assert_array_equal(images.fit(square, 5, 3), np.repeat(square[..., None], 3, 2))


def test_fit_averages_where_it_shrinks():
    # A checkerboard keeps its mean; picking pixels would give 0 or 255.
    board = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)
    assert np.abs(images.fit(board, 8, 1).astype(int) - 127).max() <= 1


def test_grey_from_colour_is_luma():
    pure = np.zeros((4, 4, 3), np.uint8)
    pure[..., 1] = 255
    assert images.fit(pure, 4, 1)[0, 0, 0] == 150  # 0.587 * 255


def test_fit_mask_stays_binary():
    mask = RNG.random((37, 53)) > 0.5
    small = images.fit_mask(mask, 16)
    assert small.dtype == np.uint8
    assert set(np.unique(small)) == {0, 1}
    np.testing.assert_array_equal(images.fit_mask(np.kron(small, np.ones((4, 4))) > 0, 16), small)
    np.testing.assert_array_equal(images.fit_mask(np.kron(small, np.ones((3, 3))) > 0, 16), small)


def test_which_names_are_images():
    assert images.is_image("a.JPG")
    assert images.is_image("a.b.tiff")
    assert not images.is_image("._a.jpg")
    assert not images.is_image("a.csv")


@pytest.mark.parametrize(("ending", "format"), [("png", "JPEG"), ("jpg", "PNG"), ("tif", "BMP"), ("dcm", "PNG")])
def test_an_ending_that_lies_is_told(tmp_path, ending, format):
    Image.fromarray(GREY).save(tmp_path / f"a.{ending}", format=format)
    with pytest.raises(HeatproofError, match=rf"a\.{ending}: holds {format}, and its ending says"):
        images.decode(tmp_path / f"a.{ending}")


def test_empty_files_folders_and_huge_sizes_are_told(tmp_path, monkeypatch):
    (tmp_path / "a.png").touch()
    with pytest.raises(HeatproofError, match=r"a\.png: an empty file"):
        images.decode(tmp_path / "a.png")
    (tmp_path / "b.png").mkdir()
    with pytest.raises(HeatproofError, match=r"b\.png: cannot be read \(Is a directory\)"):
        images.decode(tmp_path / "b.png")
    data = bytearray(b"P5 60000 60000 255\n" + bytes(100))
    (tmp_path / "c.pgm").write_bytes(data)
    with pytest.raises(HeatproofError, match=r"c\.pgm: broken image"):
        images.decode(tmp_path / "c.pgm")
    Image.fromarray(GREY).save(tmp_path / "d.png")
    monkeypatch.setattr("heatproof.base.dicom.MAX_PIXELS", 34)
    with pytest.raises(HeatproofError, match=r"d\.png: broken image \(5 x 7 pixels, the limit is 34\)"):
        images.decode(tmp_path / "d.png")


def test_sixteen_bit_pgm_is_read(tmp_path):
    values = np.array([[0, 65535, 32768]], ">u2")
    (tmp_path / "a.pgm").write_bytes(b"P5 3 1 65535\n" + values.tobytes())
    assert images.decode(tmp_path / "a.pgm").tolist() == [[0, 255, 128]]


def test_fit_pads_and_crop_cuts_without_stretching():
    board = np.zeros((40, 80), np.uint8)
    board[10:30, 30:50] = 200  # a centred square of 20 x 20
    padded = images.fit(board, 40, 1, "fit")[..., 0]
    assert not padded[:10].any()
    assert not padded[30:].any()
    assert (padded[16:24, 16:24] == 200).all()
    assert padded.astype(int).sum() == pytest.approx(200 * 100, rel=0.02)
    cut = images.fit(board, 40, 1, "crop")[..., 0]
    np.testing.assert_array_equal(cut, board[:, 20:60])
    tall = images.fit(board.T, 20, 3, "fit")
    assert tall.shape == (20, 20, 3)
    assert not tall[:, :5].any()


@pytest.mark.parametrize("resize", images.RESIZES)
@pytest.mark.parametrize("shape", [(40, 80), (90, 60), (64, 64), (33, 71)])
def test_masks_follow_their_image(resize, shape):
    mask = np.zeros(shape, bool)
    mask[shape[0] // 4 : shape[0] // 2, shape[1] // 3 : shape[1] // 2] = True
    seen = images.fit(mask.astype(np.uint8) * 255, 32, 1, resize)[..., 0] > 127
    fitted = images.fit_mask(mask, 32, resize) > 0
    assert (fitted & seen).sum() / (fitted | seen).sum() > 0.75
    rows, columns = np.argwhere(fitted).mean(0) - np.argwhere(seen).mean(0)
    assert max(abs(rows), abs(columns)) < 0.6
    if resize == "fit":
        assert not images.fit_mask(np.ones(shape), 32, "fit").all() or shape == (64, 64)


def test_an_unknown_policy_is_refused():
    with pytest.raises(HeatproofError, match="no such policy, got 'squeeze'"):
        images.fit(GREY, 8, 1, "squeeze")
