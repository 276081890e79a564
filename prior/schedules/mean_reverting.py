"""The schedule of IR-SDE: noising that ends at the degraded image instead of at pure noise."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from prior.schedules.base import Schedule, double

__all__ = ["THETAS", "MeanReverting"]


def _cosine(count: int) -> Tensor:
    n, s = count + 1, 0.008
    i = torch.arange(n + 1, dtype=torch.float64)
    a = torch.cos((i / n + s) / (1 + s) * (math.pi / 2)) ** 2
    return 1 - a[1:-1] / a[0]


def _linear(count: int) -> Tensor:
    return torch.linspace(0.1, 20, count, dtype=torch.float64) / count


def _constant(count: int) -> Tensor:
    return torch.ones(count, dtype=torch.float64)


THETAS: dict[str, Callable[[int], Tensor]] = {"cosine": _cosine, "linear": _linear, "constant": _constant}
"""The speeds of reversion of so many times, by name; only their ratios matter, since ``dt`` follows from ``eps``."""


@dataclass(frozen=True, kw_only=True)
class MeanReverting(Schedule):
    r"""``dx = theta_t (mu - x) dt + sqrt(2 theta_t) sigma_inf dw``, mu the degraded image (Luo et al. 2023).

    With thetabar the sum of theta up to t, at the whole times t = 0..T,

        x_t = mu + alpha_t (x_0 - mu) + sigma_t eps,
        alpha_t = exp(-thetabar_t dt),  sigma_t = sigma_inf sqrt(1 - alpha_t^2),

    so that ``y = x - mu`` is noised like any other image: alpha and sigma are those of y. Between whole times both are
    linear in t. ``dt`` is such that ``alpha_T = eps``. Images in [0, 1]; networks read t itself.

    Attributes
    ----------
    T: number of steps.
    theta: a name in ``THETAS``.
    max_sigma: sigma_inf; from 1 on it counts in 255ths (10 deblurring and deraining, 30 inpainting, 50 most tasks).
    eps: what is left of ``x_0 - mu`` at the end.
    offset: whether thetabar leaves out ``theta_0``, so that time 0 is clean, as IR-SDE and DA-CLIP do; MRS does not,
        and its clean time is -1.
    """

    T: int = 100
    theta: str = "cosine"
    max_sigma: float = 50.0
    eps: float = 0.005
    offset: bool = True

    def __post_init__(self) -> None:
        if self.T < 1:
            raise ValueError(f"T must be at least 1, got {self.T}")
        if self.theta not in THETAS:
            raise ValueError(f"theta must be one of {', '.join(THETAS)}, got {self.theta!r}")
        if not 0 < self.max_sigma < math.inf:
            raise ValueError(f"max_sigma must be positive and finite, got {self.max_sigma}")
        if not 0 < self.eps < 1:
            raise ValueError(f"eps, what is left of the image at the end, must lie strictly between 0 and 1, got {self.eps}")

    @property
    def sigma_inf(self) -> float:
        """Standard deviation of the noise at the end, in units of the image."""
        return self.max_sigma / 255 if self.max_sigma >= 1 else float(self.max_sigma)

    @property
    def t_min(self) -> float:  # type: ignore[override]
        return self.clean + 1

    @property
    def t_max(self) -> float:  # type: ignore[override]
        return float(self.T)

    @property
    def clean(self) -> float:  # type: ignore[override]
        return 0.0 if self.offset else -1.0

    @property
    def thetas(self) -> Tensor:
        """theta at t = 0..T, float64."""
        return THETAS[self.theta](self.T + 1)

    @property
    def dt(self) -> float:
        """Length of a step: ``-log(eps) / thetabar_T``."""
        return float(-math.log(self.eps) / self._thetabar[-1])

    @property
    def _thetabar(self) -> Tensor:
        """From the clean time to T."""
        summed = self.thetas.cumsum(0)
        return summed - summed[0] if self.offset else torch.cat([torch.zeros(1, dtype=torch.float64), summed])

    def alpha(self, t: float | Tensor) -> Tensor:
        return self._at(t)[0]

    def sigma(self, t: float | Tensor) -> Tensor:
        return self._at(t)[1]

    def _at(self, t: float | Tensor) -> tuple[Tensor, Tensor]:
        t = double(t)
        if bool((t < self.clean).any()) or bool((t > self.T).any()):
            raise ValueError(f"t must lie in [{self.clean:g}, {self.T}], got {t.min().item():g}..{t.max().item():g}")
        left = (t - self.clean).floor().clamp(max=self.T - self.clean - 1).long()
        fraction = t - self.clean - left
        alpha, sigma = (table.to(t.device) for table in _tables(self))
        return torch.lerp(alpha[left], alpha[left + 1], fraction), torch.lerp(sigma[left], sigma[left + 1], fraction)

    def time(self, level: float | Tensor) -> Tensor:
        level = double(level)
        alpha, sigma = (table.to(level.device) for table in _tables(self))
        right = torch.searchsorted(sigma / alpha, level).clamp(1, len(alpha) - 1)
        # sigma(t) = level alpha(t), both of them linear in the step to the right
        left = right - 1
        gap, slope = (level * a[left] - s[left] for a, s in ((alpha, sigma), (alpha.diff(), sigma.diff())))
        return (self.clean + left - gap / slope).clamp(self.clean, self.T)

    def _slopes(self, t: float | Tensor) -> tuple[Tensor, Tensor]:
        t = double(t)
        index = (t - self.clean).ceil().clamp(1, self.T - self.clean).long() - 1
        alpha, sigma = (table.diff().to(t.device)[index] for table in _tables(self))
        return alpha, sigma

    def drift(self, t: float | Tensor) -> Tensor:
        return self._slopes(t)[0] / self.alpha(t)

    def diffusion(self, t: float | Tensor) -> Tensor:
        sigma = self.sigma(t)
        return torch.sqrt(2 * sigma * (self._slopes(t)[1] - self.drift(t) * sigma))


@lru_cache(maxsize=64)
def _tables(schedule: MeanReverting) -> tuple[Tensor, Tensor]:
    """alpha and sigma at the whole times from clean to T."""
    log_alpha = -schedule._thetabar * schedule.dt
    return torch.exp(log_alpha), schedule.sigma_inf * torch.sqrt(-torch.expm1(2 * log_alpha))
