"""The restoring commands, with a stub prior: what they write, tile by tile and folder by folder."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from inverse import RedDiff
from inverse.calibration import Calibration
from inverse.calibration import save as save_calibrations
from inverse.operators import Identity
from inverse.reconstruction import Reconstruction
from posterior import calibration, jobs, progress, samplers, tasks
from posterior.commands.options import SAMPLER, Options, SamplerName
from posterior.images import Picture, read
from posterior.restoration import restore
from posterior.tiles import Tiling
from prior.denoiser import Denoiser
from prior.schedules import EDM
from tests.posterior.stub import SPREAD, PixelPrior, assert_one_error_line, folder_of, noisy, psnr, run, save

pytestmark = pytest.mark.usefixtures("stub_prior")


def test_denoise_improves(tmp_path):
    clean, y = noisy()
    source = save(tmp_path / "y.png", y, depth=16)
    result = run("denoise", source, tmp_path / "x.png", "--noise", SPREAD)
    assert result.exit_code == 0, result.output
    # pixels that know nothing of each other: Wiener's estimate gains 3.0 dB, a sampler's less
    assert 1.0 < psnr(tmp_path / "x.png", clean) - psnr(source, clean) < 3.2


@pytest.mark.parametrize(
    "args",
    [
        ("deblur", "--sigma", 1.0),
        ("deblur", "--motion", "5,30"),
        ("upscale", "--factor", 2, "--method", "posterior"),
        ("upscale", "--factor", 2, "--kernel", "area"),
        ("denoise",),
        ("colorize",),
        ("inpaint", "--mask-color", "#ff00ff"),
    ],
    ids=lambda args: " ".join(map(str, args)),
)
def test_estimate_agrees_with_the_measurement(tmp_path, args):
    _, y = noisy((16, 12), noise=0.02)
    y[4:7, 5:8] = (1, 0, 1)
    save(tmp_path / "y.png", y)
    result = run(args[0], tmp_path / "y.png", tmp_path / "x.png", *args[1:], "--noise", 0.05, "--steps", 30, "--json")
    assert result.exit_code == 0, result.output
    (record,) = json.loads(result.stdout)["results"]
    assert record["residual_ratio"] < 3
    assert record["network_calls"] == 30
    factor = 2 if args[0] == "upscale" else 1
    assert read(tmp_path / "x.png").size == (16 * factor, 12 * factor)


def test_kernel_from_an_image(tmp_path):
    _, y = noisy((16, 12), noise=0.0)
    save(tmp_path / "y.png", y)
    save(tmp_path / "k.png", np.ones((3, 3, 1)))
    result = run("deblur", tmp_path / "y.png", tmp_path / "x.png", "--kernel", tmp_path / "k.png", "--steps", 5, "--json")
    assert "Blur" in json.loads(result.stdout)["results"][0]["operator"]


def test_inpainting_keeps_known_pixels_bit_by_bit(tmp_path):
    _, y = noisy((16, 16))
    mask = np.zeros((16, 16, 1))
    mask[4:9, 5:12] = 1
    y[mask[..., 0] == 1] = 1
    save(tmp_path / "y.png", y, depth=16)
    save(tmp_path / "m.png", mask)
    result = run("inpaint", tmp_path / "y.png", tmp_path / "x.png", "--mask", tmp_path / "m.png", "--steps", 10)
    assert result.exit_code == 0, result.output
    before, after = (read(tmp_path / name).samples(16) for name in ("y.png", "x.png"))
    known = mask[..., 0] == 0
    assert (after[known] == before[known]).all()
    assert (after[~known] / 65535).mean() == pytest.approx(0.5, abs=0.04)  # it was white; grey is what the prior knows


def test_inpainting_of_transparent_pixels(tmp_path):
    _, y = noisy((12, 12))
    alpha = torch.ones(1, 12, 12)
    alpha[:, 3:6, 3:6] = 0
    save(tmp_path / "y.png", y, alpha=alpha)
    assert run("inpaint", tmp_path / "y.png", tmp_path / "x.png", "--mask-alpha", "--steps", 5).exit_code == 0
    assert read(tmp_path / "x.png").alpha is None


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("depth", [8, 16])
def test_depth_channels_and_alpha_are_kept(tmp_path, channels, depth):
    _, y = noisy((10, 14), channels)
    alpha = torch.rand(1, 10, 14, generator=torch.Generator().manual_seed(0))
    save(tmp_path / "y.png", y, depth=depth, alpha=alpha)
    assert run("denoise", tmp_path / "y.png", tmp_path / "x.png", "--steps", 3).exit_code == 0
    before, after = read(tmp_path / "y.png"), read(tmp_path / "x.png")
    assert (after.depth, len(after.colour)) == (depth, channels)
    assert (after.samples(depth)[..., -1] == before.samples(depth)[..., -1]).all()


def test_grey_becomes_colour_only_by_colorize(tmp_path):
    save(tmp_path / "y.png", noisy((10, 8), 1)[1])
    assert run("colorize", tmp_path / "y.png", tmp_path / "x.png", "--steps", 10).exit_code == 0
    restored = read(tmp_path / "x.png").colour
    assert len(restored) == 3
    assert (restored.mean(0) - read(tmp_path / "y.png").colour[0].clamp(0, 1)).abs().mean() < 0.02


def test_exif_orientation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[274] = 6
    Image.new("RGB", (12, 8), (90, 120, 150)).save(tmp_path / "y.jpg", exif=exif)
    assert run("denoise", tmp_path / "y.jpg", tmp_path / "x.png", "--steps", 2).exit_code == 0
    assert read(tmp_path / "x.png").size == (12, 8)


def test_same_seed_same_bytes(tmp_path):
    save(tmp_path / "y.png", noisy()[1])
    for name, seed in (("a.png", 0), ("b.png", 0), ("c.png", 1)):
        run("denoise", tmp_path / "y.png", tmp_path / name, "--seed", seed, "--steps", 5)
    a, b, c = ((tmp_path / name).read_bytes() for name in ("a.png", "b.png", "c.png"))
    assert a == b
    assert a != c


def test_samples_and_report_are_saved_beside(tmp_path):
    save(tmp_path / "y.png", noisy()[1])
    result = run("denoise", tmp_path / "y.png", tmp_path / "x.png", "--samples", 4, "--report", "--noise", SPREAD)
    assert result.exit_code == 0, result.output
    record = json.loads((tmp_path / "x.png.json").read_text())
    assert record["std"] == str(tmp_path / "x.png.std.png")
    assert record["settings"]["samples"] == 4
    assert record["settings"]["seed"] == 0
    assert record["model"] == "photos"
    std = read(tmp_path / "x.png.std.png")
    assert (std.depth, std.colour.shape) == (16, (1, 24, 20))
    # the posterior of a pixel has the variance SPREAD^2 / 2; the sampler is approximate, but its unit is not
    assert float(std.colour.square().mean().sqrt()) * jobs.STD_WHITE == pytest.approx(SPREAD / 2**0.5, rel=0.25)


def test_the_record_says_what_was_measured(tmp_path):
    _, y = noisy((16, 16), noise=0.0)
    save(tmp_path / "y.png", y, depth=16)
    mask = np.zeros((16, 16, 1))
    mask[4:12, 4:12] = 1
    save(tmp_path / "m.png", mask)
    options = ("--mask", tmp_path / "m.png", "--steps", 3, "--report")
    result = run("inpaint", tmp_path / "y.png", tmp_path / "x.png", *options)
    assert result.exit_code == 0, result.output
    assert "75 % measured, the rest filled in" in result.stdout
    record = json.loads((tmp_path / "x.png.json").read_text())
    assert record["measured_share"] == pytest.approx(0.75, abs=1e-4)
    assert record["filled_share"] == pytest.approx(0.25, abs=1e-4)
    assert record["calibration"] is None
    assert record["measured"] == str(tmp_path / "x.png.measured.png")
    measured, restored = (read(tmp_path / name).samples(16) for name in ("x.png.measured.png", "x.png"))
    hole = mask[..., 0] == 1
    assert (measured[~hole] == restored[~hole]).all()
    assert measured[hole].max() == 0
    again = run("inpaint", tmp_path / "y.png", tmp_path / "z.png", *options[:-1])
    assert again.exit_code == 0
    assert not (tmp_path / "z.png.measured.png").exists()
    (tmp_path / "x.png").unlink()
    (tmp_path / "x.png.json").unlink()
    refused = run("inpaint", tmp_path / "y.png", tmp_path / "x.png", *options)
    assert_one_error_line(refused, "x.png.measured.png is there already")


def test_the_share_of_tiles_is_that_of_the_whole(tmp_path):
    save(tmp_path / "y.png", noisy((40, 48))[1])
    told = []
    for name, options in (("a.png", ()), ("b.png", ("--tile", 32, "--overlap", 8, "--tile-above", 0))):
        result = run("denoise", tmp_path / "y.png", tmp_path / name, "--noise", 0.25, "--steps", 2, "--json", *options)
        told.append(json.loads(result.stdout)["results"][0]["measured_share"])
    assert told == pytest.approx([0.5, 0.5], abs=1e-4)  # noise as strong as the spread of a photograph


def test_the_record_says_which_calibration_applies(tmp_path, monkeypatch):
    sampler = RedDiff(samples=2, steps=3)
    known = Calibration(
        task=calibration.TASKS[3].name, sampler=repr(sampler), prior=calibration.identity("photos"),
        images=24, samples=2, levels=(0.68, 0.95), factors=(2.0, 9.0),
    ).checked([torch.tensor([1.0, 5.0])])  # fmt: skip
    monkeypatch.setattr(calibration, "SHIPPED", save_calibrations(tmp_path / "c.json", [known]))
    save(tmp_path / "y.png", noisy((20, 24))[1])
    save(tmp_path / "grey.png", noisy((20, 24), 1)[1])

    def upscaled(*options, source="y.png"):
        given = ("--method", "posterior", "--samples", 2, "--steps", 3, "--overwrite", *options)
        return run("upscale", tmp_path / source, tmp_path / "x.png", *given)

    assert json.loads(upscaled("--json").stdout)["results"][0]["calibration"] == {
        "task": known.task, "images": 24, "levels": [0.68, 0.95], "factors": [2.0, 9.0], "floor": 1e-3, "held": [0.5, 1.0]
    }  # fmt: skip
    assert "95 % of the values are expected within 9.0 standard deviations (calibrated)" in upscaled().stdout
    others = (("--noise", 0.02), ("--samples", 3), ("--steps", 4), ("--factor", 2), ("--kernel", "area"), ("--sampler", "daps"))
    for other in others:
        assert json.loads(upscaled("--json", *other).stdout)["results"][0]["calibration"] is None
    tiles = ("--tile", 32, "--overlap", 16, "--tile-above", 0)
    assert json.loads(upscaled("--json", *tiles).stdout)["results"][0]["calibration"] is None
    assert json.loads(upscaled("--json", source="grey.png").stdout)["results"][0]["calibration"] is None
    assert "the spread of the samples is not calibrated for this task" in upscaled("--noise", 0.02).stdout


CALLS = {"ddrm": 20, "reddiff": 60, "diffpir": 100, "ddnm": 100, "daps": 100, "pigdm": 100, "dps": 100, "mcg": 100}
"""As the help of ``--sampler`` has it."""


@pytest.mark.parametrize("name", CALLS)
def test_every_sampler_restores_at_the_price_it_names(tmp_path, name):
    clean, y = noisy((8, 8))
    source = save(tmp_path / "y.png", y, depth=16)
    options = ("--noise", SPREAD, "--sampler", name, "--report")
    result = run("denoise", source, tmp_path / "x.png", *options)
    assert result.exit_code == 0, result.output
    record = json.loads((tmp_path / "x.png.json").read_text())
    assert record["network_calls"] == CALLS[name]
    assert record["settings"]["sampler"].lower() == name
    assert record["settings"]["samples"] == (0 if name == "reddiff" else 1)
    assert (record["std"], record["calibration"]) == (None, None)
    if name not in ("mcg", "dps"):  # of which one keeps the noise, and the other is tuned to photographs
        assert psnr(tmp_path / "x.png", clean) > psnr(source, clean)


def test_the_help_names_every_sampler_and_its_price():
    assert {str(name) for name in SamplerName} == {str(name) for name in samplers.SAMPLERS} == {*CALLS, "auto"}
    for price in ("ddrm 20;", "reddiff 60, and 71 a sample", "diffpir, ddnm and daps 100", "pigdm, dps and mcg 100"):
        assert price in SAMPLER
    assert RedDiff(samples=1).network_calls(60) == 60 + 71


@pytest.mark.parametrize(("name", "calls"), [("reddiff", 5 + 2 * (5 + 11)), ("diffpir", 10), ("daps", 10), ("auto", 10)])
def test_samples_of_any_sampler(tmp_path, name, calls):
    save(tmp_path / "y.png", noisy((8, 8))[1])
    options = ("--noise", SPREAD, "--sampler", name, "--steps", 5, "--json")
    for samples, draws in ((0, 0), (1, 0), (2, 2)):
        given = (*options, "--samples", samples)
        result = run("denoise", tmp_path / "y.png", tmp_path / f"{samples}.png", *given)
        (record,) = json.loads(result.stdout)["results"]
        assert record["network_calls"] == (calls if draws else 5)
        assert (tmp_path / f"{samples}.png.std.png").exists() == (record["std"] is not None) == bool(draws)
        assert record["calibration"] is None
    assert record["settings"]["sampler"] == {"reddiff": "RedDiff", "diffpir": "DiffPIR"}.get(name, "DAPS")
    assert record["settings"]["steps"] == 5


def test_auto_restores_what_only_some_samplers_can(tmp_path):
    clean, _ = noisy((16, 32))
    save(tmp_path / "y.png", np.round(clean.clip(0, 1) * 3) / 3)
    described = "operator: {class_path: Quantize, init_args: {bits: 2}}\n"
    (tmp_path / "a.yaml").write_text(described)
    solve = ("solve", tmp_path / "y.png", tmp_path / "x.png", "--operator", tmp_path / "a.yaml", "--overwrite", "--report")
    before = psnr(tmp_path / "y.png", clean)
    for name, sampler, steps in (("auto", "RedDiff", 60), ("daps", "DAPS", 5), ("dps", "DPS", 5)):
        result = run(*solve, "--sampler", name, "--steps", steps)
        assert result.exit_code == 0, result.output
        record = json.loads((tmp_path / "x.png.json").read_text())
        assert (record["settings"]["sampler"], record["network_calls"]) == (sampler, steps)
        assert record["measured_share"] is None
        if name == "auto":
            assert psnr(tmp_path / "x.png", clean) > before + 0.5  # of the 1.0 dB that the mean within each level gains
    PixelPrior.calls = 0
    for name in ("reddiff", "diffpir", "ddrm", "ddnm", "pigdm", "mcg"):
        refused = run(*solve, "--sampler", name)
        assert_one_error_line(refused, f"--sampler {name} needs a linear operator, got Quantize(bits=2); auto, daps and dps")
    assert PixelPrior.calls == 0


def test_ddrm_needs_a_decomposition(tmp_path):
    save(tmp_path / "y.png", noisy((12, 12))[1])
    blur = ("deblur", tmp_path / "y.png", tmp_path / "x.png", "--motion", "5,30", "--steps", 2, "--sampler")
    for name in ("ddrm", "ddnm"):
        assert_one_error_line(run(*blur, name), "needs an operator with a singular value decomposition, got Blur")
    assert not (tmp_path / "x.png").exists()
    assert run(*blur, "diffpir").exit_code == 0


def test_any_sampler_works_tile_by_tile(tmp_path):
    save(tmp_path / "y.png", noisy((40, 48))[1])
    tiles = ("--tile", 32, "--overlap", 8, "--tile-above", 0, "--json")
    result = run("denoise", tmp_path / "y.png", tmp_path / "x.png", "--sampler", "ddrm", "--steps", 2, "--samples", 2, *tiles)
    (record,) = json.loads(result.stdout)["results"]
    assert (record["tiles"], record["network_calls"]) == (4, 16)
    assert (tmp_path / "x.png.std.png").exists()


def test_large_images_are_tiled(tmp_path):
    _, y = noisy((40, 48))
    save(tmp_path / "y.png", y, depth=16)
    options = ("--noise", SPREAD, "--steps", 40, "--json")
    whole = json.loads(run("denoise", tmp_path / "y.png", tmp_path / "a.png", *options).stdout)["results"][0]
    cut = json.loads(
        run("denoise", tmp_path / "y.png", tmp_path / "b.png", *options, "--tile", 32, "--overlap", 8, "--tile-above", 0).stdout
    )["results"][0]
    assert (whole["tiles"], cut["tiles"]) == (1, 4)
    assert cut["network_calls"] == 4 * whole["network_calls"]
    assert cut["residual_ratio"] == pytest.approx(whole["residual_ratio"], rel=0.1)
    assert read(tmp_path / "b.png").size == (40, 48)


@dataclass(frozen=True)
class Backprojection:
    """A sampler without chance: ``A^H y``, local for a local operator."""

    samples: int = 0

    def reconstruct(self, model, A, y, *, seed, progress):
        progress(1, 1)
        estimate = A.adjoint(y)
        return Reconstruction(
            estimate=estimate,
            samples=estimate.new_empty((0, *estimate.shape)),
            measurement=y,
            operator=A,
            network_calls=1,
            seconds=0.5,
        )


@pytest.mark.parametrize("task", ["blur", "upscale", "inpaint", "colorize"])
def test_tiles_give_what_the_whole_gives(task):
    from inverse.operators import Blur, Downsample, Grayscale

    generator = torch.Generator().manual_seed(0)
    holes = torch.rand(50, 40, generator=generator) < 0.3
    blur = Blur.gaussian(0.5)  # reaches two pixels
    make = {
        "blur": tasks.same_size(blur, reach=2),
        "upscale": tasks.upscale(Downsample.bicubic(2), 2),
        "inpaint": tasks.inpaint(lambda picture, name: holes),
        "colorize": tasks.colorize(Grayscale()),
    }[task]
    picture = Picture(colour=torch.rand(3, 50, 40, generator=generator), depth=32)
    problem = make(picture, Path("a.png"))
    calls = []
    whole, cut = (
        restore(problem, Denoiser(PixelPrior(), EDM()), lambda A: Backprojection(), tiling, progress=lambda *p: calls.append(p))
        for tiling in (Tiling(tile=0), Tiling(tile=32, overlap=16, above=0))
    )
    assert cut.tiles > 3
    assert (cut.network_calls, cut.seconds) == (cut.tiles, 0.5 * cut.tiles)
    assert calls[1:] == [(k + 1, cut.tiles) for k in range(cut.tiles)]
    assert (whole.picture.colour - cut.picture.colour).abs().max() < 1e-5


def test_a_wide_blur_widens_the_overlap(tmp_path):
    _, y = noisy((64, 64))
    save(tmp_path / "y.png", y)
    options = ("--steps", 2, "--tile", 32, "--overlap", 8, "--tile-above", 0, "--json")
    records = [
        json.loads(run("deblur", tmp_path / "y.png", tmp_path / f"{s}.png", "--sigma", s, *options).stdout)["results"][0]
        for s in (0.5, 4)
    ]
    assert [r["tiles"] for r in records] == [9, 1]  # sigma 4 reaches 16 pixels: overlap 64, tiles 128


def test_progress_is_shown_to_who_waits(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")  # a terminal, for rich
    for patience, shown in ((60.0, False), (0.0, True)):
        monkeypatch.setattr(progress, "PATIENCE", patience)
        with progress.Meter("denoise") as meter:
            meter(1, 4)
        told = capsys.readouterr()
        assert ("denoise" in told.err and "25%" in told.err) == shown
        assert told.out == ""


def test_no_progress_bar_in_a_log(monkeypatch, capsys):
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    monkeypatch.setattr(progress, "PATIENCE", 0.0)
    with progress.Meter("denoise") as meter:
        meter(1, 4)
    assert capsys.readouterr().err == ""


def test_progress_counts_files(tmp_path):
    source = folder_of(tmp_path)
    seen = []
    jobs.run(tasks.same_size(Identity()), source, tmp_path / "out", Options(steps=4), lambda *step: seen.append(step))
    assert seen == [(i / 4, 2) for i in range(1, 9)]


def test_folder(tmp_path):
    source, target = folder_of(tmp_path), tmp_path / "out"
    result = run("denoise", source, target, "--steps", 2, "--json")
    assert result.exit_code == 0, result.output
    assert sorted(str(p.relative_to(target)) for p in target.rglob("*.*")) == ["a.png", "sub/b.tif"]
    assert read(target / "sub" / "b.tif").depth == 16
    told = json.loads(result.stdout)
    assert told["command"] == "denoise"
    assert [r["input"] for r in told["results"]] == [str(source / "a.png"), str(source / "sub" / "b.tif")]
    assert told["failures"] == []


def test_one_bad_file_does_not_stop_a_folder(tmp_path):
    source, target = folder_of(tmp_path), tmp_path / "out"
    (source / "aa.png").write_text("broken")
    result = run("denoise", source, target, "--steps", 2, "--json")
    assert result.exit_code == 1
    told = json.loads(result.stdout)
    assert [Path(r["output"]).name for r in told["results"]] == ["a.png", "b.tif"]
    assert [f["input"] for f in told["failures"]] == [str(source / "aa.png")]
    assert result.stderr == f"error: {source / 'aa.png'}: not a PNG, JPEG, TIFF or WebP image\n"
    assert not (target / "aa.png").exists()


def test_output_folder_inside_the_input_folder_is_not_read_again(tmp_path):
    source = folder_of(tmp_path)
    for _ in range(2):
        result = run("denoise", source, source / "out", "--steps", 1, "--json", "--overwrite")
        assert len(json.loads(result.stdout)["results"]) == 2


def test_masks_of_a_folder_go_by_name(tmp_path):
    source = folder_of(tmp_path)
    (tmp_path / "masks" / "sub").mkdir(parents=True)
    save(tmp_path / "masks" / "a.png", np.eye(8)[..., None])
    save(tmp_path / "masks" / "sub" / "b.tif", np.eye(6, 10)[..., None])
    result = run("inpaint", source, tmp_path / "out", "--mask", tmp_path / "masks", "--steps", 2)
    assert result.exit_code == 0, result.output
