"""mri simulate and reconstruct: pictures through k-space and back, three kinds of files, and bad input in one line."""

import json

import h5py
import nibabel as nib
import numpy as np
import pytest
import torch

from medical.coils.simulation import simulated_maps
from medical.files import Header, KSpace, Limits, Space, read_fastmri, write_fastmri
from medical.operators import NUFFT, centred_fft, centred_ifft
from medical.sampling import radial
from posterior.kspace import open_kspace
from posterior.mri import corner_noise
from tests.medical.files.test_ismrmrd import NOISE, readout, write
from tests.posterior.stub import assert_one_error_line, run

SHAPE = (44, 52, 2)  # x, y, z of the file
VOXEL = (1.5, 1.25, 4.0)


def picture():
    """An ellipse with three insets, other ones in the second slice; array[x, y, z], of values up to 300."""
    x, y = np.meshgrid(*(np.arange(n) - n / 2 for n in SHAPE[:2]), indexing="ij")
    values = np.zeros(SHAPE, np.float32)
    values[(x / 18) ** 2 + (y / 21) ** 2 < 1] = 200
    values[(x - 8) ** 2 + (y - 6) ** 2 < 16] = 300
    values[(x + 6) ** 2 + ((y + 9) / 2) ** 2 < 9] = 80
    values[(x + 4) ** 2 + (y - 12) ** 2 < 10, 1] = 280
    return values


def affine():
    placed = np.diag([-VOXEL[0], VOXEL[1], VOXEL[2], 1.0])
    placed[:3, 3] = (33.0, -30.5, 12.0)
    return placed


@pytest.fixture
def place(tmp_path, monkeypatch):
    nib.save(nib.Nifti1Image(picture(), affine()), tmp_path / "scan.nii.gz")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def ok(*args):
    result = run(*args)
    assert result.exit_code == 0, result.output
    return result.stdout


def simulated(*args):
    return json.loads(ok("mri", "simulate", "scan.nii.gz", "-o", "k.h5", "--overwrite", "--json", *args))


def reconstructed(*args, source="k.h5"):
    return json.loads(ok("mri", "reconstruct", source, "-o", "x.nii.gz", "--overwrite", "--json", *args))


def psnr(path="x.nii.gz", truth=None):
    truth = picture() if truth is None else truth
    return -10 * np.log10(np.mean((nib.load(path).get_fdata() - truth) ** 2) / truth.max() ** 2)


def test_a_picture_comes_back_where_it_was(place):
    simulated("--acceleration", 1)
    reconstructed("--method", "zero-filled")
    found = nib.load("x.nii.gz")
    np.testing.assert_allclose(found.affine, affine(), atol=1e-6)
    x, truth = found.get_fdata(), picture()
    inside = truth > 0
    np.testing.assert_allclose(x[inside], truth[inside], atol=3)  # maps are zero in the air, and nearly exact in the object


def test_the_file_is_fastmri_with_its_maps(place):
    done = simulated("--acceleration", 2, "--acs", 12, "--coils", 4)
    assert (done["shape"], done["noise_sigma"]) == ([2, 4, 52, 44], 0.0)
    assert done["measured"] == 22 / 44
    data = read_fastmri("k.h5")
    x = torch.from_numpy(picture().transpose(2, 1, 0).copy())
    full = torch.stack([centred_fft(simulated_maps((52, 44), 4)[0] * image) for image in x])
    torch.testing.assert_close(data.kspace, full * data.mask, atol=1e-3, rtol=1e-5)
    assert int(data.mask.sum()) == 22
    assert bool(data.mask[22 - 6 : 22 + 6].all())
    torch.testing.assert_close(data.reference, x)
    assert data.header.encoded.fov == (52 * 1.25, 44 * 1.5, 4.0)
    assert data.attributes["affine"] == pytest.approx(affine().flatten().tolist())
    assert json.loads(data.attributes["simulation"])["acs"] == 12


