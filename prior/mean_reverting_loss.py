"""The training objective of IR-SDE: hit the optimal reverse state in one step."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from prior.denoiser import Denoiser
from prior.samplers.mean_reverting import reverse_mean
from prior.schedules import MeanReverting, Schedule
from prior.transition import Transition

__all__ = ["StepTimes", "mean_reverting_loss"]


@dataclass(frozen=True)
class StepTimes:
    """The whole times 1..T (from 0 without ``offset``) drawn uniformly: those from which a step can be taken."""

    def sample(self, schedule: Schedule, count: int, generator: torch.Generator | None = None) -> Tensor:
        """``count`` times, float64."""
        steps = int(schedule.t_max - schedule.t_min) + 1
        u = torch.rand(count, dtype=torch.float64, generator=generator)
        return schedule.t_min + (u * steps).floor()


def mean_reverting_loss(model: Denoiser, x0: Tensor, degraded: Tensor, eps: Tensor, t: Tensor) -> Tensor:
    """``mean |x_{t-1} - x*_{t-1}|``, one value a batch member, (B,) (Luo et al. 2023, unweighted).

    x_{t-1} is the mean of one step of the reverse SDE with the predicted noise, x* the mean of ``q(x_{t-1} | x_t, x_0)``. x0
    and ``degraded``, mu, (B, C, H, W) in the network's range, eps likewise, t (B,) whole, in 1..T. The network is
    evaluated once, as ``network(x_t - mu, t, mu)``. Raises ``TypeError`` unless the schedule is MeanReverting.
    """
    schedule = model.schedule
    if not isinstance(schedule, MeanReverting):
        raise TypeError(f"model must have a MeanReverting schedule, got {schedule!r}")
    y0 = x0 - degraded
    y = model.noised(y0, eps, t)
    predicted = reverse_mean(schedule, y, model(y, t, degraded).eps, t, t - 1)
    optimal = Transition.between(schedule, t, t - 1, y).mean(y0, y)
    return (predicted - optimal).abs().flatten(1).mean(1)
