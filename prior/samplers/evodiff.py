"""EVODiff (Li, Chen & Zeng 2025): a second-order step whose weights follow the variance of the predictions."""

from __future__ import annotations

from dataclasses import dataclass
from math import log, sqrt

import torch
from torch import Tensor

from prior.denoiser import Denoiser
from prior.samplers.heun import finite_level
from prior.samplers.loop import Guidance, Step, guided
from prior.samplers.multistep import Course, Multistep, check_choice
from prior.schedules import Schedule

__all__ = ["EVODiff"]

FEW_STEPS = 20  # at most as many, and zeta follows the state alone


@dataclass(frozen=True, kw_only=True)
class EVODiff(Multistep):
    r"""Li, Chen & Zeng, NeurIPS 2025, in data prediction; N steps cost N network evaluations, N + 1 if ``final`` is "full".

    A step predicts the next state, denoises it there (the next step reads that again) and corrects; its weights are
    inner products of clean images over the pixels of each channel, (B, C, ...). It is made for looks at few steps: on an
    exact prior it is of first order, and two to four times less accurate than :class:`DPMSolver`. The first step is
    DDIM; one that arrives at sigma = 0 returns the clean image of a fresh evaluation.

    Parameters
    ----------
    final: the last step that arrives at sigma > 0: "ddim", "full" (as the others), or "official", the authors', which
        scales the image by ``1 - sqrt(sigma_t sigma_s)`` and so does not converge.
    """

    steps: int = 10
    spacing: str | None = "log_snr"
    final: str = "ddim"

    def __post_init__(self) -> None:
        check_choice("final", self.final, "ddim", "full", "official")

    def begin(self, schedule: Schedule, times: Tensor) -> Step:
        return _Walk(schedule, times, self.final)


class _Walk:
    """The steps of one walk; ``m0`` and ``m1`` are the clean images of this step and of the one before."""

    def __init__(self, schedule: Schedule, times: Tensor, final: str) -> None:
        self.course, self.final = Course(times), final
        self.times: list[float] = times.tolist()
        self.sigma: list[float] = schedule.sigma(times).tolist()
        self.kappa: list[float] = finite_level(schedule, times).tolist()
        self.noisy = sum(sigma > 0 for sigma in self.sigma) - 1  # steps that arrive at sigma > 0
        self.m1: Tensor | None = None
        self.ahead: Tensor | None = None  # the clean image that the step before already found here

    def __call__(
        self, model: Denoiser, x: Tensor, t: Tensor, s: Tensor, noise: Tensor | None, guidance: Guidance | None = None
    ) -> Tensor:
        if x.ndim < 3:
            raise ValueError(f"x must be (B, C, ...) with pixels to take inner products over, got {tuple(x.shape)}")
        i = self.course.advance(x, t, s)
        arrives_clean = self.sigma[i + 1] == 0
        m0 = self._x0(model, x, t, guidance) if self.ahead is None or arrives_clean else self.ahead
        if arrives_clean:
            return model.coefficients(x, s)[0] * m0
        m1, self.m1, self.ahead = self.m1, m0, None
        h = 1 / self.kappa[i + 1] - 1 / self.kappa[i]
        ddim = self.sigma[i + 1] / self.sigma[i] * x + self.sigma[i + 1] * h * m0
        last = i + 1 == self.noisy
        if m1 is None or (last and self.final == "ddim"):
            return ddim
        if last and self.final == "official":
            return self._official_end(i, h, ddim, m0, m1)
        return self._second_order(model, i, s, ddim, m0, m1, guidance)

    @staticmethod
    def _x0(model: Denoiser, x: Tensor, t: Tensor, guidance: Guidance | None) -> Tensor:
        return guided(model, model(x, t), t, guidance).x0

    def _official_end(self, i: int, h: float, ddim: Tensor, m0: Tensor, m1: Tensor) -> Tensor:
        sigma_s, sigma_t = self.sigma[i], self.sigma[i + 1]
        ratio = sigma_t / sigma_s
        q = 1 - 0.5 * sqrt(ratio if ratio < 0.5 else ratio - 0.5)
        return (1 - sqrt(sigma_t * sigma_s)) * ddim + 0.5 * sigma_t * h * (m0 - q * m1)

    def _second_order(
        self, model: Denoiser, i: int, s: Tensor, ddim: Tensor, m0: Tensor, m1: Tensor, guidance: Guidance | None
    ) -> Tensor:
        """``ddim + sigma h B / (2 zeta)``, with the predictor's image at ``s`` kept for the next step."""
        sigma, h = self.sigma[i + 1], 1 / self.kappa[i + 1] - 1 / self.kappa[i]
        ratio = sigma / self.sigma[i]
        r = log(self.kappa[i - 1] / self.kappa[i]) / log(self.kappa[i] / self.kappa[i + 1])
        start, end = self.times[0], self.times[self.noisy]
        w = 0.5 * (1 - ((self.times[i + 1] + end) / (start + end)) ** 2)
        b = (1 - w) * sqrt(ratio / (self.sigma[i] / self.sigma[i - 1]))

        b1 = b + w * _share(m0, m1)
        D1 = m0 - b1 * m1
        r_i = (torch.sigmoid(0.25 * b1.abs()) * r).clamp(0.25 * r, 1.5 * r)
        predicted = ddim + 0.5 * sigma * h * D1 / r_i
        self.ahead = m = self._x0(model, predicted, s, guidance)

        D2 = m - (b + w * _share(m, m0)) * m0
        back, forth = D1 / (r * h), r / h * D2
        eta = 0.5 * torch.sigmoid((0.5 * _share(forth + back, forth - back)).abs())
        B = -(eta / r) * D1 + r * (1 - eta) * D2
        excess = (_share(predicted - ddim - 0.5 * sigma * h * B / r_i, D1) / (h * sigma)).abs() - 0.5
        if self.noisy > FEW_STEPS:
            excess = -excess * torch.sigmoid(_share(m0, (m0 - m1) / h) * (2 - ratio**2))
        return ddim + 0.5 * sigma * h * B / torch.sigmoid(excess)


def _share(a: Tensor, b: Tensor) -> Tensor:
    """``<a, b> / <b, b>`` over the pixels of each channel, within [-2, 2], in a shape that multiplies images."""
    pixels = tuple(range(2, a.ndim))
    norm = (b * b).sum(pixels, keepdim=True).clamp(min=torch.finfo(b.dtype).tiny)
    return ((a * b).sum(pixels, keepdim=True) / norm).clamp(-2, 2)
