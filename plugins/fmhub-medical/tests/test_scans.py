"""Readers of DICOM, NRRD and NIfTI on pydicom's bundled files and on made-up volumes; each kind of bad file gives one line."""

from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path

import nibabel
import nrrd
import numpy as np
import pydicom
import pytest
from fmhub_medical import patients, readers
from fmhub_medical.readers import dicom, scan
from fmhub_medical.readers.scan import HOUNSFIELD, Scan, upright
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, generate_uid

from fmhub import DataError

BUNDLED = Path(pydicom.__file__).parent / "data" / "test_files"
needs_files = pytest.mark.skipif(not (BUNDLED / "CT_small.dcm").is_file(), reason="this pydicom brings no test files")


def refused(path, words, name=""):
    """Reading gives one `DataError` of one line that names the file."""
    with pytest.raises(DataError, match=words) as error:
        readers.read(path, name)
    assert "\n" not in str(error.value) and (name or Path(path).name.split("/")[0]) in str(error.value)


# ---- DICOM


@needs_files
def test_ct_is_in_hounsfield_units_with_its_spacing():
    found, raw = readers.read(BUNDLED / "CT_small.dcm"), pydicom.dcmread(BUNDLED / "CT_small.dcm")
    assert raw.RescaleIntercept == -1024 and raw.RescaleSlope == 1
    assert np.array_equal(found.voxels[0], raw.pixel_array.astype(np.float32) - 1024)
    assert found.spacing == pytest.approx((5.0, 0.661468, 0.661468)) and found.modality == "CT"
    assert found.levels == HOUNSFIELD
    grey = found.grey()
    assert grey.dtype == np.uint8 and grey[found.voxels >= 400].min() == 255
    assert grey[0, 0, 0] == round(255 * (float(found.voxels[0, 0, 0]) + 1000) / 1400)


@needs_files
def test_mr_is_shown_in_the_window_that_the_file_asks_for():
    found = readers.read(BUNDLED / "MR_small.dcm")
    assert found.window == (600 - 0.5 - 799.5, 600 - 0.5 + 799.5) == found.levels  # centre 600, width 1600, as PS3.3 counts


@needs_files
@pytest.mark.parametrize("kind", ["MR_small_RLE", "MR_small_bigendian", "MR_small_implicit", "MR_small_expb", "MR_small_jp2klossless"])
def test_every_encoding_of_one_slice_gives_the_same_voxels(kind):
    assert np.array_equal(readers.read(BUNDLED / f"{kind}.dcm").voxels, readers.read(BUNDLED / "MR_small.dcm").voxels)


@needs_files
@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("rtplan.dcm", "without pixel data"),
        ("reportsi.dcm", "without pixel data"),
        ("MR_truncated.dcm", "damaged pixel data"),
        ("MR_small_jpeg_ls_lossless.dcm", "JPEG-LS.*codec is not installed"),
        ("JPGExtended.dcm", "codec is not installed"),
        ("no_meta.dcm", "no DICOM file"),
        ("SC_rgb_rle_2frame.dcm", "spacing"),
        ("badVR.dcm", "damaged"),
    ],
)
def test_dicom_that_cannot_be_used_is_refused_in_one_line(file, words):
    if not (BUNDLED / file).is_file():
        pytest.skip("this pydicom does not bring it")
    if "codec" in words and not _lacks_codec(file):
        pytest.skip("the codec is installed here")
    refused(BUNDLED / file, words)


def _lacks_codec(file):
    try:
        pydicom.dcmread(BUNDLED / file).pixel_array  # noqa: B018
    except Exception:
        return True
    return False


@needs_files
def test_no_bundled_file_gives_anything_but_a_scan_or_one_line():
    opened = 0
    for path in sorted(BUNDLED.rglob("*.dcm")):
        said = ""
        try:
            found = readers.read(path)
        except DataError as error:
            said = str(error)
        if not said:
            assert found.voxels.ndim == 3 and np.isfinite(found.voxels).all() and found.grey().shape == found.voxels.shape
            opened += 1
        assert "\n" not in said
    assert opened >= 20


