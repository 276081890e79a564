"""DPS: the ancestral walk, pulled at each step by the gradient of the residual's norm."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from inverse.samplers.guided import GuidedSampler, differentiable, unit_scale
from inverse.samplers.loop import Noise
from inverse.samplers.problem import Problem

__all__ = ["DPS"]

ZETAS = {
    "super_resolution": 0.3,
    "gaussian_deblurring": 0.3,
    "motion_deblurring": 0.3,
    "nonlinear_deblurring": 0.3,
    "inpainting": 0.5,
    "phase_retrieval": 1.0,
}
"""``zeta`` of the authors' configurations, for networks in [-1, 1], 1000 steps and noise of 0.05 in that range."""

DDIM_ZETAS = {
    "inpainting": 0.2,
    "super_resolution": 2.0,
    "gaussian_deblurring": 4.0,
    "nonlinear_deblurring": 0.1,
    "phase_retrieval": 0.8,
}
"""``zeta`` of RED-Diff's DDIM form, twice the number that its authors quote, who differentiate the squared norm."""


@dataclass(frozen=True, kw_only=True)
class DPS(GuidedSampler):
    r"""Chung et al., ICLR 2023, algorithms 1 and 2: any operator that can be differentiated, N steps, N evaluations.

        x_s = step(x_t)  -  zeta  grad_x |W (y - A(x0(x_t)))|

    with the ancestral step (``eta=None``) or that of DDIM. The norm is that of each batch member, so that a batch equals
    its members. ``W`` weighs every value of the measurement by the inverse of its own noise, with a mean square of 1: the
    identity for Gaussian noise, ``y^-1/2`` for Poisson's. The estimate is biased: the likelihood of
    ``x_t`` is approximated by that of the denoised image, and zeta is not the noise's.

    Attributes
    ----------
    zeta: step size, in the network's range.
    normalized: the gradient of the norm; False takes that of half its square, times ``alpha_t alpha_s``, a form of
        RED-Diff's repository.
    clip: clamp the denoised image to the data's range, in the gradient as well.
    """

    steps: int = 1000
    eta: float | None = None
    zeta: float = 0.3
    normalized: bool = True
    clip: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.zeta >= 0:
            raise ValueError(f"zeta must not be negative, got {self.zeta}")

    @classmethod
    def paper(cls, task: str, *, steps: int = 1000, samples: int = 1) -> DPS:
        """The authors' configuration for a ``task`` of ``ZETAS``."""
        return cls(steps=steps, samples=samples, zeta=_of_task(ZETAS, task))

    @classmethod
    def ddim(cls, task: str, *, steps: int = 100, samples: int = 1) -> DPS:
        """RED-Diff's form, DDIM with eta 0.5, unclipped, from the back-projection, for a ``task`` of ``DDIM_ZETAS``."""
        zeta = _of_task(DDIM_ZETAS, task)
        return cls(steps=steps, samples=samples, zeta=zeta, eta=0.5, clip=False, warm_start=True)

    def step(self, problem: Problem, x: Tensor, t: Tensor, s: Tensor, noise: Noise) -> Tensor:
        model, schedule = problem.model, problem.model.schedule
        x, p = differentiable(model, x, t)
        with torch.enable_grad():
            x0 = p.x0.clamp(*model.data_range) if self.clip else p.x0
            r = _weighed(problem, problem.residual(x0))
        (g,) = torch.autograd.grad(r, x, r.detach())  # of |r|^2 / 2
        if self.clip:
            p = p.with_x0(x0)
        if self.normalized:
            norm = r.detach().flatten(1).norm(dim=1).clamp(min=torch.finfo(g.dtype).tiny).view(-1, *[1] * (g.ndim - 1))
            rate = (unit_scale(schedule, t) * unit_scale(schedule, s)).to(g) / norm
        else:
            rate = (schedule.alpha(t) * schedule.alpha(s)).to(g)
        return self.advance(model, p, t, s, noise(g)) - self.zeta * rate * g


def _weighed(problem: Problem, r: Tensor) -> Tensor:
    """``W r``: each value over its noise's standard deviation, with weights of mean square 1 in each member."""
    std = problem.A.noise.std(problem.y)
    if std.ndim == 0:
        return r
    w = 1 / std
    return r * (w / w.square().flatten(1).mean(1).sqrt().view(-1, *[1] * (w.ndim - 1)))


def _of_task(zetas: dict[str, float], task: str) -> float:
    if task not in zetas:
        raise ValueError(f"task must be one of {', '.join(zetas)}, got {task!r}")
    return zetas[task]
