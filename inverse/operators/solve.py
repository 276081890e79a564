"""Iterative solvers for operators without a closed form; every member of a batch has its own step lengths."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["conjugate_gradient", "inner"]


def inner(a: Tensor, b: Tensor) -> Tensor:
    """``<a, b>`` of each batch member, conjugate-linear in ``a``: shape (B, 1, ..., 1)."""
    product = (a.conj() * b).flatten(1).sum(1)
    return product.view(-1, *[1] * (a.ndim - 1))


def conjugate_gradient(
    normal: Callable[[Tensor], Tensor], b: Tensor, x: Tensor, *, iterations: int = 100, tolerance: float = 1e-6
) -> Tensor:
    """Solve ``N x = b`` for a symmetric positive ``N``, from the start ``x``, as Hestenes & Stiefel 1952.

    Stops when every member's residual is at most ``tolerance`` times its right-hand side, or after ``iterations``.
    A member that has converged, or whose direction lies in the null space, stands still.
    """
    r = b - normal(x)
    p = r
    rho = inner(r, r).real
    goal = tolerance**2 * inner(b, b).real
    for _ in range(iterations):
        active = rho > goal
        if not bool(active.any()):
            break
        q = normal(p)
        curvature = inner(p, q).real
        step = torch.where(active & (curvature > 0), rho / curvature.clamp(min=torch.finfo(rho.dtype).tiny), 0.0)
        x = x + step * p
        r = r - step * q
        rho_next = inner(r, r).real
        p = r + rho_next / rho.clamp(min=torch.finfo(rho.dtype).tiny) * p
        rho = rho_next
    return x
