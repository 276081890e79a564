"""Total variation by the primal-dual hybrid gradient method: no inner iterations at all."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from inverse.operators.base import LinearOperator
from medical.classical.course import Course, Progress
from medical.classical.data_term import size
from medical.classical.differences import divergence, gradient, gradient_bound, magnitude, stacked_size
from medical.classical.inputs import Bounds
from medical.classical.result import Classical
from medical.classical.spectral_norm import spectral_norm
from medical.classical.tv import channels_of, image_of
from medical.classical.tv_problem import TVProblem, check_tv_settings

__all__ = ["PDHGTV"]

TINY = 1e-30
SMALL = 0.01  # of the measurement: a residual below it need not be exact
LEAST, MOST = 2.0, 5.0  # primal over dual residual, outside of which the steps move; found by trial
DECAY = 0.97  # of how much they move


@dataclass(frozen=True, kw_only=True)
class PDHGTV:
    """``argmin_x |A x - y|^2 / 2 + weight TV(x)``, within the bounds, with both A and the differences D dualised.

    Chambolle & Pock 2011, algorithm 1, as in Sidky, Jorgensen & Pan 2012::

        p <- (p + sigma_A (A x' - y)) / (1 + sigma_A),    q <- Q(q + sigma_D D x'),    |Q| <= weight
        x_next = P(x - tau (A^H p + D^H q)),              x' = 2 x_next - x

    with a step length for each of the two blocks, as the preconditioning of Pock & Chambolle 2011 has it,
    ``tau (sigma_A |A|^2 + sigma_D |D|^2) = 1``. The ratio of primal and dual steps follows the residuals (Goldstein et al.
    2015), less and less, for every member of the batch by itself.

    Parameters
    ----------
    weight, bounds: as for :class:`medical.classical.fista_tv.FISTATV`.
    iterations: at most so many; tolerance: stops where primal and dual residual are relatively less.
    """

    weight: float | None = None
    iterations: int = 1000
    tolerance: float = 3e-4
    bounds: Bounds | None = None

    def __post_init__(self) -> None:
        check_tv_settings(self)

    @torch.no_grad()
    def reconstruct(
        self, A: LinearOperator, y: Tensor, *, start: Tensor | None = None, progress: Progress | None = None
    ) -> Classical:
        """Of ``y`` (B, ...), from the image ``start``."""
        problem = TVProblem.of(self, A, y, start)
        course = Course(self, problem.inputs, progress=progress)
        y, x, tv = problem.inputs.y, problem.inputs.x, problem.tv
        a, d = spectral_norm(A, x), gradient_bound(tv.scale) ** 0.5
        Ax, Dx = A(x), gradient(channels_of(x), tv.scale)
        p, q = torch.zeros_like(y), torch.zeros_like(Dx)
        ratio, eagerness = _first_ratio(problem), 0.5
        Ax_bar, Dx_bar = Ax, Dx
        for _ in course:
            tau, sigma_A, sigma_D = ratio / (2 * a), 1 / (ratio * a), a / (ratio * d * d)
            s = sigma_A.view(-1, *[1] * (y.ndim - 1))
            p_next = (p + s * (Ax_bar - y)) / (1 + s)
            q_next = q + sigma_D * Dx_bar
            q_next = q_next * (problem.weight / magnitude(q_next).clamp(min=TINY)).clamp(max=1)
            back, smooth = A.adjoint(p_next), image_of(divergence(q_next, tv.scale), x)
            x_next = course.keep(tv.project(x - tau * (back + smooth)), x)
            Ax_next, Dx_next = A(x_next), gradient(channels_of(x_next), tv.scale)
            primal = size((x_next - x) / tau) / size(back).clamp(min=TINY)
            dual = torch.maximum(
                size((p_next - p) / s + Ax_next - Ax_bar) / (size(p_next) + SMALL * size(y)).clamp(min=TINY),
                stacked_size((q_next - q) / sigma_D + Dx_next - Dx_bar) / stacked_size(Dx_next).clamp(min=TINY),
            )
            Ax_bar, Dx_bar = 2 * Ax_next - Ax, 2 * Dx_next - Dx
            x, Ax, Dx, p, q = x_next, Ax_next, Dx_next, p_next, q_next
            r = y - Ax
            penalty = problem.weight.flatten() * magnitude(Dx).flatten(1).sum(1)
            course.record(torch.maximum(primal, dual), residual=r, objective=size(r).square() / 2 + penalty)
            up, down = primal > MOST * dual, primal < LEAST * dual
            factor = torch.where(up, 1 / (1 - eagerness), torch.where(down, 1 - eagerness, 1.0))
            ratio, eagerness = ratio * factor.view_as(ratio).to(ratio), eagerness * DECAY
        return course.result(x, **problem.chosen)


def _first_ratio(problem: TVProblem) -> Tensor:
    """``|x| / |p|``, the distances that primal and dual variable have to travel: a steepest descent, and a tenth of y."""
    A, b = problem.inputs.A, problem.inputs.b
    x = size(b) ** 3 / size(A(b)).square().clamp(min=TINY)
    ratio = x / (0.1 * size(problem.inputs.y)).clamp(min=TINY)
    return ratio.clamp(min=TINY).view(-1, *[1] * (b.ndim - 1))
