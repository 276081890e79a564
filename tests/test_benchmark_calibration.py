"""The calibration benchmark from end to end, on synthetic photographs with an exact prior."""

import functools
import json

import numpy as np
import pytest
import torch
from PIL import Image

import prior
from benchmarks import calibration as benchmark
from benchmarks.calibration import POINTS, Kept, Photo, Setup, brief, outcome
from inverse import RedDiff
from inverse.calibration import conformal_factor, coverage, half_width, load
from posterior.calibration import TASKS, identity
from tests.posterior import stub

FAST = functools.partial(RedDiff, steps=3, resample_steps=1)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Forty draws of the stub's prior, spread over the folders of the benchmark."""
    folder = tmp_path_factory.mktemp("photos")
    for name, count in (("cid22_val", 20), ("clic2025", 10), ("set14", 8), ("bsd100", 10)):
        (folder / name).mkdir()
        for i in range(count):
            clean = stub.noisy((20, 20), seed=100 * count + i)[0]
            Image.fromarray((255 * clean.clip(0, 1)).astype(np.uint8)).save(folder / name / f"{i:02}.png")
    return folder


@pytest.fixture
def run(photos, tmp_path, monkeypatch):
    """Runs the command and gives its JSON."""
    monkeypatch.setattr(prior, "load", stub.load, raising=False)
    monkeypatch.setattr(benchmark, "RedDiff", FAST)

    def call(*arguments):
        fixed = (
            "--photos",
            photos,
            "--size",
            16,
            "--samples",
            2,
            "--keep",
            tmp_path / "k.jsonl",
            "--json",
            tmp_path / "r.json",
        )
        benchmark.main([str(a) for a in (*fixed, *arguments)])
        return json.loads((tmp_path / "r.json").read_text())

    return call


def calls(of):
    before = stub.PixelPrior.calls
    found = of()
    return found, stub.PixelPrior.calls - before


def test_from_photographs_to_the_shipped_file(run, tmp_path, capsys):
    record = run("--plot", tmp_path / "p.png", "--ship", tmp_path / "c.json")
    assert [task["task"] for task in record["tasks"]] == [task.name for task in TASKS]
    for task in record["tasks"]:
        assert (task["calibration_photographs"], task["test_photographs"]) == (20, 20)
        for row in task["rows"]:
            # images alike: what the theorem keeps in hand for 20 of them, level / 20, is all that is held beyond the level
            assert row["calibrated"] == pytest.approx(row["level"] * (1 + 1 / 20), abs=0.02)
            assert row["calibrated_width"] / row["raw_width"] == pytest.approx(row["factor"] / half_width(row["level"], 2))
    shipped = load(tmp_path / "c.json")
    assert [entry.task for entry in shipped] == [task.name for task in TASKS]
    assert {(entry.prior, entry.sampler, entry.samples) for entry in shipped} == {
        (identity("photos"), repr(FAST(samples=2)), 2)
    }
    assert [row["calibrated"] for row in record["tasks"][0]["rows"]] == list(shipped[0].check.calibrated)
    assert "torch" in record["machine"]
    assert record["seed"] == "the number of the photograph"
    with Image.open(tmp_path / "p.png") as plot:
        assert min(plot.size) > 500
    assert "95 %" in capsys.readouterr().out


def test_a_run_goes_on_where_it_was(run, tmp_path):
    options = ("--only", "deblurring", "--limit", 6)
    each = FAST(samples=2).network_calls(3)
    first, made = calls(lambda: run(*options))
    assert made == 6 * each
    again, made = calls(lambda: run(*options))
    assert (again, made) == (first, 0)
    kept = tmp_path / "k.jsonl"
    kept.write_text(kept.read_text()[:-100])  # interrupted while it wrote the last line
    again, made = calls(lambda: run(*options))
    assert (again, made) == (first, each)
    assert calls(lambda: run(*options)) == (first, 0)
    assert calls(lambda: run(*options, "--samples", 3))[1] == 6 * FAST(samples=3).network_calls(3)
    assert calls(lambda: run("--only", "deblurring", "--limit", 8))[1] == 2 * each


def test_few_photographs_calibrate_little(run, tmp_path):
    (task,) = run("--only", "inpainting", "--limit", 6)["tasks"]
    low, high = task["rows"]
    assert low["factor"] > 0
    assert (high["factor"], high["calibrated"], high["calibrated_width"]) == (None, None, None)
    assert high["raw"] > 0.5
    with pytest.raises(ValueError, match="--ship needs all 4 tasks and 19 photographs that calibrate; this run has 0"):
        run("--only", "inpainting", "--limit", 6, "--ship", tmp_path / "c.json")
    assert not (tmp_path / "c.json").exists()


@pytest.mark.parametrize("arguments", [("--samples", 1), ("--only", "colouring"), ("--model", "adm-ffhq-256")])
def test_bad_arguments(run, arguments, capsys):
    with pytest.raises(SystemExit):
        run(*arguments)
    assert f"got {'adm-ffhq-256' if arguments[0] == '--model' else 'photos'!r}" in capsys.readouterr().err


def test_in_brief_coverage_is_never_overstated():
    values = torch.rand(3 * POINTS + 7, generator=torch.Generator().manual_seed(0)) ** 2
    short = torch.tensor(brief(values))
    assert len(short) == POINTS
    assert float(short.max()) == float(values.max())
    for factor in (0.1, 0.5, 0.9):
        assert 0 <= coverage(values, factor) - coverage(short, factor) <= 1 / POINTS
    assert 0 <= conformal_factor([short] * 20, 0.9) - conformal_factor([values] * 20, 0.9) < 3e-3


def test_even_photographs_calibrate_and_odd_ones_test():
    setup = Setup(sampler=RedDiff(samples=4), size=16, prior="p")
    photos = [
        Photo(task="t", setup=repr(setup), name=str(n), number=n, scores=(1.0,) if n % 2 == 0 else (3.0,), spread=10.0 + n % 2)
        for n in range(38)
    ]
    found = outcome(TASKS[0], photos, setup)
    assert found.calibration.factors == (1.0, 1.0)
    assert (found.rows[1].calibrated, found.rows[1].raw) == (0.0, 1.0)  # 3 lies within t = 3.18
    assert found.rows[1].calibrated_width == 2 * 11
    with pytest.raises(ValueError, match="photos must be at least 2, one to calibrate and one to test, got 1"):
        outcome(TASKS[0], photos[:1], setup)


def test_what_is_kept_is_given_back(tmp_path):
    setup = Setup(sampler=RedDiff(samples=4), size=16, prior="p")
    photo = Photo(task="t", setup=repr(setup), name="a.png", number=3, scores=(0.5, 1.5), spread=4.0)
    Kept(tmp_path / "new" / "k.jsonl").add(photo)
    kept = Kept(tmp_path / "new" / "k.jsonl")
    assert kept.find("t", setup, "a.png", 3) == photo
    assert kept.find("t", Setup(sampler=RedDiff(samples=4), size=32, prior="p"), "a.png", 3) is None
    assert kept.find("t", setup, "a.png", 4) is None
