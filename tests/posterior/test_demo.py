"""The demo: real photographs, an exact toy prior in place of the network."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from inverse import RedDiff
from inverse.calibration import FLOOR, Calibration, save
from inverse.metrics import psnr
from inverse.operators import Inpaint
from posterior import calibration, demo
from posterior.demo import QUICK, TASKS, Plan
from prior.denoiser import EDMHead
from prior.schedules import EDM
from tests.posterior import stub
from tests.posterior.chromium import needs_chromium, open_page
from tests.prior.gaussian import gaussian_model

SMALL = Plan(steps=3, samples=2, size=32)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The result, the model and the progress of one small run."""
    seen: list[tuple[float, float]] = []
    model = gaussian_model(EDM(), EDMHead(), mean=0.5, std=0.25)
    folder = tmp_path_factory.mktemp("demo") / "report"
    result = demo.run(folder, SMALL, model=model, progress=lambda done, total: seen.append((done, total)))
    return result, model, seen


def test_files(made):
    result = made[0]
    assert result.report.name == "report.html"
    assert sorted(p.name for p in result.report.parent.iterdir()) == ["deblur", "inpaint", "report.html", "upscale"]
    assert [case.folder.name for case in result.cases] == ["deblur", "inpaint", "upscale"]
    record = json.loads((result.cases[0].folder / "reconstruction.json").read_text())
    assert (record["settings"]["steps"], record["settings"]["seed"]) == (3, 0)


def test_the_scores_are_those_of_the_saved_estimates(made):
    for task, case in zip(TASKS, made[0].cases, strict=True):
        with np.load(case.folder / "arrays.npz") as arrays:
            estimate = torch.from_numpy(arrays["estimate"])
        assert case.scores.psnr == pytest.approx(float(psnr(estimate.clamp(0, 1), demo._photo(task, 32))))


def test_the_classical_baselines_are_no_straw_men(made):
    deblur, inpaint, upscale = made[0].cases
    assert deblur.baseline_scores["Total variation"].psnr > deblur.input_scores.psnr + 1
    assert inpaint.baseline_scores["Total variation"].psnr > inpaint.input_scores.psnr + 10
    assert set(upscale.baseline_scores) == {"Bicubic", "Total variation"}
    assert upscale.input_scores.psnr is None


def test_what_is_measured(made):
    _, inpaint, upscale = made[0].cases
    assert inpaint.measured_share == pytest.approx(1 - int(0.8 * 32 * 32) / 32**2, abs=1e-4)
    assert upscale.measured_share == pytest.approx(1 / 16, rel=0.3)  # a random probe of 3,072 entries
    assert inpaint.residual_ratio is None
    assert made[0].cases[0].residual_ratio > 0


def test_network_calls_and_progress(made):
    result, model, seen = made
    calls = sum(case.network_calls for case in result.cases)
    assert model.network.calls == calls
    assert len(seen) == calls
    assert [done for done, _ in seen] == list(range(1, calls + 1))
    assert {total for _, total in seen} == {calls}


def test_the_result_is_plain_data(made):
    data = json.loads(json.dumps(dataclasses.asdict(made[0]), default=str))
    assert data["plan"] == {"model": "photos", "steps": 3, "samples": 2, "size": 32, "seed": 0}
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
        demo.run(tmp_path, SMALL, model=None)  # no weights are asked for
    assert sorted(p.name for p in tmp_path.iterdir()) == ["inpaint"]


@pytest.mark.parametrize("size", [30, 33, 304])
def test_sizes_that_do_not_fit(size):
    with pytest.raises(ValueError, match=f"size must be a multiple of 4 from 32 to 300, got {size}"):
        Plan(size=size)


def test_the_quick_plan_is_a_tenth_of_the_work():
    def work(plan: Plan) -> int:
        return (plan.steps + plan.samples * (plan.steps + 10)) * plan.size**2

    assert work(QUICK) < work(Plan()) / 10


def test_the_command(tmp_path, stub_prior, monkeypatch):
    monkeypatch.setattr(demo, "QUICK", SMALL)
    done = stub.run("demo", tmp_path / "out", "--quick")
    assert done.exit_code == 0, done.output
    rows = [line.split() for line in done.output.splitlines()]
    assert [row[0] for row in rows if row[1:2] == ["input"]] == ["Deblurring", "Inpainting"]
    assert sum(row[:1] == ["posterior"] for row in rows) == 3
    assert "report.html: 3 cases" in done.output
    data = json.loads(stub.run("demo", tmp_path / "out", "--quick", "--json").output)
    assert data["cases"][2]["baseline_scores"]["Bicubic"]["psnr"] > 15
    (tmp_path / "file").write_text("x")
    refused = stub.run("demo", tmp_path / "file", "--quick")
    assert refused.exit_code == 2
    assert refused.stderr.startswith("error: ")


def test_no_calibration_is_claimed_for_another_model(made):
    page = made[0].report.read_text(encoding="utf-8")
    assert page.count("This spread is not calibrated for this task") == 3
    assert "Calibrated, the" not in page


def test_the_calibration_that_matches_is_shown(tmp_path, stub_prior, monkeypatch):
    known = Calibration(
        task=calibration.TASKS[1].name, sampler=repr(RedDiff(steps=3, samples=2)), prior=calibration.identity("photos"),
        images=24, samples=2, levels=(0.68, 0.95), factors=(2.0, 9.0),
    )  # fmt: skip
    monkeypatch.setattr(calibration, "SHIPPED", save(tmp_path / "c.json", [known.checked([torch.tensor([1.0, 3.0, 9.5])])]))
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
    assert len(seen.images) == 8 + 8 + 9 + 2 * 3
    assert {image["width"] for image in seen.images} == {32, 8}
