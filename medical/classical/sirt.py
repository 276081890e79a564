"""Simultaneous algebraic reconstruction, with all views at once and with ordered subsets of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from inverse.operators.base import LinearOperator
from medical.classical.course import Course, Progress
from medical.classical.data_term import relative
from medical.classical.inputs import Bounds, Inputs, check_bounds, check_positive
from medical.classical.result import Classical

__all__ = ["OSSART", "SIRT"]

GOLDEN = (5**0.5 - 1) / 2


@dataclass(frozen=True, kw_only=True)
class SIRT:
    """``x <- P(x + relaxation C A^T R (y - A x))``, R and C one over the sums of A's rows and columns; Gregor & Benson 2008.

    Descends on ``sum_i r_i^2 / (A 1)_i / 2``, within the bounds, and regularises by stopping: where the residual is as small as
    the noise or, where that is not known, after ``iterations``. For operators without negative entries, such as rays.

    Parameters
    ----------
    iterations: at most so many; tolerance: stops where an iteration changes the image relatively by less.
    relaxation: step length in (0, 2).
    bounds: (low, high) that P keeps to; (0, inf) for attenuation, None for no bounds.
    discrepancy: stops where the residual is so many times the noise of the operator; None goes on to the fixed point.
    """

    iterations: int = 200
    tolerance: float = 1e-4
    relaxation: float = 1.0
    bounds: Bounds | None = None
    discrepancy: float | None = 1.0

    def __post_init__(self) -> None:
        _check(self)

    @torch.no_grad()
    def reconstruct(
        self, A: LinearOperator, y: Tensor, *, start: Tensor | None = None, progress: Progress | None = None
    ) -> Classical:
        """Of ``y`` (B, ...), from the image ``start``."""
        inputs = Inputs.checked(A, y, start, self.bounds)
        course = Course(self, inputs, discrepancy=self.discrepancy, progress=progress)
        x = inputs.x
        R, C = _inverse_sums(A, inputs)
        r = inputs.y - A(x)
        course.start_fits(r)
        for _ in course:
            x_next = course.keep(_clamped(x + self.relaxation * C * A.adjoint(R * r), self.bounds), x)
            moved, x = x_next - x, x_next
            r = inputs.y - A(x)
            course.record(relative(moved, x), residual=r, objective=(R * r.square()).flatten(1).sum(1) / 2)
        return course.result(x)


@dataclass(frozen=True, kw_only=True)
class OSSART:
    """SIRT with a step after every one of ``subsets`` of the views, so that an iteration goes about as far as so many.

    Wang & Jiang 2004 (J. X-Ray Science and Technology 12, 169). Subset k holds views k, k + subsets, ...; they follow one
    another by the golden section, each far from the last. With noise the images end in a cycle rather than a point, whose
    size a smaller ``relaxation`` reduces. The residual on record, which the discrepancy is held against, is that of each
    subset when its turn came.

    Parameters
    ----------
    subsets: 1 is SIRT, the number of views is SART.
    iterations, tolerance, relaxation, bounds, discrepancy: as for :class:`SIRT`.
    """

    subsets: int = 10
    iterations: int = 20
    tolerance: float = 1e-3
    relaxation: float = 1.0
    bounds: Bounds | None = None
    discrepancy: float | None = 1.0

    def __post_init__(self) -> None:
        _check(self)
        check_positive(subsets=self.subsets)

    @torch.no_grad()
    def reconstruct(
        self, A: LinearOperator, y: Tensor, *, start: Tensor | None = None, progress: Progress | None = None
    ) -> Classical:
        """Of ``y`` (B, 1, views, ...), from the image ``start``."""
        inputs = Inputs.checked(A, y, start, self.bounds)
        parts = self._parts(inputs)
        course = Course(self, inputs, discrepancy=self.discrepancy, progress=progress)
        x, r = inputs.x, torch.empty_like(inputs.y)
        for _ in course:
            before = x
            for views, B, R, C in parts:
                r[:, :, views] = inputs.y[:, :, views] - B(x)
                x = course.keep(_clamped(x + self.relaxation * C * B.adjoint(R * r[:, :, views]), self.bounds), x)
            course.record(relative(x - before, x), residual=r)
        return course.result(x)

    def _parts(self, inputs: Inputs) -> list[tuple[slice, LinearOperator, Tensor, Tensor]]:
        """Views, their operator, R and C of every subset, in turn."""
        subset = cast(Callable[[slice], LinearOperator] | None, getattr(inputs.A, "subset", None))
        if subset is None:
            raise TypeError(f"ordered subsets need an operator with subset(views), as a Projector, got {inputs.A!r}; use SIRT")
        views, parts = inputs.y.shape[2], []
        if self.subsets > views:
            raise ValueError(f"subsets must be at most the number of views, {views}, got {self.subsets}")
        for k in _golden_order(self.subsets):
            chosen = slice(k, views, self.subsets)
            B = subset(chosen)
            part = Inputs(B, inputs.y[:, :, chosen], inputs.b, inputs.x)
            parts.append((chosen, B, *_inverse_sums(B, part)))
        return parts


def _golden_order(count: int) -> list[int]:
    """The numbers below ``count``, each far from the last: the ranks of the multiples of the golden section, modulo 1."""
    places = [(t * GOLDEN) % 1 for t in range(count)]
    return [sorted(places).index(place) for place in places]


def _inverse_sums(A: LinearOperator, inputs: Inputs) -> tuple[Tensor, Tensor]:
    """``1 / (A 1)`` and ``1 / (A^T 1)``; 0 for rays that meet nothing and pixels that none meets."""
    x, y = inputs.x[:1], inputs.y[:1]
    if x.is_complex() or y.is_complex():
        raise TypeError(f"SIRT needs an operator without negative entries, {A!r} is complex; use CGLS or CGSense")
    rows, columns = A(torch.ones_like(x)), A.adjoint(torch.ones_like(y))
    if bool((rows < 0).any() or (columns < 0).any()):
        raise ValueError(f"SIRT needs an operator without negative entries, {A!r} has negative sums; use CGLS")
    return _inverse(rows), _inverse(columns)


def _inverse(sums: Tensor) -> Tensor:
    small = 1e-6 * sums.max()
    return torch.where(sums > small, 1 / sums.clamp(min=small), 0)


def _clamped(x: Tensor, bounds: Bounds | None) -> Tensor:
    return x if bounds is None else x.clamp_(*bounds)


def _check(method: SIRT | OSSART) -> None:
    check_positive(iterations=method.iterations, tolerance=method.tolerance, discrepancy=method.discrepancy)
    check_bounds(method.bounds)
    if not 0 < method.relaxation < 2:
        raise ValueError(f"relaxation must lie in (0, 2), got {method.relaxation}; 1 is the usual step")