def dataset(pixels, **elements):
    """A made-up CT slice."""
    made = pydicom.Dataset()
    made.file_meta = pydicom.dataset.FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.SOPClassUID, made.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", generate_uid()
    made.file_meta.MediaStorageSOPClassUID, made.file_meta.MediaStorageSOPInstanceUID = made.SOPClassUID, made.SOPInstanceUID
    made.Modality, made.PhotometricInterpretation, made.SamplesPerPixel = "CT", "MONOCHROME2", 1
    made.BitsAllocated, made.BitsStored, made.HighBit, made.PixelRepresentation = 16, 16, 15, 1
    made.Rows, made.Columns = pixels.shape
    made.PixelData = pixels.astype("<i2").tobytes()
    for name, value in elements.items():
        setattr(made, name, value)
    return made


def series(folder, count=3, step=2.5, **elements):
    """Slices numbered by their value, written in an order that is not theirs."""
    folder.mkdir()
    for number in range(count):
        made = dataset(
            np.full((4, 6), number), SeriesInstanceUID="1.2.3", PixelSpacing=[0.5, 0.7], ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
            ImagePositionPatient=[0, 0, step * number], RescaleSlope=2, RescaleIntercept=-1000, **elements,
        )  # fmt: skip
        made.save_as(folder / f"{(number * 7) % 5}.dcm", enforce_file_format=True)
    return folder


def test_a_folder_of_slices_is_a_volume_in_the_order_of_their_places(tmp_path):
    found = readers.read(series(tmp_path / "patient"))
    assert found.voxels.shape == (3, 4, 6) and found.spacing == pytest.approx((2.5, 0.5, 0.7))
    assert found.voxels[:, 0, 0].tolist() == [-1000, -998, -996]  # slope 2, intercept -1000


def test_folders_that_are_no_one_series_are_refused(tmp_path):
    folder = series(tmp_path / "mixed")
    other = pydicom.dcmread(next(folder.iterdir()))
    other.SeriesInstanceUID = "9.9"
    other.save_as(folder / "other.dcm")
    refused(folder, "2 series")
    gap = series(tmp_path / "gap", 4)
    for path in gap.iterdir():
        if pydicom.dcmread(path).ImagePositionPatient[2] == 2.5:
            path.unlink()
            break
    refused(gap, "lacks slices")
    placeless = tmp_path / "placeless"
    placeless.mkdir()
    for number in range(2):
        dataset(np.ones((2, 2))).save_as(placeless / f"{number}.dcm", enforce_file_format=True)
    refused(placeless, "does not say where its slices lie")


def test_dicom_whose_header_promises_too_much_is_not_opened(tmp_path):
    made = dataset(np.ones((4, 4)), Rows=65535, Columns=65535)
    made.save_as(tmp_path / "huge.dcm", enforce_file_format=True)
    refused(tmp_path / "huge.dcm", "65535 x 65535 voxels")


def test_a_deflated_bomb_is_counted_before_it_is_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(dicom, "LARGEST", 1 << 20)
    made = dataset(np.zeros((1500, 1500)))
    made.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    made.save_as(tmp_path / "bomb.dcm", enforce_file_format=True)
    assert (tmp_path / "bomb.dcm").stat().st_size < 1 << 16
    refused(tmp_path / "bomb.dcm", "unpacks into more than 1 MiB")
    content = (tmp_path / "bomb.dcm").read_bytes()
    (tmp_path / "mute.dcm").write_bytes(content[:132] + content[144:])  # without the length of its head
    refused(tmp_path / "mute.dcm", "unpacks into more than 1 MiB")
    monkeypatch.setattr(pydicom, "dcmread", lambda *_, **__: pytest.fail("it was opened"))
    assert patients._said(tmp_path / "bomb.dcm") is None
    monkeypatch.undo()
    assert readers.read(tmp_path / "bomb.dcm").voxels.shape == (1, 1500, 1500)


def test_low_values_are_white_where_the_file_says_so(tmp_path):
    made = dataset(
        np.array([[0, 100], [50, 100]]), PhotometricInterpretation="MONOCHROME1", Modality="CR", WindowCenter=50.5, WindowWidth=101
    )
    made.save_as(tmp_path / "cr.dcm", enforce_file_format=True)
    assert readers.read(tmp_path / "cr.dcm").grey()[0].tolist() == [[255, 0], [127, 0]]


# ---- orientation


