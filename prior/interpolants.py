r"""Stochastic interpolants: bridges in time between any two distributions (Albergo, Boffi & Vanden-Eijnden 2023).

``x_t = a(t) x_0 + b(t) x_1 + gamma(t) z`` with x_0 from the base (t = 0), x_1 from the data (t = 1) and z normal. Two fields
carry one into the other: the velocity ``b(t, x) = E[dx_t/dt | x_t = x]`` and the score ``s(t, x) = -E[z | x_t = x] / gamma``.
Time runs the other way than in :mod:`prior.schedules`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from prior.denoiser import Denoiser
from prior.schedules.base import double

__all__ = ["GAMMAS", "PATHS", "TARGETS", "Coefficients", "Fields", "Flow", "Interpolant", "OneSided", "interpolant_loss"]

Fields = Callable[[Tensor, float], tuple[Tensor, Tensor]]
"""``fields(x, t)``: velocity and score at x (B, ...), each of the shape of x."""


def _linear(t: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    one = torch.ones_like(t)
    return 1 - t, t, -one, one


def _trigonometric(t: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    cos, sin = torch.cos(math.pi / 2 * t), torch.sin(math.pi / 2 * t)
    return cos, sin, -math.pi / 2 * sin, math.pi / 2 * cos


def _encoding_decoding(t: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    first, square, slope = t <= 0.5, torch.cos(math.pi * t) ** 2, -math.pi * torch.sin(2 * math.pi * t)
    return square * first, square * ~first, slope * first, slope * ~first


def _mirror(t: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    zero = torch.zeros_like(t)
    return zero, zero + 1, zero, zero


PATHS: dict[str, Callable[[Tensor], tuple[Tensor, Tensor, Tensor, Tensor]]] = {
    "linear": _linear,
    "trigonometric": _trigonometric,
    "encoding_decoding": _encoding_decoding,
    "mirror": _mirror,
}
"""a, b and their derivatives at t; the trigonometric path is scaled by ``sqrt(1 - gamma^2)`` besides."""

GAMMAS: dict[str, Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]] = {
    "brownian": lambda t: (torch.sqrt(t * (1 - t)), (0.5 - t) / torch.sqrt(t * (1 - t)), 0.5 - t),
    "quadratic": lambda t: (t * (1 - t), 1 - 2 * t, t * (1 - t) * (1 - 2 * t)),
    "sine": lambda t: (
        torch.sin(math.pi * t) ** 2,
        math.pi * torch.sin(2 * math.pi * t),
        math.pi * torch.sin(math.pi * t) ** 2 * torch.sin(2 * math.pi * t),
    ),
    "zero": lambda t: (torch.zeros_like(t), torch.zeros_like(t), torch.zeros_like(t)),
}
"""gamma, its derivative and their product at t; the derivative of the brownian one is infinite at both ends."""


@dataclass(frozen=True, eq=False)
class Coefficients:
    """a, b and gamma at some times and their derivatives, shaped to multiply an image."""

    a: Tensor
    b: Tensor
    gamma: Tensor
    a_dot: Tensor
    b_dot: Tensor
    gamma_dot: Tensor


@dataclass(frozen=True, kw_only=True)
class Interpolant:
    """The two-sided interpolant of a ``path`` in ``PATHS`` and a ``gamma`` in ``GAMMAS``."""

    path: str = "linear"
    gamma: str = "brownian"

    def __post_init__(self) -> None:
        _check_name("path", self.path, PATHS)
        _check_name("gamma", self.gamma, GAMMAS)

    def coefficients(self, t: float | Tensor, like: Tensor) -> Coefficients:
        """At ``t``, a number or (B,), for images ``like`` (B, ...)."""
        t = double(t)
        a, b, a_dot, b_dot = PATHS[self.path](t)
        gamma, gamma_dot, product = GAMMAS[self.gamma](t)
        if self.path == "trigonometric":
            scale = torch.sqrt(1 - gamma**2)
            slope = -product / scale
            a, b, a_dot, b_dot = scale * a, scale * b, scale * a_dot + slope * a, scale * b_dot + slope * b
        return Coefficients(*(_beside(c, like) for c in (a, b, gamma, a_dot, b_dot, gamma_dot)))

    def point(self, x0: Tensor, x1: Tensor, z: Tensor, t: float | Tensor) -> Tensor:
        """``x_t = a x_0 + b x_1 + gamma z``, all (B, ...)."""
        c = self.coefficients(t, x0)
        return c.a * x0 + c.b * x1 + c.gamma * z

    def velocity(self, drift: Tensor, eta: Tensor, t: float | Tensor) -> Tensor:
        """``b = v + gamma' eta`` from ``v = E[a' x_0 + b' x_1 | x]`` and ``eta = E[z | x]``; that is ``v - gamma gamma' s``."""
        return drift + self.coefficients(t, drift).gamma_dot * eta

    def score(self, eta: Tensor, t: float | Tensor) -> Tensor:
        """``s = -eta / gamma`` from ``eta = E[z | x]``."""
        return -eta / self.coefficients(t, eta).gamma


TARGETS: dict[str, Callable[[Coefficients, Tensor, Tensor, Tensor], Tensor]] = {
    "velocity": lambda c, x0, x1, z: c.a_dot * x0 + c.b_dot * x1 + c.gamma_dot * z,
    "drift": lambda c, x0, x1, z: c.a_dot * x0 + c.b_dot * x1,
    "eta": lambda c, x0, x1, z: z,
    "score": lambda c, x0, x1, z: -z / c.gamma,
}
"""What each field is the conditional mean of."""


def interpolant_loss(
    field: Callable[[Tensor, Tensor], Tensor],
    interpolant: Interpolant,
    ends: tuple[Tensor, Tensor],
    z: Tensor,
    t: Tensor,
    *,
    target: str = "velocity",
) -> Tensor:
    """``mean(|f|^2 / 2 - f . target)``, one value a batch member, (B,), averaged over z and -z.

    Up to a constant the squared error to the target, and least at its conditional mean. ``ends`` is (x_0, x_1), each
    (B, ...) like z; t (B,); ``target`` a name in ``TARGETS``. The pair of opposite z removes the variance of ``1 / gamma``;
    still keep t away from 0 and 1 for the score, or learn eta.
    """
    _check_name("target", target, TARGETS)
    c = interpolant.coefficients(t, z)
    total = torch.zeros(len(z), dtype=z.dtype, device=z.device)
    for noise in (z, -z):
        f = field(interpolant.point(*ends, noise, t), t)
        total = total + (f**2 / 2 - f * TARGETS[target](c, *ends, noise)).flatten(1).mean(1)
    return total / 2


@dataclass(frozen=True, kw_only=True)
class OneSided:
    """``x_t = a(t) z + b(t) x_1`` from pure noise, ``path`` linear or trigonometric: any denoiser knows its fields.

    The linear one is the rectified flow in reversed time, with the velocity ``x_1 - z``.
    """

    path: str = "linear"

    def __post_init__(self) -> None:
        _check_name("path", self.path, {name: PATHS[name] for name in ("linear", "trigonometric")})

    def fields(self, model: Denoiser) -> Fields:
        """``fields(x, t)``: velocity and score at t < 1 from one network evaluation, in the network's range."""

        def fields(x: Tensor, t: float) -> tuple[Tensor, Tensor]:
            if not 0 <= t < 1:
                raise ValueError(f"t must lie in [0, 1), where there is noise, got {t:g}; finish with the clean image")
            a, b, a_dot, b_dot = PATHS[self.path](double(t))
            time = model.schedule.time(a / b)
            if not bool(time.isfinite()):
                raise ValueError(f"t must be positive with {model.schedule!r}, which has no time of pure noise, got {t:g}")
            p = model((model.schedule.sigma(time) / a).to(x) * x, time)
            return a_dot.to(x) * p.eps + b_dot.to(x) * p.x0, -p.eps / a.to(x)

        return fields


