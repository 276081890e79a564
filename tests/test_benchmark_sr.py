"""The benchmark of super-resolution on tiny photographs, with toys in place of the networks."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.sr import __main__ as command
from benchmarks.sr import pictures, restorers
from benchmarks.sr.methods import BICUBIC, LANCZOS, ROUNDING, Method, restored, sampled
from benchmarks.sr.rows import measured, measured_real, real_table, table
from benchmarks.sr.scores import blur, gradient_energy, scores, spread_to_error
from benchmarks.sr.sets import Photograph, photographs, present
from inverse.samplers import DiffPIR, RedDiff
from prior.denoiser import EDMHead
from prior.schedules import EDM, Shifted
from restore import ResShift
from restore.degradations import matlab_bicubic
from restore.resshift import Bicubic, Realistic, ShiftedDenoiser, chain
from tests.prior.gaussian import gaussian_model
from tests.restore.resshift.tiny import Enlarges


def noise(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def grey(level, side=24):
    return torch.full((1, 3, side, side), level / 255)


def write(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.ascontiguousarray((255 * image[0]).round().byte().permute(1, 2, 0).numpy())).save(path)


@pytest.fixture
def folder(tmp_path):
    for i, name in enumerate(("a", "b", "c")):
        write(tmp_path / "set5" / f"{name}.png", noise(1, 3, 38, 41, seed=i))
    write(tmp_path / "real_lq" / "old.png", noise(1, 3, 11, 13, seed=9))
    return tmp_path


def restorer(factor=4):
    model = chain.ResShift(ShiftedDenoiser(Enlarges(), Shifted(T=4), scaling="pixel"), factor=factor, multiple=4)
    return ResShift(model.eval())


def test_photographs_are_cut_at_the_right_and_below_and_reduced_in_8_bits(folder):
    photos = photographs(folder / "set5", Bicubic(4))
    assert [p.name for p in photos] == ["a.png", "b.png", "c.png"]
    whole = (255 * noise(1, 3, 38, 41)).round() / 255
    torch.testing.assert_close(photos[0].truth, whole[..., :36, :40])
    wanted = (255 * matlab_bicubic(whole[..., :36, :40].double(), 0.25)).round().clamp(0, 255)
    torch.testing.assert_close(255 * photos[0].degraded.double(), wanted, atol=1e-4, rtol=0)


def test_a_photograph_is_degraded_alike_whatever_else_is_measured(folder):
    law = Realistic(4, "imagenet_test")
    every, first = photographs(folder / "set5", law), photographs(folder / "set5", law, first=2)
    assert len(first) == 2
    assert all(torch.equal(a.degraded, b.degraded) for a, b in zip(every, first, strict=False))
    (folder / "set5" / "a.png").unlink()
    assert torch.equal(photographs(folder / "set5", law)[0].degraded, every[1].degraded)
    assert every[0].degraded.shape == (1, 3, 9, 10)
    plain = photographs(folder / "set5", Bicubic(4))[0]
    assert float((every[1].degraded - plain.degraded).abs().mean()) > 0.01


def test_the_square_in_the_middle_and_photographs_without_truth(folder):
    small = photographs(folder / "set5", Bicubic(4), first=1, size=16)[0]
    whole = (255 * noise(1, 3, 38, 41)).round() / 255
    torch.testing.assert_close(small.truth, whole[..., 11:27, 12:28])
    old = photographs(folder / "real_lq", None)[0]
    assert old.truth is None
    assert old.degraded.shape == (1, 3, 11, 13)
    assert photographs(folder / "real_lq", None, size=16)[0].degraded.shape == (1, 3, 4, 4)


def test_absent_sets_are_named(folder):
    told = []
    assert present(folder, ["set5", "urban100"], told.append) == ["set5"]
    assert told == [f"urban100: skipped, there is no folder {folder / 'urban100'}"]


def test_psnr_is_of_rounded_luma_inside_the_border():
    estimate = grey(110)
    estimate[..., :4, :] = 0
    found = scores(estimate, grey(100), border=4)
    # luma of 16 + 219 v / 255: 101.9 and 110.5, in 8 bits 102 and 110
    assert found.psnr == pytest.approx(20 * math.log10(255 / 8))
    assert scores(estimate, grey(100), border=0).psnr < found.psnr - 1
    assert found.lpips is None


def test_the_energy_is_that_of_steps():
    step = torch.cat([grey(51, 24)[..., :12], grey(204, 24)[..., :12]], -1)
    height = (round(16 + 219 * 0.8) - round(16 + 219 * 0.2)) / 255
    assert gradient_energy(step) == pytest.approx(24 * height**2)
    assert gradient_energy(step, border=4) == pytest.approx(16 * height**2)
    weak = 0.5 + (step - 0.5) / 2
    assert scores(weak, step, border=4).energy == pytest.approx(0.25, rel=0.06)  # in 8 bits


def test_lpips_sees_colours_from_minus_one():
    seen = []

    def distance(a, b):
        seen.append((a, b))
        return torch.tensor([0.25])

    assert scores(grey(255), grey(0), border=4, lpips=distance).lpips == 0.25
    assert (float(seen[0][0].min()), float(seen[0][1].max())) == (1.0, -1.0)


def test_blurred_photographs_are_told_apart():
    sharp = noise(1, 3, 48, 48)
    soft = torch.nn.functional.avg_pool2d(sharp, 5, stride=1, padding=2)
    assert blur(sharp) < blur(soft) - 0.1


def test_interpolations():
    y = (255 * noise(1, 3, 6, 8)).round() / 255
    for method in (BICUBIC, LANCZOS):
        found = method.enlarge(y, 0)
        assert found.shape == (1, 3, 24, 32)
        assert 0 <= float(found.min()) <= float(found.max()) <= 1
        torch.testing.assert_close(method.enlarge(y.flip(-1), 0), found.flip(-1), atol=1e-5, rtol=0)
        torch.testing.assert_close(method.enlarge(grey(77, 6), 0), grey(77, 24), atol=1e-6, rtol=0)
    wave = 0.5 + 0.4 * torch.cos(torch.arange(64) * 0.4).expand(1, 3, 64, 64)
    fine = 0.5 + 0.4 * torch.cos(((torch.arange(256) + 0.5) / 4 - 0.5) * 0.4).expand(1, 3, 256, 256)
    error = {m.name: float((m.enlarge(wave, 0) - fine)[..., 32:-32, 32:-32].abs().max()) for m in (BICUBIC, LANCZOS)}
    assert error["Lanczos"] < 0.02
    assert error["bicubic"] < 0.02


def test_samplers_answer_with_samples_or_an_estimate():
    model, y = gaussian_model(EDM(), EDMHead(), mean=0.5, std=0.3), noise(1, 3, 6, 6)
    one = sampled("RED-Diff", RedDiff(steps=8), model, noise=ROUNDING)
    assert one.enlarge(y, 0).shape == (1, 3, 24, 24)
    assert "noise 0.001132" in one.settings
    several = sampled("DiffPIR", DiffPIR(steps=8, samples=3), model, noise=ROUNDING).enlarge(y, 0)
    assert several.shape == (3, 3, 24, 24)
    reduced = matlab_bicubic(one.enlarge(y, 0).double(), 0.25).float()
    assert float((reduced - y).abs().mean()) < 0.1  # it fits what was measured


def test_restorers_give_samples_and_cut_what_is_large():
    y = noise(1, 3, 20, 8)
    method = restored("toy", restorer(), samples=3, tile=15)
    assert "tile=16, stride=12" in method.settings
    found = method.enlarge(y, 0)
    wanted = torch.nn.functional.interpolate(y, scale_factor=4, mode="bicubic").clamp(0, 1)
    assert found.shape == (3, 3, 80, 32)
    torch.testing.assert_close(found[:1], wanted, atol=1 / 255, rtol=0)
    torch.testing.assert_close(found[:1, :, :16], wanted[:, :, :16], atol=1e-5, rtol=0)  # above the second tile
    with pytest.raises(ValueError, match="--model must enlarge by 4, toy does by 2"):
        restored("toy", restorer(factor=2), samples=1, tile=16)


def shifted(*levels):
    """A method that misses the truth, grey 100, by each of these levels in its samples."""
    return lambda y, seed: torch.cat([grey(100 + level) for level in levels])


def test_figures_of_samples_and_of_their_mean():
    photos = [Photograph(name, grey(100, 6), grey(100)) for name in "ab"]
    methods = [Method("bicubic", shifted(10)), Method("ours", shifted(-10, 10, 10, 10), "chosen")]
    kept = []
    plain, ours = measured("toys", photos, methods, border=4, kept=lambda photo, results: kept.append((photo.name, results)))
    assert (plain.samples, plain.photographs, plain.mean_psnr, plain.spread) == (1, 2, None, None)
    # luma of 90, 100, 105 and 110 in 8 bits: 93, 102, 106, 110
    each = [20 * math.log10(255 / gap) for gap in (9, 8, 8, 8)]
    assert ours.psnr == pytest.approx(sum(each) / 4)
    assert ours.mean_psnr == pytest.approx(20 * math.log10(255 / 4))
    # their mean is 3.75 above the truth, their variance 216.75 / 3
    assert ours.spread == pytest.approx(math.sqrt(1.25 * 72.25) / 3.75)
    assert (ours.samples, ours.settings, ours.set) == (4, "chosen", "toys")
    assert ours.seconds_per_megapixel > 0
    assert [name for name, _ in kept] == ["a", "b"]
    assert kept[0][1]["ours"].shape == (1, 3, 24, 24)
    cells = [list(column.cells) for column in table("t", [plain, ours]).columns]
    assert cells[1] == ["bicubic", "ours, each of 4 samples", "ours, mean of the samples"]
    assert cells[3] == ["+0.00", f"{ours.psnr - plain.psnr:+.2f}", f"{ours.mean_psnr - plain.psnr:+.2f}"]


def test_samples_of_the_truths_own_law_spread_as_they_err():
    # truth and samples are independent grey noise: neither border nor number of samples matter
    drawn = 0.5 + 0.1 * torch.randn(6, 1, 90, 90, generator=torch.Generator().manual_seed(0)).repeat(1, 3, 1, 1)
    assert spread_to_error(drawn[1:], drawn[:1], border=4) == pytest.approx(1, abs=0.03)
    assert spread_to_error(drawn[1:3], drawn[:1]) == pytest.approx(1, abs=0.03)
    narrow = 0.5 + 0.3 * (drawn[1:] - 0.5)
    assert spread_to_error(narrow, drawn[:1]) == pytest.approx(math.sqrt(1.2 * 0.09 / (1 + 0.09 / 5)), abs=0.03)


def test_figures_without_a_truth():
    photos = [Photograph("old", noise(1, 3, 12, 12))]
    nearest = Method("nearest", lambda y, seed: y.repeat_interleave(4, -1).repeat_interleave(4, -2))
    rows = measured_real("real_lq", photos, [BICUBIC, nearest])
    assert rows[0].energy == pytest.approx(1.0)
    assert rows[1].energy > 1.5
    assert rows[1].blur < rows[0].blur
    assert real_table(rows).row_count == 2
    with pytest.raises(ValueError, match="old has none; measured_real takes those"):
        measured("real_lq", photos, [BICUBIC], border=4)


def test_the_liveliest_part():
    image = grey(100, 96)
    image[..., 40:72, 16:48] = noise(1, 3, 32, 32)
    assert pictures.liveliest(image, 32) == (slice(40, 72), slice(16, 48))
    assert pictures.liveliest(grey(100, 24), 32) == (slice(0, 24), slice(0, 24))


def test_pictures_side_by_side(tmp_path):
    photo = Photograph("sub/Old Photo.png", noise(1, 3, 10, 10), noise(1, 3, 40, 40))
    path = tmp_path / pictures.file_name("bicubic", "set5", photo)
    assert path.name == "sr_bicubic_set5_old_photo.png"
    pictures.draw(path, photo, {"bicubic": BICUBIC.enlarge(photo.degraded, 0), "black": grey(0, 40)}, border=4)
    with Image.open(path) as picture:
        assert picture.size == (3 * 256, 296)
        assert picture.convert("L").getpixel((2 * 256 + 128, 200)) == 0


def arguments(folder, *more):
    return ["--photos", str(folder), "--only", "bicubic", "DiffPIR", "ResShift", *more]


@pytest.fixture
def toys(monkeypatch):
    monkeypatch.setattr(command, "SAMPLERS", {"DiffPIR": DiffPIR(steps=2)})
    monkeypatch.setattr(command.prior, "load", lambda name: gaussian_model(EDM(), EDMHead(), mean=0.5, std=0.3))
    monkeypatch.setattr(command, "restorers", lambda *which: {"toy": restorer()})


def test_the_table_from_end_to_end(folder, tmp_path, toys, capsys):
    path = tmp_path / "sr.json"
    common = ["--samples", "2", "--first", "2", "--json", str(path)]
    command.main(arguments(folder, *common, "--pictures", str(tmp_path / "shown")))
    record = json.loads(path.read_text())
    assert [(r["method"], r["samples"]) for r in record["rows"]] == [("bicubic", 1), ("DiffPIR", 1), ("ResShift toy", 2)]
    assert {r["photographs"] for r in record["rows"]} == {2}
    assert record["real"] == []
    out = capsys.readouterr().out
    assert "set14: skipped" in out
    assert "real_lq" not in out
    assert sorted(p.name for p in (tmp_path / "shown").iterdir()) == ["sr_bicubic_set5_a.png", "sr_bicubic_set5_b.png"]
    command.main(["--photos", str(folder), "--only", "lanczos", *common])  # rows of other methods stay
    assert [r["method"] for r in json.loads(path.read_text())["rows"]] == ["bicubic", "DiffPIR", "ResShift toy", "Lanczos"]
    with pytest.raises(SystemExit, match="was measured with another border"):
        command.main(arguments(folder, *common, "--border", "0"))


def test_realistic_photographs_and_real_ones(folder, tmp_path, toys):
    path = tmp_path / "sr.json"
    command.main(arguments(folder, "--realistic", "--first", "1", "--samples", "1", "--noise", "0.1", "--json", str(path)))
    record = json.loads(path.read_text())
    assert record["settings"]["realistic"] == "imagenet_test"
    assert [r["set"] for r in record["rows"]] == ["set5"] * 3
    assert (record["real"][0]["set"], record["real"][0]["method"]) == ("real_lq", "bicubic")
    assert record["real"][0]["energy"] == pytest.approx(1.0)
    assert "noise 0.1" in record["rows"][1]["settings"]


def test_bad_arguments(folder, capsys):
    with pytest.raises(SystemExit):
        command.main(["--photos", str(folder), "--samples", "0"])
    assert "--samples must be at least 1, got 0" in capsys.readouterr().err


def test_a_training_checkpoint_of_a_model_that_ships(tmp_path):
    state = {name: torch.full_like(t, 0.5) for name, t in ResShift.load("photos-x4").model.state_dict().items()}
    torch.save({"state_dict": state}, tmp_path / "last.ckpt")
    found = restorers.restorers("photos-x4", tmp_path / "last.ckpt")["photos-x4"]
    assert float(next(found.model.parameters()).min()) == 0.5
    with pytest.raises(ValueError, match="--model must say what network"):
        restorers.restorers(None, tmp_path / "last.ckpt")
    assert list(restorers.restorers(None, None)) == ["photos-x4"]
