"""Degradations, 8-bit metrics, MATLAB's bicubic resizing and inpainting masks against the official numbers of ResShift."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from restore.degradations import (
    Boxes,
    Outpainting,
    Strokes,
    UnsharpMask,
    bivariate_kernel,
    blur,
    eightfold,
    gaussian_noise,
    jpeg_compress,
    lowpass_kernel,
    matlab_bicubic,
    padded_kernel,
    plateau_kernel,
    poisson_noise,
    psnr,
    psnr_y,
    ssim,
    ssim_y,
    to_8_bits,
    to_luma,
    to_ycbcr,
)
from restore.degradations.noise import Noise, NoiseRanges
from restore.degradations.resizing import ResizeRanges, Resizing
from restore.degradations.second_order import TRAINING, Degradation, Ending, Pass, SecondOrder
from tests.parity.cases import Case, needs_parity, parity_cases

pytestmark = needs_parity("resshift")

TOLERANCE_KERNEL = 1e-12
TOLERANCE = 1e-5
TIE = 2 / 255 + TOLERANCE  # of a pixel after JPEG whose coefficient lay between two levels
ISOLATED = 0.01  # share of the pixels that may be so
TOLERANCE_METRIC = 1e-6
STROKES = 2e-3  # share of the pixels at the edges of strokes: OpenCV's lines are drawn in whole steps

degradations = pytest.mark.parametrize("case", parity_cases("resshift", "degradation"), ids=str)
metrics = pytest.mark.parametrize("case", parity_cases("resshift", "metrics"), ids=str)


def close(got: Tensor, wanted: Tensor, tolerance: float = TOLERANCE) -> None:
    torch.testing.assert_close(got, wanted.to(got.dtype), atol=tolerance, rtol=0)


def close_but_for_ties(got: Tensor, wanted: Tensor) -> None:
    error = (got - wanted).abs()
    assert got.shape == wanted.shape
    assert error.max() <= TIE
    assert (error > TOLERANCE).float().mean() <= ISOLATED


class StoredFields:
    """The stored fields in the order in which they were drawn; each is asked for once."""

    def __init__(self, fields: Sequence[Tensor]) -> None:
        self.left = list(fields)

    def normal(self, shape: Sequence[int]) -> Tensor:
        return self.left.pop(0).expand(tuple(shape))

    def counts(self, rate: Tensor) -> Tensor:
        field = self.left.pop(0)
        assert field.shape == rate.shape
        return field


def kernel_of(settings: dict[str, Any]) -> Tensor:
    size = settings["kernel_size"]
    if "lowpass" in settings["family"]:
        return padded_kernel(lowpass_kernel(size, settings["cutoff"]), settings.get("pad_to") or size)
    isotropic = settings["isotropic"]
    sigma = (settings["sig_x"], settings["sig_x" if isotropic else "sig_y"])
    rotation, beta = 0.0 if isotropic else settings["theta"], settings.get("beta", 1.0)
    family = plateau_kernel if "plateau" in settings["family"] else bivariate_kernel
    return family(size, sigma, rotation=rotation, beta=beta)


@degradations
def test_kernels(case: Case):
    assert case.meta["kernels"]
    for name, settings in case.meta["kernels"].items():
        close(kernel_of(settings), case[f"kernel/{name}"], TOLERANCE_KERNEL)


@degradations
def test_stages(case: Case):
    close(blur(case["im"], case["filter/kernel"]), case["filter/out"])
    close(UnsharpMask()(case["usm/in"]), case["usm/out"])
    close_but_for_ties(jpeg_compress(case["im"], case["jpeg/quality"]), case["jpeg/out"])


@pytest.mark.parametrize(("stage", "add"), [("gauss", gaussian_noise), ("poisson", poisson_noise)])
@degradations
def test_noise(case: Case, stage, add):
    strength, grey, *fields = (case[f"{stage}/{key}"] for _, key in case.meta[stage])
    ranges = NoiseRanges()
    low, high = ranges.sigma if stage == "gauss" else ranges.scale
    stored = StoredFields(fields)
    close(add(case["im"], low + (high - low) * strength, grey < ranges.grey, fields=stored), case[f"{stage}/out"])
    assert not stored.left


class Log:
    """Reads a stored log of draws in its order, and turns it into a degradation by the configuration of the run."""

    def __init__(self, case: Case, name: str) -> None:
        self.tensors, self.config = case.under(f"{name}/"), case.meta[name]["config"]
        self.entries: Iterator[list[Any]] = iter(case.meta[name]["draws_in_order"])
        self.fields: list[Tensor] = []

    def next(self, kind: str) -> Any:
        entry = next(self.entries)
        assert entry[0] == kind, f"expected a draw of {kind}, the log has {entry}"
        return self.tensors[entry[1]] if isinstance(entry[1], str) and entry[1] in self.tensors else entry[1]

    def happens(self, key: str) -> bool:
        return self.next("random") < self.config[key]

    def resizing(self) -> Resizing:
        scale = 1.0 if self.next("choices") == "keep" else self.next("uniform")
        return Resizing(scale, self.next("choice"))

    def noise(self, suffix: str) -> Noise:
        gaussian = self.happens(f"gaussian_noise_prob{suffix}")
        low, high = self.config[f"noise_range{suffix}" if gaussian else f"poisson_scale_range{suffix}"]
        strength = low + (high - low) * self.next("torch.rand")
        grey = self.next("torch.rand") < self.config[f"gray_noise_prob{suffix}"]
        for _ in range(1 + bool(grey.any())):
            self.fields.append(self.next("torch.randn" if gaussian else "torch.poisson"))
        return Noise("gaussian" if gaussian else "poisson", strength, grey)

    def degradation(self) -> Degradation:
        first = Pass(self.tensors["kernel1"], self.resizing(), self.noise(""))
        quality, second = self.next("uniform_"), None
        if self.happens("second_order_prob"):
            kernel = self.tensors["kernel2"] if self.happens("second_blur_prob") else None
            second = Pass(kernel, self.resizing(), self.noise("2"))
        jpeg_last = self.next("random") < 0.5
        draws = dict(self.next_of("choice", "uniform_") for _ in range(2))
        assert next(self.entries, None) is None
        return Degradation(first, quality, second, Ending(self.tensors["sinc"], draws["choice"], draws["uniform_"], jpeg_last))

    def next_of(self, *kinds: str) -> tuple[str, Any]:
        entry = next(self.entries)
        assert entry[0] in kinds
        return entry[0], self.tensors.get(entry[1], entry[1])


def pipelines() -> list:
    names = [(case, name) for case in parity_cases("resshift", "degradation") for name in case.meta if "pipeline" in name]
    return [pytest.param(case, name, id=f"{case}-{name}") for case, name in names]


@pytest.mark.parametrize(("case", "name"), pipelines())
def test_whole_pipeline(case: Case, name: str):
    log = Log(case, name)
    degradation, fields = log.degradation(), StoredFields(log.fields)
    settings = SecondOrder(**{**vars(TRAINING), "factor": log.config["sf"]})
    low_quality = settings.apply(log.tensors["gt"], degradation, fields)
    assert not fields.left
    close_but_for_ties(low_quality, log.tensors["lq"])


@pytest.mark.parametrize(("case", "name"), pipelines())
def test_training_settings_are_those_of_the_run(case: Case, name: str):
    if case.meta[name]["which"] != "train":
        pytest.skip("not a run with the training settings")
    c = case.meta[name]["config"]
    assert TRAINING.resize == ResizeRanges(probabilities=tuple(c["resize_prob"]), scales=tuple(c["resize_range"]))
    assert TRAINING.resize2 == ResizeRanges(probabilities=tuple(c["resize_prob2"]), scales=tuple(c["resize_range2"]))
    for noise, suffix in ((TRAINING.noise, ""), (TRAINING.noise2, "2")):
        assert (noise.sigma, noise.scale) == (tuple(c[f"noise_range{suffix}"]), tuple(c[f"poisson_scale_range{suffix}"]))
        assert (noise.gaussian, noise.grey) == (c[f"gaussian_noise_prob{suffix}"], c[f"gray_noise_prob{suffix}"])
    assert (TRAINING.jpeg, TRAINING.jpeg2) == (tuple(c["jpeg_range"]), tuple(c["jpeg_range2"]))
    assert (TRAINING.second, TRAINING.second_blur) == (c["second_order_prob"], c["second_blur_prob"])
    assert TRAINING.kernel.padded == case[f"{name}/kernel1"].shape[-1]
    assert TRAINING.kernel2.padded == TRAINING.sinc.padded == case[f"{name}/sinc"].shape[-1]


def image(case: Case, key: str, dtype: torch.dtype = torch.float64) -> Tensor:
    """A stored picture (H, W, C) of levels 0..255 as a batch (1, C, H, W) in [0, 1]."""
    return case[key].movedim(-1, 0)[None].to(dtype) / 255


@metrics
def test_luma_and_colour_difference_are_exact(case: Case):
    a = image(case, "a")
    assert torch.equal((255 * to_luma(a)).round()[0, 0].float(), case["a_y"])
    assert torch.equal((255 * to_ycbcr(a)).round()[0].movedim(0, -1).float(), case["a_ycbcr"])


@metrics
def test_psnr_and_ssim(case: Case):
    a, b = image(case, "a"), image(case, "b")
    got = {"psnr_rgb": psnr(a, b), "psnr_y": psnr_y(a, b), "ssim_rgb": ssim(a, b), "ssim_y": ssim_y(a, b)}
    a32, b32 = (to_luma(image(case, key, torch.float32)) for key in "ab")
    got["batch_psnr_y_float_path"] = psnr(a32, b32)
    for key in case.meta:
        if border := re.fullmatch(r"psnr_y_border(\d+)", key):
            got[key] = psnr_y(a, b, border=int(border[1]))
    for key, value in got.items():
        assert float(value) == pytest.approx(case.meta[key], abs=TOLERANCE_METRIC, rel=0), key


@metrics
def test_the_same_from_float32_images(case: Case):
    a, b = (to_8_bits(image(case, key, torch.float32)) for key in "ab")
    assert float(psnr_y(a, b)) == pytest.approx(case.meta["psnr_y"], abs=TOLERANCE_METRIC, rel=0)


@metrics
def test_matlab_bicubic(case: Case):
    scales = {key: float(key.rpartition("_x")[2]) for key in case.tensors if key.startswith("matlab_bicubic_x")}
    assert scales
    x = case["resize_in"].movedim(-1, 0)
    for key, scale in scales.items():
        close(matlab_bicubic(x, scale).movedim(0, -1), case[key])


@metrics
def test_eightfold(case: Case):
    modes = {key: int(key.removeprefix("aug_mode")) for key in case.tensors if key.startswith("aug_mode")}
    assert 0 in modes.values()
    x = case["aug_mode0"].movedim(-1, 0)
    for key, mode in modes.items():
        assert torch.equal(eightfold(x, mode).movedim(0, -1), case[key])


GENERATORS = {"irregular": Strokes(), "box": Boxes(), "outpainting": Outpainting()}


@metrics
def test_masks(case: Case):
    kinds = set()
    for key, packed in case.under("mask/").items():
        kind, seed = key.split("_seed")
        kinds.add(kind)
        wanted = torch.from_numpy(np.unpackbits(packed.to(torch.uint8).numpy(), axis=1)).float()
        mask = GENERATORS[kind](tuple(wanted.shape), seed=int(seed))[0]
        different = float((mask != wanted).float().mean())
        assert different <= (STROKES if kind == "irregular" else 0), f"{key}: {different:.2%} of the pixels differ"
        assert float(wanted.mean()) == pytest.approx(case.meta[f"mask/{key}"])
    assert kinds <= set(GENERATORS)
