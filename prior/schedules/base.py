"""What every schedule answers."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["CountedSchedule", "Schedule", "double"]


def double(t: float | Tensor) -> Tensor:
    """``t`` in float64, on its own device."""
    return torch.as_tensor(t, dtype=torch.float64, device=t.device if isinstance(t, Tensor) else None)


class Schedule:
    """What every schedule answers; ``t`` is a float or a tensor of any shape, answers are float64 of that shape.

    Subclasses are frozen dataclasses that give ``t_min``, ``t_max`` (the ends of the useful range), ``clean`` (where
    sigma is 0), ``alpha``, ``sigma``, ``time`` and ``drift``.
    """

    t_min: float
    t_max: float
    clean: float

    def alpha(self, t: float | Tensor) -> Tensor:
        """Scale of the clean image at time ``t``."""
        raise NotImplementedError(f"{type(self).__name__} must define alpha(t)")

    def sigma(self, t: float | Tensor) -> Tensor:
        """Standard deviation of the noise at time ``t``."""
        raise NotImplementedError(f"{type(self).__name__} must define sigma(t)")

    def time(self, level: float | Tensor) -> Tensor:
        """The time at which the noise level ``sigma / alpha`` is ``level``."""
        raise NotImplementedError(f"{type(self).__name__} must define time(level)")

    def drift(self, t: float | Tensor) -> Tensor:
        """``f(t) = d log alpha / dt`` of the forward SDE ``dx = f x dt + g dw`` (Song et al. 2021, eq. 5)."""
        raise NotImplementedError(f"{type(self).__name__} must define drift(t)")

    def diffusion(self, t: float | Tensor) -> Tensor:
        """``g(t)`` of the forward SDE, with ``g^2 = d sigma^2 / dt - 2 f sigma^2``."""
        raise NotImplementedError(f"{type(self).__name__} must define diffusion(t)")

    def level(self, t: float | Tensor) -> Tensor:
        """Noise level ``sigma(t) / alpha(t)``."""
        return self.sigma(t) / self.alpha(t)

    def log_snr(self, t: float | Tensor) -> Tensor:
        """``log(alpha^2 / sigma^2)``, the lambda of Kingma et al. 2021."""
        return -2 * torch.log(self.level(t))

    def network_time(self, t: float | Tensor) -> Tensor:
        """The time as the network was trained to read it; only respacing changes it."""
        return double(t)


class CountedSchedule(Schedule):
    """A schedule of ``T`` steps, at the times t = 0..T-1; at -1 the image is clean."""

    T: int

    @property
    def t_min(self) -> float:  # type: ignore[override]
        return 0.0

    @property
    def t_max(self) -> float:  # type: ignore[override]
        return float(self.T - 1)

    @property
    def clean(self) -> float:  # type: ignore[override]
        return -1.0
