"""DICOM folders: order, Hounsfield units, affine, and every way in which slices are not a volume."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest
import torch
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import BasicTextSRStorage, CTImageStorage, ExplicitVRLittleEndian, JPEG2000Lossless

from medical.files import read_dicom, read_nifti, write_nifti

SERIES = "1.2.826.0.1.3680043.8.498.1"
STORED = np.random.default_rng(0).integers(0, 4000, (4, 5, 6), dtype=np.uint16)


def write_slice(path, number, **changes):
    """Slice ``number`` of an axial CT: 5 rows 0.8 mm apart, 6 columns 0.5 mm apart, 2.5 mm between slices."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = changes.get("SOPClassUID", CTImageStorage)
    meta.MediaStorageSOPInstanceUID = f"{SERIES}.{number + 1}"
    meta.TransferSyntaxUID = changes.pop("syntax", ExplicitVRLittleEndian)
    file = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    values = {
        "SOPClassUID": CTImageStorage,
        "SOPInstanceUID": meta.MediaStorageSOPInstanceUID,
        "SeriesInstanceUID": SERIES,
        "Modality": "CT",
        "Rows": 5,
        "Columns": 6,
        "PixelSpacing": [0.8, 0.5],
        "SliceThickness": 2.5,
        "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
        "ImagePositionPatient": [-10.5, 20.25, 100 + 2.5 * number],
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": 16,
        "BitsStored": 12,
        "HighBit": 11,
        "PixelRepresentation": 0,
        "RescaleSlope": 1,
        "RescaleIntercept": -1024,
        "PixelData": STORED[number].tobytes(),
    }
    for name, value in {**values, **changes}.items():
        if value is not None:
            setattr(file, name, value)
    file.save_as(path, enforce_file_format=True)


def folder(path, numbers=(2, 0, 3, 1), **changes):
    for place, number in enumerate(numbers):
        write_slice(path / f"{place}.dcm", number, **changes)
    return path


def test_slices_in_any_order_become_hounsfield_units(tmp_path):
    (tmp_path / "readme.txt").write_text("no DICOM")
    write_slice(tmp_path / "report", 0, SOPClassUID=BasicTextSRStorage, Rows=None, Columns=None, PixelData=None)
    scan = read_dicom(folder(tmp_path))
    assert np.array_equal(scan.data.numpy(), STORED.astype(np.float32) - 1024)
    assert scan.unit == "HU"
    assert scan.spacing == (2.5, 0.8, 0.5)
    # LPS (-10.5, 20.25, 100) is RAS (10.5, -20.25, 100); x and y grow to the left and to the back
    expected = [[-0.5, 0, 0, 10.5], [0, -0.8, 0, -20.25], [0, 0, 2.5, 100], [0, 0, 0, 1]]
    assert scan.affine.tolist() == expected
    found = read_nifti(write_nifti(tmp_path / "a.nii.gz", scan))
    assert torch.equal(found.data, scan.data)
    assert found.unit == "HU"
    torch.testing.assert_close(found.affine, scan.affine, rtol=1e-7, atol=0)


def test_sagittal_slices_and_their_affine(tmp_path):
    # columns to the back, rows downwards: the normal (0, 1, 0) x (0, 0, -1) points to the right, -x of LPS
    for number in range(4):
        position = [30.0 - 3 * number, -50.0, 70.0]
        write_slice(
            tmp_path / f"{9 - number}.dcm", number, ImageOrientationPatient=[0, 1, 0, 0, 0, -1], ImagePositionPatient=position
        )
    scan = read_dicom(tmp_path)
    assert np.array_equal(scan.data.numpy(), STORED.astype(np.float32) - 1024)
    corner = scan.affine @ torch.tensor([5.0, 4.0, 3.0, 1.0], dtype=torch.float64)
    assert corner.tolist() == pytest.approx([-(30.0 - 9), -(-50.0 + 5 * 0.5), 70.0 - 4 * 0.8, 1.0])


def test_gantry_tilt_is_in_the_affine(tmp_path):
    for number in range(4):
        write_slice(tmp_path / f"{number}.dcm", number, ImagePositionPatient=[0, 0.5 * number, 2.0 * number])
    assert read_dicom(tmp_path).affine[:3, 2].tolist() == [0.0, -0.5, 2.0]


