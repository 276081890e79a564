"""Total variation by FISTA: the method to reach for first."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from inverse.operators.base import LinearOperator
from medical.classical.course import Course, Progress
from medical.classical.data_term import data_term
from medical.classical.fista import fista
from medical.classical.inputs import Bounds
from medical.classical.result import Classical
from medical.classical.spectral_norm import spectral_norm
from medical.classical.tv_problem import TVProblem, check_tv_settings

__all__ = ["FISTATV"]

GROWTH = 10  # outer iterations for one more inner one


@dataclass(frozen=True, kw_only=True)
class FISTATV:
    """``argmin_x |A x - y|^2 / 2 + weight TV(x)``, within the bounds, by FISTA with adaptive restart.

    Beck & Teboulle 2009, whose TV step (fast gradient projection) goes on from the dual variable of the one before.

    Parameters
    ----------
    weight: None takes the rule of :class:`medical.classical.tv_problem.TVProblem`, from the noise of the operator.
    iterations: at most so many; tolerance: stops where an iteration changes the image relatively by less.
    bounds: (low, high) of the values of real images, such as (0, inf) for attenuation.
    inner: iterations of the TV step at first; one more for every ten iterations, as the steps have to become exact.
    """

    weight: float | None = None
    iterations: int = 500
    tolerance: float = 1e-4
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
        tv, weight = problem.tv, problem.weight
        dual: Tensor | None = None

        def prox(x: Tensor, step: Tensor) -> Tensor:
            nonlocal dual
            u, dual = tv.prox(x, step * weight, dual, self.inner + course.done // GROWTH)
            return u

        L = spectral_norm(A, problem.inputs.x).square()
        x = fista(data_term(problem.inputs), prox, problem.penalty, problem.inputs.x, L, course)
        return course.result(x, **problem.chosen)
