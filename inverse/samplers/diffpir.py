"""DiffPIR: plug-and-play restoration, a denoised image and an exact data step at every noise level."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from inverse.reconstruction import PRIOR_STD
from inverse.samplers.loop import Noise, PosteriorSampler
from inverse.samplers.problem import Problem
from prior.grids import SPACINGS
from prior.schedules import DiscreteVP, Schedule
from prior.transition import Transition

__all__ = ["DiffPIR", "quad"]

LEAST_RHO = 1e-10  # where a flow has no signal left its noise level, and hence 1 / rho, is infinite


def quad(schedule: Schedule, steps: int) -> Tensor:
    """The times ``T - 1 - min(floor(sqrt(k / (steps - 1)) T), T - 1)``, k = 0..steps - 1, then clean: dense near the image.

    The ``quad`` sequence of the authors' code. Raises ``TypeError`` unless time is discrete, and ``ValueError`` for more
    than T / 2 steps, of which some would coincide.
    """
    if not isinstance(schedule, DiscreteVP):
        raise TypeError(f"the quad grid needs a schedule with discrete steps, got {schedule!r}; use uniform, karras or log_snr")
    if not 1 <= steps <= max(1, schedule.T // 2):
        raise ValueError(f"steps must lie in 1..{max(1, schedule.T // 2)} for the quad grid, half of T, got {steps}")
    T = schedule.T
    passed = torch.linspace(0, T**2, steps, dtype=torch.float64).sqrt().floor().clamp(max=T - 1)
    return torch.cat([T - 1 - passed, torch.tensor([schedule.clean], dtype=torch.float64)])


GRIDS: dict[str, Callable[[Schedule, int], Tensor]] = {**SPACINGS, "quad": quad}

PAPER: dict[str, tuple[int, float, float]] = {
    "deblurring": (100, 1.0, 0.1),
    "super-resolution": (100, 1.0, 0.25),
    "inpainting": (20, 1.0, 1.0),
}
"""Steps, lambda and zeta of the authors' configurations; the paper tunes lambda in 1..25 and zeta in 0.1..1."""


@dataclass(frozen=True, kw_only=True)
class DiffPIR(PosteriorSampler):
    r"""Zhu et al. 2023, algorithm 1: half-quadratic splitting along the noise levels, for linear operators.

        x0^ = argmin_u |y - A u|^2 + rho_t |u - D(x_t)|^2,      rho_t = lam (sigma_n / (2 sigma_t / alpha_t))^2
        x_s = alpha_s x0^ + sqrt(1 - zeta) (sqrt(sigma_s^2 - e^2) eps^ + e z1) + sqrt(zeta) sigma_s z2

    with D the denoised image, ``eps^ = (x_t - alpha_t x0^) / sigma_t``, and ``e`` the share ``eta`` of the deviation of
    q(x_s | x_t, x_0). N steps cost N network evaluations, none of which is differentiated. Of the authors' code this
    differs in e, whose beta there is that of one training step, and in the end, see ``stop_noisy``. Under a Gaussian prior
    the draws have the posterior's mean with ``lam = 4, zeta = 1``, and half its variance: the data step itself draws nothing.

    Attributes
    ----------
    steps, spacing: of the time grid; the spacings of :data:`prior.grids.SPACINGS` and ``quad``, the authors' own; None
        takes quad where time is discrete, else karras.
    lam: weight of the denoised image; 4 weighs it as N(D, (sigma_t / alpha_t)^2). The authors give sigma_n for images in
        [0, 1] and sigma_t for [-1, 1], hence the 2.
    zeta: share of fresh noise in each step, 0 to 1; less than 1 needs a fine grid, or noise stays in what is not measured.
    eta: share of DDIM's noise in the rest, 0 to 1.
    clip: clamp the denoised image to the data's range before the data step.
    noise_floor: noise below it, in [0, 1] images, counts as that.
    stop_noisy: end at the grid's last noisy time with x as it is, one evaluation fewer, as the authors do; by default the
        last step arrives at the clean image.
    """

    lam: float = 4.0
    zeta: float = 1.0
    eta: float = 0.0
    clip: bool = True
    noise_floor: float = 0.001
    stop_noisy: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.spacing is not None and self.spacing not in GRIDS:
            raise ValueError(f"spacing must be one of {', '.join(GRIDS)}, got {self.spacing!r}")
        if not 0 < self.lam < float("inf"):
            raise ValueError(f"lam must be positive and finite, got {self.lam}")
        for name in ("zeta", "eta"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in [0, 1], got {getattr(self, name)}")
        if not self.noise_floor > 0:
            raise ValueError(f"noise_floor must be positive, got {self.noise_floor}")
        if self.stop_noisy and self.steps < 2:
            raise ValueError(f"steps must be at least 2 to stop at a noisy time after the first, got {self.steps}")

    @classmethod
    def paper(cls, task: str, *, samples: int = 1) -> DiffPIR:
        """The authors' settings for a ``task`` of ``PAPER``: deblurring, super-resolution or inpainting."""
        if task not in PAPER:
            raise ValueError(f"task must be one of {', '.join(PAPER)}, got {task!r}")
        steps, lam, zeta = PAPER[task]
        return cls(steps=steps, spacing="quad", samples=samples, lam=lam, zeta=zeta)

    def check(self, problem: Problem) -> None:
        problem.linear_operator("DiffPIR")

    def times(self, schedule: Schedule) -> Tensor:
        natural = "quad" if isinstance(schedule, DiscreteVP) else "karras"
        times = GRIDS[self.spacing or natural](schedule, self.steps)
        return times[:-1] if self.stop_noisy else times

    def start(self, problem: Problem, t: Tensor, noise: Noise) -> Tensor:
        """A data step from grey, against the spread of a photograph's pixels, noised to the first time."""
        A, measured = problem.linear_operator("DiffPIR"), problem.measured
        grey = torch.full(problem.shape, sum(problem.model.data_range) / 2, dtype=measured.real.dtype, device=measured.device)
        rho = max(self.sigma_n(problem) / (problem.scale * PRIOR_STD), 1e-3) ** 2
        x = A.prox(grey, measured, rho)
        return problem.model.noised(x, noise(x), t)

    def step(self, problem: Problem, x: Tensor, t: Tensor, s: Tensor, noise: Noise) -> Tensor:
        model = problem.model
        p = model(x, t)
        x0 = p.x0.clamp(*model.data_range) if self.clip else p.x0
        x0 = problem.prox(x0, self.rho(problem, t))
        alpha, sigma, _ = model.coefficients(x, s)
        if float(s) == model.schedule.clean:
            return alpha * x0
        eps = (x - p.alpha * x0) / p.sigma
        if self.eta > 0:
            e = self.eta * Transition.between(model.schedule, t, s, x).variance.sqrt()
            kept = (sigma**2 - e**2).clamp(min=0).sqrt() * eps + e * noise(x)
        else:
            kept = sigma * eps
        x_s = alpha * x0 + (1 - self.zeta) ** 0.5 * kept
        return x_s + self.zeta**0.5 * sigma * noise(x) if self.zeta > 0 else x_s

    def sigma_n(self, problem: Problem) -> float:
        """Standard deviation of the noise in network units, no less than the floor."""
        return max(problem.noise, self.noise_floor * problem.scale)

    def rho(self, problem: Problem, t: float | Tensor) -> float:
        """Weight of the denoised image at time ``t`` against the data."""
        return max(self.lam * (self.sigma_n(problem) / (2 * float(problem.model.schedule.level(t)))) ** 2, LEAST_RHO)