def test_rescaling_of_each_slice_and_signed_values(tmp_path):
    for number in range(4):
        data = (STORED[number].astype(np.int16) - 2000).tobytes()
        options = {"BitsStored": 16, "HighBit": 15, "PixelRepresentation": 1, "RescaleSlope": 0.5 * (number + 1)}
        write_slice(tmp_path / f"{number}.dcm", number, PixelData=data, RescaleIntercept=number, Modality="MR", **options)
    expected = (STORED.astype(np.float64) - 2000) * 0.5 * np.arange(1, 5)[:, None, None] + np.arange(4)[:, None, None]
    scan = read_dicom(tmp_path)
    assert np.array_equal(scan.data.numpy(), expected.astype(np.float32))
    assert scan.unit == ""


def test_one_slice_takes_its_thickness(tmp_path):
    assert read_dicom(folder(tmp_path, [1])).spacing == (2.5, 0.8, 0.5)
    with pytest.raises(ValueError, match="states no SliceThickness"):
        read_dicom(folder(tmp_path, [1], SliceThickness=None))


def test_several_series(tmp_path):
    folder(tmp_path)
    write_slice(tmp_path / "other.dcm", 0, SeriesInstanceUID=SERIES + ".9")
    with pytest.raises(ValueError, match=r"holds 2 series; choose one with series=, of .*\.9"):
        read_dicom(tmp_path)
    assert read_dicom(tmp_path, series=SERIES).data.shape == (4, 5, 6)
    with pytest.raises(ValueError, match="series must be one of"):
        read_dicom(tmp_path, series="1.2.3")


def test_missing_and_repeated_slices(tmp_path):
    folder(tmp_path, [0, 1, 3])
    write_slice(tmp_path / "3.dcm", 0, ImagePositionPatient=[-10.5, 20.25, 110.0])
    with pytest.raises(ValueError, match=r"uneven slices, 5 mm between numbers 1 and 2 .* 2\.5 mm elsewhere"):
        read_dicom(tmp_path)
    folder(tmp_path, [0, 1, 2, 1])
    with pytest.raises(ValueError, match=r"two slices at \[-10\.5, 20\.25, 102\.5\] mm"):
        read_dicom(tmp_path)


def test_slices_beside_each_other(tmp_path):
    folder(tmp_path, [0, 1, 2, 3])
    write_slice(tmp_path / "1.dcm", 1, ImagePositionPatient=[30, 20.25, 102.5])
    with pytest.raises(ValueError, match="do not lie on a straight line"):
        read_dicom(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"Columns": 5, "PixelData": bytes(50)}, "Columns is 5, in other slices 6"),
        ({"PixelSpacing": [0.8, 0.6]}, "PixelSpacing is"),
        ({"ImageOrientationPatient": [0, 1, 0, 0, 0, -1]}, "ImageOrientationPatient is"),
        ({"ImagePositionPatient": None}, "lacks ImagePositionPatient"),
        ({"SamplesPerPixel": 3}, "must be grey, got 3 samples"),
        ({"NumberOfFrames": 2}, "has 2 frames"),
        ({"PixelData": STORED[1].tobytes()[:30]}, "truncated or damaged pixels"),
        ({"PixelData": None}, "truncated or damaged pixels"),
    ],
)
def test_bad_slices(tmp_path, changes, message):
    folder(tmp_path, [0, 1, 2, 3])
    write_slice(tmp_path / "9.dcm", 3, **{"ImagePositionPatient": [-10.5, 20.25, 110.0], **changes})
    with pytest.raises(ValueError, match=rf"9\.dcm: .*{message}"):
        read_dicom(tmp_path)


def test_compressed_slices(tmp_path):
    data = pydicom.encaps.encapsulate([bytes(20)])
    with pytest.raises(ValueError, match=r"0\.dcm: compressed pixels \(JPEG 2000 .*decompress them first"):
        read_dicom(folder(tmp_path, [0], syntax=JPEG2000Lossless, PixelData=data))


def test_a_file_cut_in_half(tmp_path):
    folder(tmp_path)
    data = (tmp_path / "2.dcm").read_bytes()
    (tmp_path / "2.dcm").write_bytes(data[:-40])
    with pytest.raises(ValueError, match=r"2\.dcm: truncated or damaged pixels"):
        read_dicom(tmp_path)
    for size in (len(data) // 2, 400, 200, 100, 0):
        (tmp_path / "2.dcm").write_bytes(data[:size])
        with pytest.raises(ValueError, match=r"2\.dcm: (truncated|damaged)"):
            read_dicom(tmp_path)


def test_no_slices(tmp_path):
    with pytest.raises(ValueError, match="holds no DICOM pictures"):
        read_dicom(tmp_path)
    (tmp_path / "a.txt").write_text("no DICOM")
    with pytest.raises(ValueError, match="holds no DICOM pictures"):
        read_dicom(tmp_path)
    with pytest.raises(NotADirectoryError, match="must be a folder"):
        read_dicom(tmp_path / "a.txt")
