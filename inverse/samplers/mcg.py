"""MCG: a gradient along the data manifold, then a projection onto the measurement."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from inverse.samplers.guided import GuidedSampler, differentiable, unit_scale
from inverse.samplers.loop import Noise
from inverse.samplers.problem import Problem

__all__ = ["MCG"]


@dataclass(frozen=True, kw_only=True)
class MCG(GuidedSampler):
    r"""Chung, Sim, Ryu & Ye, NeurIPS 2022, for linear operators: N steps, N evaluations, two noises a step.

    With ``P = A^+ A`` the projection onto what the measurement fixes and J = dx0 / dx_t,

        x'  = DDIM step + zeta alpha_t J^T A^+ (y - A x0),      x_s = x' + P (alpha_s A^+ y + sigma_s z - x')

    so that the image explains the measurement exactly, its noise included: for measurements with little noise, by operators
    whose pseudo-inverse does not amplify it (masks and block means, not blurs).

    Attributes
    ----------
    zeta: step size; RED-Diff's code quotes half of it.
    """

    eta: float | None = 0.5
    zeta: float = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.zeta >= 0:
            raise ValueError(f"zeta must not be negative, got {self.zeta}")

    def check(self, problem: Problem) -> None:
        """Raise ``TypeError`` unless the operator is linear."""
        problem.linear_operator("MCG")

    def step(self, problem: Problem, x: Tensor, t: Tensor, s: Tensor, noise: Noise) -> Tensor:
        A, model, schedule = problem.linear_operator("MCG"), problem.model, problem.model.schedule
        x, p = differentiable(model, x, t)
        v = A.pinv(problem.residual(p.x0.detach()))
        (g,) = torch.autograd.grad(p.x0, x, v)
        rate = self.zeta * (schedule.alpha(t) * unit_scale(schedule, s)).to(g)
        moved = self.advance(model, p, t, s, noise(g)) + rate * g
        measured = schedule.alpha(s).to(g) * problem.back_projected + schedule.sigma(s).to(g) * noise(g)
        return moved + A.pinv(A(measured - moved))
