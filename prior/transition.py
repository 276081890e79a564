"""One step of the noising chain seen backwards: the Gaussian ``q(x_s | x_t, x_0)`` between two times of any schedule."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from prior.schedules import DiscreteVP, Schedule

__all__ = ["Transition"]


@dataclass(frozen=True, eq=False)
class Transition:
    """``q(x_s | x_t, x_0) = N(c1 x_0 + c2 x_t, variance)`` for s < t; every field multiplies an image.

    Ho et al. 2020, eq. 7, for the neighbouring steps of a variance-preserving chain; Kingma et al. 2021, eq. 26 to 30,
    for any two times of any schedule. Skipping steps of a discrete chain is then only a choice of times.

    Attributes
    ----------
    alpha, sigma: of the time arrived at, s.
    c1, c2: weights of the clean and of the noisy image in the mean.
    beta: variance of ``q(x_t | x_s)``, up to the scale ``alpha_t / alpha_s`` of its mean.
    variance: variance of the posterior, 0 where s is clean.
    log_variance: its logarithm; where s is clean, that of a discrete chain's second step (Nichol & Dhariwal 2021), and
        of a continuous schedule ``log beta``.
    """

    alpha: Tensor
    sigma: Tensor
    c1: Tensor
    c2: Tensor
    beta: Tensor
    variance: Tensor
    log_variance: Tensor

    @classmethod
    def between(cls, schedule: Schedule, t: float | Tensor, s: float | Tensor, x: Tensor) -> Transition:
        """The step from ``t`` to ``s``, numbers or one a batch member, in the dtype and on the device of ``x`` (B, ...).

        Raises ``ValueError`` where a time does not fit the batch.
        """
        t, s = (_times(time, x) for time in (t, s))
        alpha_t, sigma_t = schedule.alpha(t), schedule.sigma(t)
        alpha, sigma = schedule.alpha(s), schedule.sigma(s)
        a = alpha_t / alpha
        beta = sigma_t**2 - (a * sigma) ** 2
        variance = beta * sigma**2 / sigma_t**2
        first = schedule.posterior_log_variance[0].to(x.device) if isinstance(schedule, DiscreteVP) else beta.log()
        log_variance = torch.where(sigma > 0, variance.log(), first)
        fields = (alpha, sigma, alpha * beta / sigma_t**2, a * (sigma / sigma_t) ** 2, beta, variance, log_variance)
        shape = (-1, *[1] * (x.ndim - 1))
        return cls(*(value.to(x.dtype).view(shape) for value in fields))

    def mean(self, x0: Tensor, x: Tensor) -> Tensor:
        """``c1 x_0 + c2 x_t``."""
        return self.c1 * x0 + self.c2 * x

    def interpolated_log_variance(self, fraction: float | Tensor) -> Tensor:
        """Between the posterior's variance (0) and beta (1), in logarithms (Nichol & Dhariwal 2021, eq. 15)."""
        return fraction * self.beta.log() + (1 - fraction) * self.log_variance

    def learned_log_variance(self, v: Tensor) -> Tensor:
        """The same from a network's raw output, for which -1 is the posterior's variance and 1 is beta; not clamped."""
        return self.interpolated_log_variance((v + 1) / 2)


def _times(t: float | Tensor, x: Tensor) -> Tensor:
    t = torch.as_tensor(t, dtype=torch.float64, device=x.device)
    if t.shape not in ((), (1,), (x.shape[0],)):
        raise ValueError(f"t must be a number or have shape ({x.shape[0]},), one time a batch member, got {tuple(t.shape)}")
    return t.expand(x.shape[0])
