"""The MRI benchmark from end to end on tiny problems, without the libraries that it compares with."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.mri import __main__ as command
from benchmarks.mri import coil_maps as coils
from benchmarks.mri import kspace, measured, non_cartesian, pictures, reconstructions
from benchmarks.mri.cartesian import FLOOR, cartesian
from benchmarks.mri.measured import OURS, Measured
from benchmarks.mri.scene import birdcage, head
from medical.operators import centred_fft


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    """No peers."""
    for module in (measured, non_cartesian, coils, command):
        monkeypatch.setattr(module, "installed", dict)
    monkeypatch.setattr("benchmarks.mri.cartesian.installed", dict)


def test_birdcage_maps_are_normalised_and_differ():
    maps = birdcage(4, (12, 15))
    torch.testing.assert_close(maps.abs().square().sum(0), torch.ones(12, 15, dtype=torch.float64))
    assert maps.abs().flatten(1).argmax(1).unique().numel() == 4  # each is brightest at its own place


def test_exact_sums_are_the_definition():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 4, 5, dtype=torch.complex128, generator=generator)
    k = (torch.rand(7, 2, dtype=torch.float64, generator=generator) - 0.5) * 6
    y = torch.zeros(2, 7, dtype=torch.complex128)
    for i in range(4):
        for j in range(5):
            y += x[:, i, j, None] * torch.exp(-1j * (k[:, 0] * (i - 2) + k[:, 1] * (j - 2))) / 20**0.5
    torch.testing.assert_close(non_cartesian.exact_forward(x, k), y)
    z = torch.randn(2, 7, dtype=torch.complex128, generator=generator)
    back = non_cartesian.exact_adjoint(z, k, (4, 5), torch.arange(20))
    torch.testing.assert_close((y.conj() * z).sum(), (x.flatten(1).conj() * back).sum())


def test_speed_of_ours_alone():
    rows = cartesian(15, coils=2, budget=0.01)
    assert [(r.method, r.library) for r in rows] == [(m, n) for m in ("forward", "adjoint", "normal") for n in (OURS, FLOOR)]
    setting = non_cartesian.Setting(16, 2, spokes=12, samples=32)
    rows += [*non_cartesian.encoding(setting, 0.01), *non_cartesian.normal_operator(setting, 0.01)]
    assert all(r.seconds > 0 for r in rows)
    errors = [r.error for r in rows if r.error is not None]
    assert len(errors) == 6
    assert max(errors) < 1e-5
    assert not any(r.missed for r in rows)
    (weights,) = non_cartesian.density(setting, 0.01)
    assert weights.error < 0.35  # the corners of k-space are missing from a head of 16 pixels
    (maps,) = coils.coil_maps(48, 4, budget=0.01)
    assert maps.error < 1e-3


def test_aims_that_are_missed_are_named_and_red():
    slow = Measured("task", "forward", f"{OURS}, finufft", 2.0, 1e-3)
    fast = Measured("task", "forward", "sigpy", 0.5, 1e-2)
    judged = non_cartesian._judged(slow, [slow, fast])
    assert judged.missed == "error below 1e-05; 1 s; faster than sigpy"
    table = command.speed_table("title", [judged, fast])
    assert [row.style for row in table.rows] == ["red", None]
    assert list(table.columns[4].cells) == ["", "0.2 times"]


def test_scores_are_those_of_a_known_error():
    item = synthetic(32)
    peak = float(item.image.abs()[item.inside].max())
    psnr, ssim = kspace.scores(item.image.abs() + 0.01 * peak, item)
    assert psnr == pytest.approx(40, abs=0.01)
    assert 0.9 < ssim < 1


def test_the_command_reconstructs_a_folder(tmp_path, monkeypatch):
    write_folder(tmp_path)
    monkeypatch.setattr(kspace, "ACS", 12)
    monkeypatch.setattr(reconstructions.Setup, "__init__", small_setup)
    command.main(
        ["--only", "kspace", "--kspace", str(tmp_path), "--json", str(tmp_path / "r.json"), "--figures", str(tmp_path)]
    )
    record = json.loads((tmp_path / "r.json").read_text())
    psnr = {(r["pattern"], r["method"]): r["psnr"] for r in record["reconstructions"]}
    assert len(psnr) == 4 * 4 + 2
    for pattern in kspace.PATTERNS[:3]:
        assert psnr[pattern.name, "CG-SENSE"] > psnr[pattern.name, "zero-filled"] + 1
    one, two = record["sets_of_maps"]
    assert one["sets"] == 1
    assert two["misfit"] < one["misfit"]
    for name in ("mri_brain", "mri_single_coil", "mri_small_fov"):
        picture = np.asarray(Image.open(tmp_path / f"{name}.png").convert("L"))
        assert picture.std() > 20  # neither black nor white


def test_a_folder_is_needed_for_kspace():
    with pytest.raises(SystemExit):
        command.main(["--only", "kspace"])


def test_the_head_is_cut_out():
    inside = torch.zeros(20, 30, dtype=torch.bool)
    inside[6:10, 12:14] = True
    assert pictures._box(inside) == (slice(2, 14), slice(8, 18))


def small_setup(self, iterations=5, shares=(1e-3, 1e-2)):
    object.__setattr__(self, "iterations", iterations)
    object.__setattr__(self, "shares", shares)


def noisy_kspace(size, coils=4):
    maps, image = birdcage(coils, (size, size)), head((size, size))
    noise = torch.randn(maps.shape, dtype=torch.complex128, generator=torch.Generator().manual_seed(3))
    return (centred_fft(maps * image) + 1e-3 * noise).to(torch.complex64)


def synthetic(size):
    return kspace.Item.of("head", noisy_kspace(size), birdcage(4, (size, size)).to(torch.complex64), 1e-3)


def write_folder(folder):
    """Heads in place of the real data; that of the small field of view folds over."""
    np.savez(folder / "brain8_full.npz", kspace=noisy_kspace(64).numpy())
    i, j = np.mgrid[:64, :64]
    np.savez(folder / "single_coil_512.npz", kspace=centred_fft(head((64, 64))).to(torch.complex64).numpy() * (-1.0) ** (i + j))
    mask = np.zeros((64, 48), dtype=bool)
    mask[:, ::2] = True
    mask[20:44, 12:36] = True
    whole = torch.fft.fftshift(torch.fft.ifft2(torch.fft.ifftshift(noisy_kspace(64), (-2, -1))), (-2, -1))
    image = whole[..., 8:56].clone()
    image[..., -8:] += whole[..., :8]
    image[..., :8] += whole[..., 56:]
    np.savez(folder / "brain8_smallfov.npz", kspace=(mask * centred_fft(image).to(torch.complex64).numpy()), mask=mask)
