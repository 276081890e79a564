"""reconstruct with a prior of slices: volumes of CT and MR come back where they were, in their numbers, and whole."""

import json

import nibabel as nib
import numpy as np
import pytest

import prior
from tests.posterior import volumes as known
from tests.posterior.stub import run

FEW = ("--steps", 6)


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setattr(prior, "load", known.load, raising=False)
    monkeypatch.chdir(tmp_path)
    known.save_scan("scan.nii.gz", known.hounsfield())
    known.save_scan("mr.nii.gz", known.brightness())
    return tmp_path


def ok(*args):
    result = run(*args)
    assert result.exit_code == 0, result.output
    return result.stdout


def record(*args):
    return json.loads(ok("reconstruct", *args, "--json"))


def ct(*args, source="scan.nii.gz", out="x.nii.gz"):
    return record(source, "--modality", "ct", "-o", out, "--overwrite", *args)


def test_few_views_of_a_scan(place):
    done = ct("--views", 12, "--photons", 1e5, "--steps", 12)
    assert (done["command"], done["method"], done["model"], done["modality"]) == ("reconstruct", "dds", "ct-slices", "CT")
    assert (done["measurement"]["views"], done["measurement"]["angles"]) == (12, "0 to 165 degrees")
    assert (done["network_calls"], done["samples"]) == (12, 1)
    found, truth = nib.load("x.nii.gz"), nib.load("scan.nii.gz")
    assert np.array_equal(found.affine, truth.affine)
    assert found.shape == truth.shape
    assert found.header["descrip"].item() == b"unit=HU"
    x, t = found.get_fdata(), truth.get_fdata()
    per_slice = -10 * np.log10(np.mean((x - t) ** 2, axis=(0, 1)) / 2500**2)
    assert done["scores"]["dds"]["psnr"]["axial"] == pytest.approx(per_slice.mean(), abs=1e-3)
    per_row = -10 * np.log10(np.mean((x - t) ** 2, axis=(0, 2)) / 2500**2)
    assert done["scores"]["dds"]["psnr"]["coronal"] == pytest.approx(per_row.mean(), abs=1e-3)
    for plane in ("axial", "coronal", "sagittal"):
        assert done["scores"]["dds"]["psnr"][plane] > done["scores"]["FBP"]["psnr"][plane] + 0.5
    assert done["scores"]["dds"]["ssim"]["coronal"] is None  # six slices are less than the window of SSIM
    assert 0.5 < done["chi_square"] < 1.5
    assert [p.name for p in place.iterdir() if p.name.startswith(".")] == []  # no state is left


def test_many_views_give_the_scan(place):
    done = ct("--views", 90, *FEW)
    assert done["chi_square"] is None
    assert done["scores"]["dds"]["psnr"]["axial"] > 30


def test_the_axes_of_the_file_do_not_matter(place):
    """The same patient stored from left to right, from back to front, and in sagittal planes."""
    ct("--views", 12, *FEW)
    x = nib.load("x.nii.gz").get_fdata()
    placed = known.affine((1, 1, 1))
    known.save_scan("ras.nii.gz", known.hounsfield()[::-1, ::-1].copy(), placed)
    ct("--views", 12, *FEW, source="ras.nii.gz", out="ras_x.nii.gz")
    assert np.array_equal(nib.load("ras_x.nii.gz").get_fdata(), x[::-1, ::-1])
    assert np.array_equal(nib.load("ras_x.nii.gz").affine, placed)
    known.save_scan("zxy.nii.gz", known.hounsfield().transpose(2, 0, 1).copy(), known.affine()[:, [2, 0, 1, 3]])
    ct("--views", 12, *FEW, source="zxy.nii.gz", out="zxy_x.nii.gz")
    assert np.array_equal(nib.load("zxy_x.nii.gz").get_fdata(), x.transpose(2, 0, 1))


