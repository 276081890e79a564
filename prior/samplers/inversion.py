"""Samplers whose steps can be undone exactly: BDIA (Zhang et al. 2024) and EDICT (Wallace et al. 2023)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from prior.denoiser import Denoiser, Prediction
from prior.samplers.loop import Guidance, Step, conditioned, guided
from prior.samplers.multistep import Course, Multistep
from prior.schedules import Schedule

__all__ = ["BDIA", "EDICT", "Pair"]


@dataclass(frozen=True, eq=False)
class Pair:
    """What an image is turned into, two states (B, C, H, W) in the network's range.

    Of BDIA, ``x`` at the first time of the grid and ``y`` at the second; of EDICT, the two coupled states at the first.
    """

    x: Tensor
    y: Tensor


@dataclass(frozen=True, kw_only=True)
class Invertible(Multistep):
    """A deterministic sampler with exact ``lift`` and ``lower`` between an image and a :class:`Pair`."""

    def lift(self, model: Denoiser, x: Tensor, times: Tensor) -> Pair:
        """``x`` (B, ...) at ``times[-1]`` carried up to ``times[0]``, in the network's range; times decrease."""
        raise NotImplementedError(f"{type(self).__name__} must define lift")

    def lower(self, model: Denoiser, pair: Pair, times: Tensor) -> Tensor:
        """The way back: the state at ``times[-1]``."""
        raise NotImplementedError(f"{type(self).__name__} must define lower")

    def invert(self, model: Denoiser, image: Tensor, *, condition: Tensor | None = None) -> Pair:
        """The pair that stands for ``image`` (B, C, H, W) in [0, 1]; :meth:`restore` comes back exactly."""
        return self.lift(conditioned(model, condition), model.to_network(image), self.times(model.schedule))

    def restore(self, model: Denoiser, pair: Pair, *, condition: Tensor | None = None) -> Tensor:
        """The image in [0, 1] that ``pair`` stands for; with another model or ``condition`` (B, ...), the edited image."""
        return model.to_image(self.lower(conditioned(model, condition), pair, self.times(model.schedule)))


@dataclass(frozen=True, kw_only=True)
class BDIA(Invertible):
    """Bidirectional integration approximation of DDIM (Zhang et al. 2024, arXiv 2307.10829).

    With ``D(x_i; s)`` the DDIM step from ``t_i`` to s: ``x_{i-1} = gamma (x_{i+1} - D(x_i; t_{i+1})) + D(x_i; t_{i-1})``,
    first ``x_{N-1} = D(x_N; t_{N-1})``. Of second order for ``gamma = 1``, of first below, DDIM at 0. N steps cost N
    network evaluations, up or down (one less down from a pair).

    Parameters
    ----------
    gamma: on the way up any error, the scheme's own too, grows as ``gamma^-N``: the noise that stands for an image is of
        use with 0.5 for 10 steps, 0.9 for 40 and 1 for any number.
    """

    gamma: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.gamma <= 1:
            raise ValueError(f"gamma must lie in (0, 1], got {self.gamma}; DDIM is gamma = 0")

    def begin(self, schedule: Schedule, times: Tensor) -> Step:
        course = Course(times)
        before: list[tuple[Tensor, Tensor]] = []  # the state and the time one step back

        def step(
            model: Denoiser, x: Tensor, t: Tensor, s: Tensor, noise: Tensor | None, guidance: Guidance | None = None
        ) -> Tensor:
            course.advance(x, t, s)
            p = guided(model, model(x, t), t, guidance)
            x_next = _ddim(model, p, s)
            if before:
                x_last, r = before.pop()
                x_next = x_next + self.gamma * (x_last - _ddim(model, p, r))
            before.append((x, t))
            return x_next

        return step

    @torch.no_grad()
    def lift(self, model: Denoiser, x: Tensor, times: Tensor) -> Pair:
        """As :meth:`Invertible.lift`; from ``x`` alone the first step up is DDIM's, its noise predicted at the time arrived at.

        Raises ``ValueError`` for more than 20 steps with gamma below 0.9 unless ``x`` is in float64.
        """
        up, steps = _upwards(times), len(times) - 1
        if self.gamma < 0.9 and steps > 20 and x.dtype != torch.float64:
            raise ValueError(
                f"x must be float64 to invert {steps} steps with gamma = {self.gamma}, since errors grow as gamma^-{steps}, "
                f"got {x.dtype}; or take gamma >= 0.9"
            )
        (alpha, sigma, _), (alpha_up, sigma_up, _) = (model.coefficients(x, t) for t in up[:2])
        eps = model(x, up[1]).eps
        low, high = x, alpha_up / alpha * (x - sigma * eps) + sigma_up * eps
        for r, t, s in zip(up, up[1:], up[2:], strict=False):
            p = model(high, t)
            low, high = high, (low - _ddim(model, p, r)) / self.gamma + _ddim(model, p, s)
        return Pair(high, low)

    @torch.no_grad()
    def lower(self, model: Denoiser, pair: Pair, times: Tensor) -> Tensor:
        high, low = pair.x, pair.y
        for r, t, s in zip(times, times[1:], times[2:], strict=False):
            p = model(low, t)
            high, low = low, self.gamma * (high - _ddim(model, p, r)) + _ddim(model, p, s)
        return low