def test_upright_brings_every_orientation_to_the_same_picture():
    truth = np.arange(2 * 3 * 4, dtype=np.float32).reshape(2, 3, 4)  # head, back, left
    directions = np.array([[0, 0, 3.0], [0, 2.0, 0], [1.0, 0, 0]])
    for order in [(0, 1, 2), (2, 1, 0), (1, 2, 0), (2, 0, 1)]:
        for flips in [(), (0,), (1, 2), (0, 1, 2)]:
            stored, axes = truth.transpose(order), directions[list(order)].copy()
            for axis in flips:
                stored, axes[axis] = np.flip(stored, axis), -axes[axis]
            found, spacing = upright(stored, axes)
            assert np.array_equal(found, truth) and spacing == (3.0, 2.0, 1.0)


def test_one_slice_keeps_its_plane_and_is_only_mirrored():
    coronal = np.arange(6, dtype=np.float32).reshape(1, 2, 3)
    found, spacing = upright(coronal, np.array([[0, 5.0, 0], [0, 0, 2.0], [-1.0, 0, 0]]))  # rows to the head, columns to the right
    assert np.array_equal(found, coronal[:, ::-1, ::-1]) and spacing == (5.0, 2.0, 1.0)


# ---- NRRD


def write_nrrd(path, voxels, **header):
    nrrd.write(str(path), voxels, {"space": "left-posterior-superior", "space directions": np.diag([0.5, 0.7, 3.0]), **header})
    return path


VOXELS = np.arange(2 * 3 * 4, dtype=np.int16).reshape(2, 3, 4)
"""(x, y, z), as the files count."""


@pytest.mark.parametrize("encoding", ["raw", "gzip", "bzip2"])
def test_nrrd_is_read_in_every_encoding(tmp_path, encoding):
    found = readers.read(write_nrrd(tmp_path / "v.nrrd", VOXELS, encoding=encoding))
    assert found.spacing == pytest.approx((3.0, 0.7, 0.5)) and np.array_equal(found.voxels, VOXELS.transpose(2, 1, 0))


def test_nrrd_of_another_space_is_the_same_patient(tmp_path):
    one = readers.read(write_nrrd(tmp_path / "lps.nrrd", VOXELS))
    flipped = np.ascontiguousarray(VOXELS[::-1, ::-1])
    other = readers.read(write_nrrd(tmp_path / "ras.nrrd", flipped, space="right-anterior-superior"))
    assert np.array_equal(one.voxels, other.voxels)


def test_nrrd_that_cannot_be_used_is_refused_in_one_line(tmp_path):
    path = write_nrrd(tmp_path / "v.nrrd", VOXELS)
    whole = path.read_bytes()
    for name, content, words in (
        ("cut.nrrd", whole[:-8], "cut off|damaged"),
        ("head.nrrd", whole[:30], "damaged|cut off"),
        ("more.nrrd", whole.replace(b"sizes: 2 3 4", b"sizes: 2 3 3"), "not what its header says: more"),
        ("huge.nrrd", whole.replace(b"sizes: 2 3 4", b"sizes: 9000 9000 9000"), "9000 x 9000 x 9000"),
        ("none.nrrd", whole.replace(b"sizes: 2 3 4", b"sizes: 0 3 4"), "0 x 3 x 4"),
        ("away.nrrd", whole.replace(b"encoding: gzip", b"encoding: gzip\ndata file: /etc/passwd"), "another file"),
        ("skip.nrrd", whole.replace(b"encoding: gzip", b"encoding: gzip\nbyte skip: 4"), "skips"),
    ):
        (tmp_path / name).write_bytes(content)
        refused(tmp_path / name, words)
    nrrd.write(str(tmp_path / "spaceless.nrrd"), VOXELS)
    refused(tmp_path / "spaceless.nrrd", "spacing")
    write_nrrd(tmp_path / "odd.nrrd", np.array([[[np.nan, 1.0]], [[np.inf, 2.0]]]))
    refused(tmp_path / "odd.nrrd", "2 voxels that are not finite")


def test_a_gzip_bomb_in_nrrd_is_unpacked_no_further_than_its_header_says(tmp_path):
    path = write_nrrd(tmp_path / "v.nrrd", VOXELS)
    head = path.read_bytes().partition(b"\n\n")[0]
    (tmp_path / "bomb.nrrd").write_bytes(head + b"\n\n" + gzip.compress(bytes(1 << 26)))
    refused(tmp_path / "bomb.nrrd", "more bytes where 48 belong")


