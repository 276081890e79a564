"""One door for NIfTI and DICOM."""

from __future__ import annotations

import shutil
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import torch

from medical.files import Scan, read_dicom, read_nifti, read_volume, write_dicom, write_nifti, write_volume

AFFINE = torch.tensor([[-0.75, 0, 0, 12.5], [0, -0.875, 0, -80.25], [0, 0, 2.5, 100], [0, 0, 0, 1]], dtype=torch.float64)
SCAN = Scan(data=torch.arange(-60.0, 60.0).reshape(4, 5, 6), affine=AFFINE, unit="HU")


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "A.NII.GZ", "series"])
def test_round_trip(tmp_path, name):
    path = write_volume(tmp_path / name, SCAN)
    assert path == tmp_path / name
    assert path.is_dir() == (name == "series")
    for given in (path, str(path)):
        found = read_volume(given)
        assert torch.equal(found.data, SCAN.data)
        assert found.affine.tolist() == SCAN.affine.tolist()
        assert found.spacing == (2.5, 0.875, 0.75)
        assert found.unit == "HU"
    with pytest.raises(FileExistsError, match="overwrite=True"):
        write_volume(path, SCAN)
    write_volume(path, replace(SCAN, data=SCAN.data + 1), overwrite=True)
    assert torch.equal(read_volume(path).data, SCAN.data + 1)


def test_between_the_formats(tmp_path):
    write_volume(tmp_path / "a", SCAN)
    write_volume(tmp_path / "b.nii.gz", read_volume(tmp_path / "a"), like=tmp_path / "a")
    back = write_volume(tmp_path / "c", read_volume(tmp_path / "b.nii.gz"), like=tmp_path / "a")
    assert torch.equal(read_dicom(back).data, SCAN.data)
    assert read_dicom(back).affine.tolist() == AFFINE.tolist()


def test_one_file_stands_for_its_series(tmp_path):
    write_dicom(tmp_path / "a", SCAN)
    write_dicom(tmp_path / "b", replace(SCAN, data=SCAN.data + 7))
    for path in (tmp_path / "b").iterdir():
        shutil.copy(path, tmp_path / "a" / f"second{path.name}")
    with pytest.raises(ValueError, match="holds 2 series"):
        read_volume(tmp_path / "a")
    assert torch.equal(read_volume(tmp_path / "a" / "00003.dcm").data, SCAN.data)
    assert torch.equal(read_volume(tmp_path / "a" / "second00001.dcm").data, SCAN.data + 7)
    (tmp_path / "a" / "second00002.dcm").rename(tmp_path / "a" / "no_suffix")
    assert torch.equal(read_volume(tmp_path / "a" / "no_suffix").data, SCAN.data + 7)


def test_what_is_no_volume(tmp_path):
    (tmp_path / "a.txt").write_text("text")
    (tmp_path / "b.dcm").write_text("text")
    nib.save(nib.Nifti1Image(np.zeros((4, 3, 2, 5), np.float32), np.eye(4)), tmp_path / "c.nii")
    for name, error, message in (
        ("a.txt", ValueError, r"a\.txt: must be a NIfTI file \(\.nii, \.nii\.gz\), a folder of DICOM slices or one DICOM"),
        ("b.dcm", ValueError, r"b\.dcm: damaged, or no DICOM file"),
        ("c.nii", ValueError, r"c\.nii: must be one volume \(i, j, k\), got shape \(4, 3, 2, 5\)"),
        ("none", FileNotFoundError, "none: there is no such file or folder"),
        ("none.nii.gz", FileNotFoundError, "there is no such file"),
    ):
        with pytest.raises(error, match=message):
            read_volume(tmp_path / name)
    (tmp_path / "d").mkdir()
    write_nifti(tmp_path / "d" / "a.nii", SCAN)
    with pytest.raises(ValueError, match="holds no DICOM pictures"):
        read_volume(tmp_path / "d")
    with pytest.raises(ValueError, match=r"a\.nrrd: must end in \.nii or \.nii\.gz, or be the name of a folder"):
        write_volume(tmp_path / "a.nrrd", SCAN)


@pytest.mark.parametrize("name", ["a.nii.gz", "series"])
def test_nothing_is_written_of_a_volume_with_nan(tmp_path, name):
    data = SCAN.data.clone()
    data[1, 2, 3] = float("nan")
    with pytest.raises(ValueError, match="data of the scan has 1 values that are NaN or infinite"):
        write_volume(tmp_path / name, replace(SCAN, data=data))
    assert list(tmp_path.iterdir()) == []


def test_nan_in_a_file(tmp_path):
    array = np.zeros((4, 3, 2), np.float32)
    array[1, 1, 1] = np.nan
    nib.save(nib.Nifti1Image(array, np.eye(4)), tmp_path / "a.nii.gz")
    with pytest.raises(ValueError, match=r"a\.nii\.gz: the volume has 1 values that are NaN or infinite; replace them first"):
        read_volume(tmp_path / "a.nii.gz")
    assert torch.equal(read_nifti(write_nifti(tmp_path / "b.nii", SCAN)).data, SCAN.data)