@pytest.mark.parametrize(
    ("mask", "shape"),
    [("equispaced", (44,)), ("uniform", (44,)), ("gaussian", (44,)), ("variable-density", (52, 44)), ("poisson", (52, 44))],
)
def test_masks(place, mask, shape):
    done = simulated("--mask", mask, "--acceleration", 2, "--acs", 12, "--seed", 3, "--coils", 2)
    found = read_fastmri("k.h5").mask
    assert tuple(found.shape) == shape
    assert float(found.double().mean()) == pytest.approx(0.5, abs=0.001) == done["measured"]


def test_noise_has_the_asked_for_strength_and_is_read_back(place):
    done = simulated("--acceleration", 1, "--noise", 0.02, "--seed", 4)
    assert done["noise_sigma"] == pytest.approx(0.02 * 300)
    noisy = read_fastmri("k.h5").kspace
    simulated("--acceleration", 1)
    error = torch.view_as_real(noisy - read_fastmri("k.h5").kspace)
    assert float(error.std()) == pytest.approx(6.0, rel=0.02)
    simulated("--acceleration", 1, "--noise", 0.02, "--seed", 4)
    assert torch.equal(read_fastmri("k.h5").kspace, noisy)
    acquired = open_kspace(place / "k.h5")
    assert acquired.sigma == pytest.approx(6.0)
    simulated("--acceleration", 1, "--noise", 0.3)
    assert corner_noise(open_kspace(place / "k.h5").read(0)) == pytest.approx(90.0, rel=0.1)  # without being told


def test_methods_in_their_order(place):
    """Undersampled, with noise: least squares beats the adjoint, and piecewise constant is what the picture is."""
    simulated("--acceleration", 2, "--acs", 12, "--noise", 0.01, "--coils", 6)
    reached = {}
    for method, more in (("zero-filled", ()), ("sense", ()), ("l1wavelet", ("--weight", 0.01)), ("tv", ())):
        done = reconstructed("--method", method, *more, *(("--iterations", 25) if method != "zero-filled" else ()))
        reached[method] = float(np.mean(done["psnr"]))
        assert len(done["seconds"]) == len(done["psnr"]) == len(done["ssim"]) == 2
        per_slice = -10 * np.log10(np.mean((nib.load("x.nii.gz").get_fdata() - picture()) ** 2, axis=(0, 1)) / 300**2)
        assert done["psnr"] == pytest.approx(per_slice.tolist(), abs=0.01)
    assert reached["zero-filled"] + 1 < reached["sense"]
    assert reached["zero-filled"] + 1 < reached["l1wavelet"]
    assert reached["sense"] + 3 < reached["tv"]
    lines = ok("mri", "reconstruct", "k.h5", "-o", "x.nii.gz", "--overwrite").splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("slice 0: ")
    assert "root sum of squares" in lines[2]


@pytest.mark.parametrize(("trajectory", "acceleration"), [("radial", 1.5), ("spiral", 1)])
def test_off_the_grid(place, trajectory, acceleration):
    done = simulated("--mask", trajectory, "--acceleration", acceleration, "--noise", 0.002, "--coils", 4)
    with h5py.File("k.h5") as file:
        k = file["trajectory"][()]
    assert list(k.shape) == [*done["shape"][2:], 2]
    assert np.abs(k).max() <= np.pi * (1 + 1e-9)
    data = read_fastmri("k.h5")
    x = torch.from_numpy(picture().transpose(2, 1, 0).copy())[:, None]
    A = NUFFT(torch.from_numpy(k).flatten(0, 1), (52, 44), maps=simulated_maps((52, 44), 4))
    clean = A(x).unflatten(-1, k.shape[:2])
    assert float((data.kspace - clean).norm() / clean.norm()) < 0.05
    assert data.header.trajectory == trajectory
    for method, least in (("zero-filled", 17), ("sense", 24)):
        reconstructed("--method", method)
        assert psnr() > least
    np.testing.assert_allclose(nib.load("x.nii.gz").affine, affine(), atol=1e-6)


