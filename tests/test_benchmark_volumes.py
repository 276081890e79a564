"""The benchmark of volumes on tiny scans, with an exact toy prior in place of the network."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.volumes import __main__ as command
from benchmarks.volumes import anatomy, baselines, priors, tables, tuning
from benchmarks.volumes.data import CT_TEST, MR_TEST, Subject, ct, mr, occupied
from benchmarks.volumes.pictures import draw, file_name
from benchmarks.volumes.problems import CT_TASKS, MR_TASKS, NOISE, Lines, Views
from benchmarks.volumes.rows import mean_table, measured, sampled
from benchmarks.volumes.scores import quality, scores
from medical.samplers import DDS
from medical.transmission import WATER
from prior.denoiser import EDMHead
from prior.schedules import EDM
from tests.prior.gaussian import gaussian_model

SIDE, DEPTH = 24, 12


def subject(depth=DEPTH, side=SIDE):
    """A brick of water in air, brighter towards the last slice."""
    image = torch.zeros(depth, 1, side, side)
    image[:, :, side // 4 : -side // 4, side // 3 : -side // 4] = 0.4
    return Subject("brick", image * torch.linspace(0.8, 1.2, depth)[:, None, None, None], (2.0, 1.0, 1.0))


def model():
    return gaussian_model(EDM(), EDMHead(), mean=0.3, std=0.3)


def write(path, volume, voxel=(1.0, 1.0, 2.0)):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.Nifti1Image(np.ascontiguousarray(volume.numpy().transpose(2, 1, 0)), np.diag([*voxel, 1.0])).to_filename(path)


@pytest.fixture
def folder(tmp_path):
    """The files of the tables, tiny: chests in HU, heads in any unit, real k-space."""
    image = subject().image[:, 0]
    for name in CT_TEST:
        write(tmp_path / "ct_test" / f"{name}.nii.gz", 2500 * image - 1000)
    for name in MR_TEST:
        write(tmp_path / "mri_test" / f"{name}.nii.gz", 700 * image)
    generator = torch.Generator().manual_seed(0)
    coils = torch.randn(4, 40, 40, dtype=torch.complex64, generator=generator)
    (tmp_path / "kspace").mkdir()
    decay = 1 / (1 + (torch.arange(40) - 20).square() + (torch.arange(40)[:, None] - 20).square())
    np.savez(tmp_path / "kspace" / "brain8_full.npz", kspace=(coils * decay).numpy())
    return tmp_path


def test_scans_come_in_the_range_of_the_priors(folder):
    image = subject().image
    torch.testing.assert_close(ct(folder, CT_TEST[0]).image, image, atol=1e-6, rtol=0)
    head = mr(folder, MR_TEST[0])
    assert float(head.image.max()) == pytest.approx(1.0)
    assert head.spacing == (2.0, 1.0, 1.0)


def test_the_block_in_the_middle():
    image = torch.arange(7.0).view(7, 1, 1, 1)
    middle = Subject("s", image, (1.0, 1.0, 1.0)).middle
    assert middle(3).image.flatten().tolist() == [2, 3, 4]
    assert middle(None).image.flatten().tolist() == middle(9).image.flatten().tolist() == list(range(7))


def test_reduced_slices_are_means_with_larger_voxels():
    small = subject().reduced(8)
    torch.testing.assert_close(small.image, torch.nn.functional.avg_pool2d(subject().image, 3))
    assert small.spacing == (2.0, 3.0, 3.0)


def test_line_integrals_are_those_of_attenuation():
    """Through 12 mm of water, 0.4 in the window, at right angles."""
    image = torch.full((1, 1, SIDE, SIDE), 0.4)
    y = Views("two", 2).measure(Subject("water", image, (1.0, 1.0, 1.0))).y
    middle = y.shape[-1] // 2
    torch.testing.assert_close(y[0, 0, :, middle], torch.full((2,), SIDE * WATER), rtol=1e-5, atol=0)


@pytest.mark.parametrize("task", [Views("8", 8), Views("limited", 12, math.pi / 2), Views("noisy", 8, photons=1e5)])
def test_the_measurement_of_the_volume_is_that_of_its_slices(task):
    problem = task.measure(subject(), seed=3)
    exact = replace(problem.volume.noise) if task.photons else None
    volume = problem.volume(problem.truth.transpose(0, 1)[None])
    torch.testing.assert_close(volume[0, 0].permute(1, 0, 2), problem.A(problem.truth)[:, 0], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(problem.data[0, 0].permute(1, 0, 2), problem.y[:, 0], rtol=0, atol=0)
    noisy = bool((problem.y - problem.A(problem.truth)).abs().max() > 0)
    assert noisy == (exact is not None)


def test_lines_are_zero_outside_the_mask_and_noisy_within():
    problem = Lines("4x", 4.0, 4).measure(subject(depth=20, side=32), seed=1)
    mask = problem.A.mask[0, 0].bool().expand(32, 32)
    assert int(mask[0].sum()) == 8
    assert bool((problem.y[..., ~mask] == 0).all())
    error = torch.view_as_real((problem.y - problem.A(problem.truth))[..., mask])
    assert float(error.square().mean().sqrt()) == pytest.approx(NOISE, rel=0.02)
    torch.testing.assert_close(problem.truth.abs(), subject(depth=20, side=32).image)
    assert float(problem.truth[problem.truth != 0].angle().std()) > 0.1


def test_scores_of_a_known_error():
    truth = subject().image
    found = scores(truth + 0.01, truth)
    assert list(found.psnr) == ["axial", "coronal", "sagittal"]
    assert all(value == pytest.approx(40.0, abs=1e-3) for value in found.psnr.values())
    assert all(0 < value < 1 for value in found.ssim.values())
    assert scores(truth * torch.polar(torch.ones(()), torch.tensor(1.0)), truth.to(torch.complex64)).psnr["axial"] > 120


def test_slices_without_anything_do_not_count():
    truth = torch.cat([torch.zeros(3, 1, SIDE, SIDE), subject().image])
    worse = truth.clone()
    worse[:3] += 0.2
    assert scores(worse, truth).psnr["axial"] == float("inf")
    assert occupied(truth).tolist() == [False] * 3 + [True] * DEPTH
    assert quality(truth + 0.1, truth) == pytest.approx(20.0, abs=1e-4)


def test_thin_volumes_have_axial_scores_alone():
    truth = subject(depth=2).image
    assert list(scores(truth + 0.1, truth).psnr) == ["axial"]


def test_total_variation_of_the_volume_beats_filtered_back_projection():
    problem = Views("8 views", 8).measure(subject())
    quick = replace(baselines.TV, iterations=40)
    answer = baselines.total_variation(problem, 3e-4, quick)
    assert answer.estimate.shape == problem.truth.shape
    assert float(answer.estimate.min()) >= 0
    assert answer.settings["share"] == 3e-4
    fbp = baselines.filtered(problem).estimate
    assert quality(answer.estimate, problem.truth) > quality(fbp, problem.truth) + 8


def test_noisy_rays_are_weighted():
    problem = Views("noisy", 8, photons=20.0).measure(subject(depth=2))
    B, y = baselines._weighted(problem)
    residual = (y - B(problem.truth.transpose(0, 1)[None])).square().mean().sqrt()
    assert float(residual) == pytest.approx(1.0, abs=0.15)


def test_every_task_has_its_weights():
    assert set(baselines.TV_SHARE) == {task.name for task in CT_TASKS}
    assert set(baselines.WAVELET_SHARE) == set(baselines.CG_SHARE) == {task.name for task in MR_TASKS}


def test_tuning_finds_the_best_share():
    peak = tuning.Tuned("ct", lambda p, share: baselines.Answer(p.truth + abs(math.log(share / 1e-2))), (1e-4, 1.0))
    tried = []
    problem = Views("2", 2).measure(subject(depth=2))
    best = tuning.tuned(peak, [problem], evaluations=12, tried=lambda share, psnr: tried.append(share))
    assert len(tried) == 12
    assert best == pytest.approx(1e-2, rel=0.1)


def test_settings_of_a_sweep():
    found = list(tuning.combinations(["eta=0,0.85", "inner=3", "spacing=None,karras", "weight=1e-4"]))
    assert len(found) == 4
    assert found[0] == {"eta": 0, "inner": 3, "spacing": None, "weight": 1e-4}
    assert found[-1] == {"eta": 0.85, "inner": 3, "spacing": "karras", "weight": 1e-4}
    assert list(tuning.combinations([])) == [{}]


@pytest.mark.parametrize("setting", ["etta=1", "eta", "eta="])
def test_settings_that_are_none(setting):
    with pytest.raises(ValueError, match="a setting must be name=value"):
        list(tuning.combinations([setting]))


def test_a_row_says_what_it_took():
    problem = Views("4 views", 4).measure(subject())
    row, estimate = measured(problem, "DDS", sampled(model(), DDS(steps=3), chunk=5))
    assert (row.subject, row.task, row.slices, row.calls) == ("brick", "4 views", DEPTH, 3)
    assert row.psnr == scores(estimate, problem.truth).psnr
    assert row.seconds > 0
    assert row.mebibytes > 50
    assert row.settings["sampler"] == "DDS"


def test_the_means_say_how_far_ours_is_above():
    problem = Views("4 views", 4).measure(subject())
    rows = [measured(problem, n, lambda p, e=e: baselines.Answer(p.truth + e))[0] for n, e in (("TV", 0.1), ("DDS", 0.01))]
    cells = mean_table(rows).columns
    assert [list(c.cells) for c in (cells[1], cells[2], cells[4])] == [["TV", "DDS"], ["20.00", "40.00"], ["+20.00", "+0.00"]]


def settled(folder, **changes):
    return tables.Setup(folder, model(), DDS(steps=2), chunk=6, full=3, **changes)


def test_the_ct_table_from_end_to_end(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(baselines, "TV", replace(baselines.TV, iterations=2))
    monkeypatch.setattr(command, "load_prior", lambda name, weights: model())
    arguments = ["ct", "--data", str(folder), "--steps", "2", "--set", "eta=0.5", "--only", "lidc", "photons"]
    command.main([*arguments, "--json", str(tmp_path / "out.json"), "--pictures", str(tmp_path / "figures")])
    record = json.loads((tmp_path / "out.json").read_text())
    assert [r["method"] for r in record["rows"]] == ["FBP", "3D ADMM-TV", "DDS, 2 steps"]
    assert [r["calls"] for r in record["rows"]] == [0, 0, 2]
    assert (record["sampler"]["eta"], record["threads"], record["seed"]) == (0.5, 1, 0)
    with Image.open(tmp_path / "figures" / "volumes_ct_lidc_idri_0001_8_views_1e5_photons.png") as picture:
        assert picture.width > 900


def test_the_mr_table(folder, monkeypatch):
    monkeypatch.setattr(baselines, "WAVELET", replace(baselines.WAVELET, iterations=2, levels=2, shifts=1))
    monkeypatch.setattr(baselines, "CG", replace(baselines.CG, iterations=8))
    monkeypatch.setattr(tables, "MR_TASKS", (Lines("4x", 2.0, 10),))
    monkeypatch.setattr(tables.data, "MR_TEST", MR_TEST[:1])
    rows = tables.solve(settled(folder, slices=2), "mr", told=lambda line: None)
    assert [r.subject for r in rows] == [MR_TEST[0]] * 4 + ["brain8"] * 4
    heads = {r.method: r.psnr["axial"] for r in rows if r.subject == MR_TEST[0]}
    assert heads["CG-SENSE"] > heads["zero-filled"]


def test_the_steps_table(folder, monkeypatch):
    monkeypatch.setattr(tables, "SIDE", 16)
    monkeypatch.setattr(tables, "STEPS", (2, 4))
    rows = tables.solve(settled(folder), "steps", told=lambda line: None)
    assert [(r.method, r.calls) for r in rows] == [
        ("FBP", 0), ("DDS, 2 steps", 2), ("DDS, 4 steps", 4), ("DiffusionMBIR, 3 levels", 6),
    ]  # fmt: skip


def test_the_tooth_in_the_units_of_its_reference(tmp_path, monkeypatch):
    for name, value in (("SIDE", 32), ("AIR", 4)):
        monkeypatch.setattr(anatomy, name, value)
    problem = Views("all", 21).measure(subject(depth=2, side=32))
    noise = 1e-3 * torch.randn(problem.y.shape, generator=torch.Generator().manual_seed(0))
    counts = 1e4 * torch.exp(-(problem.y + noise))
    (tmp_path / "science").mkdir()
    beam = torch.linspace(0, math.pi, 22)[:-1]
    np.savez(
        tmp_path / "science" / "tooth_sinogram.npz",
        data=counts[:, 0].permute(1, 0, 2).numpy(), flat=np.full((2, 2, counts.shape[-1]), 1e4, np.float32),
        dark=np.zeros((2, 2, counts.shape[-1]), np.float32), theta_deg=np.rad2deg(beam.numpy()).astype(np.float32),
    )  # fmt: skip
    few = anatomy.tooth_problem(tmp_path, 7)
    assert few.task == "7 of 21 views"
    assert few.y.shape[2] == 7
    assert float(few.truth.quantile(0.9999)) == pytest.approx(1.0, abs=0.1)
    gap = (few.A(few.truth) - few.y).square().mean().sqrt()
    assert float(gap) < 2 * few.A.noise.sigma  # the reference explains the rays that are left
    torch.testing.assert_close(few.volume(few.truth.transpose(0, 1)[None])[0, 0].permute(1, 0, 2), few.A(few.truth)[:, 0])


def test_weights_of_a_training_checkpoint(tmp_path, monkeypatch):
    net = model()
    torch.save({"state_dict": {f"denoiser.{k}": v for k, v in net.state_dict().items()}}, tmp_path / "last.ckpt")
    monkeypatch.setattr(priors.registry, "cards", dict)
    monkeypatch.setattr(priors.registry, "build", lambda spec: model())
    assert not priors.load_prior("ct-slices", tmp_path / "last.ckpt").training
    with pytest.raises(ValueError, match="ct-slices does not ship with this version: give --weights"):
        priors.load_prior("ct-slices")


def test_pictures_have_a_coronal_row_where_there_are_slices_enough(tmp_path):
    sizes = []
    for depth in (1, DEPTH):
        problem = Views("8 views", 8).measure(subject(depth=depth))
        draw(tmp_path / "p.png", problem, {"a": problem.truth, "b": problem.truth + 0.1})
        with Image.open(tmp_path / "p.png") as picture:
            sizes.append(picture.size)
    assert sizes[0][0] == sizes[1][0]
    assert sizes[1][1] > sizes[0][1]
    assert file_name("ct", problem) == "volumes_ct_brick_8_views.png"


@pytest.mark.parametrize("arguments", [["tune"], ["ct", "tv"]])
def test_commands_that_make_no_sense(arguments, capsys):
    with pytest.raises(SystemExit):
        command.main(arguments)
    assert "tune" in capsys.readouterr().err
