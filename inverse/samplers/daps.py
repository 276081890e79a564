"""DAPS: decoupled annealing; at every noise level a clean image is guessed, drawn again given y, and noised anew."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from inverse.samplers.loop import Noise, PosteriorSampler
from inverse.samplers.mcmc import MCMC, Conditional, Exact, Langevin
from inverse.samplers.problem import Problem
from prior.denoiser import Denoiser
from prior.schedules import Schedule

__all__ = ["DAPS", "poly7"]

PAPER: dict[str, tuple[Langevin, float]] = {
    "super-resolution": (Langevin(lr=1e-4, decay=0.01), 0.01),
    "gaussian-deblurring": (Langevin(lr=1e-4, decay=0.01), 0.01),
    "motion-deblurring": (Langevin(lr=5e-5, decay=0.01), 0.01),
    "random-inpainting": (Langevin(lr=1e-4, decay=0.01), 0.01),
    "box-inpainting": (Langevin(lr=5e-5, decay=0.01), 0.01),
    "phase-retrieval": (Langevin(lr=5e-5, decay=0.01), 0.02),
    "nonlinear-deblurring": (Langevin(steps=200, lr=1e-5, decay=0.01), 0.01),
    "overexposure": (Langevin(lr=2e-5, decay=0.01), 0.01),
}
"""The authors' chains and tau, for noise of standard deviation 0.05 on images in [-1, 1]. Only phases they retrieve in
[0, 1], where it is noise of 0.05 and their tau of 0.01 is 0.02 in the network's range."""


def poly7(high: float, low: float, steps: int) -> Tensor:
    """``steps + 1`` noise levels from ``high`` to ``low``, in equal steps of their seventh root (Karras et al. 2022, eq. 5)."""
    return torch.linspace(high ** (1 / 7), low ** (1 / 7), steps + 1, dtype=torch.float64) ** 7