def measured(path, seed=0, noise=0.5):
    """A fully sampled fastMRI file of two slices, with noise and with a header but without a reference."""
    x = torch.from_numpy(picture().transpose(2, 1, 0).copy())
    full = torch.stack([centred_fft(simulated_maps((52, 44), 4)[0] * image) for image in x])
    full = full + noise * 2**0.5 * torch.randn(full.shape, dtype=full.dtype, generator=torch.Generator().manual_seed(seed))
    space = Space(matrix=(52, 44, 1), fov=(104.0, 44.0, 3.0))
    write_fastmri(path, KSpace(kspace=full, header=Header(encoded=space, recon=space), acquisition="AXT2"))
    return full


def test_measured_kspace_is_thinned_out(place):
    full = measured(place / "full.h5")
    ok("mri", "simulate", "full.h5", "-o", "k.h5", "--acceleration", 2, "--acs", 12, "--mask", "gaussian")
    data = read_fastmri("k.h5")
    assert torch.equal(data.kspace, full * data.mask)  # what is kept is kept bit by bit
    torch.testing.assert_close(data.reference, centred_ifft(full).abs().square().sum(1).sqrt())
    done = reconstructed()
    assert min(done["psnr"]) > 24
    assert done["voxel"] == pytest.approx([3.0, 2.0, 1.0])  # no affine: sizes from the header
    assert_one_error_line(
        run("mri", "simulate", "k.h5", "-o", "z.h5"), "k-space must be fully sampled, but its mask leaves out 22"
    )
    assert_one_error_line(run("mri", "simulate", "full.h5", "-o", "z.h5", "--coils", 4), "--coils is for pictures")


def test_oversampled_readouts_are_cropped(place):
    """As fastMRI has them: twice the field of view along the readout, the picture in the middle."""
    x = torch.zeros(2, 104, 44)
    x[:, 26:78] = torch.from_numpy(picture().transpose(2, 1, 0).copy())
    full = torch.stack([centred_fft(simulated_maps((104, 44), 4)[0] * image) for image in x])
    header = Header(
        encoded=Space(matrix=(104, 44, 1), fov=(208.0, 66.0, 4.0)), recon=Space(matrix=(52, 44, 1), fov=(104.0, 66.0, 4.0))
    )
    write_fastmri("k.h5", KSpace(kspace=full, header=header))
    done = reconstructed()
    assert done["shape"] == [2, 52, 44]
    assert done["voxel"] == pytest.approx([4.0, 2.0, 1.5])
    assert psnr() > 35


def test_compression_and_maps(place):
    simulated("--acceleration", 2, "--acs", 16, "--noise", 0.005, "--coils", 8)
    every = reconstructed()
    assert every["coils"] == [8, 8]
    few = reconstructed("--coils-compress", 5)
    assert few["coils"] == [8, 5]
    assert np.mean(few["psnr"]) > np.mean(every["psnr"]) - 1.5
    assert np.mean(reconstructed("--maps", "lowres")["psnr"]) > 24
    assert np.mean(reconstructed("--sets", 2)["psnr"]) > np.mean(every["psnr"]) - 3
    one = reconstructed("--coils-compress", 1)
    assert one["coils"] == [8, 1]


def test_complex_images(place):
    simulated("--acceleration", 1, "--coils", 4)
    reconstructed("--sets", 2, "--complex", "x.npz")
    image = np.load("x.npz")["image"]
    assert image.shape == (2, 2, 52, 44)
    assert image.dtype == np.complex64
    magnitude = np.linalg.norm(image, axis=1).transpose(2, 1, 0)
    np.testing.assert_allclose(nib.load("x.nii.gz").get_fdata(), magnitude, rtol=1e-5, atol=1e-3)


