r"""TPDM: two priors of slices on perpendicular planes, which take turns, guided by the measurement (Lee et al. 2023)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from medical.samplers.data_step import Position
from medical.samplers.guidance import guided
from medical.samplers.langevin import LangevinSampler
from medical.samplers.levels import Level, geometric_levels
from medical.samplers.slice_prior import SlicePrior
from medical.samplers.stack import Stack
from medical.samplers.volume_sampler import VolumeProblem
from prior.denoiser import Denoiser

__all__ = ["PLANES", "TPDM"]

PLANES = {"coronal": (2, 1, 0, 3), "sagittal": (3, 1, 0, 2)}
"""Axes of a volume (D, C, H, W) as slices along y, (H, C, D, W), and along x, (W, C, D, H)."""


@dataclass(frozen=True, kw_only=True)
class TPDM(LangevinSampler):
    """Corrector and predictor at each of ``steps`` noise levels, by the prior of slices or by that of a plane across them.

    At the level sigma_k, with ``s(x) = -eps / sigma`` and the pull ``p(x) = (weight / |A|) grad_x |W (A x_0(x) - y)|``, where
    ``x_0(x) = x - sigma eps(x)`` and the gradient goes through the network::

        x <- x + e s(x) - p(x) + sqrt(2 e) z,    e = 2 (snr |z| / |s(x)|)^2                             corrector
        x <- x + (sigma_k^2 - sigma_(k-1)^2) s(x) - p(x) + sqrt(sigma_k^2 - sigma_(k-1)^2) z'           predictor

    When it is the auxiliary prior's turn, s is that of the slices across, and there is no pull. No noise is added in the last
    step. The norm in p is that of each slice, see :func:`medical.samplers.guidance.guided`. A step costs two network calls a
    slice, four where an operator of volumes pulls; the pull also needs the network's derivative, and its memory.

    Attributes
    ----------
    auxiliary: the prior of the other plane; None takes the same prior there.
    plane: on which the auxiliary prior works: a name of :data:`PLANES`.
    K: a whole number gives the auxiliary prior every K-th step, any other one in K at random, after the seed.
    weight: of the pull; the paper's 0.025 for 36 views of 256 x 256 pixels, norms over chunks of six, is about 1.
    norm: what ``|A|`` is taken to be; None works it out. With 1 the weight is absolute.
    carry_mean: go on from the predictor's mean, without its noise, as the released code does.
    """

    auxiliary: Denoiser | None = None
    plane: str = "coronal"
    K: float = 2
    weight: float = 1.0
    norm: float | None = None
    carry_mean: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.plane not in PLANES:
            raise ValueError(f"plane must be one of {', '.join(PLANES)}, got {self.plane!r}")
        if not 1 < self.K < math.inf:
            raise ValueError(f"K must be above 1, 2 to take turns, got {self.K}")
        if not self.weight >= 0:
            raise ValueError(f"weight must not be negative, got {self.weight}")
        if self.norm is not None and not self.norm > 0:
            raise ValueError(f"norm must be positive, or None to work it out, got {self.norm}")

    def check(self, prior: SlicePrior, stack: Stack) -> int:
        self.levels(prior)
        return self.steps

    def networks(self) -> tuple[nn.Module, ...]:
        return () if self.auxiliary is None else (self.auxiliary,)

    def across(self, prior: SlicePrior) -> SlicePrior:
        """The prior of the slices across."""
        return SlicePrior(self.auxiliary or prior.model, prior.run, prior.report)

    def levels(self, prior: SlicePrior) -> tuple[Level, ...]:
        """The noise levels, from high to low, within what both priors know; ``ValueError`` where they share none."""
        priors = (prior, self.across(prior))
        low, high = max(self.sigma_min, *(p.lowest for p in priors)), min(self.sigma_max, *(p.highest for p in priors))
        if low >= high:
            raise ValueError(f"the two priors must know common noise levels, got none between {low:g} and {high:g}")
        return geometric_levels(self.steps, low, high, truncated=self.truncated)

    def primary(self, problem: VolumeProblem, index: int) -> bool:
        """Whether a step belongs to the prior of the slices, and not to the auxiliary one."""
        if float(self.K).is_integer():
            return index % int(self.K) != int(self.K) - 1
        return bool(problem.noise.number(index, 3) >= 1 / self.K)

    def chunk_calls(self, problem: VolumeProblem, steps: int) -> int:
        stack, run = problem.stack, problem.prior.run
        own = sum(self.primary(problem, index) for index in range(steps))
        passes = 2 if stack.volumetric else 1
        along, across = (len(run.parts(stack.shape[axis])) for axis in (0, PLANES[self.plane][0]))
        return 2 * (own * passes * along + (steps - own) * across)

    def step(self, problem: VolumeProblem, at: Position, index: int) -> None:
        prior, stack = problem.prior, problem.stack
        level = self.levels(prior)[index]
        if self.primary(problem, index):
            scale = self.weight / self._norm(stack)

            def pulled(x: Tensor) -> tuple[Tensor, Tensor]:
                eps, gradient = guided(prior, stack, x, level.label, whole_chunks=self.whole_chunks)
                return -eps / level.label, scale * gradient

            at.x = self._moved(problem, at.x, index, pulled)
        else:
            axes, across = PLANES[self.plane], self.across(prior)

            def free(x: Tensor) -> tuple[Tensor, Tensor]:
                return -across.eps(x, level.label) / level.label, torch.zeros_like(x)

            x = self._moved(problem, at.x.permute(axes).contiguous(), index, free)
            at.x = x.permute([axes.index(n) for n in range(4)]).contiguous()
            prior.calls += across.calls

    def _moved(
        self, problem: VolumeProblem, x: Tensor, index: int, evaluate: Callable[[Tensor], tuple[Tensor, Tensor]]
    ) -> Tensor:
        """Corrector and predictor; ``evaluate(x)`` gives score and pull."""
        level = self.levels(problem.prior)[index]
        z, z_predictor = (problem.noise(x, index, draw, slice(0, len(x))) for draw in (1, 2))
        score, pull = evaluate(x)
        e = self.length(z, score, problem.prior.run.parts(len(x)))
        x = x + e * score - pull + torch.sqrt(2 * e) * z
        score, pull = evaluate(x)
        G2 = level.sigma**2 - level.previous**2
        mean = x + G2 * score - pull
        return mean if self.carry_mean or index == self.steps - 1 else mean + math.sqrt(G2) * z_predictor

    def _norm(self, stack: Stack) -> float:
        return math.sqrt(stack.norm_squared) if self.norm is None else self.norm

    def chosen(self, stack: Stack) -> dict[str, object]:
        auxiliary = None if self.auxiliary is None else type(self.auxiliary.network).__name__
        return {"norm": self._norm(stack), "auxiliary": auxiliary}
