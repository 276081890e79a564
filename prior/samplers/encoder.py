"""The DPM-Encoder of CycleDiffusion (Wu & De la Torre 2023): the noise with which a stochastic sampler returns an image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from prior.denoiser import Denoiser
from prior.grids import grid
from prior.randomness import MemberNoise
from prior.samplers.loop import conditioned
from prior.schedules import Schedule
from prior.transition import Transition

__all__ = ["DPMEncoder", "Encoding"]


@dataclass(frozen=True, eq=False)
class Encoding:
    """An image as noise; N + 1 times its size, so that a seed is the cheaper thing to store.

    Attributes
    ----------
    times: the N + 1 times walked, decreasing, float64.
    start: the state at ``times[0]``, (B, C, H, W), in the network's range.
    noises: what each step adds, (N, B, C, H, W), in units of the step's standard deviation; of a step that arrives at the
        clean image, which has none, in the network's range.
    """

    times: Tensor
    start: Tensor
    noises: Tensor


@dataclass(frozen=True, kw_only=True)
class DPMEncoder:
    """Wu & De la Torre 2023, algorithm 1: draw ``x_T, ..., x_0`` from ``q(. | x_0)`` and solve each step for its noise.

    A step of the sampler is ``x_s = mu(x_t) + c z`` with ``mu = alpha_s x0 + sqrt(sigma_s^2 - c^2) eps`` and
    ``c = eta std`` of ``q(x_s | x_t, x_0)`` (Song et al. 2021, DDIM, eq. 12), so ``z = (x_s - mu(x_t)) / c``. Decoding with
    the same model returns the image exactly, with another model or condition it edits or translates it. Encoding and
    decoding cost one network evaluation a step each.

    Parameters
    ----------
    steps, spacing: of the grid, as :class:`prior.samplers.Sampler`.
    eta: from 0 (excluded, since nothing could be told of the noise) to 1, the DDPM form.
    strength: share of the grid's steps that are walked, those nearest to the clean image.
    """

    steps: int = 100
    spacing: str | None = None
    eta: float = 0.1
    strength: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.eta <= 1:
            raise ValueError(f"eta must lie in (0, 1], since the noise of a step is divided by it, got {self.eta}")
        if not 0 < self.strength <= 1:
            raise ValueError(f"strength must lie in (0, 1], got {self.strength}")

    def times(self, schedule: Schedule) -> Tensor:
        """The times walked, float64, decreasing to ``schedule.clean``."""
        times = grid(schedule, self.steps, self.spacing)
        return times[-1 - max(1, round(self.strength * (len(times) - 1))) :]

    def encode(self, model: Denoiser, image: Tensor, *, seed: int = 0, condition: Tensor | None = None) -> Encoding:
        """``image`` (B, C, H, W) in [0, 1] as noise; member i draws from a generator seeded ``seed + i``."""
        noise, times = MemberNoise(seed, len(image)), self.times(model.schedule)
        return self.record(conditioned(model, condition), model.to_network(image), times, noise=noise)

    def decode(self, model: Denoiser, encoding: Encoding, *, condition: Tensor | None = None) -> Tensor:
        """The image in [0, 1], not clipped; with another model or ``condition`` (B, ...), the edited image."""
        return model.to_image(self.replay(conditioned(model, condition), encoding))

    @torch.no_grad()
    def record(self, model: Denoiser, x0: Tensor, times: Tensor, *, noise: Callable[[Tensor], Tensor]) -> Encoding:
        """``x0`` (B, ...), in the network's range, as noise over ``times``; ``noise(x)`` draws for the start and each step."""
        x = start = model.noised(x0, noise(x0), times[0])
        noises = []
        for t, s in pairwise(times):
            step, p = _Step.between(model, x, t, s, self.eta), model(x, t)
            drawn = step.mean(x0, (x - p.alpha * x0) / p.sigma) + step.c * noise(x)
            noises.append((drawn - step.mean(p.x0, p.eps)) / step.unit)
            x = drawn
        return Encoding(times, start, torch.stack(noises))

    @torch.no_grad()
    def replay(self, model: Denoiser, encoding: Encoding) -> Tensor:
        """The state (B, ...) at the last of the encoding's times, in the network's range."""
        x = encoding.start
        for (t, s), z in zip(pairwise(encoding.times), encoding.noises, strict=True):
            step, p = _Step.between(model, x, t, s, self.eta), model(x, t)
            x = step.mean(p.x0, p.eps) + step.unit * z
        return x


@dataclass(frozen=True, eq=False)
class _Step:
    """``alpha x0 + root eps + c z``, each to multiply an image; ``unit`` is c, or 1 where c is 0."""

    alpha: Tensor
    root: Tensor
    c: Tensor

    @classmethod
    def between(cls, model: Denoiser, x: Tensor, t: Tensor, s: Tensor, eta: float) -> _Step:
        q = Transition.between(model.schedule, t, s, x)
        c = eta * q.variance.sqrt()
        return cls(q.alpha, (q.sigma**2 - c**2).clamp(min=0).sqrt(), c)

    @property
    def unit(self) -> Tensor:
        return torch.where(self.c > 0, self.c, torch.ones_like(self.c))

    def mean(self, x0: Tensor, eps: Tensor) -> Tensor:
        return self.alpha * x0 + self.root * eps
