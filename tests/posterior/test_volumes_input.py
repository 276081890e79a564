"""reconstruct with a prior: bad input is one line and exit code 2, and nothing is left behind; DICOM folders in and out."""

import nibabel as nib
import numpy as np
import pytest
from torch import from_numpy

import prior
from medical.files import Scan
from medical.files.volumes import read_volume, write_volume
from tests.posterior import volumes as known
from tests.posterior.stub import assert_one_error_line, run

CT = ("--modality", "ct", "--views", 8, "--steps", 4)


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setattr(prior, "load", known.load, raising=False)
    monkeypatch.chdir(tmp_path)
    known.save_scan("scan.nii.gz", known.hounsfield())
    return tmp_path


def dicom(folder, slices=range(6), values=None):
    """A series of the known scan, of which some slices are kept."""
    values = known.hounsfield() if values is None else values
    data = from_numpy(np.ascontiguousarray(values.transpose(2, 1, 0), dtype=np.float32))
    affine = from_numpy(known.affine())
    write_volume(folder, Scan(data=data, affine=affine, unit="HU"), modality="CT")
    for number, path in enumerate(sorted(folder.iterdir())):
        if number not in slices:
            path.unlink()
    return folder


def broken(place):
    values = known.hounsfield().astype(np.float32)
    known.save_scan("four.nii.gz", np.stack([values] * 2, -1))
    known.save_scan("positive.nii.gz", values + 1000)
    values[3, 4, 1] = np.nan
    known.save_scan("nan.nii.gz", values)
    (place / "cut.nii.gz").write_bytes((place / "scan.nii.gz").read_bytes()[:300])
    (place / "text.h5").write_text("hello")
    (place / "empty").mkdir()
    dicom(place / "missing", (0, 1, 3, 4, 5))
    mixed = dicom(place / "mixed")
    for path in dicom(place / "other").iterdir():
        path.rename(mixed / f"other_{path.name}")
    assert run("geometry", "new", "cone.yaml", "--kind", "cone", "--views", 8).exit_code == 0
    (place / "small.yaml").write_text(
        "beam:\n  kind: parallel\n  angles: {unit: degrees, views: 8, start: 0, stop: 180}\n"
        "  detector: {shape: 10, spacing: 1.0}\n"
    )
    assert run("geometry", "new", "g.yaml", "--kind", "parallel", "--scan", "scan.nii.gz", "--views", 8).exit_code == 0
    assert run("project", "scan.nii.gz", "-g", "g.yaml", "-o", "y.h5").exit_code == 0
    (place / "cut.h5").write_bytes((place / "y.h5").read_bytes()[:4000])


