"""Schedules in continuous time: variance exploding and preserving, EDM, straight paths."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from prior.schedules.base import Schedule, double

__all__ = ["EDM", "VE", "VP", "RectifiedFlow", "SubVP"]


@dataclass(frozen=True, kw_only=True)
class VP(Schedule):
    """Variance preserving in continuous time (Song et al. 2021, eq. 11): ``beta(t) = beta_0 + t (beta_1 - beta_0)``.

    ``alpha = exp(-t^2 (beta_1 - beta_0) / 4 - t beta_0 / 2)`` and ``sigma^2 = 1 - alpha^2``, t in [0, 1]. A network trained
    on it reads ``time_scale t``, 999 in the authors' code.
    """

    beta_0: float = 0.1
    beta_1: float = 20.0
    time_scale: float = 1.0
    t_min: float = 1e-3
    t_max: float = field(default=1.0, init=False, repr=False)
    clean: float = field(default=0.0, init=False, repr=False)

    def __post_init__(self) -> None:
        if not 0 < self.beta_0 < self.beta_1:
            raise ValueError(f"beta_0 and beta_1 must satisfy 0 < beta_0 < beta_1, got {self.beta_0} and {self.beta_1}")
        if not 0 < self.t_min < 1:
            raise ValueError(f"t_min must lie strictly between 0, which is clean, and 1, got {self.t_min}")

    def beta(self, t: float | Tensor) -> Tensor:
        """``beta(t)``, the squared diffusion coefficient."""
        return self.beta_0 + double(t) * (self.beta_1 - self.beta_0)

    def log_alpha(self, t: float | Tensor) -> Tensor:
        """``log alpha(t)``, exact near the clean end."""
        t = double(t)
        return -(t**2) * (self.beta_1 - self.beta_0) / 4 - t * self.beta_0 / 2

    def alpha(self, t: float | Tensor) -> Tensor:
        return torch.exp(self.log_alpha(t))

    def sigma(self, t: float | Tensor) -> Tensor:
        return torch.sqrt(-torch.expm1(2 * self.log_alpha(t)))

    def time(self, level: float | Tensor) -> Tensor:
        return self._time_of(-0.5 * torch.log1p(double(level) ** 2))

    def _time_of(self, log_alpha: Tensor) -> Tensor:
        # the positive root, in the form that loses no digits as log_alpha goes to 0
        slope = self.beta_1 - self.beta_0
        return -4 * log_alpha / (self.beta_0 + torch.sqrt(self.beta_0**2 - 4 * slope * log_alpha))

    def drift(self, t: float | Tensor) -> Tensor:
        return -0.5 * self.beta(t)

    def diffusion(self, t: float | Tensor) -> Tensor:
        return torch.sqrt(self.beta(t))

    def network_time(self, t: float | Tensor) -> Tensor:
        return self.time_scale * double(t)


@dataclass(frozen=True, kw_only=True)
class SubVP(VP):
    """The process with the drift of :class:`VP` and less noise: ``sigma = 1 - alpha^2`` (Song et al. 2021, eq. 13)."""

    def sigma(self, t: float | Tensor) -> Tensor:
        return -torch.expm1(2 * self.log_alpha(t))

    def time(self, level: float | Tensor) -> Tensor:
        # sigma / alpha = 1 / alpha - alpha = level, solved for alpha: log alpha = -asinh(level / 2)
        return self._time_of(-torch.asinh(double(level) / 2))

    def diffusion(self, t: float | Tensor) -> Tensor:
        return torch.sqrt(self.beta(t) * -torch.expm1(4 * self.log_alpha(t)))


@dataclass(frozen=True, kw_only=True)
class VE(Schedule):
    """Variance exploding: ``alpha = 1``, ``sigma = sigma_min (sigma_max / sigma_min)^t``, t in [0, 1] (Song et al. 2021).

    With ``reads_sigma`` networks are told sigma instead of t, as those of Song et al. trained in continuous time are.
    """

    sigma_min: float = 0.01
    sigma_max: float = 50.0
    reads_sigma: bool = False
    t_min: float = field(default=0.0, init=False, repr=False)
    t_max: float = field(default=1.0, init=False, repr=False)
    clean: float = field(default=-math.inf, init=False, repr=False)

    def __post_init__(self) -> None:
        _check_sigmas(self.sigma_min, self.sigma_max)

    @property
    def _log_ratio(self) -> float:
        return math.log(self.sigma_max / self.sigma_min)

    def alpha(self, t: float | Tensor) -> Tensor:
        return torch.ones_like(double(t))

    def sigma(self, t: float | Tensor) -> Tensor:
        return self.sigma_min * torch.exp(self._log_ratio * double(t))

    def time(self, level: float | Tensor) -> Tensor:
        return torch.log(double(level) / self.sigma_min) / self._log_ratio

    def drift(self, t: float | Tensor) -> Tensor:
        return torch.zeros_like(double(t))

    def diffusion(self, t: float | Tensor) -> Tensor:
        return self.sigma(t) * math.sqrt(2 * self._log_ratio)

    def network_time(self, t: float | Tensor) -> Tensor:
        return self.sigma(t) if self.reads_sigma else double(t)


@dataclass(frozen=True, kw_only=True)
class EDM(Schedule):
    """``alpha = 1`` and ``sigma = t``: time is the noise level itself (Karras et al. 2022)."""

    sigma_min: float = 0.002
    sigma_max: float = 80.0
    clean: float = field(default=0.0, init=False, repr=False)

    def __post_init__(self) -> None:
        _check_sigmas(self.sigma_min, self.sigma_max)

    @property
    def t_min(self) -> float:  # type: ignore[override]
        return self.sigma_min

    @property
    def t_max(self) -> float:  # type: ignore[override]
        return self.sigma_max

    def alpha(self, t: float | Tensor) -> Tensor:
        return torch.ones_like(double(t))

    def sigma(self, t: float | Tensor) -> Tensor:
        return double(t)

    def time(self, level: float | Tensor) -> Tensor:
        return double(level)

    def drift(self, t: float | Tensor) -> Tensor:
        return torch.zeros_like(double(t))

    def diffusion(self, t: float | Tensor) -> Tensor:
        return torch.sqrt(2 * double(t))


@dataclass(frozen=True, kw_only=True)
class RectifiedFlow(Schedule):
    """Straight paths: ``alpha = 1 - t``, ``sigma = t``, t in [0, 1] (Liu et al. 2023; Lipman et al. 2023).

    Networks read ``time_scale t``.
    """

    time_scale: float = 1.0
    t_min: float = field(default=1e-3, init=False, repr=False)
    t_max: float = field(default=1.0, init=False, repr=False)
    clean: float = field(default=0.0, init=False, repr=False)

    def alpha(self, t: float | Tensor) -> Tensor:
        return 1 - double(t)

    def sigma(self, t: float | Tensor) -> Tensor:
        return double(t)

    def time(self, level: float | Tensor) -> Tensor:
        level = double(level)
        return 1 - 1 / (1 + level)

    def drift(self, t: float | Tensor) -> Tensor:
        return -1 / (1 - double(t))

    def diffusion(self, t: float | Tensor) -> Tensor:
        t = double(t)
        return torch.sqrt(2 * t / (1 - t))

    def network_time(self, t: float | Tensor) -> Tensor:
        return self.time_scale * double(t)


def _check_sigmas(sigma_min: float, sigma_max: float) -> None:
    if not 0 < sigma_min < sigma_max < math.inf:
        raise ValueError(f"sigma_min and sigma_max must satisfy 0 < sigma_min < sigma_max, got {sigma_min} and {sigma_max}")
