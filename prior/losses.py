"""Training objectives of a denoiser: what is compared, and the distribution of training times."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from prior.denoiser import Denoiser, Prediction
from prior.schedules import DiscreteVP, Schedule
from prior.transition import Transition

__all__ = [
    "DenoisingLoss",
    "HybridLoss",
    "LogNormalTimes",
    "UniformTimes",
    "VariationalLoss",
    "denoising_loss",
    "discretised_gaussian_nll",
    "normal_kl",
    "prior_bpd",
    "variational_bound",
]


@dataclass(frozen=True)
class UniformTimes:
    """Times drawn uniformly: integers of a discrete schedule, reals of a continuous one."""

    def sample(self, schedule: Schedule, count: int, generator: torch.Generator | None = None) -> Tensor:
        """``count`` times, float64."""
        u = torch.rand(count, dtype=torch.float64, generator=generator)
        steps = getattr(schedule, "T", None)
        if steps is not None:
            return (u * steps).floor()
        return schedule.t_min + u * (schedule.t_max - schedule.t_min)


@dataclass(frozen=True)
class LogNormalTimes:
    """Times whose log noise level is normal (Karras et al. 2022, table 1), kept within the schedule's range."""

    mean: float = -1.2
    std: float = 1.2

    def sample(self, schedule: Schedule, count: int, generator: torch.Generator | None = None) -> Tensor:
        """``count`` times, float64."""
        z = torch.randn(count, dtype=torch.float64, generator=generator)
        level = torch.exp(self.mean + self.std * z)
        low, high = float(schedule.level(schedule.t_min)), float(schedule.level(schedule.t_max))
        return schedule.time(level.clamp(low, high))


def denoising_loss(model: Denoiser, x0: Tensor, eps: Tensor, t: Tensor, condition: Tensor | None = None) -> Tensor:
    """Mean squared error of the network's raw output against its target, one value a batch member, (B,).

    For a noise head this is the simple loss of Ho et al. 2020; for an EDM head it is the weighted loss of Karras et al.
    2022, whose weight is the inverse of ``c_out^2``. x0 (B, C, H, W) in the network's range, eps likewise, t (B,).
    """
    alpha, sigma, time = model.coefficients(x0, t)
    x_in, t_in = model.head.inputs(alpha * x0 + sigma * eps, time, alpha, sigma)
    out = model.network(x_in, t_in) if condition is None else model.network(x_in, t_in, condition)
    if model.learned_variance:
        out = out.chunk(2, dim=1)[0]
    error = out.float() - model.head.target(x0, eps, alpha, sigma)
    return error.square().flatten(1).mean(1)


