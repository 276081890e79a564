r"""DiffusionMBIR: Langevin sampling with a prior of slices, a data step across slices at every level (Chung et al. 2023)."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, field

import torch
from torch import Tensor

from medical.samplers.coupling import Coupling
from medical.samplers.data_step import DataStep, Position
from medical.samplers.langevin import LangevinSampler
from medical.samplers.levels import Level
from medical.samplers.slice_prior import SlicePrior
from medical.samplers.stack import Stack
from medical.samplers.volume_sampler import VolumeProblem

__all__ = ["DiffusionMBIR"]

SAFE = 0.05  # rho over the squared norm of the operator, above which the differences undo the denoising


@dataclass(frozen=True, kw_only=True)
class DiffusionMBIR(LangevinSampler):
    """Predictor and corrector on every slice, then one ADMM-TV iteration on the volume, at each of ``steps`` noise levels.

    At the level sigma_k, with the score ``s(x) = -eps / sigma``::

        x <- x + (sigma_k^2 - sigma_(k-1)^2) s(x) + sqrt(sigma_k^2 - sigma_(k-1)^2) z           predictor
        x <- x + e s(x) + sqrt(2 e) z',    e = 2 (snr |z'| / |s(x)|)^2                          corrector
        x, v, w <- one ADMM iteration on |W (y - A x)|^2 / 2 + weight |D x|_1                   data step

    v and w live through all levels. It costs ``2 steps`` network calls a slice: DDS is some hundred times faster. The data
    step is that of a noiseless measurement: one step of steepest descent; where the noise is known, numbers count as they are
    exact.

    Attributes
    ----------
    weight, rho: of TV and its splitting, in units of ``|A|^2``: the paper's 0.04 and 10 for CT of 256 x 256 pixels.
    norm: what ``|A|`` is taken to be; None works it out. With 1, weight and rho are absolute.
    coupling: the differences, along z by default.
    consistent: end with ``x + A^H (y - A x) / (A^H A 1)``.
    corrector_steps: corrector steps at each level.
    """

    weight: float = 1e-4
    rho: float = 0.025
    norm: float | None = None
    coupling: Coupling = field(default_factory=Coupling)
    consistent: bool = True
    corrector_steps: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.corrector_steps < 1:
            raise ValueError(f"corrector_steps must be at least 1, got {self.corrector_steps}")
        if not (self.weight >= 0 and self.rho >= 0):
            raise ValueError(f"weight and rho must not be negative, got {self.weight} and {self.rho}")
        if self.rho == 0 and self.weight > 0:
            raise ValueError(f"rho must be positive with a weight of TV, got rho 0 and weight {self.weight}")

    @classmethod
    def paper(cls, *, weight: float = 0.04, rho: float = 10.0, consistent: bool = True, steps: int = 2000) -> DiffusionMBIR:
        """The released CT script: absolute weight and rho, differences around the end, norms of chunks, rounded times.

        Run it with ``Run(chunk=12, official_chunks=True)``. For MRI it has weight 0.005, rho 0.01, and is not ``consistent``.
        """
        return cls(
            steps=steps, weight=weight, rho=rho, norm=1.0, coupling=Coupling(periodic=True), consistent=consistent,
            whole_chunks=True, truncated=True,
        )  # fmt: skip

    def check(self, prior: SlicePrior, stack: Stack) -> int:
        if self.norm is None and self.rho > SAFE:
            raise ValueError(
                f"rho must be at most {SAFE:g} of |A|^2, got {self.rho:g}: the differences between slices would undo the "
                "denoising and the run diverge"
            )
        if self.norm is not None and self.rho > SAFE * stack.norm_squared:
            warnings.warn(
                f"rho is {self.rho / stack.norm_squared:.2g} of |A|^2 = {stack.norm_squared:.3g}; above {SAFE:g} the run is "
                "likely to diverge",
                stacklevel=3,
            )
        return self.steps

    @property
    def calls_per_step(self) -> int:  # type: ignore[override]
        return 1 + self.corrector_steps

    def data_step(self, stack: Stack) -> DataStep:
        """One ADMM iteration with one step of conjugate gradients, in the units of this operator."""
        scale = stack.norm_squared if self.norm is None else self.norm**2
        return DataStep(stack=stack, coupling=self.coupling, weight=self.weight * scale, rho=self.rho * scale)

    def start(self, problem: VolumeProblem) -> Position:
        return Position.at(self.levels(problem.prior)[0].label * problem.normal(0, 0), self.coupling)

    def step(self, problem: VolumeProblem, at: Position, index: int) -> None:
        level = self.levels(problem.prior)[index]
        x = self.langevin(problem, at.x, level, index)
        at.x = self.data_step(problem.stack)(x, at)

    def langevin(self, problem: VolumeProblem, x: Tensor, level: Level, index: int) -> Tensor:
        """Predictor, then corrector, of every chunk."""
        prior, G2 = problem.prior, level.sigma**2 - level.previous**2
        prior.calls += self.calls_per_step

        def move(part: slice) -> Tensor:
            z, *correctors = (problem.noise(x[part], index, draw, part) for draw in range(1, self.calls_per_step + 1))
            score = -prior.eps_of(x[part], level.label) / level.label
            moved = x[part] + G2 * score + math.sqrt(G2) * z
            for z in correctors:
                score = -prior.eps_of(moved, level.label) / level.label
                e = self.length(z, score, [slice(None)])
                moved = moved + e * score + torch.sqrt(2 * e) * z
            return moved

        def report() -> None:
            if prior.report is not None:
                for _ in range(self.calls_per_step):
                    prior.report()

        return prior.run.map(move, len(x), done=report)

    def finish(self, problem: VolumeProblem, x: Tensor) -> Tensor:
        if not self.consistent:
            return x
        stack = problem.stack
        seen = stack.normal(torch.ones_like(x))
        gradient = stack.back_projected - stack.normal(x)
        return x + torch.where(seen.abs() > 0, gradient / torch.where(seen.abs() > 0, seen, 1), 0)

    def chosen(self, stack: Stack) -> dict[str, object]:
        return {"norm": math.sqrt(stack.norm_squared) if self.norm is None else self.norm}
