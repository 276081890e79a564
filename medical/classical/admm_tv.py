"""Total variation by the alternating direction method of multipliers: few iterations, each with an inner linear solve."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from inverse.operators.base import LinearOperator
from inverse.operators.solve import conjugate_gradient
from medical.classical.course import Course, Progress
from medical.classical.data_term import data_term, size
from medical.classical.differences import divergence, gradient, magnitude, stacked_size
from medical.classical.inputs import Bounds
from medical.classical.result import Classical
from medical.classical.tv import channels_of, image_of
from medical.classical.tv_problem import TVProblem, check_tv_settings

__all__ = ["ADMMTV"]

TINY = 1e-30
RELAXATION = 1.7
SHARE = 0.3  # of x in K: about the size of D x against x, so that both parts count
LEAST, MOST = 0.01, 0.3  # primal over dual residual, outside of which rho moves; the objective follows the primal one
STEP = 2.0  # that it moves by


@dataclass(frozen=True, kw_only=True)
class ADMMTV:
    """``argmin_x |A x - y|^2 / 2 + weight TV(x)``, within the bounds, by ADMM on the splitting ``v = D x`` (and x).

    Boyd et al. 2011 (scaled form, section 3.1.1), over-relaxed (3.4.3), with rho balanced between the two residuals (3.4.1)
    for every member of the batch by itself::

        x <- (A^H A + rho D^H D)^-1 (A^H y + rho D^H (v - u))     by conjugate gradients from the last x
        v <- shrink(D x + u, weight / rho),     u <- u + D x - v

    and alike for a copy of x within the bounds. Fewer iterations than the others, each of up to ``inner`` times ``A^H A``.

    Parameters
    ----------
    weight, bounds: as for :class:`medical.classical.fista_tv.FISTATV`.
    iterations: at most so many.
    tolerance: stops where both residuals, ``|D x - v|`` and ``rho |D^H (v - v_old)|``, are relatively less (3.3.1).
    inner: conjugate gradient steps, at most, for each x.
    """

    weight: float | None = None
    iterations: int = 200
    tolerance: float = 1e-3
    bounds: Bounds | None = None
    inner: int = 5

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
        u, rho = torch.zeros_like(v), split.first_rho(A)
        for _ in course:
            x_next = conjugate_gradient(
                lambda p: A.normal(p) + rho * split.normal(p),  # noqa: B023
                b + rho * split.adjoint(v - u), x, iterations=self.inner, tolerance=1e-8,
            )  # fmt: skip
            x = course.keep(x_next, x)
            Kx = split.forward(x)
            relaxed = RELAXATION * Kx + (1 - RELAXATION) * v
            v_next = split.shrink(relaxed + u, problem.weight / rho)
            u, v, moved = u + relaxed - v_next, v_next, v_next - v
            primal = stacked_size(Kx - v) / torch.maximum(stacked_size(Kx), stacked_size(v)).clamp(min=TINY)
            dual = size(split.adjoint(moved)) / size(split.adjoint(u)).clamp(min=TINY)
            inside = problem.tv.project(x.clone())
            image = f.image(inside)
            objective = f.value(image, inside) + problem.penalty(inside)
            course.record(torch.maximum(primal, dual), residual=f.residual(image), objective=objective)
            factor = torch.where(primal > MOST * dual, STEP, torch.where(primal < LEAST * dual, 1 / STEP, 1.0))
            factor = factor.view_as(rho).to(rho)
            rho, u = rho * factor, u / factor
        return course.result(problem.tv.project(x), **problem.chosen)


class _Split:
    """``K x = [D x; 0.3 x]``, the second part for the bounds; (B, C, ...) to real (d or d + 1, B, C, ...)."""

    def __init__(self, problem: TVProblem) -> None:
        self.like, self.tv, self.weight = problem.inputs.x, problem.tv, problem.weight
        self.bounds, self.b = problem.tv.bounds, problem.inputs.b

    def forward(self, x: Tensor) -> Tensor:
        c = channels_of(x)
        g = gradient(c, self.tv.scale)
        return g if self.bounds is None else torch.cat([g, SHARE * c[None]])

    def adjoint(self, v: Tensor) -> Tensor:
        c = divergence(v[: len(self.tv.scale)], self.tv.scale)
        return image_of(c if self.bounds is None else c + SHARE * v[-1], self.like)

    def normal(self, x: Tensor) -> Tensor:
        return self.adjoint(self.forward(x))

    def shrink(self, v: Tensor, threshold: Tensor) -> Tensor:
        """The proximal map of ``threshold |v|`` of the differences, and the nearest value within the bounds."""
        g = v[: len(self.tv.scale)]
        g = g * (1 - threshold / magnitude(g).clamp(min=TINY)).clamp(min=0)
        return g if self.bounds is None else torch.cat([g, SHARE * (v[-1:] / SHARE).clamp(*self.bounds)])

    def first_rho(self, A: LinearOperator) -> Tensor:
        """Such that what is shrunk away at first is the mean slope of a least-squares image, from a few steps."""
        x = self.like
        x = conjugate_gradient(A.normal, self.b, x, iterations=5)
        slope = magnitude(gradient(channels_of(x), self.tv.scale)).flatten(1).square().mean(1).sqrt()
        return (self.weight / slope.view(-1, *[1] * (x.ndim - 1)).clamp(min=TINY)).clamp(min=TINY)
