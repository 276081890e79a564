r"""Baselines that project onto the measurement at every level: Score-MRI (Chung & Ye 2022) and MCG (Chung et al. 2022)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from medical.samplers.data_step import Position
from medical.samplers.guidance import guided
from medical.samplers.langevin import LangevinSampler
from medical.samplers.levels import Level
from medical.samplers.slice_prior import SlicePrior
from medical.samplers.stack import Stack
from medical.samplers.volume_sampler import VolumeProblem

__all__ = ["MCG", "ScoreMRI"]


@dataclass(frozen=True, kw_only=True)
class ScoreMRI(LangevinSampler):
    """Predictor and corrector on every slice, each followed by a step onto the measurement; slices are not coupled.

    With the score ``s(x) = -eps / sigma``, at the level sigma_k::

        x <- P(x + (sigma_k^2 - sigma_(k-1)^2) s(x) + sqrt(sigma_k^2 - sigma_(k-1)^2) z)
        x <- P(x + e s(x) + sqrt(2 e) z'),    e = 2 (snr |z'| / |s(x)|)^2
        P(x) = x + (relaxation / |A|^2) A^H W^2 (y - A x)

    For Cartesian MRI with one coil P puts the measured k-space in its place; for other operators it is a step of Landweber's
    iteration. The last corrector adds no noise.

    Attributes
    ----------
    relaxation: above 0, below 2.
    """

    relaxation: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.relaxation < 2:
            raise ValueError(f"relaxation must lie between 0 and 2, or the projections diverge, got {self.relaxation}")

    def check(self, prior: SlicePrior, stack: Stack) -> int:
        return self.steps

    def step(self, problem: VolumeProblem, at: Position, index: int) -> None:
        prior, stack, x = problem.prior, problem.stack, at.x
        level = self.levels(prior)[index]
        G2 = level.sigma**2 - level.previous**2
        eps, pull = self.predicted(problem, x, level)
        x = x - G2 * eps / level.label - pull + math.sqrt(G2) * problem.normal(index, 1)
        x = self.project(stack, x)
        score, z = -prior.eps(x, level.label) / level.label, problem.normal(index, 2)
        e = self.length(z, score, prior.run.parts(len(x)))
        x = x + e * score + (0.0 if index == self.steps - 1 else torch.sqrt(2 * e) * z)
        at.x = self.project(stack, x)

    def predicted(self, problem: VolumeProblem, x: Tensor, level: Level) -> tuple[Tensor, Tensor | float]:
        """The noise in x that the predictor removes, and what else it takes off."""
        return problem.prior.eps(x, level.label), 0.0

    def project(self, stack: Stack, x: Tensor) -> Tensor:
        """``P(x)``."""
        return x + self.relaxation / stack.norm_squared * (stack.back_projected - stack.normal(x))

    def chosen(self, stack: Stack) -> dict[str, object]:
        return {"norm": math.sqrt(stack.norm_squared)}


@dataclass(frozen=True, kw_only=True)
class MCG(ScoreMRI):
    """:class:`ScoreMRI` whose predictor also moves down the gradient of the misfit, through the network.

    The predictor takes off ``(weight / |A|) grad_x |W (A x_0(x) - y)|``, with the norms of
    :func:`medical.samplers.guidance.guided`. It costs the network's derivative, and for operators of volumes one more network
    call a slice and step.

    Attributes
    ----------
    weight: of the gradient.
    """

    weight: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.weight >= 0:
            raise ValueError(f"weight must not be negative, got {self.weight}")

    def chunk_calls(self, problem: VolumeProblem, steps: int) -> int:
        passes = 3 if problem.stack.volumetric else 2
        return steps * passes * len(problem.prior.run.parts(problem.stack.shape[0]))

    def predicted(self, problem: VolumeProblem, x: Tensor, level: Level) -> tuple[Tensor, Tensor | float]:
        stack = problem.stack
        eps, gradient = guided(problem.prior, stack, x, level.label, whole_chunks=self.whole_chunks)
        return eps, self.weight / math.sqrt(stack.norm_squared) * gradient
