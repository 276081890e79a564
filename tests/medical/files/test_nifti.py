"""NIfTI: values, affine and header survive exactly, and the array's axes are turned as stated."""

from __future__ import annotations

from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import torch

from medical.files import Scan, read_nifti, write_nifti

# oblique, anisotropic, left-handed; exact in float32
AFFINE = np.array([[-0.75, 0.125, 0.5, 12.5], [0.0625, 0.875, -0.25, -80.25], [0.25, 0.375, 2.5, 1000.0], [0, 0, 0, 1]])


def counting(*shape, dtype=np.int16):
    return np.arange(np.prod(shape)).reshape(shape).astype(dtype)


def saved(path, array, affine=AFFINE, kind=nib.Nifti1Image):
    nib.save(kind(array, affine), path)
    return path


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.float64])
def test_round_trip(tmp_path, suffix, kind, dtype):
    array = counting(4, 3, 2, dtype=dtype) - dtype(3 if dtype != np.uint8 else 0)
    scan = read_nifti(saved(tmp_path / f"a{suffix}", array, kind=kind))
    assert (scan.data.shape, scan.data.dtype) == ((2, 3, 4), torch.float32)
    assert scan.data[1, 2, 3] == array[3, 2, 1]
    back = nib.load(write_nifti(tmp_path / f"b{suffix}", scan))
    assert type(back) is kind
    assert back.get_data_dtype() == np.float32
    assert np.array_equal(np.asarray(back.dataobj), array)
    assert np.array_equal(back.affine, AFFINE)
    again = read_nifti(tmp_path / f"b{suffix}")
    assert torch.equal(again.data, scan.data)
    assert torch.equal(again.affine, scan.affine)


def test_spacing_comes_from_the_affine(tmp_path):
    affine = np.diag([0.5, 2.0, 4.0, 1.0])[[1, 0, 2, 3]]  # x of the array along y of the patient
    image = nib.Nifti1Image(counting(4, 3, 2), affine)
    assert read_nifti(saved(tmp_path / "a.nii", counting(4, 3, 2), affine)).spacing == (4.0, 2.0, 0.5)
    image.header.set_xyzt_units("micron")
    nib.save(image, tmp_path / "b.nii")
    found = read_nifti(tmp_path / "b.nii")
    assert found.length == "um"
    assert found.spacing == pytest.approx((4e-3, 2e-3, 0.5e-3), rel=1e-12)
    assert nib.load(write_nifti(tmp_path / "c.nii", found)).header.get_xyzt_units()[0] == "micron"


def test_header_and_extensions_go_through(tmp_path):
    image = nib.Nifti1Image(counting(4, 3, 2), None)
    image.header.set_qform(np.diag([-2.0, -2.0, 3.0, 1.0]) @ rotation(0.3), code=1)
    image.header["descrip"], image.header["cal_max"] = b"a scan", 500
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"kept"))
    nib.save(image, tmp_path / "a.nii")
    stored = nib.load(tmp_path / "a.nii")
    back = nib.load(write_nifti(tmp_path / "b.nii", read_nifti(tmp_path / "a.nii")))
    assert np.array_equal(back.affine, stored.affine)
    assert (int(back.header["qform_code"]), int(back.header["sform_code"])) == (1, 0)
    changed = {name for name in stored.header if not np.array_equal(stored.header[name], back.header[name], equal_nan=False)}
    assert changed <= {"datatype", "bitpix", "scl_slope", "scl_inter"}
    assert [extension.get_content() for extension in back.header.extensions] == [b"kept"]


def rotation(angle):
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0, 0], [s, c, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])


def test_stored_scaling_is_applied_once(tmp_path):
    image = nib.Nifti1Image(counting(4, 3, 2), AFFINE)
    image.header.set_slope_inter(0.5, -1024)
    image.header.set_data_dtype(np.int16)
    nib.save(image, tmp_path / "a.nii")
    scan = read_nifti(tmp_path / "a.nii")
    expected = 0.5 * counting(4, 3, 2).transpose(2, 1, 0) - 1024
    assert np.array_equal(scan.data.numpy(), expected)
    assert torch.equal(read_nifti(write_nifti(tmp_path / "b.nii", scan)).data, scan.data)


def test_big_endian_files(tmp_path):
    image = nib.Nifti1Image(counting(4, 3, 2, dtype=">i2"), AFFINE, nib.Nifti1Header(endianness=">"))
    nib.save(image, tmp_path / "a.nii")
    scan = read_nifti(tmp_path / "a.nii")
    assert scan.data[1, 2, 3] == 23
    again = read_nifti(write_nifti(tmp_path / "b.nii", scan))
    assert torch.equal(again.data, scan.data)
    assert torch.equal(again.affine, scan.affine)


@pytest.mark.parametrize("shape", [(4, 3), (4, 3, 1), (4, 3, 1, 1)])
def test_one_slice(tmp_path, shape):
    scan = read_nifti(saved(tmp_path / "a.nii", counting(*shape)))
    assert scan.data.shape == (1, 3, 4)
    back = nib.load(write_nifti(tmp_path / "b.nii", scan))
    assert back.shape == (4, 3, 1)
    assert np.array_equal(back.affine, AFFINE)
    assert np.array_equal(np.asarray(back.dataobj)[..., 0], counting(4, 3))