BAD = [
    (("none.nii.gz", *CT), "none.nii.gz: there is no such file"),
    (("four.nii.gz", *CT), "must be one volume (i, j, k), got shape (40, 36, 6, 2)"),
    (("nan.nii.gz", *CT), "nan.nii.gz: the volume"),
    (("cut.nii.gz", *CT), "damaged or no NIfTI file"),
    (("positive.nii.gz", *CT), "must hold CT numbers in HU, in which air is -1000; its smallest value is 0"),
    (("missing", *CT), "slices are missing"),
    (("mixed", *CT), "holds 2 series"),
    (("empty", *CT), "holds no DICOM pictures"),
    (("scan.nii.gz", "--modality", "ct"), "in --views of a parallel beam or along the rays of --geometry: give one of them"),
    (("scan.nii.gz", *CT, "--geometry", "g.yaml"), "give one of them"),
    (("scan.nii.gz", "--modality", "ct", "--geometry", "g.yaml", "--range", 90), "--geometry has angles of its own"),
    (("scan.nii.gz", "--modality", "ct", "--geometry", "cone.yaml"), "volume.shape is"),
    (("scan.nii.gz", "--modality", "ct", "--geometry", "small.yaml"), "detector is smaller than the object"),
    (("scan.nii.gz", *CT, "--slices", "9:12"), "holds none of the 6 slices"),
    (("scan.nii.gz", *CT, "--acceleration", 2), "--acceleration is not for a CT scan"),
    (("scan.nii.gz", "--modality", "mri", "--views", 8), "--views is not for an MR scan"),
    (("scan.nii.gz", "--modality", "mri", "--water", 0.02), "--water is for CT"),
    (("scan.nii.gz", *CT, "--model", "photos"), "unknown model 'photos'"),
    (("scan.nii.gz", *CT, "--weights", "w.safetensors"), "w.safetensors cannot be read"),
    (("scan.nii.gz", *CT, "--iterations", 3, "--method", "diffusion-mbir"), "--iterations is no setting of diffusion-mbir"),
    (("scan.nii.gz", *CT, "--unit", "attenuation"), "--unit attenuation is no setting of dds"),
    (("scan.nii.gz", *CT, "--method", "fbp"), "fbp takes projections, which `posterior project` makes of a scan"),
    (("scan.nii.gz",), "takes projections, which `posterior project` makes of a scan"),
    (("scan.nii.gz", "--method", "dds"), "a scan needs --modality ct or --modality mri"),
    (("y.h5", "--samples", 2), "--samples is for the methods with a prior (dds, diffusion-mbir, tpdm), not for fista-tv"),
    (("y.h5", "--method", "dds", "--views", 8), "--views is not for projections"),
    (("cut.h5", "--method", "dds"), "cut.h5"),
    (("text.h5", "--method", "dds"), "text.h5"),
    (("text.h5", "--modality", "mri"), "text.h5"),
    (("y.h5", "--sinogram", "y.h5"), "name one SOURCE"),
    ((), "name one SOURCE"),
]


def test_bad_input_is_one_line(place):
    broken(place)
    before = sorted(p.name for p in place.iterdir())
    for args, message in BAD:
        assert_one_error_line(run("reconstruct", *args, "-o", "x.nii.gz"), message)
    assert sorted(p.name for p in place.iterdir()) == before


def test_bad_output_is_one_line_before_any_work(place):
    (place / "x.nii.gz").write_text("")
    (place / "y_std.nii.gz").write_text("")
    (place / "z.html").write_text("")
    (place / "full").mkdir()
    (place / "full" / "notes.txt").write_text("")
    for out, more, message in (
        ("x.nii.gz", (), "x.nii.gz is there already; --overwrite replaces it"),
        ("y.nii.gz", ("--samples", 2), "y_std.nii.gz is there already"),
        ("z.nii.gz", ("--report",), "z.html is there already"),
        ("full", (), "full is there already"),
        ("x.png", (), "the suffix must be .nii or .nii.gz, or none for a folder of DICOM slices"),
        ("none/x.nii.gz", (), "there is no folder none"),
    ):
        assert_one_error_line(run("reconstruct", "gone.nii.gz", *CT, *more, "-o", out), message)


def test_dicom_in_and_out(place):
    dicom(place / "series")
    result = run("reconstruct", "series", *CT, "-o", "out", "--samples", 2)
    assert result.exit_code == 0, result.output
    assert run("reconstruct", "scan.nii.gz", *CT, "-o", "x.nii.gz", "--samples", 2).exit_code == 0
    source, found, spread = (read_volume(place / name) for name in ("series", "out", "out_std"))
    np.testing.assert_allclose(found.affine.numpy(), source.affine.numpy(), atol=1e-5)
    assert found.unit == "HU"
    x = nib.load("x.nii.gz").get_fdata().transpose(2, 1, 0)
    np.testing.assert_allclose(found.data.numpy(), x, atol=1.0)  # rounded to 16 bits
    assert found.data.shape == spread.data.shape
    again = run("reconstruct", "series", *CT, "-o", "out", "--samples", 2, "--overwrite")
    assert again.exit_code == 0, again.output