# ---- NIfTI


def write_nifti(path, voxels, affine=None, zooms=None):
    image = nibabel.Nifti1Image(voxels, np.diag([-0.5, -0.7, 3.0, 1.0]) if affine is None else affine)
    if zooms is not None:
        image.header["pixdim"][1:4] = zooms
    nibabel.save(image, path)
    return path


@pytest.mark.parametrize("name", ["v.nii", "v.nii.gz"])
def test_nifti_is_the_same_patient_as_nrrd(tmp_path, name):
    found = readers.read(write_nifti(tmp_path / name, VOXELS))
    same = readers.read(write_nrrd(tmp_path / "v.nrrd", VOXELS))
    assert found.spacing == pytest.approx((3.0, 0.7, 0.5)) and np.array_equal(found.voxels, same.voxels)


def test_nifti_scales_its_voxels(tmp_path):
    image = nibabel.Nifti1Image(VOXELS.astype(np.float32), np.diag([-1.0, -1, 1, 1]))
    image.header.set_data_dtype(np.int16)
    image.header.set_slope_inter(0.5, -10)
    nibabel.save(image, tmp_path / "scaled.nii")
    assert np.array_equal(readers.read(tmp_path / "scaled.nii").voxels, 0.5 * VOXELS.transpose(2, 1, 0) - 10)


def test_nifti_that_cannot_be_used_is_refused_in_one_line(tmp_path):
    whole = write_nifti(tmp_path / "v.nii", VOXELS).read_bytes()
    (tmp_path / "cut.nii").write_bytes(whole[:-8])
    refused(tmp_path / "cut.nii", "damaged")
    (tmp_path / "head.nii").write_bytes(whole[:100])
    refused(tmp_path / "head.nii", "damaged")
    packed = gzip.compress(whole)
    (tmp_path / "cut.nii.gz").write_bytes(packed[: len(packed) // 2])
    refused(tmp_path / "cut.nii.gz", "damaged")
    huge = whole[:40] + struct.pack("<8h", 3, 32000, 32000, 32000, 1, 1, 1, 1) + whole[56:]
    (tmp_path / "huge.nii").write_bytes(huge)
    refused(tmp_path / "huge.nii", "32000 x 32000 x 32000")
    spaceless = whole[:80] + struct.pack("<3f", 0, 0, 0) + whole[92:]
    (tmp_path / "spaceless.nii").write_bytes(spaceless)
    refused(tmp_path / "spaceless.nii", "spacing")
    write_nifti(tmp_path / "time.nii", np.zeros((2, 2, 2, 5), np.int16))
    refused(tmp_path / "time.nii", "4 dimensions")
    write_nifti(tmp_path / "nan.nii", np.full((2, 2, 2), np.nan, np.float32))
    refused(tmp_path / "nan.nii", "not finite")


# ---- all


def test_other_files_are_no_scan(tmp_path):
    (tmp_path / "a.txt").write_text("no scan")
    assert not readers.is_scan(tmp_path / "a.txt") and not readers.is_scan(tmp_path / "absent.png")
    refused(tmp_path / "a.txt", "neither DICOM nor NRRD nor NIfTI")
    refused(tmp_path / "absent.dcm", "no file")
    (tmp_path / "junk.gz").write_bytes(zlib.compress(b"junk"))
    refused(tmp_path / "junk.gz", "neither")


def test_levels_of_a_scan_that_says_none_are_percentiles_above_its_background():
    voxels = np.zeros((1, 100, 100), np.float32)
    voxels[0, 20:80, 20:80] = np.linspace(100, 200, 3600).reshape(60, 60)
    low, high = Scan(voxels, None).levels
    assert 100 < low < 101 and 199 < high < 200
    assert Scan(np.full((1, 2, 2), -1000.0, np.float32), None).levels == HOUNSFIELD
    assert Scan(np.full((1, 2, 2), 7.0, np.float32), None).grey().tolist() == [[[0, 0], [0, 0]]]


def test_sizes_are_bounded():
    scan.bounded([512, 512, 1024], "x")
    for shape in ([1 << 20, 1 << 20, 1], [0, 5, 5], [-1, 5, 5], []):
        with pytest.raises(DataError):
            scan.bounded(shape, "x")
