r"""The denoiser: a network, its schedule and what it predicts, seen through one call.

``model(x, t)`` evaluates the network once and returns a :class:`Prediction`, in which the clean image and the noise are
two views of the same output. What the network was trained to predict is a *head*; no code outside this file asks.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from prior.schedules import Schedule

__all__ = ["Denoiser", "EDMHead", "Head", "ImageHead", "NoiseHead", "Prediction", "ScoreHead", "VHead", "VelocityHead"]


@dataclass(frozen=True)
class Prediction:
    """What one network evaluation at ``(x, t)`` says; all tensors have the shape of ``x``, in the network's range.

    ``x = alpha x0 + sigma eps`` holds exactly between the four. ``variance`` is the raw second half of the output of a
    network that learns its variance (Nichol & Dhariwal 2021, eq. 15), else None.
    """

    x: Tensor
    x0: Tensor
    eps: Tensor
    alpha: Tensor
    sigma: Tensor
    variance: Tensor | None = None

    @property
    def score(self) -> Tensor:
        """``grad_x log p_t(x) = -eps / sigma``."""
        return -self.eps / self.sigma

    @property
    def v(self) -> Tensor:
        """``alpha eps - sigma x0`` (Salimans & Ho 2022)."""
        return self.alpha * self.eps - self.sigma * self.x0

    @property
    def velocity(self) -> Tensor:
        """``eps - x0``, the direction of the straight path (Liu et al. 2023)."""
        return self.eps - self.x0

    def with_x0(self, x0: Tensor) -> Prediction:
        """The same point with another clean image; the noise is derived again from it."""
        return Prediction(self.x, x0, (self.x - self.alpha * x0) / self.sigma, self.alpha, self.sigma, self.variance)

    def clip(self, low: float = -1.0, high: float = 1.0) -> Prediction:
        """The same point with the clean image clamped to the data's range, as ADM and DPS do at each step."""
        return self.with_x0(self.x0.clamp(low, high))