@pytest.mark.parametrize("signs", [(-1, -1, 1), (1, 1, 1), (1, -1, -1)])
def test_measured_projections(place, signs):
    """As simulated from the same views; from a file with other axes the images are turned to those of the prior."""
    flips = tuple(slice(None, None, -1 if a != b else 1) for a, b in zip(signs, (-1, -1, 1), strict=True))
    known.save_scan("turned.nii.gz", known.hounsfield()[flips].copy(), known.affine(signs))
    ok("geometry", "new", "g.yaml", "--kind", "parallel", "--scan", "turned.nii.gz", "--views", 40)
    ok("project", "turned.nii.gz", "-g", "g.yaml", "-o", "y.h5")
    done = record("--sinogram", "y.h5", "-o", "y.nii.gz", "--method", "dds", *FEW)
    assert (done["modality"], done["measurement"]["views"], done["scores"]) == ("CT", 40, {})
    found = nib.load("y.nii.gz")
    assert np.array_equal(found.affine, nib.load("turned.nii.gz").affine)
    assert known.psnr("y.nii.gz", known.hounsfield()[flips], 2500) > 26
    ct("--views", 40, *FEW)
    np.testing.assert_allclose(found.get_fdata()[flips], nib.load("x.nii.gz").get_fdata(), atol=400)
    assert known.psnr("y.nii.gz", nib.load("x.nii.gz").get_fdata()[flips], 2500) > 30


def test_the_classical_methods_are_as_before(place):
    ok("geometry", "new", "g.yaml", "--kind", "parallel", "--scan", "scan.nii.gz", "--views", 40)
    ok("project", "scan.nii.gz", "-g", "g.yaml", "-o", "y.h5")
    done = record("y.h5", "-o", "tv.nii.gz", "--iterations", 20)
    assert done["method"] == "fista-tv"
    assert record("--sinogram", "y.h5", "-o", "fbp.nii.gz", "--method", "fbp")["method"] == "fbp"
    assert record("y.h5", "-o", "dds.nii.gz", "--modality", "ct", *FEW)["method"] == "dds"


def test_a_cone_takes_the_volume(place):
    ok("geometry", "new", "g.yaml", "--kind", "cone", "--scan", "scan.nii.gz", "--views", 24)
    done = ct("--geometry", "g.yaml", *FEW)
    assert done["measurement"]["beam"] == "ConeBeam"
    assert done["scores"]["dds"]["psnr"]["axial"] > 25
    x = nib.load("x.nii.gz").get_fdata()
    for axes in ((0,), (1,), (2,)):
        assert np.mean((x - known.hounsfield()) ** 2) < 0.9 * np.mean((np.flip(x, axes) - known.hounsfield()) ** 2)


def test_slices_keep_their_place(place):
    ct("--views", 12, *FEW, "--slices", "2:5")
    found = nib.load("x.nii.gz")
    assert found.shape == (40, 36, 3)
    shifted = known.affine()
    shifted[:3, 3] += 2 * shifted[:3, 2]
    np.testing.assert_allclose(found.affine, shifted)
    assert known.psnr("x.nii.gz", known.hounsfield()[:, :, 2:5], 2500) > 22


def test_samples_split_and_report(place):
    done = ct("--views", 12, "--photons", 1e5, *FEW, "--samples", 3, "--split", "--report")
    assert done["files"] == {
        "std": "x_std.nii.gz", "measured": "x_measured.nii.gz", "filled": "x_filled.nii.gz", "report": "x.html",
    }  # fmt: skip
    assert (done["network_calls"], done["samples"]) == (18, 3)
    x, std, measured, filled = (known.tensor(f"x{part}.nii.gz").numpy() for part in ("", "_std", "_measured", "_filled"))
    np.testing.assert_allclose(measured + filled, x, atol=0.01)
    assert np.abs(filled).mean() > 1
    assert (std > 0).all()
    assert std.mean() < 150
    assert "What the prior made up" in (place / "x.html").read_text()
    single = ct("--views", 12, "--photons", 1e5, *FEW, out="one.nii.gz")
    assert single["files"] == {}
    assert not known.same("x.nii.gz", "one.nii.gz")


