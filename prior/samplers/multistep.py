"""Samplers with a memory: where a walk stands, what was predicted before, and the linear rules that combine it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from prior.denoiser import Denoiser
from prior.samplers.loop import Guidance, Sampler, guided

__all__ = ["Course", "LinearMultistep", "Multistep", "check_choice", "combination", "lowers_last"]

FEW_STEPS = 10  # fewer than this, and "auto" lowers the order of the last step


@dataclass(frozen=True, kw_only=True)
class Multistep(Sampler):
    """A sampler whose steps read what earlier ones predicted; subclasses give ``begin``."""

    @property
    def stochastic(self) -> bool:
        return False

    def step(
        self, model: Denoiser, x: Tensor, t: Tensor, s: Tensor, noise: Tensor | None, guidance: Guidance | None = None
    ) -> Tensor:
        """A lone step, the first of a walk: it has no history, hence is of first order."""
        times = torch.stack([torch.as_tensor(time, dtype=torch.float64).cpu() for time in (t, s)])
        return self.begin(model.schedule, times)(model, x, times[0], times[1], noise, guidance)


class Course:
    """Where one walk over ``times`` stands; raises ``ValueError`` unless they are strictly monotonic."""

    def __init__(self, times: Tensor) -> None:
        gaps = times.diff()
        if len(times) < 2 or not (bool((gaps < 0).all()) or bool((gaps > 0).all())):
            raise ValueError(f"times must be at least two, all decreasing or all increasing, got {times.tolist()}")
        self.times: list[float] = times.tolist()
        self.done = 0
        self.shape: torch.Size | None = None

    def advance(self, x: Tensor, t: Tensor, s: Tensor) -> int:
        """The index of the step from ``t`` to ``s``; raises ``ValueError`` out of turn, or if ``x`` changed its shape."""
        i, here = self.done, (float(t), float(s))
        if i + 1 >= len(self.times) or here != (self.times[i], self.times[i + 1]):
            due = f"the step from {self.times[i]:g} to {self.times[i + 1]:g}" if i + 1 < len(self.times) else "no step"
            raise ValueError(f"a walk takes its steps in order: {due} is due, got {here[0]:g} to {here[1]:g}; begin a new walk")
        if self.shape not in (None, x.shape):
            raise ValueError(f"x must keep its shape during a walk, {tuple(self.shape or ())}, got {tuple(x.shape)}")
        self.done, self.shape = i + 1, x.shape
        return i


class LinearMultistep:
    r"""The steps of one walk that correct DDIM by what was predicted before, one network evaluation each:

        x_{i+1} = alpha x0_i + kept_i sigma eps_i + sum_{j >= 1} C_ij (m_{i-j} - m_i) + sqrt(1 - kept_i^2) sigma z

    with alpha and sigma of the time arrived at. Every multistep rule for the exponential integral of the probability
    flow has this form: its weights sum to the DDIM step, so only those of earlier predictions are left to say.

    Parameters
    ----------
    times: the N + 1 times of the walk.
    weights: C, (N, order - 1), for j = 1, 2, ...; zero where the history is shorter or the step is of first order.
    of: what is remembered as m, the clean image or the noise.
    kept: share of the predicted noise that is kept, (N,); the rest of its variance is drawn anew. None keeps all.
    """

    def __init__(self, times: Tensor, weights: Tensor, *, of: Literal["x0", "eps"], kept: Tensor | None = None) -> None:
        self.course = Course(times)
        self.weights: list[list[float]] = weights.tolist()
        self.of = of
        self.kept: list[float] | None = None if kept is None else kept.tolist()
        self.earlier: deque[Tensor] = deque(maxlen=weights.shape[1])

    def __call__(
        self, model: Denoiser, x: Tensor, t: Tensor, s: Tensor, noise: Tensor | None, guidance: Guidance | None = None
    ) -> Tensor:
        """As :meth:`Sampler.step`."""
        if self.kept is not None and noise is None:
            raise ValueError("noise must be given: the sampler is stochastic")
        i = self.course.advance(x, t, s)
        p = guided(model, model(x, t), t, guidance)
        alpha, sigma, _ = model.coefficients(x, s)
        x_next = alpha * p.x0
        if self.kept is None or noise is None:
            x_next = x_next + sigma * p.eps
        else:
            kept = self.kept[i]
            x_next = x_next + sigma * (kept * p.eps + (1 - kept**2) ** 0.5 * noise)
        m: Tensor = getattr(p, self.of)
        for C, m_earlier in zip(self.weights[i], self.earlier, strict=False):  # the history may still be short
            x_next = x_next + C * (m_earlier - m)
        self.earlier.appendleft(m)
        return x_next


def lowers_last(lower_order_final: str, steps: int) -> bool:
    """Whether the last of so many steps is of first order: "always", "never", or "auto" below 10 (Lu et al. 2022)."""
    return lower_order_final == "always" or (lower_order_final == "auto" and steps < FEW_STEPS)


def check_choice(argument: str, value: object, *allowed: object) -> None:
    """Raises ``ValueError`` unless ``value`` is one of those ``allowed``."""
    if value not in allowed:
        raise ValueError(f"{argument} must be {', '.join(map(repr, allowed[:-1]))} or {allowed[-1]!r}, got {value!r}")


def combination(weights: Sequence[float], terms: Iterable[Tensor]) -> Tensor:
    """``sum_j w_j m_j``."""
    first, *rest = (w * m for w, m in zip(weights, terms, strict=True))
    return sum(rest, first)