@dataclass(frozen=True, kw_only=True)
class DAPS(PosteriorSampler):
    r"""Zhang et al. 2024, algorithm 1, for any operator (a differentiable one, if it is not linear). At a noise level sigma:

        x0hat = flow of dx / dsigma = (x - D(x, sigma)) / sigma from sigma down to ``ode_end``, by Euler steps
        x0    ~ exp(-|y - A(x0)|^2 / tau^2 - |x0 - x0hat|^2 / (2 r^2)),   r = sigma s / sqrt(sigma^2 + s^2)
        x     = x0 + sigma_next z

    N steps cost ``N ode_steps`` network evaluations, none of which is differentiated. Levels, tau and spread are in the
    network's range, and any schedule is walked through its noise levels.

    By default x0hat is the denoised image, and x0 is drawn exactly where the operator is linear: under a Gaussian prior of
    deviation s these are draws from the posterior. :meth:`paper` is DAPS-1k, with the flow's image and ``r = sigma``. Were
    its chain to reach its target, the draws would be too wide (slowly annealed, as if the prior's variance were up to
    twice as large); its short steps keep them close to x0hat.

    Attributes
    ----------
    steps: noise levels visited.
    spacing: None takes equal steps of the seventh root between ``levels``; or a name in :data:`prior.grids.SPACINGS`.
    levels: the highest noise level, and the lowest, which is next after the last one visited; kept within the schedule's.
    ode_steps: Euler steps of the flow, on a grid of its own with equal steps of the seventh root.
    ode_end: noise level at which it ends; 0 lets the last step go on to the denoised image, so that a single step is D.
    spread: s, the deviation of the prior around what the network sees: 0.15 gave photographs an honest spread; None for
        ``r = sigma``.
    mcmc: ``Langevin``, ``HMC`` or, for linear operators, ``Exact``; None takes Exact where the operator is linear, else
        Langevin.
    tau: sqrt(2) times the noise's standard deviation, since the square in the density has no half; None takes it from
        the operator, noise below ``noise_floor`` (in [0, 1] images) counting as that.
    warm_start: begin with the back-projection, noised to the first level, rather than with noise alone: with low
        ``levels``, a refinement of an answer that is already near, as of a phase retrieval.
    """

    steps: int = 100
    levels: tuple[float, float] = (100.0, 0.02)
    ode_steps: int = 1
    ode_end: float = 0.0
    spread: float | None = 0.15
    mcmc: MCMC | None = None
    tau: float | None = None
    noise_floor: float = 0.002
    warm_start: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.levels) != 2 or not 0 < self.levels[1] < self.levels[0] < math.inf:
            raise ValueError(f"levels must be two positive numbers, the highest first, got {self.levels}")
        if self.ode_steps < 1:
            raise ValueError(f"ode_steps must be at least 1, got {self.ode_steps}")
        if not 0 <= self.ode_end < self.levels[1]:
            raise ValueError(f"ode_end must be at least 0 and below the lowest level {self.levels[1]}, got {self.ode_end}")
        for name in ("spread", "tau"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{name} must be positive and finite, or None, got {value}")
        if not self.noise_floor > 0:
            raise ValueError(f"noise_floor must be positive, got {self.noise_floor}")

    @classmethod
    def paper(cls, task: str, *, samples: int = 1) -> DAPS:
        """DAPS-1k with the authors' chain and tau for a ``task`` of ``PAPER``, such as super-resolution or phase-retrieval."""
        if task not in PAPER:
            raise ValueError(f"task must be one of {', '.join(PAPER)}, got {task!r}")
        mcmc, tau = PAPER[task]
        return cls(
            steps=200, levels=(100.0, 0.1), ode_steps=5, ode_end=0.01, spread=None, mcmc=mcmc, tau=tau, samples=samples
        )  # fmt: skip

    def check(self, problem: Problem) -> None:
        if isinstance(self.mcmc, Exact) and not problem.linear:
            raise TypeError(f"mcmc=Exact() needs a linear operator, got {problem.A!r}; Langevin() and HMC() take any")

    def network_calls(self, steps: int) -> int:
        return steps * self.ode_steps

    def times(self, schedule: Schedule) -> Tensor:
        if self.spacing is not None:
            return super().times(schedule)
        levels = poly7(*self._ends(schedule), self.steps)[:-1]
        return torch.cat([schedule.time(levels), torch.tensor([schedule.clean], dtype=torch.float64)])

    def _ends(self, schedule: Schedule) -> tuple[float, float]:
        highest, lowest = float(schedule.level(schedule.t_max)), float(schedule.level(schedule.t_min))
        return min(self.levels[0], highest), max(self.levels[1], lowest)

    def start(self, problem: Problem, t: Tensor, noise: Noise) -> Tensor:
        if not self.warm_start:
            return super().start(problem, t, noise)
        x0 = problem.back_projected
        return problem.model.noised(x0, noise(x0), t)

    def step(self, problem: Problem, x: Tensor, t: Tensor, s: Tensor, noise: Noise) -> Tensor:
        schedule = problem.model.schedule
        mcmc = self.mcmc or (Exact() if problem.linear else Langevin())
        x0 = mcmc.sample(self.conditional(problem, self.guess(problem.model, x, t), t), noise)
        if not bool(torch.isfinite(x0).all()):
            raise FloatingPointError(
                f"DAPS met NaN or infinite values at the step of t = {float(t):g}, noise level {float(schedule.level(t)):g}, "
                f"with mcmc={mcmc!r}; a smaller lr or a larger tau keeps the chain stable"
            )
        if float(s) == schedule.clean:
            return x0
        return problem.model.noised(x0, noise(x0), s)

    def guess(self, model: Denoiser, x: Tensor, t: Tensor) -> Tensor:
        """``x0hat`` (B, C, H, W), from x at time ``t``, in ``ode_steps`` network evaluations."""
        schedule = model.schedule
        level = float(schedule.level(t))
        levels = poly7(level, min(level, self.ode_end or float(schedule.level(schedule.t_min))), self.ode_steps)
        if self.ode_end == 0:
            levels[-1] = 0
        x = x / schedule.alpha(t).to(x)
        for high, low in pairwise(levels):
            time = schedule.time(high)
            p = model(schedule.alpha(time).to(x) * x, time)
            x = x + (low / high - 1).to(x) * (x - p.x0)
        return x

    def conditional(self, problem: Problem, guess: Tensor, t: float | Tensor) -> Conditional:
        """What x0 is drawn from at time ``t``, around ``guess``."""
        level = float(problem.model.schedule.level(t))
        high, low = self._ends(problem.model.schedule)
        passed = (high ** (1 / 7) - level ** (1 / 7)) / (high ** (1 / 7) - low ** (1 / 7))  # k / steps at the k-th level
        progress = min(max(passed, 0.0), 1.0) * self.steps / (self.steps + 1)
        tau = self.tau or math.sqrt(2) * max(problem.noise, self.noise_floor * problem.scale)
        spread = level if self.spread is None else level * self.spread / math.hypot(self.spread, level)
        return Conditional(problem, guess, spread, tau, progress)
