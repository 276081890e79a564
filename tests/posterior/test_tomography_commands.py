"""project, fbp and reconstruct: a scan comes back in its own place and its own numbers, and bad input in one line."""

import json

import h5py
import nibabel as nib
import numpy as np
import pytest
import torch

from medical.files import Sinogram, SinogramHeader, read_sinogram, write_sinogram
from medical.geometry import ParallelBeam, Volume, serialise
from medical.operators import Projector
from medical.transmission import LogPoisson, attenuation
from tests.posterior.stub import assert_one_error_line, run

SHAPE = (30, 24, 3)  # x, y, z of the file
VOXEL = (2.0, 2.0, 5.0)
TURN = 0.3  # of the patient in the scanner

FAN = """
beam:
  kind: fan
  angles: {unit: degrees, views: 120, start: 0, stop: 360}
  detector: {shape: 90, spacing: 1.5, curved: true}
  source_distance: 200.0
  detector_distance: 100.0
"""
PARALLEL = """
beam:
  kind: parallel
  angles: {unit: degrees, views: 90, start: 0, stop: 180}
  detector: {shape: 45, spacing: 2.0}
"""
ROWS = PARALLEL.replace("{shape: 45, spacing: 2.0}", "{shape: [3, 45], spacing: [5.0, 2.0]}")
CONE = """
beam:
  kind: cone
  angles: {unit: degrees, views: 90, start: 0, stop: 360}
  detector: {shape: [8, 60], spacing: [5.0, 2.25]}
  source_distance: 400.0
  detector_distance: 100.0
"""
METHODS = ("fbp", "sirt", "os-sart", "cgls", "fista-tv", "admm-tv", "pdhg-tv")


def hounsfield():
    """A body of water with a bone on one side, a lung on the other, and more bone from slice to slice; array[x, y, z]."""
    x, y = np.meshgrid(*(np.arange(n) - (n - 1) / 2 for n in SHAPE[:2]), indexing="ij")
    values = np.full(SHAPE, -1000, np.int16)
    values[(x / 12) ** 2 + (y / 10) ** 2 < 1] = 0
    values[(x - 7) ** 2 + (y - 3) ** 2 < 9] = 700
    values[(x + 5) ** 2 + (y + 2) ** 2 < 12] = -700
    for k in range(3):
        values[(x - 1 + 5 * (k - 1)) ** 2 + (y - 5 + 5 * k) ** 2 < 7, k] = 300
    return values


def affine():
    steps = np.diag([*VOXEL, 1.0])
    steps[0, 0] *= -1
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(TURN), -np.sin(TURN)], [np.sin(TURN), np.cos(TURN)]]
    placed = turn @ steps
    placed[:3, 3] = (31.5, -17.25, 102.0)
    return placed.astype(np.float32).astype(np.float64)