class Head:
    """One meaning of a network's output: what goes in, what comes out, and the regression target of its training."""

    def inputs(self, x: Tensor, t: Tensor, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """What the network is fed for ``x`` (B, ...) at time ``t`` (B,)."""
        return x, t

    def x0_eps(self, out: Tensor, x: Tensor, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """Clean image and noise from the output ``out``."""
        raise NotImplementedError(f"{type(self).__name__} must define x0_eps")

    def target(self, x0: Tensor, eps: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """What a perfect network would output for this clean image and noise."""
        raise NotImplementedError(f"{type(self).__name__} must define target")


@dataclass(frozen=True)
class NoiseHead(Head):
    """The output is the noise (Ho et al. 2020)."""

    def x0_eps(self, out: Tensor, x: Tensor, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        return (x - sigma * out) / alpha, out

    def target(self, x0: Tensor, eps: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        return eps


@dataclass(frozen=True)
class ImageHead(Head):
    """The output is the clean image."""

    def x0_eps(self, out: Tensor, x: Tensor, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        return out, (x - alpha * out) / sigma

    def target(self, x0: Tensor, eps: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        return x0


@dataclass(frozen=True)
class ScoreHead(Head):
    """The output is the score ``-eps / sigma`` (Song et al. 2021)."""

    def x0_eps(self, out: Tensor, x: Tensor, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        return (x + sigma**2 * out) / alpha, -sigma * out

    def target(self, x0: Tensor, eps: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        return -eps / sigma


@dataclass(frozen=True)
class VHead(Head):
    """The output is ``v = alpha eps - sigma x0`` (Salimans & Ho 2022)."""

    def x0_eps(self, out: Tensor, x: Tensor, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        energy = alpha**2 + sigma**2  # one for a variance-preserving schedule
        return (alpha * x - sigma * out) / energy, (sigma * x + alpha * out) / energy

    def target(self, x0: Tensor, eps: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        return alpha * eps - sigma * x0


@dataclass(frozen=True)
class VelocityHead(Head):
    """The output is ``eps - x0``, the velocity of a straight path (Liu et al. 2023)."""

    def x0_eps(self, out: Tensor, x: Tensor, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        total = alpha + sigma  # one for a rectified flow
        return (x - sigma * out) / total, (x + alpha * out) / total

    def target(self, x0: Tensor, eps: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        return eps - x0


@dataclass(frozen=True)
class EDMHead(Head):
    """The preconditioned output of Karras et al. 2022, table 1: ``D = c_skip x + c_out F(c_in x, log(sigma) / 4)``.

    Works with any schedule, since ``x / alpha`` at the noise level ``sigma / alpha`` is what EDM calls x and sigma.
    """

    sigma_data: float = 0.5

    def _coefficients(self, level: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        total = level**2 + self.sigma_data**2
        return self.sigma_data**2 / total, level * self.sigma_data / total.sqrt(), 1 / total.sqrt()

    def inputs(self, x: Tensor, t: Tensor, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        level = sigma / alpha
        _, _, c_in = self._coefficients(level)
        return c_in * (x / alpha), level.flatten().log() / 4

    def x0_eps(self, out: Tensor, x: Tensor, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        c_skip, c_out, _ = self._coefficients(sigma / alpha)
        x0 = c_skip * (x / alpha) + c_out * out
        return x0, (x - alpha * x0) / sigma

    def target(self, x0: Tensor, eps: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        c_skip, c_out, _ = self._coefficients(sigma / alpha)
        return (x0 - c_skip * (x0 + sigma / alpha * eps)) / c_out


class Denoiser(nn.Module):
    """A network with its schedule and head; ``model(x, t)`` costs one network evaluation.

    Parameters
    ----------
    network: called as ``network(x, t)`` or ``network(x, t, condition)`` with x (B, C, H, W) and t (B,).
    schedule: how the network's training images were noised.
    head: what the network predicts.
    learned_variance: the output has twice the channels, the second half being the variance.
    data_range: the values that black and white take inside the network; the public side is [0, 1].
    """

    def __init__(
        self,
        network: nn.Module,
        schedule: Schedule,
        head: Head | None = None,
        *,
        learned_variance: bool = False,
        data_range: tuple[float, float] = (-1.0, 1.0),
    ) -> None:
        super().__init__()
        self.network = network
        self.schedule = schedule
        self.head = head or NoiseHead()
        self.learned_variance = learned_variance
        self.data_range = (float(data_range[0]), float(data_range[1]))

    def forward(self, x: Tensor, t: float | Tensor, condition: Tensor | None = None) -> Prediction:
        """Clean image and noise at ``x`` (B, C, H, W), noised to time ``t`` (a number, or one a batch member)."""
        alpha, sigma, time = self.coefficients(x, t)
        x_in, t_in = self.head.inputs(x, time, alpha, sigma)
        out = self.network(x_in, t_in) if condition is None else self.network(x_in, t_in, condition)
        out, variance = out.chunk(2, dim=1) if self.learned_variance else (out, None)
        if out.shape != x.shape:
            raise ValueError(
                f"the network must return the shape of x, {tuple(x.shape)}, got {tuple(out.shape)}; "
                "a network that learns its variance needs learned_variance=True"
            )
        x0, eps = self.head.x0_eps(out, x, alpha, sigma)
        return Prediction(x, x0, eps, alpha, sigma, variance)

    def coefficients(self, x: Tensor, t: float | Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """``alpha`` and ``sigma``, shaped to multiply ``x``, and the network's time (B,), in the dtype of ``x``."""
        t = torch.as_tensor(t, dtype=torch.float64, device=x.device)
        if t.shape not in ((), (1,), (x.shape[0],)):
            raise ValueError(f"t must be a number or have shape ({x.shape[0]},), one time a batch member, got {tuple(t.shape)}")
        t = t.expand(x.shape[0])
        shape = (-1, *[1] * (x.ndim - 1))
        alpha, sigma = self.schedule.alpha(t), self.schedule.sigma(t)
        return alpha.to(x.dtype).view(shape), sigma.to(x.dtype).view(shape), self.schedule.network_time(t).to(x.dtype)

    def noised(self, x0: Tensor, eps: Tensor, t: float | Tensor) -> Tensor:
        """``x_t = alpha(t) x_0 + sigma(t) eps``."""
        alpha, sigma, _ = self.coefficients(x0, t)
        return alpha * x0 + sigma * eps

    def to_network(self, image: Tensor) -> Tensor:
        """From [0, 1] to the network's range."""
        low, high = self.data_range
        return image * (high - low) + low

    def to_image(self, x: Tensor) -> Tensor:
        """From the network's range to [0, 1], without clipping."""
        low, high = self.data_range
        return (x - low) / (high - low)

    def with_schedule(self, schedule: Schedule) -> Denoiser:
        """The same network behind another schedule; only for heads that read the noise level, not the time."""
        if not isinstance(self.head, EDMHead):
            raise TypeError(
                f"only a denoiser with an EDMHead reads noise levels and can change its schedule; this one has {self.head!r}"
            )
        return Denoiser(self.network, schedule, self.head, learned_variance=self.learned_variance, data_range=self.data_range)
