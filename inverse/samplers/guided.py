"""What DPS, PiGDM and MCG share: a network differentiated at every step, and the unguided step that they bend."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from inverse.samplers.loop import Noise, PosteriorSampler
from inverse.samplers.problem import Problem
from prior.denoiser import Denoiser, Prediction
from prior.schedules import Schedule
from prior.transition import Transition

__all__ = ["GuidedSampler", "differentiable", "unit_scale"]


@dataclass(frozen=True, kw_only=True)
class GuidedSampler(PosteriorSampler):
    """A sampler that pulls each step towards the measurement with a gradient through the network.

    A step costs one network evaluation, forwards and backwards. It draws one noise, before any other, also in the last
    step, which multiplies it by zero.

    Attributes
    ----------
    eta: noise of the unguided step, DDIM's: 0 is none, 1 that of the ancestral step. None takes the ancestral step with
        the variance that the network learned, or the posterior's where it learned none.
    warm_start: start from ``alpha A^+ y + sigma z`` rather than from pure noise ``sigma z``.
    """

    eta: float | None = 1.0
    warm_start: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.eta is not None and not 0 <= self.eta <= 1:
            raise ValueError(f"eta must lie in [0, 1], from deterministic to ancestral, or be None, got {self.eta}")

    def start(self, problem: Problem, t: Tensor, noise: Noise) -> Tensor:
        z = super().start(problem, t, noise)
        return problem.model.schedule.alpha(t).to(z) * problem.back_projected + z if self.warm_start else z

    def advance(self, model: Denoiser, p: Prediction, t: Tensor, s: Tensor, z: Tensor) -> Tensor:
        """The unguided step to time ``s`` from what the network says at time ``t``, with the noise ``z`` like ``p.x``."""
        q = Transition.between(model.schedule, t, s, p.x)
        if self.eta is None:
            log_variance = q.log_variance if p.variance is None else q.learned_log_variance(p.variance)
            return q.mean(p.x0, p.x) + (q.sigma > 0) * torch.exp(0.5 * log_variance) * z
        zeta = self.eta * q.variance.sqrt()
        return q.alpha * p.x0 + (q.sigma**2 - zeta**2).clamp(min=0).sqrt() * p.eps + zeta * z


def differentiable(model: Denoiser, x: Tensor, t: Tensor) -> tuple[Tensor, Prediction]:
    """``x`` as a leaf of the graph, and the network's answer there: its only evaluation of the step."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        return x, model(x, t)


def unit_scale(schedule: Schedule, t: Tensor) -> Tensor:
    """``sqrt(alpha^2 + sigma^2)``: 1 where variance is preserved, and elsewhere how much larger the same noisy image is."""
    return torch.sqrt(schedule.alpha(t) ** 2 + schedule.sigma(t) ** 2)
