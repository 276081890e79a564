"""The demo: real photographs and scans, exact toy priors in place of the networks, a small one for a real series."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

import prior
from inverse import RedDiff
from inverse.calibration import FLOOR, Calibration, save
from inverse.metrics import psnr
from inverse.operators import Inpaint
from medical.samplers import DDS
from posterior import calibration, demo, demo_scans, demo_series
from posterior.demo import QUICK, TASKS, Plan
from posterior.demo_scans import SCANS
from prior.denoiser import Denoiser, EDMHead, ImageHead
from prior.schedules import EDM
from tests.posterior import stub
from tests.posterior.chromium import needs_chromium, open_page
from tests.posterior.flow import stand_in
from tests.prior.gaussian import gaussian_model
from timeseries.predictor import TSDiffPredictor

SMALL = Plan(steps=3, samples=2, size=32, scan_steps=2, scan_samples=2, slices=2, paths=3)
FOLDERS = ["ct", "deblur", "inpaint", "mri", "report.html", "upscale"]
needs_pvlib = pytest.mark.skipif(demo_series.read() is None, reason="no pvlib, whose series is forecast")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The result, the model and the progress of one small run."""
    seen: list[tuple[float, float]] = []
    model = gaussian_model(EDM(), EDMHead(), mean=0.5, std=0.25)
    models = {"photos": model, "ct-slices": slice_prior(), "mr-slices": slice_prior()}
    folder = tmp_path_factory.mktemp("demo") / "report"
    result = demo.run(
        folder, SMALL, models=models, predictor=stand_in(), progress=lambda done, total: seen.append((done, total))
    )
    return result, model, seen


def slice_prior():
    """Of slices: a Gaussian around the mean of the scans."""
    return gaussian_model(EDM(), EDMHead(), mean=0.3, std=0.3)


@pytest.fixture
def stub_priors(monkeypatch, stub_prior):
    """``prior.load`` gives the stubs, those of slices too, and the shipped model of series is a small one."""
    photos = prior.load

    def load(name, *, weights=None):
        slices = Denoiser(stub.PixelPrior(), EDM(sigma_min=0.005), ImageHead()).eval()
        return slices if name in ("ct-slices", "mr-slices") else photos(name, weights=weights)

    monkeypatch.setattr(prior, "load", load)
    monkeypatch.setattr(TSDiffPredictor, "shipped", lambda name: stand_in())


@pytest.fixture
def no_pvlib(monkeypatch):
    """As if pvlib were not installed."""
    monkeypatch.setattr(demo_series, "find_spec", lambda name: None)


def test_files(made):
    result = made[0]
    assert result.report.name == "report.html"
    assert sorted(p.name for p in result.report.parent.iterdir()) == FOLDERS
    assert [case.folder.name for case in result.cases] == ["deblur", "inpaint", "upscale", "ct", "mri"]
    record = json.loads((result.cases[0].folder / "reconstruction.json").read_text())
    assert (record["settings"]["steps"], record["settings"]["seed"]) == (3, 0)


def test_the_scores_are_those_of_the_saved_estimates(made):
    for task, case in zip(TASKS, made[0].cases, strict=False):
        with np.load(case.folder / "arrays.npz") as arrays:
            estimate = torch.from_numpy(arrays["estimate"])
        assert case.scores.psnr == pytest.approx(float(psnr(estimate.clamp(0, 1), demo._photo(task, 32))))


def test_the_classical_baselines_are_no_straw_men(made):
    deblur, inpaint, upscale, ct, mri = made[0].cases
    assert deblur.baseline_scores["Total variation"].psnr > deblur.input_scores.psnr + 1
    assert inpaint.baseline_scores["Total variation"].psnr > inpaint.input_scores.psnr + 10
    assert set(upscale.baseline_scores) == {"Bicubic", "Total variation", "ResShift"}
    assert upscale.baseline_scores["ResShift"].psnr > upscale.baseline_scores["Bicubic"].psnr
    assert upscale.input_scores.psnr is None
    assert ct.baseline_scores["Total variation"].psnr > ct.baseline_scores["Filtered back-projection"].psnr + 15
    assert mri.baseline_scores["L1-wavelet"].psnr > mri.baseline_scores["Zero-filled"].psnr + 3


