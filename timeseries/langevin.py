"""Gradient descent, Langevin and Hamiltonian dynamics on an energy whose gradient is noisy."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from timeseries.diffusion import Noise

__all__ = ["Descent", "Hamiltonian", "Langevin", "Underdamped"]

Gradient = Callable[[Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class Descent:
    """ML: ``y - lr dE/dy``, to the most likely series.

    Attributes
    ----------
    lr: the step, positive.
    """

    lr: float = 0.1

    def __post_init__(self) -> None:
        _positive(lr=self.lr)

    def step(self, gradient: Gradient, y: Tensor, noise: Noise) -> Tensor:
        """One step from y (P, L, C)."""
        return y - self.lr * gradient(y)


@dataclass(frozen=True, kw_only=True)
class Langevin:
    """LMC, overdamped: ``y - eta dE/dy + sqrt(2 eta) noise_scale xi``, to series of density ``exp(-E / noise_scale^2)``.

    The paper writes ``sqrt(2 eta gamma)``: gamma is the square of ``noise_scale``.

    Attributes
    ----------
    eta: the step, positive.
    noise_scale: at least 0; 0 is :class:`Descent`, but for a draw.
    """

    eta: float = 0.1
    noise_scale: float = 0.1

    def __post_init__(self) -> None:
        _positive(eta=self.eta)
        if not 0 <= self.noise_scale < math.inf:
            raise ValueError(f"noise_scale must be finite and at least 0, got {self.noise_scale}")

    def step(self, gradient: Gradient, y: Tensor, noise: Noise) -> Tensor:
        """One step from y (P, L, C); xi is drawn after the gradient."""
        force = gradient(y)
        return y - self.eta * force + math.sqrt(2 * self.eta) * self.noise_scale * noise(y)


@dataclass(frozen=True, kw_only=True)
class Hamiltonian:
    """HMC without the Metropolis test: a fresh momentum ``p ~ N(0, mass)``, then leapfrogs of step h,

        p <- p - h/2 dE/dy;    y <- y + h p / mass;    p <- p - h/2 dE/dy.

    Attributes
    ----------
    h: the step, positive.
    mass: positive.
    leapfrogs: of one iteration, two gradients each.
    """

    h: float = 0.025
    mass: float = 1.0
    leapfrogs: int = 5

    def __post_init__(self) -> None:
        _positive(h=self.h, mass=self.mass)
        if self.leapfrogs < 1:
            raise ValueError(f"leapfrogs must be at least 1, got {self.leapfrogs}")

    def step(self, gradient: Gradient, y: Tensor, noise: Noise) -> Tensor:
        """One iteration from y (P, L, C); draws the momentum first."""
        return self.leap(gradient, y, math.sqrt(self.mass) * noise(y))[0]

    def leap(self, gradient: Gradient, y: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
        """``(y, p)`` after all leapfrogs; each evaluates both of its gradients, since a gradient is never twice the same."""
        for _ in range(self.leapfrogs):
            p = p - self.h / 2 * gradient(y)
            y = y + self.h * p / self.mass
            p = p - self.h / 2 * gradient(y)
        return y, p


@dataclass(frozen=True, kw_only=True)
class Underdamped(Hamiltonian):
    """UDLD: the leapfrogs of :class:`Hamiltonian` between two half steps of friction and noise on the momentum,

        p <- (p - k p + sqrt(h/2) sigma xi) / (1 + k),    k = (h/2) c / 2,  c = friction / mass,  sigma = sqrt(2 friction).

    The momentum being fresh in each iteration, the second half step has no effect.

    Attributes
    ----------
    friction: at least 0.
    """

    friction: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.friction < math.inf:
            raise ValueError(f"friction must be finite and at least 0, got {self.friction}")

    @classmethod
    def critical(cls, *, h: float = 0.025, mass: float = 1.0, leapfrogs: int = 5) -> Underdamped:
        """CDLD: friction ``sqrt(4 mass)``, the least at which a unit oscillator does not swing."""
        _positive(mass=mass)
        return cls(h=h, mass=mass, leapfrogs=leapfrogs, friction=math.sqrt(4 * mass))

    def step(self, gradient: Gradient, y: Tensor, noise: Noise) -> Tensor:
        """One iteration from y (P, L, C); draws momentum, xi, what the gradients need, xi."""
        p = self.rub(math.sqrt(self.mass) * noise(y), noise)
        y, p = self.leap(gradient, y, p)
        noise(p)  # of the second half step, whose momentum nobody reads
        return y

    def rub(self, p: Tensor, noise: Noise) -> Tensor:
        """The midpoint rule of friction and noise over h/2."""
        k = self.h / 4 * self.friction / self.mass
        return ((1 - k) * p + math.sqrt(self.h / 2) * math.sqrt(2 * self.friction) * noise(p)) / (1 + k)


def _positive(**values: float) -> None:
    for name, value in values.items():
        if not 0 < value < math.inf:
            raise ValueError(f"{name} must be positive and finite, got {value}")
