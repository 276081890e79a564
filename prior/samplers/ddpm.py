"""Ancestral sampling (Ho et al. 2020), with learned variances (Nichol & Dhariwal 2021)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from prior.denoiser import Denoiser
from prior.samplers.loop import Guidance, Sampler, gradient
from prior.transition import Transition

__all__ = ["DDPM"]


@dataclass(frozen=True, kw_only=True)
class DDPM(Sampler):
    """Ho et al. 2020, algorithm 2, between any two times: ``x_s = mean(x0, x_t) + exp(log_variance / 2) z``.

    N steps cost N network evaluations. Guidance shifts the mean by ``variance grad log p(y | x_t)`` (Dhariwal & Nichol
    2021, algorithm 1). With the schedule ``Linear().respace("250")`` and 250 steps these are the official 250 steps.

    Parameters
    ----------
    variance: of a network that did not learn its own: 0 is the posterior's (the smallest), 1 is beta (the largest),
        and between them it interpolates in logarithms.
    clip: whether the clean image is clamped to the model's data range at each step, as ADM does.
    """

    steps: int = 250
    variance: float = 0.0
    clip: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.variance <= 1:
            raise ValueError(f"variance must lie in [0, 1], from the posterior's to beta, got {self.variance}")

    @property
    def stochastic(self) -> bool:
        return True

    def step(
        self, model: Denoiser, x: Tensor, t: Tensor, s: Tensor, noise: Tensor | None, guidance: Guidance | None = None
    ) -> Tensor:
        mean, log_variance = self.mean_and_log_variance(model, x, t, s)
        if guidance is not None:
            mean = mean + log_variance.exp() * gradient(model, x, t, guidance)
        if noise is None:
            raise ValueError("noise must be given: an ancestral step is stochastic")
        noisy = model.schedule.sigma(s).to(x).view(-1, *[1] * (x.ndim - 1)) > 0  # the last step adds none
        return torch.where(noisy, mean + torch.exp(0.5 * log_variance) * noise, mean)

    def mean_and_log_variance(self, model: Denoiser, x: Tensor, t: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """Of the model's ``p(x_s | x_t)``, without guidance, at the cost of one network evaluation."""
        p = model(x, t)
        if self.clip:
            p = p.clip(*model.data_range)
        q = Transition.between(model.schedule, t, s, x)
        if p.variance is None:
            return q.mean(p.x0, x), q.interpolated_log_variance(self.variance)
        return q.mean(p.x0, x), q.learned_log_variance(p.variance)
