"""Draws from one image's conditional, a Gaussian around a guess times the likelihood: by Langevin, HMC, or exactly.

Each is a value with ``sample``; whatever changes during a run stays inside the call.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from inverse.samplers.loop import Noise
from inverse.samplers.problem import Problem

__all__ = ["HMC", "MCMC", "Conditional", "Exact", "Langevin"]

SAFE = 0.2  # share of the inverse curvature that is a step's length where none is given


@dataclass(frozen=True, eq=False)
class Conditional:
    """``p(x) ~ exp(-|y - A(x)|^2 / tau^2 - |x - guess|^2 / (2 spread^2))``, in the network's range.

    Attributes
    ----------
    problem: y and A.
    guess: (B, C, H, W).
    spread: standard deviation around the guess.
    tau: sqrt(2) times the standard deviation of the noise in y, as DAPS counts.
    progress: 0 at the first noise level of a run, towards 1 at its last.
    """

    problem: Problem
    guess: Tensor
    spread: float
    tau: float
    progress: float = 0.0

    def gradient(self, x: Tensor) -> Tensor:
        """Of ``log p`` at x."""
        return (self.guess - x) / self.spread**2 - 2 / self.tau**2 * self.problem.gradient(x)

    @property
    def curvature(self) -> float:
        """Of ``-log p`` at the most, where ``|A|`` is one."""
        return 2 / self.tau**2 + 1 / self.spread**2


class MCMC(Protocol):
    """One draw from a conditional."""

    def sample(self, target: Conditional, noise: Noise) -> Tensor:
        """(B, C, H, W), in the network's range."""
        ...


def _step_length(lr: float | None, decay: float, target: Conditional) -> float:
    return SAFE / target.curvature if lr is None else lr * (1 + target.progress * (decay - 1))


def _check(steps: int, lr: float | None, decay: float) -> None:
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    if lr is not None and not 0 < lr < math.inf:
        raise ValueError(f"lr must be positive and finite, or None for a fifth of the inverse curvature, got {lr}")
    if not 0 < decay <= 1:
        raise ValueError(f"decay must lie in (0, 1], got {decay}")


@dataclass(frozen=True, kw_only=True)
class Langevin:
    """``x += lr grad log p(x) + sqrt(2 lr) z`` from the guess, ``steps`` times; any operator.

    ``lr`` is the step at the first noise level and ``decay lr`` that after the last; None takes 0.2 of the inverse
    curvature of ``-log p`` instead, for operators of norm one or so. Steps of a length h widen a direction of curvature c
    by ``1 / sqrt(1 - h c / 2)`` and need ``1 / (h c)`` steps to forget the guess.
    """

    steps: int = 100
    lr: float | None = None
    decay: float = 1.0

    def __post_init__(self) -> None:
        _check(self.steps, self.lr, self.decay)

    def sample(self, target: Conditional, noise: Noise) -> Tensor:
        x, lr = target.guess, _step_length(self.lr, self.decay, target)
        for _ in range(self.steps):
            x = x + lr * target.gradient(x) + math.sqrt(2 * lr) * noise(x)
        return x


@dataclass(frozen=True, kw_only=True)
class HMC:
    """Damped Hamiltonian steps ``v = m v + sqrt(lr) grad log p(x) + sqrt(2 (1 - m)) z``, ``x += sqrt(lr) v``; any operator.

    From the guess, with ``v ~ N(0, 1)``; ``lr`` and ``decay`` as in :class:`Langevin`.
    """

    steps: int = 100
    lr: float | None = None
    decay: float = 1.0
    momentum: float = 0.5

    def __post_init__(self) -> None:
        _check(self.steps, self.lr, self.decay)
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum must lie in [0, 1), got {self.momentum}")

    def sample(self, target: Conditional, noise: Noise) -> Tensor:
        x, root = target.guess, math.sqrt(_step_length(self.lr, self.decay, target))
        v = noise(x)
        for _ in range(self.steps):
            v = self.momentum * v + root * target.gradient(x) + math.sqrt(2 * (1 - self.momentum)) * noise(x)
            x = x + root * v
        return x


@dataclass(frozen=True)
class Exact:
    """The conditional of a linear operator is Gaussian: perturb the guess and y, then solve (Papandreou & Yuille 2010).

    ``x = argmin_u |y + n z2 - A u|^2 / n^2 + |guess + spread z1 - u|^2 / spread^2`` with ``n = tau / sqrt(2)``: one
    proximal step instead of a chain.
    """

    def sample(self, target: Conditional, noise: Noise) -> Tensor:
        problem, n = target.problem, target.tau / math.sqrt(2)
        A, y = problem.linear_operator("Exact"), problem.measured
        z1 = noise(target.guess)
        z2 = torch.complex(noise(y.real), noise(y.imag)) if y.is_complex() else noise(y)
        return A.prox(target.guess + target.spread * z1, y + n * z2, (n / target.spread) ** 2)
