"""What every classical method returns: the estimate, how it got there, and whether it arrived."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from inverse.operators.base import LinearOperator

__all__ = ["Classical", "Trace", "noise_ratio"]


@dataclass(frozen=True)
class Trace:
    """One value an iteration; a batch is summed up in it.

    Attributes
    ----------
    objective: what the method minimises, the sum over the batch; empty where it minimises nothing.
    residual: ``|y - A x|``, over the whole batch; empty where the method works with ``A^H A`` alone.
    change: the relative change that is held against the tolerance, the largest of the batch.
    seconds: since the start.
    """

    objective: tuple[float, ...] = ()
    residual: tuple[float, ...] = ()
    change: tuple[float, ...] = ()
    seconds: tuple[float, ...] = ()


@dataclass(frozen=True, eq=False, kw_only=True)
class Classical:
    """A reconstruction by a classical method.

    Attributes
    ----------
    estimate: the answer, in the shape of the operator's images, (B, C, H, W) or (B, C, D, H, W).
    operator: the forward model, with its noise.
    measurement: what was measured, ``y``, (B, ...).
    iterations: done, the most that a member of the batch needed.
    converged: whether every member of the batch met a stopping rule.
    reason: why it stopped, one sentence; with advice where it did not converge.
    trace: the course of the iterations.
    seconds: wall-clock time.
    settings: the method's name and its settings, those chosen by rule with their values.
    """

    estimate: Tensor
    operator: LinearOperator
    measurement: Tensor
    iterations: int
    converged: bool
    reason: str
    seconds: float
    trace: Trace = field(default_factory=Trace)
    settings: dict[str, object] = field(default_factory=dict)

    @property
    def residual(self) -> Tensor:
        """``y - A(estimate)``."""
        with torch.no_grad():
            return self.measurement - self.operator(self.estimate)

    @property
    def residual_ratio(self) -> float | None:
        """RMS of the residual over the noise's standard deviation: 1 where the fit is as good as the noise allows.

        None for a measurement without noise. Real and imaginary part of complex data count apart; points of the measurement
        that are exactly zero, as unmeasured k-space is, do not count.
        """
        std = self.operator.noise.std(self.measurement)
        if not bool((std > 0).all()):
            return None
        return float(noise_ratio(self.residual, self.measurement, std).square().mean().sqrt())


def noise_ratio(residual: Tensor, y: Tensor, std: Tensor) -> Tensor:
    """RMS of ``residual / std`` of each batch member, (B,), over the points where ``y`` is not zero."""
    parts = 2 if y.is_complex() else 1
    counted = (y != 0).flatten(1).sum(1).clamp(min=1) * parts
    return ((residual / std).abs().square().flatten(1).sum(1) / counted).sqrt()
