"""Brownian bridges: diffusion between two images, exact at both ends (Li et al. 2023, BBDM)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from prior.randomness import MemberNoise

__all__ = ["OBJECTIVES", "PATHS", "BridgeDenoiser", "BridgeSampler", "BrownianBridge", "Objective"]


def _linear(T: int) -> Tensor:
    return torch.linspace(0.001, 0.999, T, dtype=torch.float64)


def _sin(T: int) -> Tensor:
    m = 1.0075 ** torch.linspace(0, T, T, dtype=torch.float64)
    m = m / m[-1]
    return torch.cat([m[:-1], torch.tensor([0.999], dtype=torch.float64)])


PATHS: dict[str, Callable[[int], Tensor]] = {"linear": _linear, "sin": _sin}
"""m at t = 0..T-1: the share of the end image."""


@dataclass(frozen=True, kw_only=True)
class BrownianBridge:
    r"""``x_t = (1 - m_t) x_0 + m_t y + sqrt(delta_t) eps`` with ``delta_t = 2 max_var (m_t - m_t^2)``, t = 0..T-1.

    x_0 is the image sought and y the one it ends at. m comes from ``path``, a name in ``PATHS``.
    """

    T: int = 1000
    path: str = "linear"
    max_var: float = 1.0

    def __post_init__(self) -> None:
        if self.T < 3:
            raise ValueError(f"T must be at least 3, got {self.T}")
        if self.path not in PATHS:
            raise ValueError(f"path must be one of {', '.join(PATHS)}, got {self.path!r}")
        if not 0 < self.max_var < math.inf:
            raise ValueError(f"max_var must be positive and finite, got {self.max_var}")

    @property
    def m(self) -> Tensor:
        """Share of y at t = 0..T-1, float64."""
        return PATHS[self.path](self.T)

    @property
    def variance(self) -> Tensor:
        """delta."""
        return 2 * self.max_var * (self.m - self.m**2)

    @property
    def conditional_variance(self) -> Tensor:
        """Of ``q(x_t | x_{t-1}, y)``; at t = 0 delta itself."""
        m, delta = self.m, self.variance
        return torch.cat([delta[:1], delta[1:] - delta[:-1] * ((1 - m[1:]) / (1 - m[:-1])) ** 2])

    @property
    def posterior_variance(self) -> Tensor:
        """Of ``q(x_{t-1} | x_t, x_0, y)``; 0 at t = 0."""
        delta, given = self.variance, self.conditional_variance
        return torch.cat([torch.zeros(1, dtype=torch.float64), given[1:] * delta[:-1] / delta[1:]])

    def coefficients(self, t: int | Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """``m`` and ``sqrt(delta)`` at ``t``, whole, a number or (B,), shaped to multiply ``like`` (B, ...)."""
        index = torch.as_tensor(t).cpu()
        if index.is_floating_point() or bool((index < 0).any()) or bool((index >= self.T).any()):
            raise ValueError(f"t must be whole, in 0..{self.T - 1}, got {index.tolist()}")
        shape = (-1, *[1] * (like.ndim - 1))
        return self.m[index].to(like).view(shape), self.variance[index].sqrt().to(like).view(shape)

    def noised(self, x0: Tensor, y: Tensor, eps: Tensor, t: int | Tensor) -> Tensor:
        """``x_t``, of the shape of x0, y and eps (B, ...)."""
        m, std = self.coefficients(t, x0)
        return (1 - m) * x0 + m * y + std * eps

    def steps(self, count: int) -> list[int]:
        """The times that ``count`` network evaluations visit: T-1 downwards in equal strides, then 1 and 0.

        A count of T visits them all; with a stride below 2, one fewer than ``count`` are visited, since 1 would come twice.
        """
        if not 3 <= count <= self.T:
            raise ValueError(f"count must lie in 3..{self.T}, got {count}")
        if count == self.T:
            return list(range(self.T - 1, -1, -1))
        stride = (self.T - 1) / (count - 2)
        strided = (int(self.T - 1 - k * stride) for k in range(count - 2))
        return [*(t for t in strided if t > 1), 1, 0]


@dataclass(frozen=True)
class Objective:
    """One meaning of a bridge network's output: its target, and the clean image that follows from an output.

    ``target(x0, y, eps, m, std)`` and ``x0(out, x_t, y, m, std)``, all (B, ...).
    """

    target: Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]
    x0: Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]


OBJECTIVES: dict[str, Objective] = {
    "grad": Objective(lambda x0, y, eps, m, std: m * (y - x0) + std * eps, lambda out, x, y, m, std: x - out),
    "noise": Objective(lambda x0, y, eps, m, std: eps, lambda out, x, y, m, std: (x - m * y - std * out) / (1 - m)),
    "ysubx": Objective(lambda x0, y, eps, m, std: y - x0, lambda out, x, y, m, std: y - out),
}
"""``grad`` is ``x_t - x_0``, ``noise`` eps and ``ysubx`` ``y - x_0``."""


class BridgeDenoiser(nn.Module):
    """A network with its bridge and objective; ``model(x, t, y)`` costs one network evaluation.

    Parameters
    ----------
    network: called as ``network(x, t, y)`` with x and y (B, C, H, W) and t (B,), whole.
    bridge: how the network's training images were noised.
    objective: a name in ``OBJECTIVES``.
    """

    def __init__(self, network: nn.Module, bridge: BrownianBridge, objective: str = "grad") -> None:
        super().__init__()
        if objective not in OBJECTIVES:
            raise ValueError(f"objective must be one of {', '.join(OBJECTIVES)}, got {objective!r}")
        self.network, self.bridge, self.objective = network, bridge, objective

    def forward(self, x: Tensor, t: int | Tensor, y: Tensor) -> Tensor:
        """The clean image (B, C, H, W) predicted at ``x``, noised to time ``t`` on the way to ``y``."""
        if x.shape != y.shape:
            raise ValueError(f"y must have the shape of x, {tuple(x.shape)}, got {tuple(y.shape)}")
        m, std = self.bridge.coefficients(t, x)
        out = self.network(x, torch.as_tensor(t, device=x.device).expand(len(x)), y)
        return OBJECTIVES[self.objective].x0(out, x, y, m, std)

    def loss(self, x0: Tensor, y: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """Mean absolute error of the output against its target, one value a batch member, (B,)."""
        m, std = self.bridge.coefficients(t, x0)
        out = self.network(self.bridge.noised(x0, y, eps, t), t, y)
        return (out - OBJECTIVES[self.objective].target(x0, y, eps, m, std)).abs().flatten(1).mean(1)


@dataclass(frozen=True, kw_only=True)
class BridgeSampler:
    r"""From y back to x_0 (Li et al. 2023, algorithm 2); N steps cost N network evaluations.

    From t to q, with ``s^2`` the variance of ``q(x_q | x_t, x_0, y)``,

        x_q = (1 - m_q) x0 + m_q y + sqrt((delta_q - s^2) / delta_t) (x_t - (1 - m_t) x0 - m_t y) + eta s z

    and the last step is x0. The start is y itself, since the bridge has no noise at its ends.

    Parameters
    ----------
    steps: network evaluations.
    eta: share of the noise s that is drawn: 1 for the bridge itself, 0 for a deterministic walk; what is not drawn is left
        out, as the authors do, so that below 1 the images are smoother than the bridge's.
    """

    steps: int = 200
    eta: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.eta <= 1:
            raise ValueError(f"eta must lie in [0, 1], from deterministic to the bridge itself, got {self.eta}")

    def sample(self, model: BridgeDenoiser, y: Tensor, *, seed: int = 0) -> Tensor:
        """What ``y`` (B, C, H, W), in the network's range, came from; the same seed gives the same images."""
        return self.walk(model, y, MemberNoise(seed, len(y)))

    @torch.no_grad()
    def walk(self, model: BridgeDenoiser, y: Tensor, noise: Callable[[Tensor], Tensor]) -> Tensor:
        """From ``y`` (B, ...) to x_0; ``noise(x)`` draws for a step."""
        x, times = y, model.bridge.steps(self.steps)
        for t, q in pairwise(times):
            x = self.step(model, x, y, t, q, noise(x))
        return model(x, times[-1], y)

    def step(self, model: BridgeDenoiser, x: Tensor, y: Tensor, t: int, q: int, z: Tensor) -> Tensor:
        """From ``x`` at time ``t`` to time ``q``."""
        (m_t, delta_t), (m_q, delta_q) = ((float(model.bridge.m[time]), float(model.bridge.variance[time])) for time in (t, q))
        x0 = model(x, t, y)
        variance = max(delta_t - delta_q * ((1 - m_t) / (1 - m_q)) ** 2, 0) * delta_q / delta_t
        s, kept = math.sqrt(variance), math.sqrt((delta_q - variance) / delta_t)
        return (1 - m_q) * x0 + m_q * y + kept * (x - (1 - m_t) * x0 - m_t * y) + self.eta * s * z
