"""The exact mixture behind a mean-reverting schedule or a bridge: what a network answers if it can do no wrong."""

from __future__ import annotations

from torch import Tensor, nn

from prior.bridges import OBJECTIVES, BridgeDenoiser, BrownianBridge
from prior.denoiser import Denoiser, ImageHead
from prior.mixture import GaussianMixture
from prior.schedules import Schedule

__all__ = ["exact_bridge", "shifted_denoiser"]


class _Shifted(nn.Module):
    def __init__(self, mixture: GaussianMixture, schedule: Schedule, mu: Tensor | None) -> None:
        super().__init__()
        self.mixture, self.schedule, self.mu = mixture, schedule, mu

    def forward(self, y: Tensor, t: Tensor, mu: Tensor | None = None) -> Tensor:
        mu = self.mu if mu is None else mu
        alpha, sigma = self.schedule.alpha(t), self.schedule.sigma(t)
        # x - (1 - alpha) mu = y + alpha mu is the mixture, noised
        return self.mixture.x0(y + alpha.view(-1, *[1] * (y.ndim - 1)) * mu, alpha, sigma) - mu


def shifted_denoiser(mixture: GaussianMixture, schedule: Schedule, mu: Tensor | None = None) -> Denoiser:
    """Of ``y = x - mu`` with x from ``mixture``; mu (B, ...) is filled in here, or comes as the condition."""
    return Denoiser(_Shifted(mixture, schedule, mu), schedule, ImageHead(), data_range=(0.0, 1.0))


class _ExactBridge(nn.Module):
    def __init__(self, mixture: GaussianMixture, bridge: BrownianBridge, objective: str) -> None:
        super().__init__()
        self.mixture, self.bridge, self.objective = mixture, bridge, objective

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        m, std = self.bridge.coefficients(t, x)
        x0 = self.mixture.x0(x - m * y, (1 - m).flatten(), std.flatten())
        eps = (x - (1 - m) * x0 - m * y) / std
        return OBJECTIVES[self.objective].target(x0, y, eps, m, std)


def exact_bridge(mixture: GaussianMixture, bridge: BrownianBridge, objective: str = "grad") -> BridgeDenoiser:
    """Of x_0 from ``mixture``, whatever y it ends at."""
    return BridgeDenoiser(_ExactBridge(mixture, bridge, objective), bridge, objective)