@pytest.fixture
def place(tmp_path, monkeypatch):
    nib.save(nib.Nifti1Image(hounsfield(), affine()), tmp_path / "scan.nii.gz")
    for name, text in (("fan", FAN), ("parallel", PARALLEL), ("rows", ROWS), ("cone", CONE)):
        (tmp_path / f"{name}.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def ok(*args):
    result = run(*args)
    assert result.exit_code == 0, result.output
    return result.stdout


def rmse(a, b):
    return float(np.sqrt(np.mean((np.asarray(a, float) - np.asarray(b, float)) ** 2)))


@pytest.mark.parametrize("kind", ["fan", "parallel", "rows", "cone"])
def test_a_scan_comes_back_where_it_was(place, kind):
    ok("project", "scan.nii.gz", "-g", f"{kind}.yaml", "-o", "y.h5")
    ok("fbp", "y.h5", "-o", "x.nii.gz")
    found, truth = nib.load("x.nii.gz"), nib.load("scan.nii.gz")
    assert np.array_equal(found.affine, truth.affine)
    assert found.shape == truth.shape
    x, t = found.get_fdata(), truth.get_fdata()
    for axes in ((0,), (1,), (2,), (0, 1)):
        assert rmse(x, t) < 0.9 * rmse(np.flip(x, axes), t)  # neither mirrored nor turned
    water, lung, bone = (x[t == value].mean() for value in (0, -700, 700))
    tolerance = 150 if kind == "cone" else 60  # edges of a coarse grid and its thick slices are in these means
    assert abs(water) < tolerance
    assert abs(lung + 700) < 2 * tolerance
    assert abs(bone - 700) < 2 * tolerance


def test_the_file_holds_geometry_and_settings(place):
    done = json.loads(ok("project", "scan.nii.gz", "-g", "fan.yaml", "-o", "y.h5", "--slices", "1:3", "--json"))
    assert (done["command"], done["axes"], done["shape"]) == ("project", ["slices", "views", "columns"], [2, 120, 90])
    assert done["grid"] == [2, 24, 30]
    found = read_sinogram("y.h5")
    volume, beam = serialise.from_dict({name: found.header.geometry[name] for name in ("volume", "beam")})
    assert volume == Volume((24, 30), voxel=found.header.geometry["volume"]["voxel"])
    assert volume.spacing == pytest.approx(VOXEL[:2])
    assert beam == serialise.read("fan.yaml")[1]
    settings = found.header.geometry["settings"]
    assert (settings["scan"], settings["slices"], settings["water"], settings["counts"]) == ("scan.nii.gz", "1:3", 0.0193, None)
    shifted = affine()
    shifted[:3, 3] += shifted[:3, 2]
    np.testing.assert_allclose(found.header.affine.numpy(), shifted, atol=1e-5)
    mu = attenuation(torch.from_numpy(hounsfield().transpose(2, 1, 0)[1:].astype(np.float32)))
    torch.testing.assert_close(found.data, Projector(volume, beam)(mu[:, None])[:, 0])
    assert found.data.max() == pytest.approx(done["maximum"])


def test_noise_is_that_of_so_many_photons(place):
    ok("project", "scan.nii.gz", "-g", "fan.yaml", "-o", "clean.h5")
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        ok("project", "scan.nii.gz", "-g", "fan.yaml", "-o", f"{name}.h5", "--counts", 1e4, "--readout", 5, "--seed", seed)
    clean, a, b, c = (read_sinogram(f"{name}.h5") for name in ("clean", "a", "b", "c"))
    assert torch.equal(a.data, b.data)
    assert not torch.equal(a.data, c.data)
    expected = LogPoisson(1e4, readout=5.0).std(clean.data)
    assert float(((a.data - clean.data) / expected).square().mean().sqrt()) == pytest.approx(1, abs=0.02)
    assert float(a.header.flat.unique()) == 1e4
    torch.testing.assert_close(a.data, (1e4 / a.counts.clamp(min=1)).log())
    done = json.loads(ok("reconstruct", "a.h5", "-o", "x.nii", "--method", "cgls", "--json"))
    assert done["residual_ratio"] == pytest.approx(1, abs=0.1)  # stops at the noise, which it takes from the file


@pytest.mark.parametrize("method", METHODS)
def test_every_method(place, method):
    ok("project", "scan.nii.gz", "-g", "parallel.yaml", "-o", "y.h5", "--slices", ":1", "--counts", 1e6)
    few = () if method == "fbp" else ("--iterations", 30)
    done = json.loads(ok("reconstruct", "y.h5", "-o", "x.nii.gz", "--method", method, *few, "--json"))
    assert (done["method"], done["shape"]) == (method, [1, 24, 30])
    assert done["iterations"] <= 30
    x = nib.load("x.nii.gz").get_fdata()
    assert rmse(x, hounsfield()[:, :, :1]) < (190 if method == "fbp" else 150)
    if method not in ("fbp", "cgls"):
        assert x.min() >= -1000 - 1e-3  # attenuation is not negative


def test_total_variation_beats_back_projection_where_views_are_few(place):
    (place / "few.yaml").write_text(PARALLEL.replace("views: 90", "views: 16"))
    ok("project", "scan.nii.gz", "-g", "few.yaml", "-o", "y.h5", "--counts", 1e5)
    ok("fbp", "y.h5", "-o", "fbp.nii.gz", "--window", "hann")
    ok("reconstruct", "y.h5", "-o", "tv.nii.gz")
    fbp, tv = (rmse(nib.load(f"{name}.nii.gz").get_fdata(), hounsfield()) for name in ("fbp", "tv"))
    assert tv < 0.5 * fbp


def test_windows_smooth(place):
    ok("project", "scan.nii.gz", "-g", "parallel.yaml", "-o", "y.h5", "--counts", 1e3)
    spread = []
    for window in ("ram-lak", "cosine", "hann"):
        ok("fbp", "y.h5", "-o", "x.nii", "--window", window, "--overwrite")
        spread.append(np.abs(np.diff(nib.load("x.nii").get_fdata(), axis=0)).mean())
    assert spread[0] > 1.1 * spread[1] > 1.1 * spread[2]


def test_attenuation_goes_in_and_comes_out(place):
    ok("project", "scan.nii.gz", "-g", "fan.yaml", "-o", "y.h5", "--water", 0.02)
    ok("fbp", "y.h5", "-o", "mu.nii.gz", "--unit", "attenuation")
    ok("fbp", "y.h5", "-o", "hu.nii.gz")
    mu, hu = (nib.load(f"{name}.nii.gz") for name in ("mu", "hu"))
    assert mu.header["descrip"].item() == b"unit=1/mm"
    np.testing.assert_allclose(hu.get_fdata(), 1000 * (mu.get_fdata() / 0.02 - 1), atol=0.05)
    mu = nib.Nifti1Image(np.clip(mu.get_fdata(), 0, None).astype(np.float32), mu.affine)
    mu.header["descrip"] = b"unit=1/mm"
    nib.save(mu, "mu2.nii.gz")
    ok("project", "mu2.nii.gz", "-g", "fan.yaml", "-o", "z.h5")  # the file says what its values are
    y, z = read_sinogram("y.h5").data, read_sinogram("z.h5").data
    assert float((y - z).norm() / y.norm()) < 0.1
    assert_one_error_line(run("project", "mu2.nii.gz", "-g", "fan.yaml", "-o", "a.h5", "--unit", "hu"), "its values are 1/mm")


def test_an_affine_from_the_geometry(place):
    """Of a file without one: x to the right, row 0 at the top, that is in front."""
    volume, beam = Volume((4, 6), voxel=(2.0, 3.0), centre=(1.0, 0.0)), ParallelBeam.uniform(30, 40)
    header = SinogramHeader(shape=(2, 30, 40), axes=("slices", "views", "columns"), geometry=serialise.to_dict(volume, beam))
    write_sinogram("y.h5", Sinogram(header=header, data=torch.zeros(2, 30, 40)))
    ok("fbp", "y.h5", "-o", "x.nii.gz", "--unit", "attenuation")
    expected = [[3, 0, 0, -7.5], [0, -2, 0, 4], [0, 0, 3, 0], [0, 0, 0, 1]]
    np.testing.assert_allclose(nib.load("x.nii.gz").affine, expected)


def test_padding_below_air_is_vacuum(place):
    values = hounsfield()
    values[0] = -3024
    nib.save(nib.Nifti1Image(values, affine()), "padded.nii.gz")
    done = json.loads(ok("project", "padded.nii.gz", "-g", "fan.yaml", "-o", "y.h5", "--json"))
    assert done["air"] == 24 * 3
    ok("project", "scan.nii.gz", "-g", "fan.yaml", "-o", "z.h5")
    assert torch.equal(read_sinogram("y.h5").data, read_sinogram("z.h5").data)


def broken(place):
    """Files that are good for nothing, one for every kind of mistake."""
    (place / "nounit.yaml").write_text(FAN.replace("unit: degrees, ", ""))
    (place / "negative.yaml").write_text(FAN.replace("spacing: 1.5", "spacing: -1.5"))
    (place / "small.yaml").write_text(PARALLEL.replace("shape: 45", "shape: 10"))
    (place / "other.yaml").write_text("volume: {shape: [20, 20], voxel: 2.0}" + FAN)
    (place / "coarse.yaml").write_text("volume: {shape: [24, 30], voxel: 1.0}" + FAN)
    (place / "vectors.yaml").write_text("beam: {kind: vectors}")
    values = hounsfield().astype(np.float32)
    values[3, 4, 1] = np.nan
    nib.save(nib.Nifti1Image(values, affine()), place / "nan.nii.gz")
    (place / "cut.nii.gz").write_bytes((place / "scan.nii.gz").read_bytes()[:300])
    ok("project", "scan.nii.gz", "-g", "fan.yaml", "-o", "y.h5")
    (place / "cut.h5").write_bytes((place / "y.h5").read_bytes()[:20_000])
    (place / "text.h5").write_text("hello")
    with h5py.File(place / "other.h5", "w") as file:
        file["a"] = 1.0
    (place / "there.nii.gz").write_bytes(b"old")
    (place / "there.h5").write_bytes(b"old")
    (place / "folder").mkdir()


@pytest.mark.parametrize(
    ("args", "line"),
    [
        ("project no.nii.gz -g fan.yaml -o x.h5", "no.nii.gz: there is no such file"),
        ("project nan.nii.gz -g fan.yaml -o x.h5", "nan.nii.gz: the volume has 1 values that are NaN or infinite"),
        ("project cut.nii.gz -g fan.yaml -o x.h5", "cut.nii.gz: damaged or no NIfTI file"),
        ("project scan.nii.gz -g no.yaml -o x.h5", "no.yaml: No such file or directory"),
        ("project scan.nii.gz -g nounit.yaml -o x.h5", "beam.angles needs the key 'unit'"),
        ("project scan.nii.gz -g negative.yaml -o x.h5", "detector spacing must be positive, got -1.5"),
        ("project scan.nii.gz -g vectors.yaml -o x.h5", "beam needs the key 'sources'"),
        ("project scan.nii.gz -g small.yaml -o x.h5", "detector is smaller than the object: it sees 10 from the axis"),
        (
            "project scan.nii.gz -g other.yaml -o x.h5",
            "other.yaml: volume.shape is (20, 20), but scan.nii.gz has slices of (24, 30); leave volume out",
        ),
        (
            "project scan.nii.gz -g coarse.yaml -o x.h5",
            "coarse.yaml: volume.voxel is 1 x 1, but scan.nii.gz has voxels of 2 x 2 mm",
        ),
        ("project scan.nii.gz -g cone.yaml -o x.h5 --model strip", "model 'strip' takes pictures"),
        ("project scan.nii.gz -g fan.yaml -o x.h5 --model pixel", "--model"),
        ("project scan.nii.gz -g fan.yaml -o x.h5 --counts 0", "--counts"),
        ("project scan.nii.gz -g fan.yaml -o x.h5 --readout 3", "--readout is noise in counts"),
        ("project scan.nii.gz -g fan.yaml -o x.h5 --slices 9:12", "--slices 9:12 holds none of the 3 slices"),
        ("project scan.nii.gz -g fan.yaml -o x.h5 --slices two", "--slices must be FIRST:LAST"),
        (
            "project scan.nii.gz -g fan.yaml -o x.h5 --unit attenuation",
            "attenuation must not be negative, got -1000; is it --unit hu?",
        ),
        ("project scan.nii.gz -g fan.yaml -o x.nii", "x.nii: the suffix must be .h5 or .hdf5, got '.nii'"),
        ("project scan.nii.gz -g fan.yaml -o there.h5", "there.h5 is there already; --overwrite replaces it"),
        ("project scan.nii.gz -g fan.yaml -o no/x.h5", "no/x.h5: there is no folder no"),
        ("project scan.nii.gz -o x.h5", "--geometry"),
        ("fbp no.h5 -o x.nii.gz", "no.h5: there is no such file"),
        ("fbp cut.h5 -o x.nii.gz", "cut.h5: truncated or damaged HDF5 file"),
        ("fbp text.h5 -o x.nii.gz", "text.h5: not an HDF5 file"),
        ("fbp other.h5 -o x.nii.gz", "other.h5: attribute 'format' must be 'posterior sinogram'"),
        ("fbp y.h5 -o x.nii.gz --window square", "--window"),
        ("fbp y.h5 -o x.nii.gz --cutoff 2", "--cutoff"),
        ("fbp y.h5 -o x.png", "x.png: the suffix must be .nii or .nii.gz, got '.png'"),
        ("fbp y.h5 -o there.nii.gz", "there.nii.gz is there already; --overwrite replaces it"),
        ("fbp y.h5 -o folder", "folder: the suffix must be .nii or .nii.gz"),
        ("reconstruct y.h5 -o x.nii.gz --method magic", "--method"),
        ("reconstruct y.h5 -o x.nii.gz --method fbp --iterations 3", "--iterations is no setting of fbp, which takes window"),
        ("reconstruct y.h5 -o x.nii.gz --method sirt --weight 3", "--weight is no setting of sirt, which takes iterations"),
        ("reconstruct y.h5 -o x.nii.gz --iterations 0", "--iterations"),
        ("reconstruct y.h5 -o x.nii.gz --weight -1", "--weight"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(place, args, line):
    broken(place)
    before = {p: p.read_bytes() for p in place.rglob("*") if p.is_file()}
    assert_one_error_line(run(*args.split(" ")), line)
    assert {p: p.read_bytes() for p in place.rglob("*") if p.is_file()} == before


def test_a_detector_smaller_than_the_object_is_allowed_when_asked_for(place):
    broken(place)
    ok("project", "scan.nii.gz", "-g", "small.yaml", "-o", "x.h5", "--truncated")
    ok("fbp", "x.h5", "-o", "x.nii.gz")


def test_geometry_and_projections_must_agree(place):
    volume, beam = Volume((8, 8)), ParallelBeam.uniform(30, 12)
    header = SinogramHeader(shape=(30, 14), axes=("views", "columns"), geometry=serialise.to_dict(volume, beam))
    write_sinogram("y.h5", Sinogram(header=header, data=torch.zeros(30, 14)))
    assert_one_error_line(
        run("fbp", "y.h5", "-o", "x.nii"), "the projections are ('views', 'columns') (30, 14), but its geometry"
    )
    header = SinogramHeader(shape=(30, 12), axes=("views", "columns"), geometry=serialise.to_dict(None, beam))
    write_sinogram("z.h5", Sinogram(header=header, data=torch.zeros(30, 12)))
    assert_one_error_line(run("fbp", "z.h5", "-o", "x.nii"), "z.h5: its geometry has no volume")
