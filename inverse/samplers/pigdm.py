"""PiGDM: guidance by the pseudo-inverse of the operator, which knows how sure the denoised image is."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from inverse.operators.base import LinearOperator
from inverse.samplers.guided import GuidedSampler, differentiable
from inverse.samplers.loop import Noise
from inverse.samplers.problem import Problem
from prior.denoiser import Prediction

__all__ = ["WEIGHTINGS", "PiGDM"]


def _exact(p: Prediction, variance: Tensor, g: Tensor, v: Tensor) -> Tensor:
    """``sigma^2 / (alpha r^2) g``."""
    return p.sigma**2 / (p.alpha.clamp(min=torch.finfo(g.dtype).eps) * variance) * g


def _bayes(p: Prediction, variance: Tensor, g: Tensor, v: Tensor) -> Tensor:
    """The same, but no longer than v: at high noise levels a network's derivative is mostly error."""
    shift = _exact(p, variance, g, v)
    longest, length = (z.flatten(1).norm(dim=1).view(-1, *[1] * (g.ndim - 1)) for z in (v, shift))
    return shift * (longest / length.clamp(min=torch.finfo(g.dtype).tiny)).clamp(max=1)


def _adaptive(p: Prediction, variance: Tensor, g: Tensor, v: Tensor) -> Tensor:
    """``alpha g``."""
    return p.alpha * g


WEIGHTINGS: dict[str, Callable[[Prediction, Tensor, Tensor, Tensor], Tensor]] = {
    "bayes": _bayes,
    "exact": _exact,
    "adaptive": _adaptive,
}
"""How far x0 moves, from the prediction, r^2, ``g = J^T v`` and v: by Bayes' rule, or as algorithm 1 of the paper."""


@dataclass(frozen=True, kw_only=True)
class PiGDM(GuidedSampler):
    r"""Song, Vahdat, Mardani & Kautz, ICLR 2023: N steps, N evaluations.

    With ``p(x0 | x_t) = N(x0(x_t), r^2)`` and noise of deviation sigma_y the measurement's score is

        grad log p(y | x_t) = J^T v / r^2,   v = A^H (A A^H + sigma_y^2 / r^2)^-1 (y - A x0),   J = dx0 / dx_t,

    where v is the proximal step ``(A^H A + c)^-1 A^H (y - A x0)``, c = sigma_y^2 / r^2, in closed form where the operator
    has one. DDIM then takes the step from ``x0 + sigma^2 / alpha grad``. The variance is ``r^2 = s^2 l^2 / (s^2 + l^2)`` at
    the noise level l, that of a Gaussian prior of deviation s; for such a prior the guidance is exact.

    Attributes
    ----------
    prior_std: s, in the network's range; 1 in the paper.
    noise_aware: False takes c = 0 whatever the noise, for any operator with a ``pinv``: ``v = A^+ y - A^+ A(x0)``.
    weighting: "exact", by Bayes' rule, where the denoiser is; "bayes", the same but never further than v, for networks; or
        "adaptive", as in algorithm 1 of the paper: x0 moves by ``alpha J^T v``.
    weight: factor of the gradient.
    keep_eps: only x0 is guided, the noise stays as the network predicted it, as in algorithm 1 of the paper.
    project: what the measurement fixes of x0 is replaced by it, the gradient moves the rest; RED-Diff's code for masks.
    """

    steps: int = 100
    prior_std: float = 1.0
    noise_aware: bool = True
    weighting: str = "bayes"
    weight: float = 1.0
    keep_eps: bool = False
    project: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.prior_std > 0:
            raise ValueError(f"prior_std must be positive, got {self.prior_std}")
        if self.weighting not in WEIGHTINGS:
            raise ValueError(f"weighting must be one of {', '.join(WEIGHTINGS)}, got {self.weighting!r}")

    @classmethod
    def paper(cls, *, steps: int = 100, noise_aware: bool = True, samples: int = 1) -> PiGDM:
        """Algorithm 1 of the paper, with its adaptive weights, from the back-projection."""
        return cls(
            steps=steps, noise_aware=noise_aware, samples=samples, weighting="adaptive", keep_eps=True, warm_start=True
        )  # fmt: skip

    def check(self, problem: Problem) -> None:
        """Raise ``TypeError`` where a nonlinear operator meets a choice that needs a linear one, or has no ``pinv``."""
        if problem.linear:
            return
        if self.noise_aware or self.project:
            raise TypeError(
                f"PiGDM needs a linear operator, got {problem.A!r}; "
                "PiGDM(noise_aware=False) takes a nonlinear one that has a pinv(y), DPS takes any"
            )
        problem.A.pinv(problem.y[:1])

    def step(self, problem: Problem, x: Tensor, t: Tensor, s: Tensor, noise: Noise) -> Tensor:
        model = problem.model
        x, p = differentiable(model, x, t)
        variance = 1 / (self.prior_std**-2 + (p.alpha / p.sigma) ** 2)
        v = self.unexplained(problem, p.x0.detach(), variance)
        (g,) = torch.autograd.grad(p.x0, x, v)
        x0 = p.x0.detach()
        if self.project:
            A = problem.linear_operator("PiGDM(project=True)")
            x0, g = x0 + A.pinv(problem.residual(x0)), g - A.pinv(A(g))
        guided = p.with_x0(x0 + self.weight * WEIGHTINGS[self.weighting](p, variance, g, v))
        if self.keep_eps:
            guided = dataclasses.replace(guided, eps=p.eps)
        return self.advance(model, guided, t, s, noise(g))

    def unexplained(self, problem: Problem, x0: Tensor, variance: Tensor) -> Tensor:
        """v: the smallest change of ``x0`` that explains the measurement as well as its noise and the variance ask for."""
        model, A = problem.model, problem.A
        if not isinstance(A, LinearOperator):
            return problem.back_projected - model.to_network(A.pinv(A(model.to_image(x0))))
        noise = _noise_variance(problem)
        if not self.noise_aware or not bool((noise > 0).all()):
            return A.pinv(problem.residual(x0))
        return problem.prox(x0, (noise / variance.flatten()).to(x0)) - x0


def _noise_variance(problem: Problem) -> Tensor:
    """Of the noise in network units, a number or (B,): the mean over the measurement where it depends on the signal."""
    variance = (problem.scale * problem.A.noise.std(problem.y)) ** 2
    return variance if variance.ndim == 0 else variance.flatten(1).mean(1)
