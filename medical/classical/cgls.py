"""Least squares by conjugate gradients, regularised by stopping early or by a quadratic penalty."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from inverse.operators.base import LinearOperator
from inverse.operators.solve import inner
from medical.classical.course import Course, Progress
from medical.classical.data_term import data_term, size
from medical.classical.inputs import Inputs, check_positive, check_weight
from medical.classical.result import Classical
from medical.classical.spectral_norm import spectral_norm
from medical.classical.weights import as_setting

__all__ = ["CGLS", "CGSense"]

STRENGTH = 8.0  # of the weight against that of the Wiener filter of a white image; real ones have less at high frequencies
SHARE = 1e-3  # of |A|^2, for the weight of CG-SENSE without noise


@dataclass(frozen=True, kw_only=True)
class CGLS:
    """``argmin_x |A x - y|^2 / 2 + weight |x|^2 / 2`` by conjugate gradients; Björck 1996, section 7.4.

    In the form with the residual ``r = y - A x``, whose norm falls at every step (with ``weight`` 0): one application of A and
    one of its adjoint an iteration. Without a weight the iterations regularise, for the solution's smooth parts come first and
    its noise last: it stops where the residual is down to the noise, and where that is not known, ``iterations`` decide.

    Parameters
    ----------
    weight: of ``|x|^2 / 2``; None takes the rule of :class:`CGSense`.
    iterations: at most so many.
    tolerance: stops where ``|A^H r - weight x|`` is so small a part of what it is for x = 0.
    discrepancy: stops where the residual is so many times the noise of the operator; None goes on to the least squares.
    """

    weight: float | None = 0.0
    iterations: int = 50
    tolerance: float = 1e-5
    discrepancy: float | None = 1.0

    def __post_init__(self) -> None:
        check_weight(self.weight)
        check_positive(iterations=self.iterations, tolerance=self.tolerance, discrepancy=self.discrepancy)

    @torch.no_grad()
    def reconstruct(
        self, A: LinearOperator, y: Tensor, *, start: Tensor | None = None, progress: Progress | None = None
    ) -> Classical:
        """Of ``y`` (B, ...), from the image ``start``."""
        inputs = Inputs.checked(A, y, start)
        course = Course(self, inputs, discrepancy=self.discrepancy, measure="gradient", progress=progress)
        weight = self._weight(inputs)
        f, x = data_term(inputs), inputs.x
        image = f.image(x)
        s = -f.gradient(image) - weight * x
        p, gamma = s, inner(s, s).real
        zero = size(inputs.b)
        if (r := f.residual(image)) is not None:
            course.start_fits(r)
        for _ in course:
            q = f.image(p)
            curvature = f.curvature(q, p) + weight * inner(p, p).real
            step = torch.where(course.active & (curvature > 0), gamma / curvature.clamp(min=_tiny(gamma)), 0)
            x = x + step * p
            image = image + step.view(-1, *[1] * (image.ndim - 1)) * q
            s = -f.gradient(image) - weight * x
            gamma, before = inner(s, s).real, gamma
            p = s + gamma / before.clamp(min=_tiny(gamma)) * p
            objective = f.value(image, x) + (weight * inner(x, x).real).flatten() / 2
            course.record(size(s) / zero.clamp(min=_tiny(gamma)), residual=f.residual(image), objective=objective)
        return course.result(x, weight=as_setting(weight))

    def _weight(self, inputs: Inputs) -> Tensor:
        """As given, or by the rule: 8 sigma^2 over the mean square of the image, estimated by ``A^H y / |A|^2``."""
        x = inputs.x
        if self.weight is not None:
            return x.real.new_full((1,) * x.ndim, self.weight)
        scale = spectral_norm(inputs.A, x).square()
        std = inputs.A.noise.std(inputs.y).expand(inputs.y.shape).flatten(1)
        variance = std.square().mean(1).view(-1, *[1] * (x.ndim - 1)) * (2 if inputs.y.is_complex() else 1)
        power = (inputs.b / scale).abs().square().flatten(1).mean(1).clamp(min=_tiny(scale)).view(-1, *[1] * (x.ndim - 1))
        return torch.where(variance > 0, STRENGTH * variance / power, SHARE * scale)


@dataclass(frozen=True, kw_only=True)
class CGSense(CGLS):
    """Conjugate gradients on ``(A^H A + weight) x = A^H y``, as for MRI with several coils; Pruessmann et al. 2001.

    CGLS with a quadratic penalty from the start, run until it has converged.

    Parameters
    ----------
    weight: of ``|x|^2 / 2``. None is 8 times the variance of the noise over the mean square of the image, which is estimated
        by ``A^H y / |A|^2`` (the filter of Wiener has 1 for a white image; real ones have less at high frequencies);
        ``1e-3 |A|^2`` where the operator has no noise.
    iterations, tolerance, discrepancy: as for :class:`CGLS`.
    """

    weight: float | None = None
    iterations: int = 50
    tolerance: float = 1e-4
    discrepancy: float | None = None


def _tiny(x: Tensor) -> float:
    return torch.finfo(x.dtype).tiny
