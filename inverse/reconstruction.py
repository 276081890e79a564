"""What every posterior sampler returns: the estimate, how sure it is, and who vouches for which part of it."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from inverse.operators.base import LinearOperator, Operator

__all__ = ["Reconstruction", "Trace"]

PRIOR_STD = 0.25  # spread of a photograph's pixels in [0, 1]: what a measurement's noise is held against in the split


@dataclass(frozen=True)
class Trace:
    """One value a step: the time visited, the data term (mean squared residual) and the noise level."""

    t: tuple[float, ...] = ()
    level: tuple[float, ...] = ()
    residual: tuple[float, ...] = ()


@dataclass(frozen=True, eq=False, kw_only=True)
class Reconstruction:
    """A reconstruction and its evidence; images (B, C, H, W) in [0, 1], not clipped.

    Attributes
    ----------
    estimate: the answer, (B, C, H, W).
    samples: draws from the (approximate) posterior, (S, B, C, H, W); S = 0 where none were asked for.
    measurement: what was measured, ``y``, (B, ...).
    operator: the forward model, with its noise.
    network_calls: evaluations of the network that the estimate and all samples took.
    seconds: wall-clock time.
    settings: the sampler's name and hyper-parameters, the seed, and the range conventions, for the record.
    trace: the estimate's course.
    """

    estimate: Tensor
    samples: Tensor
    measurement: Tensor
    operator: Operator
    network_calls: int
    seconds: float
    settings: dict[str, object] = field(default_factory=dict)
    trace: Trace = field(default_factory=Trace)

    @property
    def std(self) -> Tensor | None:
        """Per-pixel standard deviation over the samples, (B, C, H, W); None with fewer than two samples."""
        return self.samples.std(0) if len(self.samples) > 1 else None

    @property
    def residual(self) -> Tensor:
        """``y - A(estimate)``."""
        with torch.no_grad():
            return self.measurement - self.operator(self.estimate)

    @property
    def residual_ratio(self) -> float | None:
        """RMS of the residual over the noise's standard deviation: 1 where the fit is as good as the noise allows.

        None for a measurement without noise.
        """
        std = self.operator.noise.std(self.measurement)
        if not bool((std > 0).all()):
            return None
        return float((self.residual / std).square().mean().sqrt())

    def split(self) -> tuple[Tensor, Tensor]:
        """``(measured, filled)``: what the measurement fixes of the estimate and what the prior filled in; they sum to it.

        ``measured = (A^H A + rho)^-1 A^H A estimate`` with ``rho`` the squared ratio of the noise to a photograph's own
        spread: the projection ``A^+ A`` for a noiseless measurement, and otherwise only those directions in which the
        measurement says more than the prior. Raises ``TypeError`` for a nonlinear operator, which has no such split.
        """
        if not isinstance(self.operator, LinearOperator):
            raise TypeError(f"the split into measured and filled needs a linear operator, got {self.operator!r}")
        noise = self.operator.noise.std(self.measurement).square().mean().sqrt()
        rho = max(float(noise) / PRIOR_STD, 1e-3) ** 2
        with torch.no_grad():
            measured = self.operator.prox(torch.zeros_like(self.estimate), self.operator(self.estimate), rho)
        return measured, self.estimate - measured
