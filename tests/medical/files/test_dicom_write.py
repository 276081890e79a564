"""Written DICOM series: values, place and spacing come back; new UIDs, marked as derived, whole or not at all."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pydicom
import pytest
import torch
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MRImageStorage

from medical.files import Scan, canonical, read_dicom, write_dicom
from tests.medical.files.test_dicom import SERIES, folder, write_slice

UPRIGHT = torch.diag(torch.tensor([-0.7, -0.9, 2.5, 1.0], dtype=torch.float64))
PATIENT = {
    "PatientName": "Müller^Zoë",
    "SpecificCharacterSet": "ISO_IR 100",
    "PatientID": "P-17",
    "PatientBirthDate": "19500131",
    "PatientSex": "F",
    "StudyInstanceUID": "1.2.826.0.1.3680043.8.498.7",
    "FrameOfReferenceUID": "1.2.826.0.1.3680043.8.498.8",
    "StudyDate": "20240102",
    "AccessionNumber": "A1",
    "SeriesNumber": 3,
    "Manufacturer": "Scanners",
    "ManufacturerModelName": "One",
    "PatientPosition": "HFS",
    "KVP": 120,
    "WindowCenter": 50,
    "WindowWidth": 350,
}


def scan(seed=0, scale=1000.0, unit="HU", affine=UPRIGHT):
    data = scale * torch.randn(4, 5, 6, generator=torch.Generator().manual_seed(seed))
    return Scan(data=data, affine=affine, unit=unit)


def oblique(seed):
    """A random turn, unequal steps and a corner far away, right-handed in LPS."""
    generator = torch.Generator().manual_seed(seed)
    turn = torch.linalg.qr(torch.randn(3, 3, generator=generator, dtype=torch.float64))[0]
    turn[:, 2] *= torch.linalg.det(turn).sign()
    affine = torch.eye(4, dtype=torch.float64)
    affine[:3, :3] = turn * torch.tensor([1 / 3, 0.7654321, 2.123456789])
    affine[:3, 3] = torch.tensor([-1234.56789012, 0.000123456789, 777.7])
    return affine


def files(path):
    return [pydicom.dcmread(file) for file in sorted(path.iterdir())]


@pytest.mark.parametrize("seed", range(5))
def test_affine_spacing_and_hounsfield_units(tmp_path, seed):
    source = scan(seed, affine=oblique(seed))
    found = read_dicom(write_dicom(tmp_path / "a", source))
    corners = torch.tensor([[0, 511, 0, 511], [0, 0, 511, 511], [0, 0, 3, 3], [1, 1, 1, 1]], dtype=torch.float64)
    torch.testing.assert_close(found.affine @ corners, source.affine @ corners, rtol=0, atol=1e-8)
    assert found.spacing == pytest.approx(source.spacing, rel=1e-10)
    assert (found.data - source.data).abs().max() <= 0.0625 + 1e-3  # half of 1/8 HU: 65535 / 8 spans the 8 sigma
    assert found.unit == "HU"


@pytest.mark.parametrize(
    ("low", "high", "error"),
    [
        (-1024, 3071, 0),
        (-32768, 32767, 0),
        (0, 65535, 0),
        (-1000.5, 1500.25, 2**-5),
        (-0.5, 0.5, 2**-11),
        (-1000.5, 64500, 0.5),
    ],
)
def test_ct_numbers_to_the_finest_step(tmp_path, low, high, error):
    values = torch.linspace(low, high, 120, dtype=torch.float64)
    values = values.round() if error == 0 else values
    values[0], values[-1] = low, high
    source = replace(scan(), data=values.float().reshape(4, 5, 6))
    found = read_dicom(write_dicom(tmp_path / "a", source)).data
    assert (found - source.data).abs().max().item() <= error
    again = read_dicom(write_dicom(tmp_path / "b", replace(source, data=found))).data
    assert torch.equal(again, found)


def test_mr_fills_16_bits(tmp_path):
    for number, (scale, sign) in enumerate([(1e-3, 0), (0.4, 0), (3e6, 0), (1.0, 1)]):
        source = scan(scale=scale, unit="")
        source = source if sign else replace(source, data=source.data.abs())
        path = write_dicom(tmp_path / str(number), source, modality="MR")
        stored = np.stack([file.pixel_array for file in files(path)])
        assert stored.max() == 65535
        assert (stored.min() == 0) == bool(sign)
        step = float(source.data.max() - source.data.min().clamp(max=0)) / 65535
        found = read_dicom(path)
        assert (found.data - source.data).abs().max().item() <= 0.5 * step * (1 + 1e-3)
        assert found.unit == ""
        assert files(path)[0].file_meta.MediaStorageSOPClassUID == MRImageStorage
    whole = replace(source, data=torch.arange(120.0).reshape(4, 5, 6) * 500)
    assert torch.equal(read_dicom(write_dicom(tmp_path / "whole", whole, modality="MR")).data, whole.data)
    flat = replace(source, data=torch.full((4, 5, 6), 0.1))
    assert read_dicom(write_dicom(tmp_path / "flat", flat, modality="MR")).data.unique().tolist() == [pytest.approx(0.1)]


def test_a_new_derived_series_without_source(tmp_path):
    found = files(write_dicom(tmp_path / "a", scan(), description="DDS"))
    for number, file in enumerate(found):
        assert file.ImageType == ["DERIVED", "SECONDARY", "AXIAL"]
        assert (file.Modality, file.SOPClassUID, file.SeriesDescription) == ("CT", CTImageStorage, "DDS")
        assert file.InstanceNumber == number + 1
        assert file.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
        assert file.file_meta.MediaStorageSOPInstanceUID == file.SOPInstanceUID
        assert "not an acquired image" in file.DerivationDescription
        assert (file.BurnedInAnnotation, file.RescaleType, file.PatientName) == ("NO", "HU", "")
        assert float(file.SliceThickness) == float(file.SpacingBetweenSlices) == 2.5
    assert len({file.SOPInstanceUID for file in found}) == 4
    names = ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")
    for name in names:
        assert len({file[name].value for file in found}) == 1
    second = files(write_dicom(tmp_path / "b", scan()))[0]
    uids = [uid for file in (*found, second) for uid in (file.SOPInstanceUID, *(file[name].value for name in names))]
    assert all(uid.is_valid and len(uid) <= 64 for uid in uids)
    assert len(set(uids)) == 5 + 2 * len(names)
    for a, b in pairwise(float(file.ImagePositionPatient[2]) for file in found):
        assert b - a == 2.5


@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_required_attributes_and_valid_values(tmp_path, modality):
    """PS3.3 A.3 and A.4: attributes of type 1 have a value, those of type 2 are there."""
    first = "SOPClassUID SOPInstanceUID StudyInstanceUID Modality SeriesInstanceUID FrameOfReferenceUID ImageType PixelSpacing"
    first += (
        " ImageOrientationPatient ImagePositionPatient SamplesPerPixel PhotometricInterpretation Rows Columns BitsAllocated"
    )
    first += " BitsStored HighBit PixelRepresentation PixelData"
    second = (
        "PatientName PatientID PatientBirthDate PatientSex StudyDate StudyTime ReferringPhysicianName StudyID AccessionNumber"
    )
    second += " SeriesNumber PatientPosition PositionReferenceIndicator Manufacturer InstanceNumber SliceThickness"
    first += {"CT": " RescaleIntercept RescaleSlope RescaleType", "MR": " ScanningSequence SequenceVariant"}[modality]
    second += {
        "CT": " KVP AcquisitionNumber",
        "MR": " ScanOptions MRAcquisitionType RepetitionTime EchoTime EchoTrainLength AcquisitionNumber",
    }[modality]
    path = write_dicom(tmp_path / "a", scan(affine=oblique(0), unit={"CT": "HU", "MR": ""}[modality]), modality=modality)
    pydicom.config.settings.reading_validation_mode, before = (
        pydicom.config.RAISE,
        pydicom.config.settings.reading_validation_mode,
    )
    try:
        for file in files(path):
            assert all(element.value is not None for element in file.iterall() if element.VR == "DS" and element.value)
            assert [name for name in first.split() if file.get(name) in (None, "")] == []
            assert [name for name in second.split() if name not in file] == []
            text = [str(v) for e in file if e.VR == "DS" and e.value for v in np.atleast_1d(e.value)]
            assert max(map(len, text)) <= 16
    finally:
        pydicom.config.settings.reading_validation_mode = before


def test_patient_and_study_come_from_the_source(tmp_path):
    (tmp_path / "source").mkdir()
    source = folder(tmp_path / "source", **PATIENT, LossyImageCompression="01", StudyID="much too long for a study")
    for path in source.iterdir():
        file = pydicom.dcmread(path)
        file.private_block(0x0009, "Secret", create=True).add_new(1, "LO", "private")
        file.save_as(path)
    read = read_dicom(source)
    path = write_dicom(tmp_path / "a", replace(read, data=read.data + 0.25), like=source)
    found = read_dicom(path)
    assert torch.equal(found.affine, read.affine)
    torch.testing.assert_close(found.data, read.data + 0.25, rtol=0, atol=2**-4)
    kept = set(PATIENT) - {"SpecificCharacterSet", "SeriesNumber", "Manufacturer", "ManufacturerModelName"}
    for file in files(path):
        assert [str(file[name].value).removesuffix(".0") for name in kept] == [str(PATIENT[name]) for name in kept]
        assert file.SeriesInstanceUID != SERIES
        assert (file.SeriesNumber, file.LossyImageCompression, file.StudyID) == (1003, "01", "")
        assert SERIES in file.DerivationDescription
        assert file.ContributingEquipmentSequence[0].Manufacturer == "Scanners"
        assert not [element for element in file.iterall() if element.tag.is_private]
        assert b"private" not in (path / "00001.dcm").read_bytes()


def test_one_file_chooses_the_source_among_series(tmp_path):
    (tmp_path / "source").mkdir()
    source = folder(tmp_path / "source", **PATIENT)
    write_slice(source / "other.dcm", 0, SeriesInstanceUID=SERIES + ".9", PatientID="P-18", Modality="MR")
    with pytest.raises(ValueError, match="holds 2 series"):
        write_dicom(tmp_path / "a", scan(), like=source)
    path = write_dicom(tmp_path / "a", scan(unit=""), like=source / "other.dcm")
    assert (files(path)[0].PatientID, files(path)[0].Modality) == ("P-18", "MR")
    with pytest.raises(ValueError, match=r"like must be a series of CT, its modality is MR"):
        write_dicom(tmp_path / "b", scan(), like=source / "other.dcm", modality="CT")


def test_gantry_tilt_and_micrometres(tmp_path):
    affine = UPRIGHT.clone()
    affine[1, 2] = 0.5
    found = read_dicom(write_dicom(tmp_path / "a", scan(affine=affine)))
    torch.testing.assert_close(found.affine, affine, rtol=0, atol=1e-12)
    small = Scan(data=scan().data, affine=affine, unit="HU", length="um")
    found = read_dicom(write_dicom(tmp_path / "b", small))
    assert found.spacing == pytest.approx(small.spacing, rel=1e-12)


def test_left_handed_slices_come_back_in_the_other_order_at_the_same_places(tmp_path):
    affine = UPRIGHT.clone()
    affine[0, 0] = 0.7  # x to the right, y to the back, z to the head
    source = scan(affine=affine)
    whole = replace(source, data=source.data.round())
    found = read_dicom(write_dicom(tmp_path / "a", whole))
    assert torch.equal(found.data, whole.data.flip(0))
    assert (found.affine @ torch.tensor([1.0, 2, 3, 1]).double()).tolist() == pytest.approx(
        (affine @ torch.tensor([1.0, 2, 0, 1]).double()).tolist()
    )
    turned, undo = canonical(whole)
    back = read_dicom(write_dicom(tmp_path / "b", turned))
    assert torch.equal(undo(replace(turned, data=back.data)).data, whole.data)


def test_one_slice(tmp_path):
    one = replace(scan(), data=scan().data[:1].round())
    found = read_dicom(write_dicom(tmp_path / "a", one))
    assert torch.equal(found.data, one.data)
    assert torch.equal(found.affine, one.affine)


def test_nothing_is_half_written(tmp_path, monkeypatch):
    write_dicom(tmp_path / "a", scan())
    before = {path: path.read_bytes() for path in (tmp_path / "a").iterdir()}
    save, calls = pydicom.Dataset.save_as, []

    def fail(self, *args, **options):
        calls.append(self)
        if len(calls) == 3:
            raise KeyboardInterrupt
        save(self, *args, **options)

    monkeypatch.setattr(pydicom.Dataset, "save_as", fail)
    for name in ("a", "b"):
        calls.clear()
        with pytest.raises(KeyboardInterrupt):
            write_dicom(tmp_path / name, scan(1), overwrite=True)
    assert {path: path.read_bytes() for path in (tmp_path / "a").iterdir()} == before
    assert list(tmp_path.iterdir()) == [tmp_path / "a"]


def test_what_is_there_already(tmp_path):
    path = write_dicom(tmp_path / "a", scan())
    with pytest.raises(FileExistsError, match="overwrite=True"):
        write_dicom(path, scan(1))
    fewer = replace(scan(1), data=scan(1).data[:2])
    write_dicom(path, fewer, overwrite=True)
    assert sorted(file.name for file in path.iterdir()) == ["00001.dcm", "00002.dcm"]
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(ValueError, match="folder must be another than that of the source"):
        write_dicom(path, fewer, like=path, overwrite=True)
    with pytest.raises(ValueError, match="folder must be another than that of the source"):
        write_dicom(path, fewer, like=path / "00001.dcm", overwrite=True)
    (path / "notes.txt").write_text("kept")
    with pytest.raises(FileExistsError, match=r"holds notes\.txt, which is no \.dcm file, and is not replaced"):
        write_dicom(path, scan(), overwrite=True)
    with pytest.raises(FileExistsError, match="is a file; name a folder"):
        write_dicom(path / "notes.txt", scan())
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        write_dicom(tmp_path / "none" / "a", scan())
    (tmp_path / "empty").mkdir()
    assert read_dicom(write_dicom(tmp_path / "empty", scan())).data.shape == (4, 5, 6)


def sheared():
    affine = UPRIGHT.clone()
    affine[0, 1] = 0.01
    return affine


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({"affine": sheared()}, {}, r"affine must have rows and columns at a right angle for DICOM, got 90\.64 degrees"),
        ({"unit": ""}, {}, "modality must be given as 'CT' or 'MR': the values are in no unit"),
        ({"unit": "1/mm"}, {"modality": "CT"}, "data must be in HU for CT .* got unit '1/mm' for CT; convert it first"),
        ({}, {"modality": "MR"}, "data must be in HU for CT and not in HU for MR, got unit 'HU' for MR"),
        ({}, {"modality": "PET"}, "modality must be 'CT' or 'MR', got 'PET'"),
        ({}, {"description": "x" * 65}, "description must have 1 to 64 characters"),
        ({"data": torch.tensor([[[0.0, 65536.0]]])}, {}, "data must span at most 65535 HU"),
        ({"data": torch.full((1, 2, 2), float("inf"))}, {}, "data of the scan has 4 values that are NaN or infinite"),
    ],
)
def test_bad_arguments(tmp_path, change, options, message):
    with pytest.raises(ValueError, match=message):
        write_dicom(tmp_path / "a", replace(scan(), **change), **options)
    assert list(tmp_path.iterdir()) == []


def test_no_source(tmp_path):
    with pytest.raises(FileNotFoundError, match="like: there is no folder or file"):
        write_dicom(tmp_path / "a", scan(), like=tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no DICOM pictures"):
        write_dicom(tmp_path / "a", scan(), like=tmp_path / "empty")