def test_chunks_and_seeds(place):
    for name, more in (("a", ("--chunk", 1)), ("b", ("--chunk", 16)), ("c", ("--seed", 1))):
        ct("--views", 12, *FEW, *more, out=f"{name}.nii.gz")
    assert known.same("a.nii.gz", "b.nii.gz")
    assert not known.same("a.nii.gz", "c.nii.gz")


def test_diffusion_mbir(place):
    done = ct("--views", 12, "--method", "diffusion-mbir", "--steps", 30)
    assert (done["method"], done["network_calls"]) == ("diffusion-mbir", 60)
    assert done["scores"]["diffusion-mbir"]["psnr"]["axial"] > 20


def test_tpdm(place):
    done = ct("--views", 12, "--method", "tpdm", "--steps", 30, "--weight", 3)
    assert (done["method"], done["network_calls"]) == ("tpdm", 60)
    assert done["scores"]["tpdm"]["psnr"]["axial"] > 20


def test_few_lines_of_kspace(place):
    done = record(
        "mr.nii.gz", "--modality", "mri", "-o", "x.nii.gz", "--acceleration", 2, "--acs", 10, "--noise", 0.01, "--steps", 12
    )
    assert (done["modality"], done["model"]) == ("MR", "mr-slices")
    assert done["measurement"]["measured"] == pytest.approx(0.5)
    assert done["settings"]["sigma_max"] == 0.3
    for plane in ("axial", "coronal", "sagittal"):
        assert done["scores"]["dds"]["psnr"][plane] > done["scores"]["Zero-filled"]["psnr"][plane] + 1
    found = nib.load("x.nii.gz")
    np.testing.assert_allclose(found.affine, known.affine())
    truth = known.brightness()
    assert abs(found.get_fdata()[truth > 0].mean() - truth[truth > 0].mean()) < 20
    assert found.get_fdata()[truth == 0].max() < 0.4 * truth.max()


def test_a_kspace_file(place):
    ok("mri", "simulate", "mr.nii.gz", "-o", "k.h5", "--acceleration", 2, "--acs", 10, "--noise", 0.01)
    done = record("k.h5", "--modality", "mri", "-o", "x.nii.gz", *FEW, "--slices", "1:4", "--split", "--samples", 2)
    assert done["shape"] == [3, 36, 40]
    assert done["scores"]["dds"]["psnr"]["axial"] > done["scores"]["Zero-filled"]["psnr"]["axial"]
    assert 0.5 < done["chi_square"] < 2
    x, measured, filled = (known.tensor(f"x{part}.nii.gz").numpy() for part in ("", "_measured", "_filled"))
    np.testing.assert_allclose(measured + filled, x, atol=0.05)
    shifted = known.affine()
    shifted[:3, 3] += shifted[:3, 2]
    np.testing.assert_allclose(nib.load("x.nii.gz").affine, shifted)


def test_empty_slices_and_fewer_coils(place):
    values = known.brightness()
    values[:, :, 0] = 0
    known.save_scan("gap.nii.gz", values)
    few = ("--acceleration", 2, "--acs", 10, "--coils-compress", 4)
    done = record("gap.nii.gz", "--modality", "mri", "-o", "x.nii.gz", *FEW, *few)
    assert done["measurement"]["coils"] == 8
    x = nib.load("x.nii.gz").get_fdata()
    assert np.abs(x[:, :, 0]).mean() < 0.2 * np.abs(x[:, :, 1]).mean()


def test_what_is_printed(place):
    lines = ok("reconstruct", "scan.nii.gz", "--modality", "ct", "--views", 12, "-o", "x.nii.gz", *FEW).splitlines()
    assert lines[0].startswith("x.nii.gz: 6 x 36 x 40, voxel 4 x 2.5 x 2, dds with ct-slices, 6 network calls a slice, ")
    assert [line.split(":")[0] for line in lines[1:3]] == ["FBP", "dds"]
    assert "data range of 1 in the units of images: -1000 to 1500 HU" in lines[3]