@dataclass(frozen=True)
class DenoisingLoss:
    """:func:`denoising_loss` as an object: the simple loss of Ho et al. 2020, or the weighted one of Karras et al. 2022."""

    def __call__(self, model: Denoiser, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """One value a batch member, (B,)."""
        return denoising_loss(model, x0, eps, t)


@dataclass(frozen=True)
class HybridLoss:
    """``L_simple + weight T L_t`` for a network that learns its variance (Nichol & Dhariwal 2021, eq. 16).

    ``L_t`` is the variational bound in bits with the mean held fixed, so that it teaches the variance alone. The
    official rescaled MSE is ``weight = 1e-3``, the official plain MSE ``weight = 1 / T``: the same where T is 1000.
    """

    weight: float = 1e-3

    def __call__(self, model: Denoiser, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """One value a batch member, (B,); times are whole steps of a discrete schedule."""
        schedule = _discrete_with_variance(model)
        p = model(model.noised(x0, eps, t), t)
        error = model.head.target(p.x0, p.eps, p.alpha, p.sigma) - model.head.target(x0, eps, p.alpha, p.sigma)
        bound = variational_bound(model, p, p.x0.detach(), x0, t)
        return error.square().flatten(1).mean(1) + self.weight * schedule.T * bound


@dataclass(frozen=True)
class VariationalLoss:
    """``T L_t``: the variational bound in bits a dimension, of mean and variance alike (the official rescaled KL)."""

    def __call__(self, model: Denoiser, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """One value a batch member, (B,); times are whole steps of a discrete schedule."""
        schedule = _discrete_with_variance(model)
        p = model(model.noised(x0, eps, t), t)
        return schedule.T * variational_bound(model, p, p.x0, x0, t)


def _discrete_with_variance(model: Denoiser) -> DiscreteVP:
    if not model.learned_variance:
        raise ValueError("model must learn its variance for a variational bound, got learned_variance=False; use DenoisingLoss")
    if not isinstance(model.schedule, DiscreteVP):
        raise TypeError(f"model must have a schedule with discrete steps for a variational bound, got {model.schedule!r}")
    return model.schedule


def variational_bound(model: Denoiser, p: Prediction, mean_x0: Tensor, x0: Tensor, t: Tensor) -> Tensor:
    """The term ``L_t`` of the bound, in bits a dimension, (B,) (Ho et al. 2020, eq. 5; nothing is clipped).

    ``KL(q(x_{t-1} | x_t, x_0) || p(x_{t-1} | x_t))``, and at the first step, t = 0, the likelihood of the 8-bit image
    x0. ``mean_x0`` (B, C, H, W) is the clean image from which the mean of p is made, ``p`` the prediction at x_t.
    """
    if p.variance is None:
        raise ValueError("p must hold a learned variance, got variance=None")
    q = Transition.between(model.schedule, t, t - 1, x0)
    mean, log_variance = q.mean(mean_x0, p.x), q.learned_log_variance(p.variance)
    kl = normal_kl(q.mean(x0, p.x), q.log_variance, mean, log_variance)
    nll = discretised_gaussian_nll(x0, mean, 0.5 * log_variance, model.data_range)
    first = (torch.as_tensor(t, device=x0.device) == 0).view(-1, *[1] * (x0.ndim - 1))
    return torch.where(first, nll, kl).flatten(1).mean(1) / math.log(2)


def normal_kl(mean1: Tensor, log_variance1: Tensor, mean2: Tensor, log_variance2: Tensor) -> Tensor:
    """``KL(N(mean1, variance1) || N(mean2, variance2))`` of each element, in nats."""
    ratio = log_variance1 - log_variance2
    return 0.5 * (-1 - ratio + ratio.exp() + (mean1 - mean2) ** 2 * torch.exp(-log_variance2))


def discretised_gaussian_nll(x: Tensor, mean: Tensor, log_std: Tensor, data_range: tuple[float, float] = (-1.0, 1.0)) -> Tensor:
    """Minus the log likelihood of 8-bit values under a Gaussian, in nats an element (Ho et al. 2020, eq. 13).

    ``x`` holds 256 equally spaced values from the low to the high end of ``data_range``; each stands for its bin, the
    two end bins being open. Probabilities below 1e-12 count as that, and the normal CDF is its tanh approximation.
    """
    low, high = data_range
    half_bin, margin = (high - low) / 510, (high - low) / 2000
    z_upper, z_lower = ((x - mean + side) * torch.exp(-log_std) for side in (half_bin, -half_bin))
    upper, lower = _normal_cdf(z_upper), _normal_cdf(z_lower)
    probability = torch.where(x < low + margin, upper, torch.where(x > high - margin, 1 - lower, upper - lower))
    return -probability.clamp(min=1e-12).log()


def _normal_cdf(z: Tensor) -> Tensor:
    return 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3)))


def prior_bpd(schedule: DiscreteVP, x0: Tensor) -> Tensor:
    """``KL(q(x_T | x_0) || N(0, 1))`` in bits a dimension, (B,): the bound's term that no network can lower.

    x0 (B, C, H, W) in the network's range.
    """
    alpha, sigma = schedule.alpha(schedule.t_max).to(x0), schedule.sigma(schedule.t_max).to(x0)
    zero = torch.zeros((), dtype=x0.dtype, device=x0.device)
    return normal_kl(alpha * x0, 2 * sigma.log(), zero, zero).flatten(1).mean(1) / math.log(2)
