"""From a degraded image to a clean one along the mean-reverting diffusion: IR-SDE's own samplers, and the fast MRS.

Everything is walked on ``y = x - mu``, mu being the degraded image: the shift of the process is then gone, so that any
other sampler serves as well, through :func:`restore`. The network is called as ``network(y, t, mu)``; those of IR-SDE
read the two images side by side, ``torch.cat([y, mu], 1)``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from prior.denoiser import Denoiser
from prior.randomness import MemberNoise
from prior.samplers.loop import Guidance, Progress, Sampler, Step, conditioned, guided
from prior.samplers.multistep import Course, Multistep, check_choice, lowers_last
from prior.schedules import MeanReverting, Schedule
from prior.transition import Transition

__all__ = ["IRSDE", "MRS", "restore", "reverse_mean"]


def restore(sampler: Sampler, model: Denoiser, degraded: Tensor, *, seed: int = 0, progress: Progress | None = None) -> Tensor:
    """What ``degraded`` (B, C, H, W) in [0, 1] may have been: of its shape and range, not clipped, walked from mu + sigma_T z.

    ``sampler`` must not clip, since the walk is on differences, or ``ValueError`` is raised. The same seed gives the same
    images, and member i draws from ``seed + i``. Raises ``TypeError`` unless the model's schedule is
    :class:`~prior.schedules.MeanReverting`.
    """
    _mean_reverting(model.schedule)
    if getattr(sampler, "clip", False):
        raise ValueError(f"sampler must not clip, since it walks on differences of images, got {sampler!r}; set clip=False")
    if degraded.ndim < 2 or not degraded.is_floating_point():
        raise ValueError(
            f"degraded must be (B, C, H, W), floating point in [0, 1], got {degraded.dtype} of {tuple(degraded.shape)}"
        )
    mu, noise = model.to_network(degraded), MemberNoise(seed, len(degraded))
    times = sampler.times(model.schedule)
    y = model.schedule.sigma(times[0]).to(mu) * noise(mu)
    return model.to_image(mu + sampler.walk(conditioned(model, mu), y, times, noise=noise, progress=progress))


def reverse_mean(schedule: MeanReverting, y: Tensor, eps: Tensor, t: Tensor, s: Tensor, *, share: float = 1.0) -> Tensor:
    """``y`` (B, ...) one Euler step earlier, from time ``t`` to ``s``, numbers or (B,) (Luo et al. 2023).

    ``y + h y - 2 share h sigma_inf^2 eps / sigma_t`` with ``h = log(alpha_s / alpha_t)``, the integral of theta; the mean of
    the reverse SDE for a share of 1, the probability flow for a half.
    """
    h, sigma = torch.log(schedule.alpha(s) / schedule.alpha(t)), schedule.sigma(t)
    grown, pulled = ((c.to(y)).view(-1, *[1] * (y.ndim - 1)) for c in (1 + h, 2 * share * schedule.sigma_inf**2 * h / sigma))
    return grown * y - pulled * eps


@dataclass(frozen=True, kw_only=True)
class _MeanRevertingSampler(Sampler):
    """What the samplers of this file share; ``spacing`` None takes equal steps from T to the clean time of IR-SDE."""

    def times(self, schedule: Schedule) -> Tensor:
        """As :meth:`Sampler.times`."""
        if self.spacing is not None or self.steps < 1 or not isinstance(schedule, MeanReverting):
            return super().times(schedule)
        return torch.linspace(schedule.t_max, schedule.clean, self.steps + 1, dtype=torch.float64)

    def restore(self, model: Denoiser, degraded: Tensor, *, seed: int = 0, progress: Progress | None = None) -> Tensor:
        """As :func:`restore`: (B, C, H, W) in [0, 1] from ``degraded``, of that shape and range."""
        return restore(self, model, degraded, seed=seed, progress=progress)


@dataclass(frozen=True, kw_only=True)
class IRSDE(_MeanRevertingSampler):
    """Luo et al. 2023: T steps of the reverse process; N steps cost N network evaluations. Fewer than T take longer steps.

    Parameters
    ----------
    mode: "posterior" draws from ``q(x_s | x_t, x_0)``, whose mean is the optimal reverse state (Luo et al. 2023,
        proposition 3.2), and is the one to use; "sde" and "ode" are Euler steps of the reverse SDE and of the probability
        flow, whose unstable linear part amplifies the network's errors by up to ``1 / eps``.
    """

    steps: int = 100
    mode: str = "posterior"

    def __post_init__(self) -> None:
        check_choice("mode", self.mode, "posterior", "sde", "ode")

    @property
    def stochastic(self) -> bool:
        return self.mode != "ode"

    def step(
        self, model: Denoiser, x: Tensor, t: Tensor, s: Tensor, noise: Tensor | None, guidance: Guidance | None = None
    ) -> Tensor:
        """As :meth:`Sampler.step`, on ``y = x - mu``."""
        schedule = _mean_reverting(model.schedule)
        p = guided(model, model(x, t), t, guidance)
        if self.mode == "ode":
            return reverse_mean(schedule, x, p.eps, t, s, share=0.5)
        if noise is None:
            raise ValueError(f"noise must be given: a step with mode = {self.mode!r} is stochastic")
        if self.mode == "posterior":
            q = Transition.between(schedule, t, s, x)
            return q.mean(p.x0, x) + q.variance.sqrt() * noise
        h = torch.log(schedule.alpha(s) / schedule.alpha(t))
        return reverse_mean(schedule, x, p.eps, t, s) - (schedule.sigma_inf * torch.sqrt(2 * h)).to(x) * noise


@dataclass(frozen=True, kw_only=True)
class MRS(_MeanRevertingSampler, Multistep):
    r"""Li et al. 2025: the exponential integrators of DPM-Solver on ``y = x - mu``; N steps cost N network evaluations.

    With ``lambda = log(alpha / sigma)``, its step h, ``r = h_previous / h``, q the prediction and ``D = (q_i - q_{i-1}) / r``,

        y' = (sigma' / sigma) y - alpha' [(e^-h - 1) q + ((e^-h - 1) / h + 1) D]                    mode ode, data
        y' = (alpha' / alpha) y - sigma' [(e^h - 1) q + ((e^h - 1) / h - 1) D]                      mode ode, noise

    and their stochastic forms. The first step is of first order; the step that arrives at sigma = 0 is the clean image.

    Parameters
    ----------
    order: 1 or 2; 1 drops D.
    mode: "ode" or "sde".
    prediction: what q is, "data" (the clean y, more stable in few steps) or "noise".
    lower_order_final: whether the last step is of first order: "always", "never", or "auto" below 10 steps.
    official: for parity only: lambda between whole times is interpolated by itself, so that h no longer belongs to alpha
        and sigma, and "auto" lowers the last step but one.
    """

    steps: int = 10
    order: int = 2
    mode: str = "ode"
    prediction: str = "data"
    lower_order_final: str = "auto"
    official: bool = False

    def __post_init__(self) -> None:
        check_choice("order", self.order, 1, 2)
        check_choice("mode", self.mode, "ode", "sde")
        check_choice("prediction", self.prediction, "data", "noise")
        check_choice("lower_order_final", self.lower_order_final, "auto", "always", "never")

    @property
    def stochastic(self) -> bool:
        return self.mode == "sde"

    def begin(self, schedule: Schedule, times: Tensor) -> Step:
        return _Walk(self, schedule, times)

    def orders(self, steps: int) -> list[int]:
        """The order of each step of a walk of so many."""
        orders = [1] + [self.order] * (steps - 1)
        if lowers_last(self.lower_order_final, steps):
            orders[-2 if self.official and steps > 1 else -1] = 1
        return orders


class _Walk:
    """The steps of one walk of :class:`MRS`."""

    def __init__(self, sampler: MRS, schedule: Schedule, times: Tensor) -> None:
        self.sampler, self.course = sampler, Course(times)
        self.orders = sampler.orders(len(times) - 1)
        lam = _interpolated_lambda(schedule, times) if sampler.official else 0.5 * schedule.log_snr(times)
        self.alpha, self.sigma = schedule.alpha(times).tolist(), schedule.sigma(times).tolist()
        if sampler.official and not bool(lam.isfinite().all()):
            raise ValueError(f"official needs a finite lambda at every time, got {schedule!r}; use offset=False and end at 0")
        self.h: list[float] = lam.diff().tolist()
        self.earlier: Tensor | None = None

    def __call__(
        self, model: Denoiser, x: Tensor, t: Tensor, s: Tensor, noise: Tensor | None, guidance: Guidance | None = None
    ) -> Tensor:
        """As :meth:`Sampler.step`."""
        i = self.course.advance(x, t, s)
        p = guided(model, model(x, t), t, guidance)
        if self.sigma[i + 1] == 0:
            return self.alpha[i + 1] * p.x0
        q = p.x0 if self.sampler.prediction == "data" else p.eps
        weights = _WEIGHTS[self.sampler.mode, self.sampler.prediction]
        c = weights(self.alpha[i], self.alpha[i + 1], self.sigma[i], self.sigma[i + 1], self.h[i])
        x_next = c.y * x + c.q * q
        if self.orders[i] == 2 and self.earlier is not None:
            x_next = x_next + c.D * (q - self.earlier) * (self.h[i] / self.h[i - 1])
        if self.sampler.stochastic:
            if noise is None:
                raise ValueError("noise must be given: a step with mode = 'sde' is stochastic")
            x_next = x_next + c.z * noise
        self.earlier = q
        return x_next


class _Weights(NamedTuple):
    """Of the state, the prediction, its slope and the noise."""

    y: float
    q: float
    D: float
    z: float = 0.0


def _ode_data(a: float, a_next: float, sigma: float, sigma_next: float, h: float) -> _Weights:
    e = math.expm1(-h)
    return _Weights(sigma_next / sigma, -a_next * e, a_next * (e / h + 1))


def _ode_noise(a: float, a_next: float, sigma: float, sigma_next: float, h: float) -> _Weights:
    e = math.expm1(h)
    return _Weights(a_next / a, -sigma_next * e, -sigma_next * (e / h - 1))


def _sde_data(a: float, a_next: float, sigma: float, sigma_next: float, h: float) -> _Weights:
    e = math.expm1(-2 * h)
    return _Weights(sigma_next / sigma * math.exp(-h), -a_next * e, a_next * (1 + e / (2 * h)), sigma_next * math.sqrt(-e))


def _sde_noise(a: float, a_next: float, sigma: float, sigma_next: float, h: float) -> _Weights:
    y, q, D, _ = _ode_noise(a, a_next, sigma, sigma_next, h)
    return _Weights(y, 2 * q, 2 * D, sigma_next * math.sqrt(math.expm1(2 * h)))


_WEIGHTS: dict[tuple[str, str], Callable[[float, float, float, float, float], _Weights]] = {
    ("ode", "data"): _ode_data,
    ("ode", "noise"): _ode_noise,
    ("sde", "data"): _sde_data,
    ("sde", "noise"): _sde_noise,
}


def _interpolated_lambda(schedule: Schedule, times: Tensor) -> Tensor:
    """lambda of the whole times, linear in between."""
    left = times.floor()
    lower, upper = (0.5 * schedule.log_snr(whole) for whole in (left, times.ceil()))
    return lower + (upper - lower) * (times - left)


def _mean_reverting(schedule: Schedule) -> MeanReverting:
    if not isinstance(schedule, MeanReverting):
        raise TypeError(
            f"model must have a MeanReverting schedule, whose end is the degraded image, got {schedule!r}; "
            "start other models from noise with sampler.sample"
        )
    return schedule
