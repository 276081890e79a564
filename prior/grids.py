"""Time grids: the times a sampler visits, from noisy to clean.

Every grid takes a schedule and a number of steps and returns ``steps + 1`` times, float64, in the order visited; the
last is ``schedule.clean``, so that a sampler walks over consecutive pairs. ``grid(schedule, steps, spacing)`` looks a
grid up by name in ``SPACINGS``.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from prior.schedules import VP, DiscreteVP, Schedule

__all__ = [
    "SPACINGS",
    "finite_ends",
    "grid",
    "karras",
    "karras_levels",
    "leading",
    "log_snr",
    "natural",
    "quadratic",
    "trailing",
    "uniform",
]


def _ended(schedule: Schedule, times: Tensor) -> Tensor:
    return torch.cat([times, torch.tensor([schedule.clean], dtype=torch.float64)])


def _linspace(start: float, end: float, steps: int) -> Tensor:
    return torch.linspace(start, end, steps, dtype=torch.float64)


def uniform(schedule: Schedule, steps: int) -> Tensor:
    """Equal steps in time from ``t_max`` to ``t_min``."""
    return _ended(schedule, _linspace(schedule.t_max, schedule.t_min, steps))


def quadratic(schedule: Schedule, steps: int) -> Tensor:
    """Equal steps in the square root of time: more of them near the clean end (Song et al. 2021, DDIM, appendix D.2)."""
    times = _linspace(schedule.t_max**0.5, schedule.t_min**0.5, steps) ** 2
    return _ended(schedule, times.clamp(schedule.t_min, schedule.t_max))


def karras(schedule: Schedule, steps: int, rho: float = 7.0) -> Tensor:
    """Equal steps in the noise level to the power 1 / rho (Karras et al. 2022, eq. 5)."""
    high, low = (float(schedule.level(t)) for t in finite_ends(schedule))
    return _ended(schedule, schedule.time(karras_levels(high, low, steps, rho)))


def karras_levels(high: float, low: float, steps: int, rho: float = 7.0) -> Tensor:
    """The noise levels of :func:`karras` from ``high`` to ``low``, both included: ``steps`` of them, float64."""
    return _linspace(high ** (1 / rho), low ** (1 / rho), steps) ** rho


def log_snr(schedule: Schedule, steps: int) -> Tensor:
    """Equal steps in the log signal-to-noise ratio (Lu et al. 2022, DPM-Solver)."""
    high, low = (float(schedule.log_snr(t)) for t in finite_ends(schedule))
    return _ended(schedule, schedule.time(torch.exp(-0.5 * _linspace(high, low, steps))))


def finite_ends(schedule: Schedule) -> tuple[float, float]:
    """The first and the last time between which noise levels are finite; a flow has no signal left at ``t_max``."""
    start = schedule.t_max
    if not torch.isfinite(schedule.level(start)):
        start = schedule.t_max - schedule.t_min
    return start, schedule.t_min


def leading(schedule: Schedule, steps: int) -> Tensor:
    """``range(0, T, T // steps)`` backwards, as DDIM and RED-Diff count.

    ``steps`` that do not divide T give more steps than asked for (300 of 1000 gives 334), and the last time T-1 is
    visited only when ``steps`` is T.
    """
    T = _discrete(schedule, "leading", steps)
    return _ended(schedule, torch.arange(0, T, T // steps, dtype=torch.float64).flip(0))


def trailing(schedule: Schedule, steps: int) -> Tensor:
    """``T - 1`` backwards in strides of ``T / steps``, rounded: always starts from pure noise (Lin et al. 2024)."""
    T = _discrete(schedule, "trailing", steps)
    return _ended(schedule, torch.round(T - torch.arange(steps, dtype=torch.float64) * (T / steps)) - 1)


def _discrete(schedule: Schedule, name: str, steps: int) -> int:
    if not isinstance(schedule, DiscreteVP):
        raise TypeError(
            f"the {name} grid needs a schedule with discrete steps, got {schedule!r}; use uniform, karras or log_snr"
        )
    if steps > schedule.T:
        raise ValueError(f"steps must be at most T = {schedule.T}, got {steps}")
    return schedule.T


SPACINGS: dict[str, Callable[[Schedule, int], Tensor]] = {
    f.__name__: f for f in (uniform, quadratic, karras, log_snr, leading, trailing)
}


def natural(schedule: Schedule) -> str:
    """The spacing that suits a schedule: whole times where time is discrete, small last steps where it is continuous.

    With :class:`VP`, ten steps to a mixture of Gaussians err 1.5 (DDIM) to 4 times (DEIS) less with quadratic than with
    karras.
    """
    if isinstance(schedule, DiscreteVP):
        return "trailing"
    return "quadratic" if isinstance(schedule, VP) else "karras"


def grid(schedule: Schedule, steps: int, spacing: str | None = None) -> Tensor:
    """The grid called ``spacing``: ``steps + 1`` times, float64, decreasing, ending at ``schedule.clean``.

    None takes trailing where time is discrete, quadratic for VP and SubVP, else karras. Raises ``ValueError`` for fewer than
    one step or an unknown spacing, ``TypeError`` where the schedule has no such grid.
    """
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    spacing = natural(schedule) if spacing is None else spacing
    if spacing not in SPACINGS:
        raise ValueError(f"spacing must be one of {', '.join(SPACINGS)}, got {spacing!r}")
    return SPACINGS[spacing](schedule, steps)