def test_a_single_coil(place):
    simulated("--coils", 1, "--acceleration", 1.5)
    with h5py.File("k.h5") as file:
        assert file["kspace"].ndim == 3
    done = reconstructed("--method", "tv")
    assert done["coils"] == [1, 1]
    assert min(done["psnr"]) > 22


def ismrmrd(path, *, signal=1.0):
    """Two slices of four coils of unlike gain, a readout oversampled twice, every second line left out, and a noise scan."""
    rng = np.random.default_rng(0)
    x = torch.zeros(2, 52, 88)
    x[:, :, 22:66] = torch.from_numpy(picture().transpose(2, 1, 0).copy())
    gain = np.array([1.0, 3.0, 1.0, 0.5])[:, None]
    space = Space(matrix=(88, 52, 1), fov=(132.0, 65.0, 4.0))
    recon = Space(matrix=(44, 52, 1), fov=(66.0, 65.0, 4.0))
    steps = Limits(minimum=0, maximum=51, centre=26)
    header = Header(encoded=space, recon=recon, coils=4, step_1=steps)

    def noise(n):
        return gain * (rng.standard_normal((4, n)) + 1j * rng.standard_normal((4, n)))

    rows = [readout(noise(4000).astype(np.complex64), flags=(NOISE,))]
    for number, image in enumerate(x):
        full = (centred_fft(simulated_maps((52, 88), 4)[0] * image) * torch.from_numpy(gain[:, :, None])).numpy()
        for line in range(52):
            if line % 2 == 0 or abs(line - 26) < 8:
                samples = (signal * full[:, line] + noise(88)).astype(np.complex64)
                rows.append(readout(samples, kspace_encode_step_1=line, slice=number))
    write(path, rows, header.to_xml())


def test_ismrmrd_with_a_noise_scan(place):
    ismrmrd(place / "raw.h5")
    assert open_kspace(place / "raw.h5").sigma == pytest.approx(0.5**0.5)
    done = reconstructed(source="raw.h5")
    assert (done["shape"], done["coils"]) == ([2, 52, 44], [4, 4])
    assert done["voxel"] == pytest.approx([4.0, 1.25, 1.5])
    assert done["psnr"] is None
    x, truth = nib.load("x.nii.gz").get_fdata(), picture()
    x *= (x * truth).sum() / (x * x).sum()  # whitening changes the scale
    shading = np.corrcoef(x.ravel(), truth.ravel())[0, 1]
    assert shading > 0.97
    assert np.corrcoef(np.flip(x, 0).ravel(), truth.ravel())[0, 1] < shading
    assert_one_error_line(run("mri", "reconstruct", "k.h5", "-o", "y.nii"), "k.h5: there is no such file")


def test_noise_is_white_whatever_the_gains(place):
    ismrmrd(place / "raw.h5", signal=0.0)
    data = open_kspace(place / "raw.h5").read(0)
    n = data.kspace[:, data.mask].to(torch.complex128)
    torch.testing.assert_close(n @ n.mH / n.shape[1], torch.eye(4, dtype=torch.complex128), atol=0.1, rtol=0)


