"""Calibration: exact for Gaussians, distribution-free where the samples spread too little, and refusing what it cannot say."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch

from inverse.calibration import (
    FLOOR,
    Calibration,
    conformal_factor,
    coverage,
    half_width,
    images_needed,
    load,
    reliability,
    save,
    scores,
)
from inverse.operators import Gaussian, Identity, Inpaint
from inverse.reconstruction import Reconstruction


def reconstruction(seed: int, samples: int = 6, too_narrow: float = 1.0) -> tuple[Reconstruction, torch.Tensor]:
    """Draws of N(m, 0.1^2) around a truth drawn from the same; ``too_narrow`` divides their spread."""
    generator = torch.Generator().manual_seed(seed)
    shape = (1, 1, 40, 40)
    truth = 0.5 + 0.1 * torch.randn(shape, generator=generator)
    draws = 0.5 + 0.1 / too_narrow * torch.randn(samples, *shape, generator=generator)
    out = Reconstruction(
        estimate=torch.full(shape, 0.5), samples=draws, measurement=truth, operator=Identity(), network_calls=0, seconds=0.0
    )
    return out, truth


def test_half_widths_are_students():
    assert half_width(0.95, 10**6) == pytest.approx(1.96, abs=1e-3)
    assert half_width(0.95, 2) == pytest.approx(12.706, abs=1e-3)
    with pytest.raises(ValueError, match="samples must be at least 2"):
        half_width(0.95, 1)
    with pytest.raises(ValueError, match="level must lie strictly between 0 and 1, got 1"):
        half_width(1, 4)


def test_an_exact_gaussian_posterior_is_reliable():
    images = [scores(*reconstruction(seed))[0] for seed in range(12)]
    nominal, observed = reliability(images, samples=6)
    assert nominal[0] == 0.05
    assert max(abs(a - b) for a, b in zip(nominal, observed, strict=True)) < 0.02
    _, narrow = reliability([scores(*reconstruction(seed, too_narrow=2)) for seed in range(12)], samples=6)
    assert narrow[nominal.index(0.7)] < 0.5


@pytest.mark.parametrize("level", [0.68, 0.95])
def test_the_conformal_factor_makes_intervals_hold(level):
    """Over many repetitions the mean coverage of a fresh image is at least the level, and not much more."""
    held = []
    for trial in range(40):
        images = [scores(*reconstruction(1000 * trial + i, too_narrow=3)) for i in range(20)]
        fresh = scores(*reconstruction(1000 * trial + 999, too_narrow=3))
        held.append(coverage(fresh, conformal_factor(images, level)))
    mean = sum(held) / len(held)
    assert level - 0.005 < mean < min(level + 0.05, 1)


def test_the_factor_is_the_quantile_that_the_theorem_names():
    images = [torch.arange(1.0, 11.0) for _ in range(30)]  # R(lambda) = 1 - floor(lambda) / 10
    allowed = (0.32 * 31 - 1) / 30  # 0.297: two of ten may lie outside, three may not
    assert 0.2 < allowed < 0.3
    assert conformal_factor(images, 0.68) == 8.0
    with pytest.raises(ValueError, match=r"images must be at least 19 for the level 0.95, got 18"):
        conformal_factor(images[:18], 0.95)
    assert conformal_factor(images[:19], 0.95) == 10.0


def test_images_weigh_alike_whatever_their_size():
    large, small = torch.full((1000,), 1.0), torch.full((10,), 3.0)
    assert conformal_factor([large, small] * 20, 0.4) == 1.0
    assert conformal_factor([large, small] * 20, 0.6) == 3.0


def test_intervals():
    out, truth = reconstruction(0)
    images = [scores(*reconstruction(seed)) for seed in range(1, 25)]
    calibration = Calibration.fit(images, task="denoising", sampler="exact", samples=6)
    assert calibration.images == 24
    low, high = calibration.interval(out, 0.95)
    torch.testing.assert_close((low + high) / 2, out.estimate)
    assert 0.92 < float(((truth >= low) & (truth <= high)).double().mean()) <= 1
    with pytest.raises(ValueError, match=r"level must be one of 0.68, 0.95, got 0.5"):
        calibration.interval(out, 0.5)
    with pytest.raises(ValueError, match="reconstruction must hold 6 samples, got 3"):
        calibration.interval(reconstruction(0, samples=3)[0])
    with pytest.raises(ValueError, match="truth must have the shape of the estimate"):
        scores(out, truth[..., :3])
    with pytest.raises(ValueError, match="at least two samples"):
        scores(reconstruction(0, samples=1)[0], truth)


def test_seen_pixels_do_not_count():
    A = Inpaint.random((1, 40, 40), 0.75, seed=0)
    out, truth = reconstruction(0)
    out = dataclasses.replace(out, operator=A)
    unseen = ~A.mask.expand(1, 40, 40)
    found = scores(out, truth)
    assert found.shape == (1, 1200)
    torch.testing.assert_close(found, ((truth - out.estimate).abs() / (out.std + FLOOR))[:, unseen])
    noisy = dataclasses.replace(out, operator=Inpaint(A.mask, noise=Gaussian(0.1)))
    whole = dataclasses.replace(out, operator=Inpaint(torch.ones(1, 40, 40)))
    assert scores(noisy, truth).shape == scores(whole, truth).shape == (1, 1600)


def test_a_batch_is_its_images():
    out, truth = reconstruction(0)
    two = dataclasses.replace(out, estimate=out.estimate.repeat(2, 1, 1, 1), samples=out.samples.repeat(1, 2, 1, 1, 1))
    found = scores(two, torch.cat([truth, truth + 1]))
    torch.testing.assert_close(found[:1], scores(out, truth))
    torch.testing.assert_close(found[1:], scores(out, truth + 1))


def test_images_needed_is_where_the_theorem_begins():
    assert [images_needed(level) for level in (0.5, 0.68, 0.95, 0.99)] == [1, 3, 19, 99]
    conformal_factor([torch.ones(4)] * 3, 0.68)
    with pytest.raises(ValueError, match=r"images must be at least 3 for the level 0.68, got 2"):
        conformal_factor([torch.ones(4)] * 2, 0.68)


def small() -> Calibration:
    return Calibration(
        task="t", sampler="s", prior="p", images=20, samples=3, levels=(0.5, 0.9), factors=(1.0, half_width(0.5, 3) + 2)
    )


def test_a_check_counts_what_was_held():
    assert half_width(0.5, 3) == pytest.approx(0.8165, abs=1e-4)
    assert half_width(0.9, 3) == pytest.approx(2.92, abs=1e-3)
    checked = small().checked([torch.tensor([0.5, 0.9, 2.85, 9.0]), torch.tensor([0.5, 0.6])])
    check = checked.check
    assert (check.images, check.raw, check.calibrated) == (2, (0.625, 0.875), (0.75, 0.75))
    assert check.observed[check.nominal.index(0.5)] == 0.625
    assert dataclasses.replace(checked, check=None) == small()
    with pytest.raises(ValueError, match="images must hold the scores of at least one image, got none"):
        small().checked([])


def test_the_reach_is_the_factor_times_the_deviation():
    out, _ = reconstruction(0, samples=3)
    torch.testing.assert_close(small().reach(out, 0.5), out.std + FLOOR)
    with pytest.raises(ValueError, match=r"factors must be one for each level, got 1 for 2"):
        dataclasses.replace(small(), factors=(1.0,))


def test_the_file_gives_back_what_was_saved(tmp_path):
    known = (small(), small().checked([torch.arange(9.0)]))
    path = save(tmp_path / "c.json", known, facts={"machine": "a lathe", "size": 16})
    assert load(path) == known
    assert json.loads(path.read_text())["machine"] == "a lathe"


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"calibrations": [1]}', '{"calibrations": [{"task": "t"}]}', '{"calibrations": [{"u": 1}]}']
)
def test_another_file_is_refused(tmp_path, text):
    (tmp_path / "c.json").write_text(text)
    with pytest.raises(ValueError, match=r"c.json: not a file of calibrations"):
        load(tmp_path / "c.json")


def test_a_field_too_many_is_refused(tmp_path):
    path = save(tmp_path / "c.json", [small()])
    path.write_text(path.read_text().replace('"images"', '"extra": 1, "images"'))
    with pytest.raises(ValueError, match=r"an entry must have task, sampler, .* got .*extra"):
        load(path)
