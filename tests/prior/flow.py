"""Walks of a sampler, state by state, and what they approximate: the probability flow solved to twelve digits."""

from __future__ import annotations

import numpy
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

from prior.denoiser import Denoiser
from prior.samplers import Sampler

__all__ = ["probability_flow", "trajectory"]


def probability_flow(model: Denoiser, x: Tensor, t: float, s: float) -> Tensor:
    """``x`` (B, ...) at time ``t`` carried to time ``s``: ``dx/dt = f x + g^2 eps / (2 sigma)``, float64."""
    schedule = model.schedule

    def slope(time: float, flat: numpy.ndarray) -> numpy.ndarray:
        now = torch.from_numpy(flat).view_as(x)
        p = model(now, time)
        drift = schedule.drift(time) * now + schedule.diffusion(time) ** 2 / (2 * p.sigma) * p.eps
        return drift.flatten().numpy()

    solution = solve_ivp(slope, (t, s), x.double().flatten().numpy(), method="DOP853", rtol=1e-12, atol=1e-12)
    return torch.from_numpy(solution.y[:, -1]).view_as(x)


def trajectory(sampler: Sampler, model: Denoiser, x: Tensor, times: Tensor, noise: Tensor | None = None) -> Tensor:
    """Every state of a walk over ``times`` (N + 1,), the start first, (N + 1, B, ...); ``noise`` (N, B, ...)."""
    step, states = sampler.begin(model.schedule, times), [x]
    for i in range(len(times) - 1):
        states.append(step(model, states[-1], times[i], times[i + 1], None if noise is None else noise[i], None))
    return torch.stack(states)
