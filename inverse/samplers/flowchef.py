"""FlowChef: steering a straight flow by the measurement, without differentiating the network."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from inverse.operators.base import Operator
from inverse.reconstruction import Reconstruction
from inverse.samplers.loop import Noise, PosteriorSampler, Progress
from inverse.samplers.problem import Problem
from prior.denoiser import Denoiser
from prior.schedules import Schedule

__all__ = ["FlowChef"]


@dataclass(frozen=True, kw_only=True)
class FlowChef(PosteriorSampler):
    r"""Patel et al. 2025: the flow ``z' = z + (tau' - tau) v`` with every step first moved towards the data.

    With ``z = (1 - tau) x_0 + tau eps``, ``v = eps - x0`` and so ``x0 = z - tau v``, and v held fixed,

        z <- z - step_size grad |y - A(z - tau v)|^2 / 2,

    a gradient through the operator alone; the last step is not corrected. Any schedule is a straight flow in disguise: z is
    ``x / (alpha + sigma)`` and tau ``sigma / (alpha + sigma)``. N steps cost N network evaluations. It knows no noise, so
    that it is no posterior sampler: its spread means nothing and no samples are returned.

    Attributes
    ----------
    steps: steps of the grid; ``spacing`` None takes equal steps in tau, from noise to image.
    step_size: of the gradient of the *summed* squares, so that one value serves all sizes; below 2 / |A|^2. The authors'
        ``s``, on a mean over n measured values, is ``2 s / n`` here.
    """

    step_size: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.samples != 1:
            raise ValueError(
                f"samples must be 1, since FlowChef draws from no posterior, got {self.samples}; DPS and RedDiff do"
            )
        if not 0 < self.step_size < math.inf:
            raise ValueError(f"step_size must be positive and finite, got {self.step_size}")

    def reconstruct(
        self, model: Denoiser, A: Operator, y: Tensor, *, seed: int = 0, progress: Progress | None = None
    ) -> Reconstruction:
        """As :meth:`PosteriorSampler.reconstruct`, with an estimate but no samples, hence no standard deviation."""
        out = super().reconstruct(model, A, y, seed=seed, progress=progress)
        return dataclasses.replace(out, samples=out.estimate.new_empty((0, *out.estimate.shape)))

    def times(self, schedule: Schedule) -> Tensor:
        """As :meth:`PosteriorSampler.times`; tau starts at 1 - 1e-5 where the schedule ends in pure noise."""
        if self.spacing is not None:
            return super().times(schedule)
        tau_max = _tau(schedule, torch.as_tensor(schedule.t_max))
        tau = (tau_max * torch.linspace(1, 0, self.steps + 1, dtype=torch.float64)[:-1]).clamp(max=1 - 1e-5)
        return torch.cat([schedule.time(tau / (1 - tau)), torch.tensor([schedule.clean], dtype=torch.float64)])

    def step(self, problem: Problem, x: Tensor, t: Tensor, s: Tensor, noise: Noise) -> Tensor:
        """From ``x`` at time ``t`` to time ``s``; nothing is drawn."""
        schedule = problem.model.schedule
        p = problem.model(x, t)
        z, v = x / (p.alpha + p.sigma), p.eps - p.x0
        if float(schedule.sigma(s)) > 0:
            z = z - self.step_size * problem.gradient(p.x0)
        z = z + (_tau(schedule, s) - _tau(schedule, t)).to(x) * v
        return (schedule.alpha(s) + schedule.sigma(s)).to(x) * z


def _tau(schedule: Schedule, t: Tensor) -> Tensor:
    """Time of the straight flow."""
    return schedule.sigma(t) / (schedule.alpha(t) + schedule.sigma(t))
