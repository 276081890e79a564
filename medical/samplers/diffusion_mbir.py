r"""DiffusionMBIR: Langevin sampling with a prior of slices, a data step across slices at every level (Chung et al. 2023)."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, field

import torch
from torch import Tensor

from medical.samplers.coupling import Coupling
from medical.samplers.data_step import DataStep, Position
from medical.samplers.levels import Level, geometric_levels
from medical.samplers.slice_prior import SlicePrior
from medical.samplers.stack import Stack
from medical.samplers.volume_sampler import VolumeProblem, VolumeSampler

__all__ = ["DiffusionMBIR"]

SAFE = 0.05  # rho over the squared norm of the operator, above which the differences undo the denoising


@dataclass(frozen=True, kw_only=True)
class DiffusionMBIR(VolumeSampler):
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
    steps: noise levels, geometric from ``sigma_max`` to ``sigma_min``, as far as the prior knows them.
    sigma_min, sigma_max: in units of images.
    snr: signal-to-noise ratio of the corrector.
    weight, rho: of TV and its splitting, in units of ``|A|^2``: the paper's 0.04 and 10 for CT of 256 x 256 pixels.
    norm: what ``|A|`` is taken to be; None works it out. With 1, weight and rho are absolute.
    coupling: the differences, along z by default.
    consistent: end with ``x + A^H (y - A x) / (A^H A 1)``.
    whole_chunks: norms of the corrector are means over a chunk, and not each slice's own.
    truncated: take times and levels as the official code does, which rounds some of 2000 levels to their neighbours.
    """

    steps: int = 2000
    sigma_min: float = 0.01
    sigma_max: float = 378.0
    snr: float = 0.16
    weight: float = 1e-4
    rho: float = 0.025
    norm: float | None = None
    coupling: Coupling = field(default_factory=Coupling)
    consistent: bool = True
    whole_chunks: bool = False
    truncated: bool = False

    calls_per_step = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps < 2:
            raise ValueError(f"steps must be at least 2, got {self.steps}")
        if not 0 < self.sigma_min < self.sigma_max < math.inf:
            raise ValueError(f"0 < sigma_min < sigma_max must hold, got {self.sigma_min} and {self.sigma_max}")
        if not (self.snr > 0 and self.weight >= 0 and self.rho >= 0):
            raise ValueError(f"snr must be positive, weight and rho not negative, got {self.snr}, {self.weight}, {self.rho}")
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

    def levels(self, prior: SlicePrior) -> list[Level]:
        """The noise levels, from high to low, within what the prior knows."""
        low, high = max(self.sigma_min, prior.lowest), min(self.sigma_max, prior.highest)
        return geometric_levels(self.steps, low, high, truncated=self.truncated)

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
        prior.calls += 2

        def move(part: slice) -> Tensor:
            z, corrected = (problem.noise(x[part], index, draw, part) for draw in (1, 2))
            score = -prior.eps_of(x[part], level.label) / level.label
            moved = x[part] + G2 * score + math.sqrt(G2) * z
            if prior.report is not None:
                prior.report()
            score = -prior.eps_of(moved, level.label) / level.label
            e = 2 * (self.snr * self._ratio(corrected, score)) ** 2
            return moved + e * score + torch.sqrt(2 * e) * corrected

        return prior.run.map(move, len(x), done=prior.report)

    def _ratio(self, z: Tensor, score: Tensor) -> Tensor:
        """``|z| / |score|`` of each slice, or the ratio of their means over the chunk."""
        norms = torch.stack([torch.linalg.vector_norm(v.flatten(1), dim=1) for v in (z, score)])
        z_norm, score_norm = norms.mean(1, keepdim=True) if self.whole_chunks else norms
        return (z_norm / score_norm).view(-1, *[1] * (z.ndim - 1))

    def finish(self, problem: VolumeProblem, x: Tensor) -> Tensor:
        if not self.consistent:
            return x
        stack = problem.stack
        seen = stack.normal(torch.ones_like(x))
        gradient = stack.back_projected - stack.normal(x)
        return x + torch.where(seen.abs() > 0, gradient / torch.where(seen.abs() > 0, seen, 1), 0)

    def chosen(self, stack: Stack) -> dict[str, object]:
        return {"norm": math.sqrt(stack.norm_squared) if self.norm is None else self.norm}
