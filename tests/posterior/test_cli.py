"""The command line: start-up, its plain commands, and what bad input looks like."""

import json
import os
import resource
import subprocess
import sys
import types
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

import posterior
import prior
from posterior import images, jobs
from tests.posterior.stub import PixelPrior, assert_one_error_line, noisy, run, save

pytestmark = pytest.mark.usefixtures("stub_prior")
ROOT = Path(__file__).parents[2]


def test_help_does_not_import_torch():
    code = "import sys, posterior.cli; print([m for m in ('torch', 'lightning', 'numpy', 'PIL', 'yaml') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout == "[]\n"


def _children_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_help_is_fast():
    """In processor time, which a busy machine does not stretch as it does the time on the clock."""
    times = []
    for _ in range(8):
        began = _children_seconds()
        done = subprocess.run(
            [sys.executable, "-m", "posterior", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
        )
        times.append(_children_seconds() - began)
        if min(times) < 0.5:
            break
    assert min(times) < 0.5
    for name in ("deblur", "inpaint", "upscale", "denoise", "colorize", "solve", "train", "weights", "demo"):
        assert name in done.stdout


def test_version_and_bare_call():
    assert run("--version").stdout == f"posterior {posterior.__version__}\n"
    assert run().exit_code == 0
    assert "deblur" in run().stdout


def test_train_passes_everything_on(monkeypatch):
    seen = []
    monkeypatch.setattr(posterior, "training", types.SimpleNamespace(run=seen.append), raising=False)
    assert run("train", "fit", "--config", "a.yaml", "--trainer.fast_dev_run=true", "--help").exit_code == 0
    assert run("train").exit_code == 0
    assert seen == [["fit", "--config", "a.yaml", "--trainer.fast_dev_run=true", "--help"], ["--help"]]


@dataclass(frozen=True)
class Card:
    """A card with what the listing prints."""

    name: str = "photos"
    summary: str = "a stub"
    parameters: int = 1_500_000
    licence: str = "Apache-2.0"


@pytest.fixture
def registry(monkeypatch):
    def verify(name):
        if name != "photos":
            raise ValueError(f"unknown model {name!r}: known are photos")

    def export(name, checkpoint, *, to=None):
        verify(name)
        if not Path(checkpoint).is_file():
            raise FileNotFoundError(f"weights: there is no file {checkpoint}")
        return "ab" * 32

    stub = types.SimpleNamespace(cards=lambda: {"photos": Card()}, verify=verify, export=export)
    monkeypatch.setattr(prior, "registry", stub, raising=False)


@pytest.mark.usefixtures("registry")
def test_weights(tmp_path):
    assert run("weights", "list").stdout == "photos: a stub; 1.5 M parameters; Apache-2.0\n"
    assert json.loads(run("weights", "list", "--json").stdout)["weights"][0]["parameters"] == 1_500_000
    assert run("weights", "verify").stdout == "photos: intact\n"
    assert json.loads(run("weights", "verify", "photos", "--json").stdout) == {"verified": ["photos"]}
    assert_one_error_line(run("weights", "verify", "paintings"), "unknown model 'paintings'")
    assert_one_error_line(run("weights", "export", "photos", tmp_path / "no.ckpt"), "there is no file")
    (tmp_path / "a.ckpt").write_bytes(b"")
    assert run("weights", "export", "photos", tmp_path / "a.ckpt").stdout == f"photos: sha256 {'ab' * 32}\n"


def test_weights_without_a_command():
    result = run("weights")
    assert "verify" in result.output
    assert "Traceback" not in result.output


@pytest.fixture
def workplace(tmp_path):
    """A good image y.png, and files that are good for nothing."""
    save(tmp_path / "y.png", noisy((8, 8))[1])
    save(tmp_path / "m.png", np.ones((8, 9, 1)))
    save(tmp_path / "all.png", np.ones((8, 8, 1)))
    save(tmp_path / "black.png", np.zeros((3, 3, 1)))
    save(tmp_path / "there.png", noisy((8, 8))[1])
    save(tmp_path / "alpha.png", noisy((8, 8))[1], alpha=torch.ones(1, 8, 8))
    (tmp_path / "text.png").write_text("hello")
    (tmp_path / "folder").mkdir()
    (tmp_path / "w.safetensors").write_bytes(b"junk")
    return tmp_path


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ("denoise no.png x.png", "no.png: there is no such file or folder"),
        ("denoise text.png x.png", "text.png: not a PNG, JPEG, TIFF or WebP image"),
        ("denoise y.png x.gif", "suffix must be one of .png"),
        ("denoise y.png x", "suffix must be one of .png, .jpg, .jpeg, .tif, .tiff, .webp, got 'none'"),
        ("denoise y.png nowhere/x.png", "no such folder"),
        ("denoise y.png folder", "is a folder, but"),
        ("denoise y.png there.png", "is there already; --overwrite replaces it"),
        ("denoise folder x", "no image in this folder"),
        ("denoise folder y.png", "is a file, but"),
        ("denoise alpha.png x.jpg", "JPEG has no transparency"),
        ("denoise y.png x.png --model paintings", "unknown model 'paintings': known are photos"),
        ("denoise y.png x.png --weights w.safetensors", "cannot be read"),
        ("denoise y.png x.png --noise 0", "--noise"),
        ("denoise y.png x.png --noise much", "--noise"),
        ("denoise y.png x.png --steps 0", "--steps"),
        ("denoise y.png x.png --samples -1", "--samples"),
        ("denoise y.png x.png --sampler best", "--sampler"),
        ("deblur y.png x.png --motion 5,30 --sampler ddrm", "DDRM needs an operator with a singular value decomposition"),
        ("denoise y.png x.png --tile 64 --overlap 40", "at least twice overlap"),
        ("denoise y.png x.png --max-megapixels 0.00001", "8 x 8 is 0.0 megapixels"),
        ("upscale y.png x.png --max-megapixels 0.0001", "the result, 32 x 32, would have more than"),
        ("upscale y.png x.png --factor 1", "--factor"),
        ("upscale y.png x.png --kernel lanczos", "--kernel"),
        ("deblur y.png x.png --sigma -3", "--sigma"),
        ("deblur y.png x.png --sigma 1 --motion 5,3", "give one of --sigma, --kernel and --motion, got --sigma and --motion"),
        ("deblur y.png x.png --motion fast", "--motion must be LENGTH,ANGLE"),
        ("deblur y.png x.png --motion 0,3", "--motion must have a length of 1 to 1000"),
        ("deblur y.png x.png --kernel black.png", "must not be negative or all black"),
        ("inpaint y.png x.png", "give one of --mask, --mask-alpha and --mask-color, got none"),
        ("inpaint y.png x.png --mask m.png", "is 9 x 8, but y.png is 8 x 8"),
        ("inpaint y.png x.png --mask no.png", "no.png: there is no such file"),
        ("inpaint y.png x.png --mask all.png", "leaves no pixel"),
        ("inpaint y.png x.png --mask-alpha", "y.png has no transparency"),
        ("inpaint y.png x.png --mask-color pink", "--mask-color must be #RRGGBB"),
        ("inpaint y.png x.png --mask-color #00ff00", "no pixel of y.png has the colour"),
        ("solve y.png x.png --operator no.yaml", "no.yaml: there is no such file"),
        ("denoise y.png", "OUT"),
        ("denoise y.png x.png --brightness 3", "--brightness"),
        ("sharpen y.png x.png", "sharpen"),
        ("--verbose", "--verbose"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(workplace, monkeypatch, args, message):
    monkeypatch.chdir(workplace)
    before = {p: p.read_bytes() for p in workplace.rglob("*") if p.is_file()}
    PixelPrior.calls = 0
    assert_one_error_line(run(*args.split(" ")), message)
    assert PixelPrior.calls == 0  # before any heavy work
    assert {p: p.read_bytes() for p in workplace.rglob("*") if p.is_file()} == before


def test_cuda_that_is_not_there(workplace):
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    result = run("denoise", workplace / "y.png", workplace / "x.png", "--device", "cuda")
    assert_one_error_line(result, "torch finds no CUDA device")


def test_a_bug_keeps_its_traceback(workplace, monkeypatch):
    def broken(*_, **__):
        raise ZeroDivisionError("bug")

    monkeypatch.setattr(jobs, "restore", broken)
    result = run("denoise", workplace / "y.png", workplace / "x.png")
    assert result.exit_code == 1
    assert isinstance(result.exception, ZeroDivisionError)


@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory")])
def test_out_of_memory_says_what_to_do(workplace, monkeypatch, error):
    def broken(*_, **__):
        raise error

    monkeypatch.setattr(jobs, "restore", broken)
    assert_one_error_line(run("denoise", workplace / "y.png", workplace / "x.png"), "take less at once: --tile for images")


def test_an_answer_that_is_not_finite_is_not_written(workplace, monkeypatch):
    monkeypatch.setattr(PixelPrior, "forward", lambda self, x, t: torch.full_like(x, torch.nan))
    assert_one_error_line(
        run("denoise", workplace / "y.png", workplace / "x.png", "--steps", 1), "NaN or infinite: these weights"
    )
    assert not (workplace / "x.png").exists()


def test_interrupt(workplace, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(images.os, "replace", interrupted)
    before = sorted(os.listdir(workplace))
    assert_one_error_line(run("denoise", workplace / "y.png", workplace / "x.png", "--steps", 1), "interrupted", code=130)
    assert sorted(os.listdir(workplace)) == before


def test_failed_write_keeps_the_old_file(workplace, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    old = (workplace / "there.png").read_bytes()
    monkeypatch.setattr(images.os, "replace", full)
    result = run("denoise", workplace / "y.png", workplace / "there.png", "--steps", 1, "--overwrite")
    assert_one_error_line(result, "No space left on device")
    assert (workplace / "there.png").read_bytes() == old
    assert not [p for p in workplace.iterdir() if p.suffix == ".part"]


def test_overwrite(workplace):
    old = (workplace / "there.png").read_bytes()
    assert run("denoise", workplace / "y.png", workplace / "there.png", "--steps", 2, "--overwrite").exit_code == 0
    assert (workplace / "there.png").read_bytes() != old


def test_a_tile_within_a_hole(tmp_path):
    save(tmp_path / "y.png", noisy((64, 64))[1])
    mask = np.ones((64, 64, 1))
    mask[:4] = 0
    save(tmp_path / "m.png", mask)
    options = ("--tile", 32, "--overlap", 8, "--tile-above", 0, "--mask", tmp_path / "m.png", "--steps", 1)
    result = run("inpaint", tmp_path / "y.png", tmp_path / "x.png", *options)
    assert_one_error_line(result, "lies wholly within a hole; give a larger --tile")


def test_bad_input_from_the_shell(tmp_path):
    args = [sys.executable, "-m", "posterior", "denoise", str(tmp_path / "no.png"), str(tmp_path / "x.png")]
    done = subprocess.run(args, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"error: {tmp_path / 'no.png'}: there is no such file or folder\n"
