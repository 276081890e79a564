"""The loop that every unconditional sampler shares: draw noise, walk down a time grid, return images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from prior.denoiser import Denoiser, Prediction
from prior.grids import grid
from prior.randomness import MemberNoise
from prior.schedules import Schedule

__all__ = ["Guidance", "Progress", "Sampler", "Step", "conditioned", "guided"]

Guidance = Callable[[Tensor, Tensor], Tensor]
"""``guidance(x, t)``: the gradient of ``log p(y | x_t)`` at ``x`` (B, ...), t (B,) being the time that the network reads.

It is called without gradients enabled; one that differentiates a classifier enables them itself. Scale it at will.
"""

Step = Callable[[Denoiser, Tensor, Tensor, Tensor, "Tensor | None", "Guidance | None"], Tensor]
"""``step(model, x, t, s, noise, guidance)``, as :meth:`Sampler.step`."""

Progress = Callable[[int, int], None]
"""``progress(done, total)``, called after each step."""


class _Conditioned(nn.Module):
    """A network with its condition filled in."""

    def __init__(self, network: nn.Module, condition: Tensor) -> None:
        super().__init__()
        self.network, self.condition = network, condition

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.network(x, t, self.condition)


@dataclass(frozen=True, kw_only=True)
class Sampler:
    """A step rule over a time grid; subclasses say whether it is ``stochastic`` and give ``step``, or ``begin`` if the rule
    remembers earlier steps.

    Parameters
    ----------
    steps: steps of the grid, the last of which arrives at the clean image.
    spacing: name of the grid in :data:`prior.grids.SPACINGS`; None takes trailing where time is discrete, quadratic for VP
        and SubVP, else karras.
    """

    steps: int = 50
    spacing: str | None = None

    @property
    def stochastic(self) -> bool:
        """Whether a step uses its noise; it is not drawn otherwise."""
        raise NotImplementedError(f"{type(self).__name__} must define stochastic")

    def step(
        self, model: Denoiser, x: Tensor, t: Tensor, s: Tensor, noise: Tensor | None, guidance: Guidance | None = None
    ) -> Tensor:
        """From ``x`` (B, ...) at time ``t`` to time ``s``, in the network's range; ``noise`` like x if ``stochastic``."""
        raise NotImplementedError(f"{type(self).__name__} must define step")

    def begin(self, schedule: Schedule, times: Tensor) -> Step:
        """The step rule of one walk over ``times``; a multistep sampler returns one that carries its own history."""
        return self.step

    def times(self, schedule: Schedule) -> Tensor:
        """The times visited: ``steps + 1`` of them, float64, decreasing to ``schedule.clean``."""
        return grid(schedule, self.steps, self.spacing)

    def sample(
        self,
        model: Denoiser,
        shape: Sequence[int],
        *,
        seed: int = 0,
        condition: Tensor | None = None,
        guidance: Guidance | None = None,
        progress: Progress | None = None,
    ) -> Tensor:
        """Images of ``shape`` (B, C, H, W) in [0, 1], not clipped, from noise of standard deviation ``sigma`` at the start.

        The same seed gives the same images; member i draws from a generator seeded ``seed + i``, so that a batch holds
        what its members alone would be. ``condition`` (B, ...) goes to the network as its third argument.
        """
        if len(shape) < 2 or any(n < 1 for n in shape):
            raise ValueError(f"shape must be (B, C, H, W) with positive sizes, got {tuple(shape)}")
        parameter = next(model.parameters(), torch.zeros(()))
        noise = MemberNoise(seed, shape[0])
        start = noise(torch.empty(tuple(shape), dtype=parameter.dtype, device=parameter.device))
        times = self.times(model.schedule)
        x = start * model.schedule.sigma(times[0]).to(start)
        walked = self.walk(conditioned(model, condition), x, times, noise=noise, guidance=guidance, progress=progress)
        return model.to_image(walked)

    @torch.no_grad()
    def walk(
        self,
        model: Denoiser,
        x: Tensor,
        times: Tensor,
        *,
        noise: Callable[[Tensor], Tensor] | None = None,
        guidance: Guidance | None = None,
        progress: Progress | None = None,
    ) -> Tensor:
        """``x`` (B, ...) at ``times[0]`` carried to ``times[-1]``, in the network's range; ``noise(x)`` draws for a step."""
        if self.stochastic and noise is None:
            raise ValueError(f"noise must be given, since {self!r} is stochastic; MemberNoise(seed, {len(x)}) draws it")
        step = self.begin(model.schedule, times)
        for done, (t, s) in enumerate(pairwise(times), start=1):
            z = noise(x) if self.stochastic and noise is not None else None
            x = step(model, x, t, s, z, guidance)
            if progress is not None:
                progress(done, len(times) - 1)
        return x


def conditioned(model: Denoiser, condition: Tensor | None) -> Denoiser:
    """The same denoiser with its condition (B, ...), the network's third argument, filled in; itself for None."""
    if condition is None:
        return model
    network = _Conditioned(model.network, condition)
    return Denoiser(network, model.schedule, model.head, learned_variance=model.learned_variance, data_range=model.data_range)


def guided(model: Denoiser, p: Prediction, t: Tensor, guidance: Guidance | None) -> Prediction:
    """``eps - sigma grad log p(y | x_t)``, with the clean image that goes with it (Dhariwal & Nichol 2021, algorithm 2).

    Raises ``ValueError`` where alpha is 0: the gradient is 0 there too, and says nothing about the clean image.
    """
    if guidance is None:
        return p
    if bool((model.schedule.alpha(t) == 0).any()):
        when = float(torch.as_tensor(t).max())
        raise ValueError(
            f"guidance needs alpha > 0, some signal, at every time, got t = {when:g} of {model.schedule!r}; "
            "use the karras or log_snr spacing"
        )
    return p.with_x0(p.x0 + p.sigma**2 / p.alpha * gradient(model, p.x, t, guidance))


def gradient(model: Denoiser, x: Tensor, t: Tensor, guidance: Guidance) -> Tensor:
    """The guidance at ``x`` and the network's time (B,); raises ``ValueError`` unless it has the shape of x."""
    grad = guidance(x, model.coefficients(x, t)[2])
    if grad.shape != x.shape:
        raise ValueError(f"guidance must return the shape of x, {tuple(x.shape)}, got {tuple(grad.shape)}")
    return grad
