"""Runge-Kutta steps on the probability flow in the noise level: rhoRK-DEIS (Zhang & Chen 2023)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from prior.denoiser import Denoiser
from prior.samplers.heun import finite_level, slope
from prior.samplers.loop import Guidance, Sampler
from prior.samplers.multistep import combination

__all__ = ["TABLEAUX", "RungeKutta", "Tableau"]


class Tableau(NamedTuple):
    """Butcher's: the weights of earlier slopes in each later stage, and those of all stages in the step."""

    stages: tuple[tuple[float, ...], ...]
    weights: tuple[float, ...]


TABLEAUX: dict[str, Tableau] = {
    "euler": Tableau((), (1,)),
    "heun": Tableau(((1,),), (1 / 2, 1 / 2)),
    "kutta3": Tableau(((1 / 2,), (-1, 2)), (1 / 6, 2 / 3, 1 / 6)),
    "heun3": Tableau(((1 / 3,), (0, 2 / 3)), (1 / 4, 0, 3 / 4)),
    "houwen3": Tableau(((8 / 15,), (1 / 4, 5 / 12)), (1 / 4, 0, 3 / 4)),
    "ralston3": Tableau(((1 / 2,), (0, 3 / 4)), (2 / 9, 1 / 3, 4 / 9)),
    "ssprk3": Tableau(((1,), (1 / 4, 1 / 4)), (1 / 6, 1 / 6, 2 / 3)),
    "rk4": Tableau(((1 / 2,), (0, 1 / 2), (0, 0, 1)), (1 / 6, 1 / 3, 1 / 3, 1 / 6)),
}
"""The methods by name; the digit is the order, that of euler is 1 and of heun 2."""


@dataclass(frozen=True, kw_only=True)
class RungeKutta(Sampler):
    """An explicit Runge-Kutta method for ``dz/drho = eps``, z = x / alpha, rho the noise level (Zhang & Chen 2023, rhoRK).

    A step costs as many network evaluations as the method has stages; one that arrives at sigma = 0 costs one and
    returns the clean image. N steps to a clean image with S stages cost ``S (N - 1) + 1``.

    Parameters
    ----------
    method: a name in ``TABLEAUX``.
    """

    steps: int = 10
    spacing: str | None = "karras"
    method: str = "kutta3"

    def __post_init__(self) -> None:
        if self.method not in TABLEAUX:
            raise ValueError(f"method must be one of {', '.join(TABLEAUX)}, got {self.method!r}")

    @property
    def stochastic(self) -> bool:
        return False

    def step(
        self, model: Denoiser, x: Tensor, t: Tensor, s: Tensor, noise: Tensor | None, guidance: Guidance | None = None
    ) -> Tensor:
        """As :meth:`Sampler.step`; ``t`` and ``s`` are numbers, the same for all members."""
        schedule, tableau = model.schedule, TABLEAUX[self.method]
        rho, rho_next = finite_level(schedule, t), schedule.level(s)
        z, h = x / schedule.alpha(t).to(x), rho_next - rho
        slopes = [slope(model, z, t, guidance)]
        if rho_next == 0:
            return schedule.alpha(s).to(x) * (z + h.to(x) * slopes[0])
        for row in tableau.stages:
            at = s if sum(row) == 1 else schedule.time(rho + sum(row) * h)
            slopes.append(slope(model, z + h.to(x) * combination(row, slopes), at, guidance))
        return schedule.alpha(s).to(x) * (z + h.to(x) * combination(tableau.weights, slopes))