def test_ismrmrd_in_three_dimensions(place):
    """Planes across the readout are reconstructed one by one, and come back as a volume."""
    n = (12, 24, 16)  # z, y, x, the readout oversampled to 32
    x = torch.zeros(12, 24, 32)
    x[2:10, 4:20, 10:22] = 1.0
    x[3:6, 6:9, 12:15] = 3.0
    full = centred_fft(simulated_maps((12, 24, 32), 4)[0] * x, 3).numpy()
    space, recon = Space(matrix=(32, 24, 12), fov=(64.0, 36.0, 36.0)), Space(matrix=(16, 24, 12), fov=(32.0, 36.0, 36.0))
    steps = {f"step_{k}": Limits(minimum=0, maximum=m - 1, centre=m // 2) for k, m in ((1, 24), (2, 12))}
    rows = [
        readout(full[:, k, j], kspace_encode_step_1=j, kspace_encode_step_2=k)
        for k in range(12)
        for j in range(24)
        if (j + k) % 2 == 0 or abs(j - 12) < 6
    ]
    write("raw.h5", rows, Header(encoded=space, recon=recon, coils=4, **steps).to_xml())
    done = reconstructed("--iterations", 30, "--maps", "lowres", source="raw.h5")
    assert (done["shape"], done["voxel"]) == (list(n), pytest.approx([3.0, 1.5, 2.0]))
    assert psnr(truth=x[:, :, 8:24].numpy().transpose(2, 1, 0)) > 25


@pytest.mark.parametrize(("scale", "good"), [(1.0, True), (52.0, False)])
def test_ismrmrd_along_a_trajectory(place, scale, good):
    """Spokes in cycles a pixel, (kx, ky), of two slices; in other units they are refused."""
    x = torch.from_numpy(picture().transpose(2, 1, 0).copy())[:, None]
    k = radial(60, 104).view(60, 104, 2)
    y = NUFFT(k.flatten(0, 1), (52, 44), maps=simulated_maps((52, 44), 4))(x).unflatten(-1, (60, 104)).numpy()
    cycles = (scale * k.flip(-1) / (2 * np.pi)).numpy()
    space = Space(matrix=(44, 52, 1), fov=(66.0, 65.0, 4.0))
    rows = [readout(y[s, :, i], traj=cycles[i], slice=s) for s in range(2) for i in range(60)]
    write("raw.h5", rows, Header(encoded=space, recon=space, coils=4, trajectory="radial").to_xml())
    if good:
        done = reconstructed(source="raw.h5")
        assert done["voxel"] == pytest.approx([4.0, 1.25, 1.5])
        assert psnr() > 28
    else:
        assert_one_error_line(run("mri", "reconstruct", "raw.h5", "-o", "x.nii"), "the trajectory must be in cycles a pixel")


def test_one_of_several_contrasts(place):
    space = Space(matrix=(16, 8, 1), fov=(16.0, 8.0, 1.0))
    rng = np.random.default_rng(1)
    rows = []
    for contrast in range(2):
        values = (1 + contrast) * (rng.standard_normal((8, 2, 16)) + 1j).astype(np.complex64)
        rows += [readout(values[j], kspace_encode_step_1=j, contrast=contrast) for j in range(8)]
    steps = Limits(minimum=0, maximum=7, centre=4)
    write("raw.h5", rows, Header(encoded=space, recon=space, coils=2, step_1=steps).to_xml())
    assert_one_error_line(run("mri", "reconstruct", "raw.h5", "-o", "x.nii"), "has contrasts [0, 1]; choose one by --contrast")
    assert reconstructed("--contrast", 1, "--maps", "lowres", source="raw.h5")["shape"] == [1, 8, 16]


def broken(place):
    """Files that are good for nothing, one for every kind of mistake."""
    ok("mri", "simulate", "scan.nii.gz", "-o", "k.h5", "--coils", 4, "--acceleration", 2, "--acs", 12)
    ok("mri", "simulate", "scan.nii.gz", "-o", "bare.h5", "--coils", 4, "--acceleration", 2, "--acs", 0)
    (place / "cut.h5").write_bytes((place / "k.h5").read_bytes()[:30_000])
    (place / "text.h5").write_text("hello")
    with h5py.File(place / "other.h5", "w") as file:
        file["a"] = 1.0
    with h5py.File(place / "nan.h5", "w") as file:
        file["kspace"] = np.full((1, 2, 8, 8), np.nan, np.complex64)
    with h5py.File(place / "path.h5", "w") as file:
        file["kspace"] = np.ones((1, 2, 8, 16), np.complex64)
        file["trajectory"] = np.zeros((8, 15, 2))
    values = picture()
    values[3, 3, 1] = np.inf
    nib.save(nib.Nifti1Image(values, affine()), place / "nan.nii.gz")
    (place / "there.nii.gz").write_bytes(b"old")
    (place / "there.h5").write_bytes(b"old")


@pytest.mark.parametrize(
    ("args", "line"),
    [
        ("simulate no.nii.gz -o x.h5", "no.nii.gz: there is no such file"),
        ("simulate no.h5 -o x.h5", "no.h5: there is no such file"),
        ("simulate nan.nii.gz -o x.h5", "nan.nii.gz: the volume has 1 values that are NaN or infinite"),
        ("simulate scan.nii.gz -o x.nii", "x.nii: the suffix must be .h5 or .hdf5, got '.nii'"),
        ("simulate scan.nii.gz -o there.h5", "there.h5 is there already; --overwrite replaces it"),
        ("simulate scan.nii.gz -o x.h5 --mask random", "--mask"),
        ("simulate scan.nii.gz -o x.h5 --acceleration 0.5", "--acceleration"),
        (
            "simulate scan.nii.gz -o x.h5 --acceleration 8",
            "acs must fit into the 6 of 44 lines that acceleration 8 measures, got 24",
        ),
        (
            "simulate scan.nii.gz -o x.h5 --mask spiral",
            "acs must leave some of the 2 interleaves that acceleration 4 measures, got 24",
        ),
        ("simulate scan.nii.gz -o x.h5 --noise -1", "--noise"),
        ("simulate scan.nii.gz -o x.h5 --coils 0", "--coils"),
        ("reconstruct cut.h5 -o x.nii", "cut.h5: truncated or damaged HDF5 file"),
        ("reconstruct text.h5 -o x.nii", "text.h5: not an HDF5 file"),
        ("reconstruct other.h5 -o x.nii", "other.h5: neither a fastMRI file (dataset 'kspace') nor an ISMRMRD one"),
        ("reconstruct nan.h5 -o x.nii", "nan.h5: dataset 'kspace' has 128 values that are NaN or infinite"),
        (
            "reconstruct path.h5 -o x.nii",
            "path.h5: dataset 'trajectory' must be (8, 16, 2), as the samples in 'kspace', got (8, 15, 2)",
        ),
        ("reconstruct k.h5 -o x.nii --method magic", "--method"),
        ("reconstruct k.h5 -o x.nii --maps bart", "--maps"),
        ("reconstruct k.h5 -o x.nii --maps lowres --sets 2", "--sets 2 needs --maps espirit"),
        ("reconstruct k.h5 -o x.nii --coils-compress 9", "--coils-compress must be at most the 4 coils of the file, got 9"),
        ("reconstruct k.h5 -o x.nii --method zero-filled --iterations 3", "--iterations is no setting of zero-filled"),
        ("reconstruct k.h5 -o x.nii --contrast 1", "k.h5 is a fastMRI file"),
        ("reconstruct bare.h5 -o x.nii", "the calibration region must be at least kernel=6 lines wide"),
        ("reconstruct k.h5 -o x.img", "x.img: the suffix must be .nii or .nii.gz"),
        ("reconstruct k.h5 -o there.nii.gz", "there.nii.gz is there already; --overwrite replaces it"),
        ("reconstruct k.h5 -o x.nii --complex x.npy", "x.npy: the suffix must be .npz, got '.npy'"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(place, args, line):
    broken(place)
    before = {p: p.read_bytes() for p in place.rglob("*") if p.is_file()}
    assert_one_error_line(run("mri", *args.split(" ")), line)
    assert {p: p.read_bytes() for p in place.rglob("*") if p.is_file()} == before


def with_an_empty_slice():
    values = np.concatenate([picture(), np.zeros((*SHAPE[:2], 1), np.float32)], 2)
    nib.save(nib.Nifti1Image(values, affine()), "scan.nii.gz")


@pytest.mark.parametrize("mask", ["equispaced", "radial"])
def test_an_empty_slice_stays_empty(place, mask):
    """Volumes often end in slices of zeros, which no coil map can be made from."""
    with_an_empty_slice()
    simulated("--mask", mask, "--acceleration", 2, "--acs", 12, "--coils", 4)
    done = reconstructed("--sets", 2, "--complex", "x.npz")
    assert done["shape"] == [3, 52, 44]
    assert done["iterations"][2] == 0 < done["iterations"][1]
    assert done["psnr"][2] is None  # infinite, which JSON has not
    assert not nib.load("x.nii.gz").get_fdata()[:, :, 2].any()
    assert np.load("x.npz")["image"].shape == (3, 2, 52, 44)
    last = ok("mri", "reconstruct", "k.h5", "-o", "x.nii.gz", "--overwrite").splitlines()[-1]
    assert "inf" not in last


def test_an_empty_slice_is_measured_with_its_noise(place):
    with_an_empty_slice()
    simulated("--acceleration", 2, "--acs", 12, "--coils", 4, "--noise", 0.02)
    data = read_fastmri("k.h5")
    parts = torch.view_as_real(data.kspace[2][:, :, data.mask])
    assert float(parts.std()) == pytest.approx(0.02 * 300, rel=0.05)
    assert not bool(data.kspace[..., ~data.mask].any())
    assert reconstructed()["shape"] == [3, 52, 44]


def test_noise_adds_up(place):
    simulated("--acceleration", 1, "--noise", 0.04, "--coils", 4)
    ok("mri", "simulate", "k.h5", "-o", "k2.h5", "--acceleration", 1, "--noise", 0.03, "--seed", 1)
    assert read_fastmri("k2.h5").attributes["noise_sigma"] == pytest.approx(0.05 * 300)
    measured(place / "full.h5")
    ok("mri", "simulate", "full.h5", "-o", "k3.h5", "--acceleration", 2, "--acs", 8, "--noise", 0.03)
    assert "noise_sigma" not in read_fastmri("k3.h5").attributes  # what the scanner added is not known


def test_what_is_wrong_with_a_slice_says_which(place):
    simulated("--acceleration", 4, "--acs", 0, "--coils", 4)
    for maps in ("espirit", "lowres"):
        refused = run("mri", "reconstruct", "k.h5", "-o", "x.nii", "--maps", maps)
        assert_one_error_line(refused, "k.h5, slice 0: kspace must be sampled at its centre")
    assert not (place / "x.nii").exists()


def test_one_of_several_contrasts_along_a_trajectory(place):
    k = radial(6, 16).view(6, 16, 2)
    cycles = (k.flip(-1) / (2 * np.pi)).numpy()
    space = Space(matrix=(8, 8, 1), fov=(8.0, 8.0, 1.0))
    samples = np.random.default_rng(0).standard_normal((6, 2, 16)).astype(np.complex64)
    rows = [readout(samples[i], traj=cycles[i], contrast=c) for c in range(2) for i in range(6)]
    write("raw.h5", rows, Header(encoded=space, recon=space, coils=2, trajectory="radial").to_xml())
    assert_one_error_line(run("mri", "reconstruct", "raw.h5", "-o", "x.nii"), "has contrasts [0, 1]; choose one by --contrast")
    assert open_kspace(place / "raw.h5", only={"contrast": 1}).read(0).kspace.shape == (2, 96)


def test_slices_that_did_not_converge_share_a_note(place):
    simulated("--acceleration", 2, "--acs", 12, "--coils", 4, "--noise", 0.01)
    result = run("mri", "reconstruct", "k.h5", "-o", "x.nii", "--iterations", 2)
    assert result.exit_code == 0
    assert result.stderr.count("note: ") == 1
    assert "note: 2 of 2 slices did not converge. Stopped at the limit of 2 iterations" in result.stderr
