"""Total variation by the alternating direction method of multipliers: few iterations, each with an inner linear solve."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from inverse.operators.base import LinearOperator
from inverse.operators.solve import conjugate_gradient, inner
from medical.classical.course import Course, Progress
from medical.classical.data_term import data_term, size
from medical.classical.differences import divergence, gradient, magnitude
from medical.classical.inputs import Bounds
from medical.classical.result import Classical
from medical.classical.tv import channels_of, image_of
from medical.classical.tv_problem import TVProblem, check_tv_settings

__all__ = ["ADMMTV"]

RELAXATION = 1.7
IMBALANCE = 5.0  # of the two residuals, from which on rho moves
STEP = 2.0  # that it moves by


@dataclass(frozen=True, kw_only=True)
class ADMMTV:
    """``argmin_x |A x - y|^2 / 2 + weight TV(x)``, within the bounds, by ADMM on the splitting ``v = D x`` and ``w = x``.

    Boyd et al. 2011 (scaled form, section 3.1.1), over-relaxed (3.4.3), with rho balanced between the two residuals (3.4.1)
    for every member of the batch by itself::

        x <- (A^H A + rho D^H D)^-1 (A^H y + rho D^H (v - u))     by conjugate gradients from the last x
        v <- shrink(D x + u, weight / rho),     u <- u + D x - v

    and alike for w, which keeps within the bounds. It pays where FISTA is slow: ill-conditioned operators, small weights.

    Parameters
    ----------
    weight, bounds: as for :class:`medical.classical.fista_tv.FISTATV`.
    iterations: at most so many.
    tolerance: stops where both residuals, ``|D x - v|`` and ``rho |D^H (v - v_old)|``, are relatively less (3.3.1).
    inner: conjugate gradient steps, at most, for each x.
    """

    weight: float | None = None
    iterations: int = 100
    tolerance: float = 2e-3
    bounds: Bounds | None = None
    inner: int = 10

    def __post_init__(self) -> None:
        check_tv_settings(self)

    @torch.no_grad()
    def reconstruct(
        self, A: LinearOperator, y: Tensor, *, start: Tensor | None = None, progress: Progress | None = None
    ) -> Classical:
        """Of ``y`` (B, ...), from the image ``start``."""
        problem = TVProblem.of(self, A, y, start)
        course = Course(self, problem.inputs, progress=progress)
        f, split = data_term(problem.inputs), _Split(problem)
        x, b = problem.inputs.x, problem.inputs.b
        v = split.forward(x)
        u, rho = torch.zeros_like(v), split.first_rho(self.inner)
        for _ in course:
            x_next = conjugate_gradient(
                lambda p: A.normal(p) + rho * split.normal(p),  # noqa: B023
                b + rho * split.adjoint(v - u), x, iterations=self.inner, tolerance=1e-5,
            )  # fmt: skip
            ...
        return course.result(split.within(x), **problem.chosen)
