"""iPNDM (Liu et al. 2022; Zhang & Chen 2023): Adams-Bashforth with the weights of a uniform grid."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from prior.samplers.loop import Step
from prior.samplers.momentum import extrapolation
from prior.samplers.multistep import LinearMultistep, Multistep
from prior.schedules import Schedule

__all__ = ["IPNDM"]


@dataclass(frozen=True, kw_only=True)
class IPNDM(Multistep):
    r"""``z_{i+1} = z_i + (rho_{i+1} - rho_i) sum_j c_j eps_{i-j}``, z = x / alpha, with the c of a uniform grid.

    c is [1], [3, -1] / 2, [23, -16, 5] / 12 or [55, -59, 37, -9] / 24 as the history grows (Zhang & Chen 2023, appendix).
    Since no grid is uniform in rho, the error is of second order whatever ``order`` is: :class:`DEIS` takes the grid
    into account. N steps cost N network evaluations; a step that arrives at sigma = 0 returns the clean image.

    Parameters
    ----------
    order: noise predictions combined at most, 1 to 4; 1 is DDIM.
    """

    steps: int = 20
    order: int = 4

    def __post_init__(self) -> None:
        if not 1 <= self.order <= 4:
            raise ValueError(f"order must lie in 1..4, got {self.order}")

    def begin(self, schedule: Schedule, times: Tensor) -> Step:
        rho = schedule.level(times)
        weights = torch.zeros(len(rho) - 1, self.order - 1, dtype=torch.float64)
        for i in range(1, len(weights)):
            if rho[i + 1] > 0:
                c = torch.tensor(extrapolation(min(i + 1, self.order))[1:], dtype=torch.float64)
                weights[i, : len(c)] = schedule.alpha(times[i + 1]) * (rho[i + 1] - rho[i]) * c
        return LinearMultistep(times, weights, of="eps")
