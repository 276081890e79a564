r"""DDS: decomposed diffusion sampling, a few steps of DDIM whose clean volume takes conjugate gradients (Chung et al. 2024)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import pairwise

from torch import Tensor

from medical.samplers.coupling import Coupling
from medical.samplers.data_step import DataStep, Position
from medical.samplers.slice_prior import SlicePrior
from medical.samplers.stack import Stack
from medical.samplers.volume_sampler import VolumeProblem, VolumeSampler
from prior.grids import grid, karras_levels

__all__ = ["DDS"]


@dataclass(frozen=True, kw_only=True)
class DDS(VolumeSampler):
    """A DDIM step at each noise level, in which the denoised volume is first moved towards the measurement.

    From sigma to sigma', with ``x_0 = x - sigma eps(x)`` of every slice::

        u  <- ADMM-TV from x_0 on |W (y - A u)|^2 / 2 + weight |D u|_1 + anchor |u - x_0|^2 / 2
        x  <- u + sigma' (eta z + sqrt(1 - eta^2) eps)

    Without noise the few steps of conjugate gradients keep u near x_0, and anchor is 0. With noise of the level n,
    ``anchor = n^2 / r^2``, where ``r^2 = sigma^2 spread^2 / (sigma^2 + spread^2)`` is how far x_0 may be off: then u weighs
    measurement against prior as Gaussians do.

    Attributes
    ----------
    steps: network calls a slice.
    sigma_max, sigma_min: noise levels of the first and of the last network call, in units of images, as far as the prior knows
        them; those between are Karras'. What is measured makes higher ones superfluous, but for a prior that is far from it.
    spacing: name of a time grid (:data:`prior.grids.SPACINGS`) over all that the prior knows, or "natural" for that of its
        schedule, instead of these levels.
    eta: share of fresh noise, 0 (none) to 1.
    weight, rho: of TV and its splitting, in units of ``|A|^2``; rho 0 leaves the slices uncoupled.
    iterations: ADMM iterations a level; inner: steps of conjugate gradients in each.
    coupling: the differences, along z by default.
    spread: how much images differ from their mean, in units of images.
    """

    steps: int = 20
    sigma_max: float = 1.0
    sigma_min: float = 0.01
    spacing: str | None = None
    eta: float = 1.0
    weight: float = 1e-4
    rho: float = 0.01
    iterations: int = 1
    inner: int = 20
    coupling: Coupling = field(default_factory=Coupling)
    spread: float = 0.25

    def __post_init__(self) -> None:
        super().__post_init__()
        counts = {"steps": self.steps, "iterations": self.iterations, "inner": self.inner}
        for name, value in counts.items():
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if not 0 < self.sigma_min < self.sigma_max < math.inf:
            raise ValueError(f"0 < sigma_min < sigma_max must hold, got {self.sigma_min} and {self.sigma_max}")
        if not 0 <= self.eta <= 1:
            raise ValueError(f"eta must lie between 0 and 1, got {self.eta}")
        if not (self.weight >= 0 and self.rho >= 0 and self.spread > 0):
            raise ValueError(
                f"weight and rho must not be negative, spread be positive: {self.weight}, {self.rho}, {self.spread}"
            )
        if self.rho == 0 and self.weight > 0:
            raise ValueError(f"rho must be positive with a weight of TV, got rho 0 and weight {self.weight}")

    @classmethod
    def paper(cls, *, steps: int = 50, eta: float = 0.85) -> DDS:
        """The released CT script, for a prior of discrete times: equally spaced ones, and five steps of conjugate gradients."""
        return cls(steps=steps, spacing="leading", eta=eta, rho=0.025, inner=5)

    def check(self, prior: SlicePrior, stack: Stack) -> int:
        return len(self.levels(prior)) - 1

    def levels(self, prior: SlicePrior) -> list[float]:
        """Noise levels of the grid in units of images, the last 0."""
        if self.spacing is not None:
            schedule, name = prior.model.schedule, None if self.spacing == "natural" else self.spacing
            return [float(schedule.level(t)) / prior.scale for t in grid(schedule, self.steps, name)]
        high, low = min(self.sigma_max, prior.highest), max(self.sigma_min, prior.lowest)
        if high <= low:
            raise ValueError(
                f"sigma_max and sigma_min must hold noise levels that the prior knows, {prior.lowest:g} to {prior.highest:g}, "
                f"got {self.sigma_max:g} and {self.sigma_min:g}"
            )
        return [*karras_levels(high, low, self.steps).tolist(), 0.0]

    def start(self, problem: VolumeProblem) -> Position:
        return Position.at(self.levels(problem.prior)[0] * problem.normal(0, 0), self.coupling)

    def step(self, problem: VolumeProblem, at: Position, index: int) -> None:
        sigma, after = list(pairwise(self.levels(problem.prior)))[index]
        x0, eps = self.denoised(problem, at.x, sigma, index)
        x0 = self.data_step(problem.stack)(x0, at, anchor=self.anchor(problem.stack, sigma))
        if after > 0:
            fresh = self.eta * problem.normal(index, 1) if self.eta else 0.0
            x0 = x0 + after * (fresh + math.sqrt(1 - self.eta**2) * eps)
        at.x = x0

    def denoised(self, problem: VolumeProblem, x: Tensor, sigma: float, index: int) -> tuple[Tensor, Tensor]:
        """The clean volume ``x - sigma eps(x)``, and eps."""
        eps = problem.prior.eps(x, sigma)
        return x - sigma * eps, eps

    def data_step(self, stack: Stack) -> DataStep:
        """The ADMM iterations of a level, in the units of this operator."""
        scale = stack.norm_squared
        return DataStep(
            stack=stack, coupling=self.coupling, weight=self.weight * scale, rho=self.rho * scale,
            iterations=self.iterations, inner=self.inner,
        )  # fmt: skip

    def anchor(self, stack: Stack, sigma: float) -> float:
        """``n^2 / r^2``; see the class."""
        return stack.noise**2 * (1 / sigma**2 + 1 / self.spread**2)

    def chosen(self, stack: Stack) -> dict[str, object]:
        return {"norm": math.sqrt(stack.norm_squared)}
