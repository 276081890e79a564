"""Momentum on the probability flow (Wizadwongsa et al. 2024): steadier steps where guidance or few steps make it stiff."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil

from torch import Tensor

from prior.denoiser import Denoiser
from prior.samplers.loop import Guidance, Step, guided
from prior.samplers.multistep import Course, Multistep, combination
from prior.schedules import Schedule

__all__ = ["GHVB", "HB", "Momentum", "Nesterov", "extrapolation"]


def extrapolation(p: int, beta: float = 1.0) -> list[float]:
    """The p weights c of velocities damped by ``beta``, newest first, that sum to one (Wizadwongsa et al. 2024, table 4).

    With ``beta = 1`` those of Adams and Bashforth on a uniform grid.
    """
    b = beta
    numerators, denominator = {
        1: ([1.0], 1.0),
        2: ([2 + b, -(2 - b)], 2 * b),
        3: ([18 + 5 * b, -(24 - 8 * b), 6 - b], 12 * b),
        4: ([46 + 9 * b, -(78 - 19 * b), 42 - 5 * b, -(10 - b)], 24 * b),
        5: ([1650 + 251 * b, -(3420 - 646 * b), 2880 - 264 * b, -(1380 - 106 * b), 270 - 19 * b], 720 * b),
    }[p]
    return [c / denominator for c in numerators]


@dataclass(frozen=True, kw_only=True)
class Momentum(Multistep):
    """What the three share: a history of noise, damped, whose combination ``eps_bar`` steers the DDIM step.

    Parameters
    ----------
    number: the paper's k.b with k = 0..4: order k + 1 and damping beta = 0.b, so that 1.8 is second order with beta 0.8.
        A whole number k = 1..5 is order k without damping. More damping (a smaller b) is steadier and less contrasted.
    """

    steps: int = 20
    number: float = 1.8

    def __post_init__(self) -> None:
        if not 0 < self.number <= 5:
            raise ValueError(f"number must lie in (0, 5], order and damping as in 1.8, got {self.number}")

    @property
    def order(self) -> int:
        """Combined terms at most."""
        return ceil(self.number)

    @property
    def beta(self) -> float:
        """Share of the newest noise in the velocity, in (0, 1]."""
        return self.number % 1 or 1.0

    def velocity(self, velocity: Tensor, new: Tensor) -> Tensor:
        """``v_i = (1 - beta) v_{i-1} + beta new``."""
        return (1 - self.beta) * velocity + self.beta * new


@dataclass(frozen=True, kw_only=True)
class GHVB(Momentum):
    r"""Generalised heavy ball, Wizadwongsa et al. 2024, algorithm 2; N steps cost N network evaluations.

        v_i = (1 - beta) v_{i-1} + beta eps_i,
        z_{i+1} = z_i + (rho_{i+1} - rho_i) sum_j c_j(beta) v_{i-j},      z = x / alpha, v_0 = eps_0

    A step that arrives at sigma = 0 returns the clean image.
    """

    def begin(self, schedule: Schedule, times: Tensor) -> Step:
        velocities: deque[Tensor] = deque(maxlen=self.order)

        def steer(eps: Tensor) -> Tensor:
            velocities.appendleft(self.velocity(velocities[0], eps) if velocities else eps)
            return combination(extrapolation(len(velocities), self.beta), velocities)

        return _Steered(schedule, times, steer)


@dataclass(frozen=True, kw_only=True)
class HB(Momentum):
    r"""Polyak's heavy ball, Wizadwongsa et al. 2024, eq. 7: the Adams-Bashforth combination itself is damped.

        P_i = sum_j c_j(1) eps_{i-j},   v_i = (1 - beta) v_{i-1} + beta P_i,   z_{i+1} = z_i + (rho_{i+1} - rho_i) v_i

    First order whatever ``number`` is, unless that is whole. N steps cost N network evaluations; a step that arrives at
    sigma = 0 returns the clean image.
    """

    def begin(self, schedule: Schedule, times: Tensor) -> Step:
        history: deque[Tensor] = deque(maxlen=self.order)
        v: Tensor | None = None

        def steer(eps: Tensor) -> Tensor:
            nonlocal v
            history.appendleft(eps)
            combined = combination(extrapolation(len(history)), history)
            v = combined if v is None else self.velocity(v, combined)
            return self.direction(v, combined)

        return _Steered(schedule, times, steer)

    def direction(self, v: Tensor, combined: Tensor) -> Tensor:
        """Where the step goes, given the damped and the plain combination."""
        return v


@dataclass(frozen=True, kw_only=True)
class Nesterov(HB):
    """Nesterov's momentum: as :class:`HB`, looking ahead along ``(1 - beta) v_i + beta P_i``."""

    def direction(self, v: Tensor, combined: Tensor) -> Tensor:
        return self.velocity(v, combined)


class _Steered:
    """The steps of one walk: ``x_{i+1} = alpha x0 + sigma eps + alpha (rho_{i+1} - rho_i) (eps_bar - eps)``."""

    def __init__(self, schedule: Schedule, times: Tensor, steer: Callable[[Tensor], Tensor]) -> None:
        self.course, self.steer = Course(times), steer
        scale = schedule.alpha(times[1:]) * schedule.level(times).diff()
        self.scale: list[float] = scale.where(schedule.sigma(times[1:]) > 0, 0.0).tolist()

    def __call__(
        self, model: Denoiser, x: Tensor, t: Tensor, s: Tensor, noise: Tensor | None, guidance: Guidance | None = None
    ) -> Tensor:
        i = self.course.advance(x, t, s)
        p = guided(model, model(x, t), t, guidance)
        eps_bar = self.steer(p.eps)
        alpha, sigma, _ = model.coefficients(x, s)
        ddim = alpha * p.x0 + sigma * p.eps
        return ddim + self.scale[i] * (eps_bar - p.eps) if i else ddim