def test_what_is_measured(made):
    _, inpaint, upscale, ct, mri = made[0].cases
    assert inpaint.measured_share == pytest.approx(1 - int(0.8 * 32 * 32) / 32**2, abs=1e-4)
    assert upscale.measured_share == pytest.approx(1 / 16, rel=0.3)  # a random probe of 3,072 entries
    assert 0.02 < ct.measured_share < 12 * 182 / 128**2 + 0.03
    assert 0.2 < mri.measured_share < 1
    assert inpaint.residual_ratio is None
    assert made[0].cases[0].residual_ratio > 0


def test_network_calls_and_progress(made):
    result, model, seen = made
    assert model.network.calls == sum(case.network_calls for case in result.cases[:3])
    assert [case.network_calls for case in result.cases[3:]] == [4, 4]  # two steps, two samples
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})
    count = 5 + len(result.forecasts)
    assert {total for _, total in seen} == {count}
    assert seen[-1] == (count, count)


def test_the_result_is_plain_data(made):
    data = json.loads(json.dumps(dataclasses.asdict(made[0]), default=str))
    more = {"scan_steps": 2, "scan_samples": 2, "slices": 2, "paths": 3}
    assert data["plan"] == {"model": "photos", "steps": 3, "samples": 2, "size": 32, "seed": 0, **more}
    assert set(data["cases"][0]["scores"]) == {"psnr", "ssim", "seconds"}


def test_the_photographs_are_installed_and_are_crops():
    for task in TASKS:
        photo = demo._photo(task, 300)
        assert photo.shape == (1, 3, 300, 300)
        assert 0 <= photo.min() < 0.2 < 0.8 < photo.max() <= 1
        inner = demo._photo(task, 32)[0, 0]
        windows = photo[0, 0].unfold(0, 32, 1).unfold(1, 32, 1)
        assert bool((windows == inner).all(-1).all(-1).any())


def test_a_folder_of_something_else_is_found_before_the_work(tmp_path):
    (tmp_path / "inpaint").mkdir()
    (tmp_path / "inpaint" / "mine.txt").write_text("x")
    with pytest.raises(FileExistsError, match="inpaint is not a saved reconstruction"):
        demo.run(tmp_path, SMALL)  # no weights are asked for
    assert sorted(p.name for p in tmp_path.iterdir()) == ["inpaint"]


@pytest.mark.parametrize("size", [30, 33, 304])
def test_sizes_that_do_not_fit(size):
    with pytest.raises(ValueError, match=f"size must be a multiple of 4 from 32 to 300, got {size}"):
        Plan(size=size)


def test_the_quick_plan_is_a_tenth_of_the_work():
    def work(plan: Plan) -> int:
        return (plan.steps + plan.samples * (plan.steps + 10)) * plan.size**2

    assert work(QUICK) < work(Plan()) / 10


def test_the_scans_are_installed():
    ct, mr = (scan.read(3) for scan in SCANS)
    assert ct.shape == (1, 1, 128, 128)
    assert mr.shape == (3, 1, 96, 128)
    assert float(ct[0, 0, 64].mean()) > 0.35  # soft tissue is 0.4 of the window
    for image in (ct, mr):
        assert 0 <= float(image.min()) < 0.1 < 0.8 < float(image.max()) <= 1


def test_the_magnitude_of_a_slice_keeps_its_residual():
    scan = SCANS[1]
    truth = scan.read(2)
    A = scan.operator((96, 128), 0)
    out = DDS(steps=2, samples=2).reconstruct(slice_prior(), A, demo_scans._measured(A, truth, 0), seed=0)
    part = demo_scans.one_slice(out, 1)
    assert not part.estimate.is_complex()
    torch.testing.assert_close(part.estimate[0], out.estimate[1].abs())
    torch.testing.assert_close(part.residual[0], out.residual[1], rtol=1e-4, atol=1e-5)
    measured, filled = part.split()
    torch.testing.assert_close(measured + filled, part.estimate)


@needs_pvlib
def test_the_forecast(made):
    result = made[0]
    (forecast,) = result.forecasts
    assert (forecast.name, result.left_out) == ("Forecasting", "")
    temperature = demo_series.read().target
    repeated = np.tile(temperature[-72:-48], 2)
    naive = forecast.baseline_scores["Seasonal naive"]
    error = np.abs(repeated - temperature[-48:]).sum() / temperature[-48:].sum()
    assert (naive.crps, naive.nd) == (pytest.approx(error, rel=1e-5), pytest.approx(error, rel=1e-5))
    page = result.report.read_text(encoding="utf-8")
    assert f"<b>{100 * forecast.coverage:.0f} %</b>. This spread is not calibrated: neither band" in page
    assert "Last comes a time series" in page


