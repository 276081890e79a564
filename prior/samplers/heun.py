"""The sampler of EDM (Karras et al. 2022): Heun's method in the noise level, with optional churn."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from prior.denoiser import Denoiser
from prior.samplers.loop import Guidance, Sampler, guided
from prior.schedules import Schedule

__all__ = ["Heun", "finite_level", "slope"]


@dataclass(frozen=True, kw_only=True)
class Heun(Sampler):
    """Karras et al. 2022, algorithm 2 (algorithm 1 without churn); N steps cost 2N - 1 network evaluations.

    ``dx/dsigma = (x - x0(x, sigma)) / sigma`` by the trapezoid rule, where x and sigma are the image over ``alpha`` and
    the noise level of whatever schedule the model has. Guidance shifts x0 by ``sigma^2 grad`` at every evaluation.

    Parameters
    ----------
    S_churn: noise added over all steps; each adds ``gamma = S_churn / steps``, at most ``sqrt(2) - 1``, of its level.
    S_min, S_max: noise levels between which it is added.
    S_noise: standard deviation of that noise.
    """

    steps: int = 18
    spacing: str | None = "karras"
    S_churn: float = 0.0
    S_min: float = 0.0
    S_max: float = math.inf
    S_noise: float = 1.0

    def __post_init__(self) -> None:
        if self.S_churn < 0:
            raise ValueError(f"S_churn must be at least 0, got {self.S_churn}")

    @property
    def stochastic(self) -> bool:
        return self.S_churn > 0

    def step(
        self, model: Denoiser, x: Tensor, t: Tensor, s: Tensor, noise: Tensor | None, guidance: Guidance | None = None
    ) -> Tensor:
        """As :meth:`Sampler.step`; ``t`` and ``s`` are numbers, the same for all members."""
        schedule = model.schedule
        sigma, sigma_next = finite_level(schedule, t), schedule.level(s)
        t_hat, x_hat = t, x / schedule.alpha(t).to(x)
        if self.stochastic and self.S_min <= sigma <= self.S_max:
            if noise is None:
                raise ValueError(f"noise must be given: a step with S_churn = {self.S_churn} is stochastic")
            gamma = min(self.S_churn / self.steps, math.sqrt(2) - 1)
            t_hat = schedule.time((1 + gamma) * sigma)
            added = (schedule.level(t_hat) ** 2 - sigma**2).clamp(min=0).sqrt()
            x_hat = x_hat + (self.S_noise * added).to(x) * noise
        sigma_hat = schedule.level(t_hat)
        h = (sigma_next - sigma_hat).to(x)
        d = slope(model, x_hat, t_hat, guidance)
        x_next = x_hat + h * d
        if sigma_next > 0:
            d_prime = slope(model, x_next, s, guidance)
            x_next = x_hat + h * (d + d_prime) / 2
        return schedule.alpha(s).to(x) * x_next


def finite_level(schedule: Schedule, t: Tensor) -> Tensor:
    """The noise level at ``t``; raises ``ValueError`` where it is infinite, as at the very start of a flow."""
    level = schedule.level(t)
    if not bool(level.isfinite().all()):
        first = float(torch.as_tensor(t)[~level.isfinite()].flatten()[0])
        raise ValueError(
            f"every time must have a finite noise level, got t = {first:g} of {schedule!r}; use the karras or log_snr spacing"
        )
    return level


def slope(model: Denoiser, z: Tensor, t: Tensor, guidance: Guidance | None) -> Tensor:
    """``dz/drho = (z - x0) / rho``, the predicted noise, at z = x / alpha and time ``t``; one network evaluation."""
    return guided(model, model(model.schedule.alpha(t).to(z) * z, t), t, guidance).eps
