"""DICOM against values worked out by hand, against real files, and without a name in sight."""

import hashlib
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian
from shelves import real

from heatproof.base import dicom
from heatproof.base.errors import HeatproofError
from heatproof.base.images import decode

VALUES = np.array([[0, 100, 200], [300, 400, 500]], np.uint16)


def write(path: Path, pixels: np.ndarray = VALUES, *, meta: bool = True, **tags) -> Path:
    """A DICOM file with those pixels and tags."""
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    data.Rows, data.Columns = pixels.shape[:2]
    data.SamplesPerPixel = pixels.shape[2] if pixels.ndim == 3 else 1
    data.PhotometricInterpretation = "RGB" if pixels.ndim == 3 else "MONOCHROME2"
    if pixels.ndim == 3:
        data.PlanarConfiguration = 0
    data.BitsAllocated = data.BitsStored = 8 * pixels.itemsize
    data.HighBit = data.BitsStored - 1
    data.PixelRepresentation = int(pixels.dtype.kind == "i")
    data.PixelData = pixels.tobytes()
    for name, value in tags.items():
        setattr(data, name, value)
    if meta:
        data.save_as(path, enforce_file_format=True)
    else:
        data.file_meta = FileMetaDataset()
        data.save_as(path, implicit_vr=False, little_endian=True)
    return path


