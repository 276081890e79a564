"""What a report shows: a reconstruction beside the truth and the classical answer, its scores and its pictures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from inverse.calibration import Calibration
from inverse.metrics import psnr, ssim
from inverse.panels import Panel, panels, picture
from inverse.reconstruction import Reconstruction

__all__ = ["Baseline", "Case", "Scores", "View", "views"]

BRIGHTEST = 0.995  # quantile of an error that has the brightest colour, where no deviation sets the scale


@dataclass(frozen=True, kw_only=True)
class Scores:
    """How close one image is to the truth, both clipped to [0, 1], and what it took; None where that is not known."""

    psnr: float | None = None
    ssim: float | None = None
    seconds: float | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class Baseline:
    """The answer of another method: its name, the image (1, C, H, W) in [0, 1], its wall-clock seconds and its kind."""

    name: str
    image: Tensor
    seconds: float
    kind: str = "classical"


@dataclass(frozen=True, eq=False, kw_only=True)
class Case:
    """One reconstruction of a report.

    Attributes
    ----------
    name: of the case, a few words; summary: what happened to the image, a sentence or two.
    reconstruction: of a batch of one.
    truth: (1, C, H, W) in [0, 1], where it is known.
    baselines: what other methods make of the same measurement.
    shown: stands for a measurement that is no picture, (1, C, H, W), such as a pseudo-inverse.
    credit: whose picture it is.
    calibration: of the reconstruction's samples, where one was measured for just this task, sampler and prior.
    """

    name: str
    summary: str
    reconstruction: Reconstruction
    truth: Tensor | None = None
    baselines: tuple[Baseline, ...] = ()
    shown: Tensor | None = None
    credit: str = ""
    calibration: Calibration | None = None

    def __post_init__(self) -> None:
        shape = tuple(self.reconstruction.estimate.shape)
        if len(shape) != 4 or shape[0] != 1:
            raise ValueError(f"reconstruction must be of one image, (1, C, H, W), got an estimate of shape {shape}")
        if self.truth is not None and tuple(self.truth.shape) != shape:
            raise ValueError(f"truth must have the shape of the estimate, {shape}, got {tuple(self.truth.shape)}")
        samples = len(self.reconstruction.samples)
        if self.calibration is not None and self.calibration.samples != samples:
            raise ValueError(f"calibration must be of {samples} samples, as the reconstruction, got {self.calibration.samples}")

    @property
    def input_scores(self) -> Scores:
        """Of the measurement itself, where it is an image of the truth's size."""
        return self._scores(self.reconstruction.measurement, None)

    @property
    def baseline_scores(self) -> dict[str, Scores]:
        """Of each baseline, by its name."""
        return {b.name: self._scores(b.image, b.seconds) for b in self.baselines}

    @property
    def scores(self) -> Scores:
        """Of the estimate; the seconds are those of the estimate and all samples."""
        return self._scores(self.reconstruction.estimate, self.reconstruction.seconds)

    def _scores(self, image: Tensor, seconds: float | None) -> Scores:
        if self.truth is None or self.truth.shape != image.shape:
            return Scores(seconds=seconds)
        truth = self.truth.cpu().clamp(0, 1)
        image = image.to(truth).clamp(0, 1)
        return Scores(psnr=float(psnr(image, truth)), ssim=float(ssim(image, truth)), seconds=seconds)


@dataclass(frozen=True, eq=False, kw_only=True)
class View:
    """One picture of a case.

    Attributes
    ----------
    key: "measurement", "estimate", "truth", "std", "reach", "error", "measured", "filled", or of a baseline "baseline-1"
        and so on.
    title, caption: a word or two, and what is seen.
    pixels: (H, W) or (H, W, 3), uint8.
    white: for a map of numbers, shown in colours, the value of the brightest one; the darkest is zero.
    """

    key: str
    title: str
    caption: str
    pixels: NDArray[Any]
    white: float | None = None


def views(case: Case) -> list[View]:
    """The pictures of a case, in the order in which they are shown; what there is not is left out."""
    own = {panel.name: panel for panel in panels(case.reconstruction)[0]}
    samples = len(case.reconstruction.samples)
    found = [_input(case, own)]
    for i, baseline in enumerate(case.baselines, 1):
        found.append(
            _image(f"baseline-{i}", baseline.name, f"{baseline.kind}, from the same input", picture(baseline.image[0]))
        )
    found.append(_image("estimate", "Posterior", "the estimate", own["estimate"].values))
    if case.truth is not None:
        found.append(_image("truth", "Truth", "the original", picture(case.truth[0])))
    std = own.get("std")
    if std is not None:
        caption = f"standard deviation of {samples} samples"
        found.append(View(key="std", title="Uncertainty", caption=caption, pixels=std.pixels(), white=std.white))
    if case.calibration is not None:
        found.append(_reach(case.reconstruction, case.calibration))
    if case.truth is not None:
        found.append(_error(case.reconstruction.estimate, case.truth, std))
    if "measured" in own:
        found.append(_image("measured", "Measured", "what the measurement fixes", own["measured"].values))
        reach = f"±{own['filled'].white * 255:.0f} of 255"
        note = f"; mid-grey is zero, {reach}" if own["filled"].signed else ""
        caption = f"what the prior adds{note}"
        found.append(View(key="filled", title="Filled in", caption=caption, pixels=own["filled"].pixels()))
    return [view for view in found if view is not None]


def _image(key: str, title: str, caption: str, values: Tensor | None) -> View | None:
    if values is None:
        return None
    return View(key=key, title=title, caption=caption, pixels=Panel(name=key, values=values).pixels())


def _input(case: Case, own: dict[str, Panel]) -> View | None:
    if case.shown is not None:
        return _image("measurement", "Input", "stands for a measurement that is no picture", picture(case.shown[0]))
    if "measurement" not in own:
        return None
    height, width = case.reconstruction.measurement.shape[-2:]
    return _image("measurement", "Input", f"as measured, {width} × {height}", own["measurement"].values)


def _reach(reconstruction: Reconstruction, calibration: Calibration) -> View:
    level = max(calibration.levels)
    reach = calibration.reach(reconstruction, level)[0].float().cpu().square().mean(0, keepdim=True).sqrt()
    white = max(float(np.quantile(reach.numpy(), BRIGHTEST)), 1e-6)
    caption = "half its width, calibrated"
    pixels = Panel(name="reach", values=reach, white=white).pixels()
    return View(key="reach", title=f"{100 * level:.0f} % interval", caption=caption, pixels=pixels, white=white)


def _error(estimate: Tensor, truth: Tensor, std: Panel | None) -> View:
    error = (estimate.clamp(0, 1) - truth.to(estimate))[0].float().cpu().square().mean(0, keepdim=True).sqrt()
    white = max(float(np.quantile(error.numpy(), BRIGHTEST)), 1e-6) if std is None else std.white
    caption = "distance to the truth" + ("" if std is None else ", same colours")
    pixels = Panel(name="error", values=error, white=white).pixels()
    return View(key="error", title="Actual error", caption=caption, pixels=pixels, white=white)
