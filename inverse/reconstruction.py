"""What every posterior sampler returns: the estimate, how sure it is, and who vouches for which part of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from inverse.operators.base import LinearOperator, Operator

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Reconstruction", "Trace", "joined"]

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

        None for a measurement without noise. Real and imaginary part of complex data count apart, as their noise does.
        """
        std = self.operator.noise.std(self.measurement)
        if not bool((std > 0).all()):
            return None
        ratio = (self.residual / std).abs().square().mean()
        return float((ratio / 2 if self.residual.is_complex() else ratio).sqrt())

    def split(self) -> tuple[Tensor, Tensor]:
        """``(measured, filled)``: what the measurement fixes of the estimate and what the prior filled in; they sum to it.

        ``measured = (A^H A + rho)^-1 A^H A estimate`` with ``rho`` the squared ratio of the noise to a photograph's own
        spread: the projection ``A^+ A`` for a noiseless measurement, and otherwise only those directions in which the
        measurement says more than the prior. Raises ``TypeError`` for a nonlinear operator, which has no such split.
        """
        measured = self.project(self.estimate)
        return measured, self.estimate - measured

    def measured_share(self, *, seed: int = 0) -> float | None:
        """Share of the image's degrees of freedom that the measurement fixes; the prior has to supply the others.

        The trace of the split's ``(A^H A + rho)^-1 A^H A`` over its size, estimated with one random probe (Hutchinson
        1990): 0.2 where one pixel in five is seen, 1 / 16 for a reduction by four. None for a nonlinear operator.
        """
        if not isinstance(self.operator, LinearOperator):
            return None
        probe = torch.randint(0, 2, self.estimate.shape, generator=torch.Generator().manual_seed(seed))
        probe = (2 * probe - 1).to(self.estimate)
        return float((probe.conj() * self.project(probe)).real.mean())

    def project(self, x: Tensor) -> Tensor:
        """What the measurement fixes of any image ``x`` (B, C, H, W), as in ``split``."""
        if not isinstance(self.operator, LinearOperator):
            raise TypeError(f"the split into measured and filled needs a linear operator, got {self.operator!r}")
        noise = self.operator.noise.std(self.measurement).square().mean().sqrt()
        rho = max(float(noise) / PRIOR_STD, 1e-3) ** 2
        with torch.no_grad():
            return self.operator.prox(torch.zeros_like(x), self.operator(x), rho)

    def save(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Write a folder of pictures, arrays and a record, or the estimate alone as ``.png``; see :mod:`inverse.saving`."""
        from inverse.saving import save

        return save(self, path, overwrite=overwrite)

    def draw(self, member: int = 0) -> Figure:
        """A matplotlib figure of batch member ``member``; see :mod:`inverse.drawing`."""
        from inverse.drawing import draw

        return draw(self, member)


def joined(parts: Sequence[Reconstruction]) -> Reconstruction:
    """Reconstructions of one operator as one batch; calls and seconds add up, settings and trace are the first's."""
    first = parts[0]
    return replace(
        first,
        estimate=torch.cat([part.estimate for part in parts]),
        samples=torch.cat([part.samples for part in parts], 1),
        measurement=torch.cat([part.measurement for part in parts]),
        network_calls=sum(part.network_calls for part in parts),
        seconds=sum(part.seconds for part in parts),
    )
