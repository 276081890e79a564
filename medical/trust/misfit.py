r"""Whether a volume explains its measurement as well as the noise allows: chi-square, with its degrees of freedom."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from inverse.operators.base import LinearOperator
from inverse.reconstruction import PRIOR_STD, Reconstruction
from medical.transmission import Weighted
from medical.trust.portions import Portion, portions

__all__ = ["ChiSquare", "chi_square"]

TOLERANCE = 1e-5  # of the conjugate gradients, where a hundred iterations reach it


@dataclass(frozen=True, kw_only=True)
class ChiSquare:
    """The misfit of a volume against what noise alone would leave.

    Attributes
    ----------
    value: ``sum |y - A x|^2 / std^2`` over the measured numbers.
    count: how many numbers were measured, a complex one counting twice.
    expected: what ``value`` would be on average, were prior and noise as assumed; see :func:`chi_square`.
    z: how many standard deviations ``value`` lies above that, taking them from above: see :func:`chi_square`.
    """

    value: float
    count: int
    expected: float
    z: float

    @property
    def reduced(self) -> float:
        """``value / expected``: 1 where the fit is as good as the noise allows, more where it misses something measured."""
        return self.value / self.expected


@torch.no_grad()
def chi_square(reconstruction: Reconstruction, *, chunk: int = 16, seed: int = 0) -> ChiSquare | None:
    """The misfit of the estimate; None for a measurement without noise. In the memory of ``chunk`` slices at a time.

    Points of k-space that were not measured are exactly zero on both sides and are not counted.

    A fit uses up degrees of freedom: measured numbers that were needed to fix the image follow their own noise and leave less
    of it behind. With ``W = 1 / std`` and images that spread by s = 0.25 about what the prior would say without them, ::

        dof = tr (A^H W^2 A + s^-2)^-1 A^H W^2 A,        expected = count - (1 - 1 / S) dof

    for the mean of S independent draws: a draw from the posterior misses y as the truth does, by the noise in full, their
    mean, or an estimate without draws (S taken as infinite), by ``count - dof``. The trace is estimated with one random probe
    (Hutchinson 1990), and s stands for the prior, whose own spread is not known.

    So the figure is rough where few numbers are left over: for 8 views of a slice nearly all of them fix something, and only
    a value far from ``expected`` says anything, that the noise is another than stated, say, or the geometry wrong. Samplers
    are approximate: a value some tens of per cent off is no fault. In z the variance is ``2 expected``, which is more than
    residuals of a fit have, and that of the probe, at most ``2 dof`` for real and ``4 dof`` for complex images.

    Parameters
    ----------
    chunk: slices at a time, for an operator of slices.
    seed: of the probe.

    Raises ``TypeError`` for an operator that is not linear.
    """
    value, count, dof, doubt = 0.0, 0, 0.0, 0.0
    generator = torch.Generator().manual_seed(seed)
    for part in portions(reconstruction, chunk):
        std = part.operator.noise.std(part.measurement)
        if not bool((std > 0).all()):
            return None
        probe = torch.randint(0, 2, part.estimate.shape, generator=generator)
        probe = (2 * probe - 1).to(part.estimate)
        measured = _measured(part, probe)
        off = ((part.measurement - part.operator(part.estimate)) / std)[measured]
        numbers = 2 if off.is_complex() else 1
        value += float(off.abs().square().sum(dtype=torch.float64))
        count += numbers * int(measured.sum())
        parts = 2 if probe.is_complex() else 1
        found = parts * _freedom(part.operator, std, probe)
        dof, doubt = dof + found, doubt + 2 * parts * max(found, 0.0)
    draws = len(reconstruction.samples)
    share = 1 - 1 / draws if draws else 1.0
    expected = max(count - share * dof, 1.0)
    z = (value - expected) / math.sqrt(2 * expected + share**2 * doubt)
    return ChiSquare(value=value, count=count, expected=expected, z=z)


def _measured(part: Portion, probe: Tensor) -> Tensor:
    """Which numbers were measured: all, but for points of k-space that the operator leaves zero, or that are."""
    y = part.measurement
    return (y != 0) & (part.operator(probe) != 0) if y.is_complex() else torch.ones_like(y, dtype=torch.bool)


def _freedom(A: LinearOperator, std: Tensor, probe: Tensor) -> float:
    """``probe^H (M + s^-2)^-1 M probe`` with ``M = A^H W^2 A``, as ``probe^H (probe - s^-2 (M + s^-2)^-1 probe)``.

    Of this form a hundred iterations of conjugate gradients are enough: for a slice of 256 x 256 pixels it comes out 0.6 % too
    low in 8 views with 1e5 photons and 0.1 % in 4x MRI of eight coils, where the probe itself is uncertain by up to 3 and 1 %.
    """
    if std.numel() == 1:
        rho = (float(std) / PRIOR_STD) ** 2
    else:
        A, rho = Weighted(A, std.square().reciprocal()), PRIOR_STD**-2
    unseen = A.prox(probe, A(torch.zeros_like(probe)), rho, tolerance=TOLERANCE)
    return float((probe.conj() * (probe - unseen)).real.sum(dtype=torch.float64))