def test_a_scan_of_ones_own(tmp_path):
    scan = Scan(data=torch.rand(2, 3, 4), affine=torch.from_numpy(AFFINE), unit="HU")
    first = write_nifti(tmp_path / "a.nii.gz", scan).read_bytes()
    found = read_nifti(tmp_path / "a.nii.gz")
    assert torch.equal(found.data, scan.data)
    assert torch.equal(found.affine, scan.affine)
    assert found.unit == "HU"
    assert write_nifti(tmp_path / "a.nii.gz", scan, overwrite=True).read_bytes() == first
    with pytest.raises(FileExistsError, match="overwrite=True"):
        write_nifti(tmp_path / "a.nii.gz", scan)
    write_nifti(tmp_path / "b.nii", replace(found, unit="1/mm", data=found.data[:1]))
    assert read_nifti(tmp_path / "b.nii").unit == "1/mm"


def test_another_affine_than_the_headers(tmp_path):
    scan = read_nifti(saved(tmp_path / "a.nii", counting(4, 3, 2)))
    near = scan.affine.clone()
    near[0, 3] += 2**-18  # closer than numpy's allclose would notice
    found = read_nifti(write_nifti(tmp_path / "b.nii", replace(scan, affine=near)))
    assert torch.equal(found.affine, near)
    assert found.spacing == scan.spacing
    shifted = near.clone()
    shifted[0, 3] = 1e-30
    assert read_nifti(write_nifti(tmp_path / "c.nii", replace(scan, affine=shifted))).affine[0, 3] == pytest.approx(1e-30)
    shifted[0, 3] = 1e300
    with pytest.raises(ValueError, match="does not fit into a NIfTI header"), np.errstate(over="ignore"):
        write_nifti(tmp_path / "d.nii", replace(scan, affine=shifted))
    assert not (tmp_path / "d.nii").exists()


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((4, 3, 2, 5), np.float32), r"must be one volume \(i, j, k\), got shape \(4, 3, 2, 5\)"),
        (np.full((4, 3, 2), np.nan, np.float32), "the volume has 24 values that are NaN or infinite"),
        (np.full((4, 3, 2), 1e300), "the volume has 24 values that are NaN or infinite"),
        (np.zeros((4, 3, 2), np.complex64), "must be real numbers"),
        (np.zeros((4, 0, 2), np.float32), "empty"),
        (np.zeros((4, 3, 2), [("R", "u1"), ("G", "u1"), ("B", "u1")]), "must be real numbers"),
    ],
)
def test_bad_volumes(tmp_path, array, message):
    with pytest.raises(ValueError, match=rf"a\.nii: .*{message}"):
        read_nifti(saved(tmp_path / "a.nii", array))


def test_bad_affine_in_a_file(tmp_path):
    saved(tmp_path / "a.nii", counting(4, 3, 2))
    header = bytearray((tmp_path / "a.nii").read_bytes())
    header[280:296] = bytes(16)  # srow_x
    (tmp_path / "a.nii").write_bytes(header)
    with pytest.raises(ValueError, match=r"a\.nii: affine must have three independent steps"):
        read_nifti(tmp_path / "a.nii")


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_damaged_files(tmp_path, suffix):
    path = saved(tmp_path / f"a{suffix}", np.random.default_rng(0).standard_normal((20, 20, 20)).astype(np.float32))
    data = path.read_bytes()
    for part in (data[: len(data) // 2], data[:100], b"no NIfTI", b""):
        path.write_bytes(part)
        with pytest.raises(ValueError, match=r"a\.nii.*: damaged or no NIfTI file"):
            read_nifti(path)


def test_bad_arguments(tmp_path):
    scan = Scan(data=torch.zeros(2, 3, 4), affine=torch.eye(4, dtype=torch.float64))
    with pytest.raises(FileNotFoundError, match="no such file"):
        read_nifti(tmp_path / "a.nii")
    for call in (lambda path: read_nifti(path), lambda path: write_nifti(path, scan)):
        with pytest.raises(ValueError, match=r"suffix must be \.nii or \.nii\.gz"):
            call(tmp_path / "a.mgz")
    with pytest.raises(ValueError, match="data of the scan has 24 values"):
        write_nifti(tmp_path / "a.nii", replace(scan, data=scan.data / 0))
    for change, message in (
        ({"data": scan.data[0]}, "data must be float32"),
        ({"data": scan.data.double()}, "data must be float32"),
        ({"affine": scan.affine.float()}, "affine must be float64"),
        ({"affine": scan.affine * float("nan")}, "affine must be finite"),
        ({"affine": scan.affine * 2}, "last row"),
        ({"length": "inch"}, "length must be one of m, mm, um"),
    ):
        with pytest.raises(ValueError, match=message):
            replace(scan, **change)
