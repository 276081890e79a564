"""Denoising diffusion null-space models: the measured part of every clean image is replaced by the measurement."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from inverse.reconstruction import Trace
from inverse.samplers.ddrm import spectral_step, spectrum_of
from inverse.samplers.loop import Noise, PosteriorSampler
from inverse.samplers.problem import Problem

__all__ = ["DDNM"]


@dataclass(frozen=True, kw_only=True)
class DDNM(PosteriorSampler):
    """Wang, Yu & Zhang, ICLR 2023: ``x0' = A^+ y + (1 - A^+ A) x0`` (eq. 13), then a DDIM step around it (algorithm 1).

    ``x_s = alpha x0' + sigma (sqrt(1 - eta^2) eps + eta z)``, for linear operators. DDNM+ (section 3.3) scales the
    correction and the noise along each singular direction to what noise in y allows, and needs the decomposition.
    Time travel (algorithm 2, after RePaint, Lugmayr et al. 2022) goes back up ``travel_length`` steps, from a multiple of
    it, by noising the last uncorrected x0 again. N steps cost N network evaluations, with time travel those of
    ``network_calls``: about ``N travel_repeat``.

    Attributes
    ----------
    eta: how much of a step's noise is new, from none (0) to all (1).
    plus: whether to take DDNM+; None takes it where the operator's noise is not zero.
    travel_length: steps that one journey back spans.
    travel_repeat: how often each stretch is walked in all; 1 never goes back.
    """

    eta: float = 0.85
    plus: bool | None = None
    travel_length: int = 1
    travel_repeat: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.eta <= 1:
            raise ValueError(f"eta must lie in [0, 1], got {self.eta}")
        for name, value in (("travel_length", self.travel_length), ("travel_repeat", self.travel_repeat)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")

    def check(self, problem: Problem) -> None:
        """Raise ``TypeError`` for a nonlinear operator, and where DDNM+ lacks a singular value decomposition."""
        problem.linear_operator("DDNM")
        if self._plus(problem):
            spectrum_of(problem, "DDNM+")

    def network_calls(self, steps: int) -> int:
        return sum(j > i for i, j in pairwise(self.route(steps)))

    def route(self, steps: int) -> list[int]:
        """Positions in the grid of ``steps`` steps in the order visited, from 0, noise, to ``steps``, the clean image."""
        back, last = self.travel_length, steps - 1
        journeys = {last - i: self.travel_repeat - 1 for i in range(0, steps - back, back)}
        route = [0]
        while route[-1] < steps:
            k = route[-1]
            if journeys.get(k, 0) > 0:
                journeys[k] -= 1
                route += range(k - 1, k - back - 1, -1)
            else:
                route.append(k + 1)
        return route

    def step(self, problem: Problem, x: Tensor, t: Tensor, s: Tensor, noise: Noise) -> Tensor:
        return self.step_and_x0(problem, x, t, s, noise)[0]

    def step_and_x0(self, problem: Problem, x: Tensor, t: Tensor, s: Tensor, noise: Noise) -> tuple[Tensor, Tensor]:
        """The step, and the clean image before its correction."""
        p, z = problem.model(x, t), noise(x)
        if self._plus(problem):
            return spectral_step(problem, p, s, z, eta=self.eta, eta_b=1.0), p.x0
        eps = math.sqrt(1 - self.eta**2) * p.eps + self.eta * z
        return problem.model.noised(self.consistent(problem, p.x0), eps, s), p.x0

    def consistent(self, problem: Problem, x0: Tensor) -> Tensor:
        """``x0 - A^+ (A x0 - y)``, of all images that explain ``y`` the nearest."""
        if problem.spectrum is None:
            return x0 + problem.linear_operator("DDNM").pinv(problem.residual(x0))
        return problem.spectrum.mix((1.0, 0.0, x0), y=1.0)

    def draw(self, problem: Problem, times: Tensor, noise: Noise) -> tuple[Tensor, Trace]:
        x0 = x = self.start(problem, times[0], noise)
        visited = []
        for i, j in pairwise(self.route(len(times) - 1)):
            if j > i:
                x, x0 = self.step_and_x0(problem, x, times[i], times[j], noise)
                visited.append(times[i])
            else:
                x = problem.model.noised(x0, noise(x), times[j])
        levels = problem.model.schedule.level(torch.stack(visited))
        return x, Trace(tuple(torch.stack(visited).tolist()), tuple(levels.tolist()))

    def _plus(self, problem: Problem) -> bool:
        return problem.noise > 0 if self.plus is None else self.plus
