"""FISTA: the proximal gradient method with momentum, restarted where the momentum points uphill."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from inverse.operators.solve import inner
from medical.classical.course import Course
from medical.classical.data_term import DataTerm, relative

__all__ = ["fista"]

Prox = Callable[[Tensor, Tensor], Tensor]


def fista(f: DataTerm, prox: Prox, penalty: Callable[[Tensor], Tensor], x: Tensor, L: Tensor, course: Course) -> Tensor:
    """``argmin f(x) + penalty(x)`` from the start ``x``; Beck & Teboulle 2009 (SIAM J. Imaging Sciences 2, 183)::

        x_k = prox(z_k - grad f(z_k) / L, 1 / L),    z_k+1 = x_k + (t_k - 1) / t_k+1 (x_k - x_k-1)

    t goes back to 1 where ``Re <z_k - x_k, x_k - x_k-1> > 0`` (O'Donoghue & Candes 2015, gradient scheme), for every member
    of the batch by itself. One application of A and one of its adjoint an iteration. What is held against the tolerance is
    the larger of ``|x_k - x_k-1|`` and ``|x_k - z_k|`` over ``|x_k|``.

    Parameters
    ----------
    prox: the proximal map of the penalty, (image, 1 / L) to image.
    L: at least ``|A|^2``, in a shape that multiplies images.
    """
    step = 1 / L.clamp(min=torch.finfo(L.dtype).tiny)
    t = torch.ones_like(inner(x, x).real)
    image = f.image(x)
    z, image_z = x, image
    for _ in course:
        x_next = course.keep(prox(z - step * f.gradient(image_z), step), x)
        image_next = f.image(x_next)
        moved, pulled = x_next - x, z - x_next
        t = torch.where(inner(pulled, moved).real > 0, 1.0, t)
        t_next = (1 + (1 + 4 * t.square()).sqrt()) / 2
        momentum = (t - 1) / t_next
        image_z = image_next + momentum.view(-1, *[1] * (image.ndim - 1)) * (image_next - image)
        z = x_next + momentum * moved
        x, image, t = x_next, image_next, t_next
        course.record(
            torch.maximum(relative(moved, x), relative(pulled, x)),
            residual=f.residual(image), objective=f.value(image, x) + penalty(x),
        )  # fmt: skip
    return x