@pytest.mark.parametrize("kind", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
def test_a_window_is_that_of_the_standard(tmp_path, kind):
    tags = {"RescaleSlope": 2, "RescaleIntercept": -1024, "WindowCenter": -624, "WindowWidth": 400}
    file = write(tmp_path / "a.dcm", RescaleType="HU", VOILUTFunction=kind, **tags)
    hounsfield = VALUES * 2.0 - 1024
    # PS3.3 C.11.2.1.2 with an output range of 0 to 1.
    by_hand = {
        "LINEAR": np.clip((hounsfield + 624.5) / 399 + 0.5, 0, 1),
        "LINEAR_EXACT": np.clip((hounsfield + 624) / 400 + 0.5, 0, 1),
        "SIGMOID": 1 / (1 + np.exp(-4 * (hounsfield + 624) / 400)),
    }[kind]
    np.testing.assert_allclose(decode(file), by_hand * 255, atol=0.51)


def test_signed_values_and_several_windows(tmp_path):
    signed = VALUES.astype(np.int16) - 250
    file = write(tmp_path / "a.dcm", signed, WindowCenter=[0, 999], WindowWidth=[500, 1])
    np.testing.assert_allclose(decode(file), np.clip((signed + 0.5) / 499 + 0.5, 0, 1) * 255, atol=0.51)
    without = write(tmp_path / "b.dcm", signed)
    np.testing.assert_allclose(decode(without), VALUES / 500 * 255, atol=0.51)


def test_a_lookup_table_goes_before_a_window(tmp_path):
    table = Dataset()
    table.LUTDescriptor = [501, 0, 12]
    table.LUTData = np.arange(0, 4008, 8, dtype="<u2").tobytes()
    file = write(tmp_path / "a.dcm", VOILUTSequence=[table], WindowCenter=1, WindowWidth=1)
    np.testing.assert_allclose(decode(file), VALUES * 8 / 4095 * 255, atol=0.51)


def test_without_a_window_the_depth_is_the_scale(tmp_path):
    np.testing.assert_allclose(decode(write(tmp_path / "a.dcm")), VALUES / 4095 * 255, atol=0.51)
    bright = write(tmp_path / "b.dcm", VALUES * 100)
    np.testing.assert_allclose(decode(bright), VALUES * 100 / 65535 * 255, atol=0.51)
    byte = (VALUES // 2).astype(np.uint8)
    np.testing.assert_array_equal(decode(write(tmp_path / "c.dcm", byte)), byte)
    # A rescale that only changes the unit changes nothing that is seen; one that turns the scale does.
    unit = write(tmp_path / "d.dcm", RescaleSlope=1, RescaleIntercept=-1024)
    np.testing.assert_array_equal(decode(unit), decode(tmp_path / "a.dcm"))
    turned = write(tmp_path / "e.dcm", RescaleSlope=-1, RescaleIntercept=0)
    np.testing.assert_array_equal(decode(turned), 255 - decode(tmp_path / "a.dcm"))


def test_monochrome1_is_inverted_and_padding_is_black(tmp_path):
    plain = decode(write(tmp_path / "a.dcm"))
    inverted = write(tmp_path / "b.dcm", PhotometricInterpretation="MONOCHROME1")
    np.testing.assert_array_equal(decode(inverted), 255 - plain)
    padded = write(tmp_path / "c.dcm", PhotometricInterpretation="MONOCHROME1", PixelPaddingValue=100)
    expected = np.where(VALUES == 100, 0, 255 - plain)
    np.testing.assert_array_equal(decode(padded), expected)


def test_colour_stays_colour(tmp_path):
    colour = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)
    np.testing.assert_array_equal(decode(write(tmp_path / "a.dcm", colour)), colour)


def test_files_are_known_by_content_and_by_ending(tmp_path):
    file = write(tmp_path / "a.dcm")
    bare = write(tmp_path / "b.dcm", meta=False)  # as some scanners write them, without preamble
    np.testing.assert_array_equal(decode(bare), decode(file))
    np.testing.assert_array_equal(decode(file.rename(tmp_path / "without")), decode(bare))
    np.testing.assert_array_equal(decode((tmp_path / "without").read_bytes()), decode(bare))
    (tmp_path / "without").rename(tmp_path / "a.png")
    with pytest.raises(HeatproofError, match=r"a\.png: holds DICOM, and its ending says PNG"):
        decode(tmp_path / "a.png")
    (tmp_path / "text.dcm").write_text("no such thing")
    with pytest.raises(HeatproofError, match=r"text\.dcm: no DICOM file"):
        decode(tmp_path / "text.dcm")


def test_what_is_no_single_image_is_refused(tmp_path):
    with pytest.raises(HeatproofError, match="holds 2 frames, and one image is wanted"):
        decode(write(tmp_path / "a.dcm", NumberOfFrames=2))
    with pytest.raises(HeatproofError, match="60000 x 60000 pixels, the limit is"):
        decode(write(tmp_path / "b.dcm", Rows=60000, Columns=60000))
    with pytest.raises(HeatproofError, match="a DICOM file without an image"):
        decode(get_testdata_file("test-SR.dcm", download=False))
    with pytest.raises(HeatproofError, match=r"broken DICOM file \(The number of bytes of pixel data is less"):
        decode(get_testdata_file("MR_truncated.dcm", download=False))
    with pytest.raises(HeatproofError, match=r"broken DICOM file"):
        decode(get_testdata_file("badVR.dcm", download=False))


def test_a_missing_decoder_is_named(monkeypatch):
    file = get_testdata_file("MR_small_jpeg_ls_lossless.dcm", download=False)

    def lacking(data):
        raise RuntimeError("Unable to decompress: all plugins are missing dependencies: gdcm - requires gdcm>=3")

    monkeypatch.setattr("pydicom.pixels.pixel_array", lacking)
    with pytest.raises(HeatproofError, match=r"lossless\.dcm: compressed as JPEG-LS Lossless Image C.*, and no"):
        decode(file)


@pytest.mark.parametrize(
    "name", ["MR_small_RLE", "MR_small_bigendian", "MR_small_expb", "MR_small_implicit", "MR_small_jp2klossless"]
)
def test_one_picture_in_many_encodings(name):
    plain = decode(get_testdata_file("MR_small.dcm", download=False))
    data = pydicom.dcmread(get_testdata_file("MR_small.dcm", download=False))
    window = (data.pixel_array - (data.WindowCenter - 0.5)) / (data.WindowWidth - 1) + 0.5
    np.testing.assert_allclose(plain, np.clip(window, 0, 1) * 255, atol=0.51)
    np.testing.assert_array_equal(decode(get_testdata_file(f"{name}.dcm", download=False)), plain)


def test_palettes_and_ybr_are_colours():
    assert decode(get_testdata_file("examples_palette.dcm", download=False)).shape == (350, 800, 3)
    rgb = decode(get_testdata_file("SC_rgb_rle.dcm", download=False)).astype(int)
    ybr = decode(get_testdata_file("SC_ybr_full_422_uncompressed.dcm", download=False)).astype(int)
    assert np.abs(rgb - ybr).mean() < 2


def test_the_real_radiographs():
    folder = Path(real("dicom"))
    inverted = pydicom.dcmread(folder / "RG1_J2KI.dcm")
    shown = decode(folder / "RG1_J2KI.dcm")
    assert inverted.PhotometricInterpretation == "MONOCHROME1"
    assert shown.shape == (1955, 1841)
    assert np.corrcoef(inverted.pixel_array.ravel()[::97], shown.ravel()[::97])[0, 1] < -0.9
    assert decode(folder / "CT_small.dcm").shape == (128, 128)
    chest = folder / "1.3.6.1.4.1.11129.5.5.110503645592756492463169821050252582267888.dcm"
    np.testing.assert_array_equal(decode(chest), pydicom.dcmread(chest).pixel_array)


def test_a_patient_is_a_hash_and_nothing_else(tmp_path):
    first = write(tmp_path / "a.dcm", PatientID=" ward7-4711 ", PatientName="Doe^Jane")
    second = write(tmp_path / "b.dcm", VALUES + 1, PatientID="ward7-4711")
    group = dicom.patient_group(first)
    assert group == dicom.patient_group(second) == f"patient-{hashlib.sha256(b'ward7-4711').hexdigest()[:16]}"
    assert dicom.patient_group(write(tmp_path / "c.dcm", PatientID="ward7-4712")) != group
    assert dicom.patient_group(write(tmp_path / "d.dcm")) is None
    (tmp_path / "e.dcm").write_text("nothing")
    assert dicom.patient_group(tmp_path / "e.dcm") is None
    assert dicom.patient_group(tmp_path / "gone.dcm") is None
