r"""The data step of DiffusionMBIR (Chung et al. 2023, eq. 11 to 15): ADMM-TV with variables that outlive the step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from medical.samplers.coupling import Coupling
from medical.samplers.stack import Stack

__all__ = ["DataStep", "Position", "volume_cg"]

ROUNDING = 4.0  # of a sum of a few terms, in units of the type's


@dataclass
class Position:
    """Where a walk is: the noisy slices x (D, C, H, W), the split differences v and the scaled dual variable w of ADMM.

    v and w, (d, D, C, H, W), are created once and kept through the walk; samplers without ADMM leave them empty.
    """

    x: Tensor
    v: Tensor
    w: Tensor

    @classmethod
    def at(cls, x: Tensor, coupling: Coupling | None = None) -> Position:
        """At x, with v and w zero."""
        v = x.new_zeros(0) if coupling is None else torch.zeros_like(coupling(x))
        return cls(x, v, v.clone())


@dataclass(frozen=True, eq=False, kw_only=True)
class DataStep:
    """``min_u |W (y - A u)|^2 / 2 + weight |D u|_1 + anchor |u - x|^2 / 2``, some ADMM iterations from x.

    One iteration, with ``M = A^H W^2 A + rho D^T D + anchor``::

        u <- some steps of conjugate gradients on M u = A^H W^2 y + rho D^T (v - w) + anchor x
        v <- S_(weight / rho)(D u + w), the shrinkage of the coupling
        w <- w + D u - v

    Afterwards every ``|w| <= weight / rho``, so v - w is D of the last iterate up to three times that: the step pulls the
    differences of slices towards what they were before.

    Attributes
    ----------
    stack: operator and measurement.
    coupling: D.
    weight, rho: in the units of ``|A|^2``; with ``rho`` 0 the slices are not coupled.
    iterations: of ADMM; inner: steps of conjugate gradients in each.
    """

    stack: Stack
    coupling: Coupling
    weight: float
    rho: float
    iterations: int = 1
    inner: int = 1

    def __call__(self, x: Tensor, at: Position, *, anchor: float = 0.0) -> Tensor:
        """u, from x (D, C, H, W); v and w of the position move along, its x does not."""
        D, rho, u = self.coupling, self.rho, x

        def normal(p: Tensor) -> Tensor:
            q = self.stack.normal(p)
            if rho:
                q = q + rho * D.adjoint(D(p))
            return q + anchor * p if anchor else q

        fixed = self.stack.back_projected + anchor * x if anchor else self.stack.back_projected
        for _ in range(self.iterations):
            b = fixed + rho * D.adjoint(at.v - at.w) if rho else fixed
            u = volume_cg(normal, b, u, self.inner)
            if rho:
                dual = D(u) + at.w
                at.v = D.shrink(dual, self.weight / rho)
                at.w = dual - at.v
        return u


def volume_cg(normal: Callable[[Tensor], Tensor], b: Tensor, x: Tensor, iterations: int) -> Tensor:
    """Steps of conjugate gradients on ``M x = b`` over the whole volume; the first is steepest descent, exactly searched.

    Inner products are summed in float64: 3e7 voxels in float32 would lose three digits. They end where the residual is the
    rounding of ``b``, most of which M may not see: it would be followed without end.
    """
    r = b - normal(x)
    p = r
    rho, rounding = _dot(r, r), (ROUNDING * torch.finfo(b.dtype).eps) ** 2 * _dot(b, b)
    for _ in range(iterations):
        if rho <= rounding:
            break
        q = normal(p)
        curvature = _dot(p, q)
        if curvature <= 0:
            break
        a = rho / curvature
        x = x + a * p
        r = r - a * q
        rho, before = _dot(r, r), rho
        p = r + (rho / before) * p
    return x


def _dot(a: Tensor, b: Tensor) -> float:
    return float((a.conj() * b).real.sum(dtype=torch.float64))
