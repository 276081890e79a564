"""How a variational sampler moves its image: Adam, gradient descent, or an implicit step through the proximal map.

Each is a value with ``init`` and ``step``; the state lives in the caller's loop, so that one object serves many runs.
The objective is a data term plus a prior term: the first is handed over whole, of the second only its gradient at the
current point and its curvature.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

__all__ = ["SGD", "Adam", "AdamState", "DataTerm", "Implicit", "Optimizer"]


class DataTerm(Protocol):
    """The part of the objective that knows the measurement."""

    def gradient(self, x: Tensor) -> Tensor:
        """Gradient at ``x``."""
        ...

    def prox(self, x: Tensor, curvature: Tensor) -> Tensor:
        """The minimiser of the data term plus ``curvature |u - x|^2 / 2`` over u."""
        ...


class Optimizer(Protocol):
    """One step on ``data(x) + prior(x)``."""

    def init(self, x: Tensor) -> Any:
        """The state before the first step."""
        ...

    def step(self, x: Tensor, prior_grad: Tensor, curvature: Tensor, data: DataTerm, state: Any) -> tuple[Tensor, Any]:
        """The next point and state."""
        ...


@dataclass(frozen=True)
class AdamState:
    """First and second moment and the number of steps taken."""

    m: Tensor
    v: Tensor
    count: int = 0


@dataclass(frozen=True, kw_only=True)
class Adam:
    """Kingma & Ba 2015, algorithm 1, with the second decay that RED-Diff uses."""

    lr: float = 0.1
    betas: tuple[float, float] = (0.9, 0.99)
    eps: float = 1e-8

    def init(self, x: Tensor) -> AdamState:
        return AdamState(torch.zeros_like(x), torch.zeros_like(x))

    def step(
        self, x: Tensor, prior_grad: Tensor, curvature: Tensor, data: DataTerm, state: AdamState
    ) -> tuple[Tensor, AdamState]:
        grad = prior_grad + data.gradient(x)
        (b1, b2), count = self.betas, state.count + 1
        m = b1 * state.m + (1 - b1) * grad
        v = b2 * state.v + (1 - b2) * grad.square()
        m_hat, v_hat = m / (1 - b1**count), v / (1 - b2**count)
        return x - self.lr * m_hat / (v_hat.sqrt() + self.eps), AdamState(m, v, count)


@dataclass(frozen=True, kw_only=True)
class SGD:
    """Gradient descent with heavy-ball momentum (Polyak 1964); the state is the velocity."""

    lr: float
    momentum: float = 0.0

    def init(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x)

    def step(self, x: Tensor, prior_grad: Tensor, curvature: Tensor, data: DataTerm, state: Tensor) -> tuple[Tensor, Tensor]:
        velocity = self.momentum * state + prior_grad + data.gradient(x)
        return x - self.lr * velocity, velocity


@dataclass(frozen=True, kw_only=True)
class Implicit:
    """A gradient step on the prior, then a proximal step on the data: forward-backward splitting (Combettes & Wajs 2005).

    Step k is as long as ``1 / (1 + decay k)`` over the prior's curvature: the first step lands on the denoised image, later
    ones average over the noise that was drawn (Robbins & Monro 1951). The data term is solved exactly, so that no
    ill-conditioned operator slows the run down: the choice for linear operators. The state is k.
    """

    decay: float = 0.05

    def init(self, x: Tensor) -> int:
        return 0

    def step(self, x: Tensor, prior_grad: Tensor, curvature: Tensor, data: DataTerm, state: int) -> tuple[Tensor, int]:
        precision = (1 + self.decay * state) * curvature
        return data.prox(x - prior_grad / precision, precision), state + 1
