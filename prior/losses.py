"""Training objectives of a denoiser."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from prior.denoiser import Denoiser
from prior.schedules import Schedule

__all__ = ["LogNormalTimes", "UniformTimes", "denoising_loss"]


@dataclass(frozen=True)
class UniformTimes:
    """Times drawn uniformly: integers of a discrete schedule, reals of a continuous one."""

    def sample(self, schedule: Schedule, count: int, generator: torch.Generator | None = None) -> Tensor:
        """``count`` times, float64."""
        u = torch.rand(count, dtype=torch.float64, generator=generator)
        steps = getattr(schedule, "T", None)
        if steps is not None:
            return (u * steps).floor()
        return schedule.t_min + u * (schedule.t_max - schedule.t_min)


@dataclass(frozen=True)
class LogNormalTimes:
    """Times whose log noise level is normal (Karras et al. 2022, table 1), kept within the schedule's range."""

    mean: float = -1.2
    std: float = 1.2

    def sample(self, schedule: Schedule, count: int, generator: torch.Generator | None = None) -> Tensor:
        """``count`` times, float64."""
        z = torch.randn(count, dtype=torch.float64, generator=generator)
        level = torch.exp(self.mean + self.std * z)
        low, high = float(schedule.level(schedule.t_min)), float(schedule.level(schedule.t_max))
        return schedule.time(level.clamp(low, high))


def denoising_loss(model: Denoiser, x0: Tensor, eps: Tensor, t: Tensor, condition: Tensor | None = None) -> Tensor:
    """Mean squared error of the network's raw output against its target, one value a batch member, (B,).

    For a noise head this is the simple loss of Ho et al. 2020; for an EDM head it is the weighted loss of Karras et al.
    2022, whose weight is the inverse of ``c_out^2``. x0 (B, C, H, W) in the network's range, eps likewise, t (B,).
    """
    alpha, sigma, time = model.coefficients(x0, t)
    x_in, t_in = model.head.inputs(alpha * x0 + sigma * eps, time, alpha, sigma)
    out = model.network(x_in, t_in) if condition is None else model.network(x_in, t_in, condition)
    if model.learned_variance:
        out = out.chunk(2, dim=1)[0]
    error = out.float() - model.head.target(x0, eps, alpha, sigma)
    return error.square().flatten(1).mean(1)