@dataclass(frozen=True, kw_only=True)
class Flow:
    r"""From the base to the data along ``dx = b dt``, or ``dx = (b + epsilon s) dt + sqrt(2 epsilon) dW``.

    Every ``epsilon >= 0`` has the same marginals (Albergo et al. 2023). Times may also decrease, which
    walks from the data to the base.

    Parameters
    ----------
    method: "euler", one evaluation a step (Euler-Maruyama with noise), or "heun", two; with noise, it is added first and
        both slopes are taken at the time arrived at.
    epsilon: strength of the noise.
    """

    method: str = "heun"
    epsilon: float = 0.0

    def __post_init__(self) -> None:
        if self.method not in ("euler", "heun"):
            raise ValueError(f"method must be 'euler' or 'heun', got {self.method!r}")
        if not 0 <= self.epsilon < math.inf:
            raise ValueError(f"epsilon must be finite and not negative, got {self.epsilon}")

    @torch.no_grad()
    def walk(self, fields: Fields, x: Tensor, times: Tensor, *, noise: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """``x`` (B, ...) at ``times[0]`` carried to ``times[-1]``; ``fields(x, t)`` gives velocity and score."""
        for t, s in pairwise(times.tolist()):
            x = self.step(fields, x, t, s, None if noise is None else noise(x))
        return x

    def step(self, fields: Fields, x: Tensor, t: float, s: float, z: Tensor | None = None) -> Tensor:
        """From time ``t`` to time ``s``; z like x where ``epsilon`` is positive."""
        if self.epsilon > 0 and z is None:
            raise ValueError(f"noise must be given: a step with epsilon = {self.epsilon} is stochastic")
        h = s - t

        def slope(x: Tensor, t: float) -> Tensor:
            b, score = fields(x, t)
            return b if self.epsilon == 0 else b + math.copysign(self.epsilon, h) * score

        jump = 0 if self.epsilon == 0 or z is None else math.sqrt(2 * self.epsilon * abs(h)) * z
        if self.method == "euler":
            return x + h * slope(x, t) + jump
        if self.epsilon > 0:
            t, x = s, x + jump
        d = slope(x, t)
        return x + h / 2 * (d + slope(x + h * d, s))


def _beside(c: Tensor, like: Tensor) -> Tensor:
    return c.to(like).reshape(-1, *[1] * (like.ndim - 1))


def _check_name(argument: str, name: str, table: Mapping[str, object]) -> None:
    if name not in table:
        raise ValueError(f"{argument} must be one of {', '.join(table)}, got {name!r}")
