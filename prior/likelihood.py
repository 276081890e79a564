"""The density a diffusion model gives to an image, by its probability-flow ODE (Song et al. 2021, section 4.3)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

from prior.denoiser import Denoiser
from prior.samplers.loop import conditioned
from prior.schedules import VP, Schedule

__all__ = ["Likelihood", "log_likelihood"]

LARGEST_TRACE = 4096
CHUNK = 64  # probes differentiated at once


@dataclass(frozen=True, eq=False)
class Likelihood:
    """What :func:`log_likelihood` returns.

    Attributes
    ----------
    log_prob: (B,), nats, float64: the density in the network's range.
    standard_error: (B,), nats: of ``log_prob`` over the probes; 0 for the exact trace, nan for a single probe.
    bits_per_dim: (B,): ``-log_prob / (d ln 2) + log2(256 / width)``, width being that of the network's range (7 is added
        for [-1, 1], 8 for [0, 1]); meaningful for 8-bit images to which uniform noise of one level was added.
    z: (B, C, H, W), float64: the image carried by the ODE to ``t_max``.
    evaluations: network evaluations.

    All on the CPU, where the ODE is solved.
    """

    log_prob: Tensor
    standard_error: Tensor
    bits_per_dim: Tensor
    z: Tensor
    evaluations: int


def log_likelihood(
    model: Denoiser,
    image: Tensor,
    *,
    probes: int | Tensor | Literal["exact"] = 16,
    t0: float = 1e-5,
    tolerance: float = 1e-5,
    seed: int = 0,
    condition: Tensor | None = None,
) -> Likelihood:
    """``log p(x) = log p_T(x_T) + int div h dt`` along ``dx/dt = h = f x - g^2 score / 2`` (Song et al. 2021, eq. 39).

    The divergence is Hutchinson's ``e . grad(h . e)``, unbiased, over Rademacher probes e that stay the same along the
    way; the state and the integral are float64 and the network runs in the dtype of ``image``. ``p_T`` is N(0, 1) for a
    VP or SubVP schedule, else ``N(0, sigma(t_max)^2)``. The batch shares its time steps (RK45), so that a member alone
    agrees with itself in a batch to the tolerance.

    Parameters
    ----------
    image: (B, C, H, W) in [0, 1].
    probes: how many, the probes themselves, (P, B, C, H, W), or "exact" for the trace, of at most 4096 pixels.
    t0: the time at which the image is taken to be seen.
    tolerance: relative and absolute, of the solver.
    seed: of the probes; member i draws from a generator seeded ``seed + i``.
    condition: (B, ...), the network's third argument.

    Raises ``ValueError`` for probes that do not fit, and where the schedule's drift is infinite at ``t_max``.
    """
    model = conditioned(model, condition)
    schedule, x0 = model.schedule, model.to_network(image).detach()
    _check(schedule, t0, tolerance)
    B, d = len(x0), x0[0].numel()
    exact = isinstance(probes, str)
    e = _basis(probes, x0) if isinstance(probes, str) else _probes(probes, x0, seed)
    P = 1 if exact else len(e)

    def rates(t: float, state: np.ndarray) -> np.ndarray:
        x = torch.from_numpy(state[: B * d]).to(x0).view_as(x0)
        h, traces = _drift_and_traces(model, x, t, e)
        traces = traces.sum(0, keepdim=True) if exact else traces
        return torch.cat([h.double().flatten(), traces.double().flatten()]).cpu().numpy()

    start = np.concatenate([x0.double().cpu().numpy().ravel(), np.zeros(P * B)])
    solution = solve_ivp(rates, (t0, schedule.t_max), start, method="RK45", rtol=tolerance, atol=tolerance)
    if not solution.success:
        raise RuntimeError(f"the probability-flow ODE was not solved: {solution.message}")
    end = torch.from_numpy(solution.y[:, -1])
    z, changes = end[: B * d].view(x0.shape), end[B * d :].view(P, B)
    log_prob = _log_prior(schedule, z) + changes.mean(0)
    error = torch.zeros(B, dtype=torch.float64) if exact else _standard_error(changes)
    low, high = model.data_range
    bits = -log_prob / (d * math.log(2)) + math.log2(256 / (high - low))
    return Likelihood(log_prob, error, bits, z, int(solution.nfev))


def _check(schedule: Schedule, t0: float, tolerance: float) -> None:
    if not bool(torch.isfinite(schedule.drift(schedule.t_max))):
        raise ValueError(f"the schedule must have a finite drift at t_max, got {schedule!r}")
    if not 0 < t0 < schedule.t_max:
        raise ValueError(f"t0 must lie in (0, {schedule.t_max:g}), got {t0}")
    if tolerance <= 0:
        raise ValueError(f"tolerance must be positive, got {tolerance}")


def _log_prior(schedule: Schedule, z: Tensor) -> Tensor:
    std = 1.0 if isinstance(schedule, VP) else float(schedule.sigma(schedule.t_max))
    return -0.5 * (z / std).square().flatten(1).sum(1) - z[0].numel() * math.log(std * math.sqrt(2 * math.pi))


def _drift_and_traces(model: Denoiser, x: Tensor, t: float, e: Tensor) -> tuple[Tensor, Tensor]:
    """``h`` (B, ...) and ``e . grad(h . e)`` (P, B) at x and time t."""
    f, g = (float(a) for a in (model.schedule.drift(t), model.schedule.diffusion(t)))
    with torch.enable_grad():
        x = x.requires_grad_()
        h = f * x - 0.5 * g**2 * model(x, t).score
    traces = []
    for chunk in e.split(CHUNK):
        (products,) = torch.autograd.grad(h, x, chunk, retain_graph=True, is_grads_batched=True)
        traces.append((products * chunk).flatten(2).sum(2))
    return h.detach(), torch.cat(traces)


def _basis(probes: str, x: Tensor) -> Tensor:
    """The unit vectors, (d, B, ...): summed over them, the traces are the exact one."""
    d = x[0].numel()
    if probes != "exact":
        raise ValueError(f"probes must be a number, a tensor or 'exact', got {probes!r}")
    if d > LARGEST_TRACE:
        raise ValueError(f"probes='exact' is for at most {LARGEST_TRACE} pixels, got {d}; take a number of probes")
    return torch.eye(d).to(x).view(d, 1, *x.shape[1:]).expand(d, *x.shape)


def _probes(probes: int | Tensor, x: Tensor, seed: int) -> Tensor:
    if isinstance(probes, Tensor):
        if probes.ndim != x.ndim + 1 or probes.shape[1:] != x.shape:
            raise ValueError(f"probes must have shape (P, {', '.join(map(str, x.shape))}), got {tuple(probes.shape)}")
        return probes.to(x)
    if probes < 1:
        raise ValueError(f"probes must be at least 1, got {probes}")
    generators = [torch.Generator().manual_seed(seed + i) for i in range(len(x))]
    bits = [torch.randint(0, 2, (probes, 1, *x.shape[1:]), generator=generator) for generator in generators]
    return (2 * torch.cat(bits, 1) - 1).to(x)


def _standard_error(changes: Tensor) -> Tensor:
    P = len(changes)
    return changes.std(0) / math.sqrt(P) if P > 1 else torch.full_like(changes[0], math.nan)