@dataclass(frozen=True, kw_only=True)
class EDICT(Invertible):
    """Exact diffusion inversion by coupled transformations (Wallace et al. 2023, eq. 12 to 15).

    Two states step in turn, each by the noise that the other predicts: ``x' = a x + b eps(y)``, ``y' = a y + b eps(x')``
    with ``a = alpha_s / alpha_t`` and ``b = sigma_s - a sigma_t``; then they are mixed, ``x = p x' + (1 - p) y'``,
    ``y = p y' + (1 - p) x``. N steps cost 2N network evaluations, up or down. Inversion wants float64.

    Parameters
    ----------
    p: weight of the mixing; below 0.9 the result is smoothed, near 1 the two states drift apart.
    """

    p: float = 0.93

    def __post_init__(self) -> None:
        if not 0 < self.p <= 1:
            raise ValueError(f"p must lie in (0, 1], got {self.p}")

    def begin(self, schedule: Schedule, times: Tensor) -> Step:
        course, other = Course(times), list[Tensor]()

        def step(
            model: Denoiser, x: Tensor, t: Tensor, s: Tensor, noise: Tensor | None, guidance: Guidance | None = None
        ) -> Tensor:
            course.advance(x, t, s)
            pair = self.couple(model, Pair(x, other.pop() if other else x), t, s, guidance)
            other.append(pair.y)
            return pair.x

        return step

    def couple(self, model: Denoiser, pair: Pair, t: Tensor, s: Tensor, guidance: Guidance | None = None) -> Pair:
        """One step of both states from ``t`` to ``s``."""
        a, b = _ratio(model, pair.x, t, s)
        x = a * pair.x + b * guided(model, model(pair.y, t), t, guidance).eps
        y = a * pair.y + b * guided(model, model(x, t), t, guidance).eps
        x = self.p * x + (1 - self.p) * y
        return Pair(x, self.p * y + (1 - self.p) * x)

    def uncouple(self, model: Denoiser, pair: Pair, t: Tensor, s: Tensor) -> Pair:
        """The step from ``t`` to ``s`` undone."""
        a, b = _ratio(model, pair.x, t, s)
        y = (pair.y - (1 - self.p) * pair.x) / self.p
        x = (pair.x - (1 - self.p) * y) / self.p
        y = (y - b * model(x, t).eps) / a
        return Pair((x - b * model(y, t).eps) / a, y)

    @torch.no_grad()
    def lift(self, model: Denoiser, x: Tensor, times: Tensor) -> Pair:
        pair = Pair(x, x)
        for s, t in pairwise(_upwards(times)):
            pair = self.uncouple(model, pair, t, s)
        return pair

    @torch.no_grad()
    def lower(self, model: Denoiser, pair: Pair, times: Tensor) -> Tensor:
        for t, s in pairwise(times):
            pair = self.couple(model, pair, t, s)
        return pair.x


def _upwards(times: Tensor) -> Tensor:
    if len(times) < 2:
        raise ValueError(f"times must be at least two, got {len(times)}")
    return times.flip(0)


def _ddim(model: Denoiser, p: Prediction, s: Tensor) -> Tensor:
    alpha, sigma, _ = model.coefficients(p.x, s)
    return alpha * p.x0 + sigma * p.eps


def _ratio(model: Denoiser, x: Tensor, t: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    (alpha_t, sigma_t, _), (alpha_s, sigma_s, _) = (model.coefficients(x, time) for time in (t, s))
    a = alpha_s / alpha_t
    return a, sigma_s - a * sigma_t
