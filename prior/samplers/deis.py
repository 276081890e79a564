"""DEIS (Zhang & Chen 2023): Adams-Bashforth on the probability flow with its linear part exact."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import prod

import torch
from numpy.polynomial.legendre import leggauss
from torch import Tensor

from prior.samplers.heun import finite_level
from prior.samplers.loop import Step
from prior.samplers.multistep import LinearMultistep, Multistep, check_choice
from prior.schedules import Schedule

__all__ = ["DEIS"]

INTERVALS = 8  # a step, each with its own Gauss-Legendre rule
RULE = leggauss(64)


@dataclass(frozen=True, kw_only=True)
class DEIS(Multistep):
    r"""Zhang & Chen 2023, tAB-DEIS and rhoAB-DEIS (eq. 14 and 15); N steps cost N network evaluations.

    In ``z = x / alpha`` and the noise level rho the probability flow is ``dz/drho = eps``. The noise predicted at this
    and at ``order`` earlier times is extrapolated by its Lagrange polynomial, whose integral is exact:

        x_{i+1} = (alpha_{i+1} / alpha_i) x_i + sum_{j=0..order} C_ij eps_{i-j},
        C_ij = alpha_{i+1} int_{rho_i}^{rho_{i+1}} L_j drho

    The first steps have less history and a lower order; a step that arrives at sigma = 0 returns the clean image.
    The paper's grid is ``quadratic``, for a variance-preserving schedule in continuous time.

    Parameters
    ----------
    variant: "tAB" interpolates in the time, "rhoAB" in the noise level (which must then be finite at every time).
    order: degree of the polynomial, 0 for DDIM; 3 amplifies the network's errors under strong guidance, where 2 is safer.
    """

    steps: int = 20
    variant: str = "tAB"
    order: int = 3

    def __post_init__(self) -> None:
        check_choice("variant", self.variant, "tAB", "rhoAB")
        if self.order < 0:
            raise ValueError(f"order must not be negative, got {self.order}")

    def begin(self, schedule: Schedule, times: Tensor) -> Step:
        return LinearMultistep(times, self.coefficients(schedule, times)[:, 1:], of="eps")

    def coefficients(self, schedule: Schedule, times: Tensor) -> Tensor:
        """C of every step of a walk over ``times``, (N, order + 1), float64, that of the newest noise first."""
        return _coefficients(schedule, tuple(times.tolist()), self.variant, self.order).clone()


@lru_cache(maxsize=64)
def _coefficients(schedule: Schedule, grid: tuple[float, ...], variant: str, order: int) -> Tensor:
    times = torch.tensor(grid, dtype=torch.float64)
    alpha = schedule.alpha(times)
    rho = schedule.level(times) if variant == "tAB" else finite_level(schedule, times)
    u = times if variant == "tAB" else rho
    C = torch.zeros(len(grid) - 1, order + 1, dtype=torch.float64)
    for i in range(len(C)):
        p = min(i, order) if rho[i + 1] > 0 else 0
        if p:
            edges = torch.lerp(u[i], u[i + 1], torch.linspace(0, 1, INTERVALS + 1, dtype=torch.float64))
            levels, weights = _gauss_legendre(schedule.level(edges) if variant == "tAB" else edges)
            at = schedule.time(levels) if variant == "tAB" else levels
            nodes = [u[i - j] for j in range(p + 1)]
            C[i, 1 : p + 1] = alpha[i + 1] * torch.stack([(weights * _lagrange(nodes, j, at)).sum() for j in range(1, p + 1)])
        C[i, 0] = alpha[i + 1] * (rho[i + 1] - rho[i]) - C[i, 1:].sum()  # the polynomials sum to one
    return C


def _gauss_legendre(edges: Tensor) -> tuple[Tensor, Tensor]:
    """Nodes and weights on each interval between neighbouring ``edges``, flattened."""
    nodes, weights = (torch.from_numpy(a) for a in RULE)
    middle, half = (edges[1:] + edges[:-1])[:, None] / 2, edges.diff()[:, None] / 2
    return (middle + half * nodes).flatten(), (half * weights).flatten()


def _lagrange(nodes: list[Tensor], j: int, at: Tensor) -> Tensor:
    """The polynomial that is one at ``nodes[j]`` and zero at the others."""
    return prod(((at - u) / (nodes[j] - u) for m, u in enumerate(nodes) if m != j), start=torch.ones_like(at))