def test_without_pvlib_the_forecast_is_left_out(tmp_path, stub_priors, no_pvlib, monkeypatch):
    monkeypatch.setattr(demo, "SCANS", ())
    monkeypatch.setattr(demo, "QUICK", SMALL)
    monkeypatch.setattr(TSDiffPredictor, "shipped", None)  # is not asked for
    done = stub.run("demo", tmp_path / "out", "--quick")
    assert done.exit_code == 0, done.output
    hint = 'pip install "posterior[demo]"'
    assert [line for line in done.output.splitlines() if hint in line] == [demo_series.LEFT_OUT]
    assert "CRPS" not in done.output
    assert "report.html: 3 cases" in done.output
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "The forecasting case is left out" in page
    assert "Last comes a time series" not in page
    assert "CRPS" not in page
    data = json.loads(stub.run("demo", tmp_path / "out", "--quick", "--json").output)
    assert (data["forecasts"], data["left_out"]) == ([], demo_series.LEFT_OUT)


@needs_pvlib
def test_the_command(tmp_path, stub_priors, monkeypatch):
    monkeypatch.setattr(demo, "QUICK", SMALL)
    done = stub.run("demo", tmp_path / "out", "--quick")
    assert done.exit_code == 0, done.output
    rows = [line.split() for line in done.output.splitlines()]
    assert [row[0] for row in rows if row[1:2] == ["input"]] == ["Deblurring", "Inpainting"]
    assert sum(row[:1] == ["posterior"] for row in rows) == 6
    assert [row[0] for row in rows if row[1:3] == ["Seasonal", "naive"]] == ["Forecasting"]
    assert "report.html: 6 cases" in done.output
    monkeypatch.setattr(demo, "SCANS", ())
    data = json.loads(stub.run("demo", tmp_path / "out", "--quick", "--json").output)
    assert data["cases"][2]["baseline_scores"]["Bicubic"]["psnr"] > 15
    assert set(data["forecasts"][0]["scores"]) == {"crps", "nd", "seconds"}
    (tmp_path / "file").write_text("x")
    refused = stub.run("demo", tmp_path / "file", "--quick")
    assert refused.exit_code == 2
    assert refused.stderr.startswith("error: ")


def test_no_calibration_is_claimed_for_another_model(made):
    page = made[0].report.read_text(encoding="utf-8")
    assert page.count("This spread is not calibrated for this task") == 5
    assert "Calibrated, the" not in page


def test_the_calibration_that_matches_is_shown(tmp_path, stub_priors, monkeypatch):
    known = Calibration(
        task=calibration.TASKS[1].name, sampler=repr(RedDiff(steps=3, samples=2)), prior=calibration.identity("photos"),
        images=24, samples=2, levels=(0.68, 0.95), factors=(2.0, 9.0),
    )  # fmt: skip
    monkeypatch.setattr(calibration, "SHIPPED", save(tmp_path / "c.json", [known.checked([torch.tensor([1.0, 3.0, 9.5])])]))
    monkeypatch.setattr(demo, "SCANS", ())
    result = demo.run(tmp_path / "out", SMALL)
    page = result.report.read_text(encoding="utf-8")
    assert page.count("This spread is not calibrated for this task") == 2
    assert page.count("On 1 held-out photographs such intervals held <b>66.7 %</b> of the values") == 1
    with np.load(result.cases[1].folder / "arrays.npz") as arrays:
        estimate, samples = (torch.from_numpy(arrays[name]) for name in ("estimate", "samples"))
    unseen = ~Inpaint.random((3, 32, 32), 0.8, seed=0).mask.expand(3, 32, 32)
    off = ((estimate - demo._photo(TASKS[1], 32)).abs() / (samples.std(0) + FLOOR))[:, unseen]
    raw, held = (100 * float((off <= factor).double().mean()) for factor in (12.7062, 9.0))
    assert f"straight from the samples hold <b>{raw:.1f} %</b>, calibrated ones <b>{held:.1f} %</b>." in page


@needs_chromium
def test_the_report_in_chromium(made, tmp_path):
    seen = open_page(Path(made[0].report).read_text(encoding="utf-8"), tmp_path)
    assert (seen.errors, seen.requests, seen.log, seen.overflow) == ([], [], "", 0)
    charts = [image for image in seen.images if image["alt"].startswith("Forecasting")]
    assert len(charts) == 2 * len(made[0].forecasts)
    assert len(seen.images) - len(charts) == 8 + 8 + 10 + 2 * 3 + 2 * (9 + 2)
    assert {image["width"] for image in seen.images if image not in charts} == {32, 8, 128}
