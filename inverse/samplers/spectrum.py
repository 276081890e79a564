"""What an operator sees of an image, direction by direction: the coordinates in which DDRM and DDNM+ work."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import reduce
from typing import Self

import torch
from torch import Tensor

from inverse.operators.base import LinearOperator
from inverse.operators.precision import full_precision

__all__ = ["CUTOFF", "Spectrum", "Term"]

CUTOFF = 1e-5
"""Singular values below this times the largest count as zero: in float32 little but rounding is known there."""

Term = tuple[float, Tensor | float, Tensor]
"""An image (B, C, H, W) with its weight where the operator sees nothing and, like ``s``, its weights where it sees."""


@dataclass(frozen=True, eq=False)
class Spectrum:
    """The directions that ``A = U diag(s) V^H`` sees, and what a measurement says along them.

    Where all nonzero singular values are equal any basis serves: the coefficients are measurements then, ``down`` is A,
    ``up`` its pseudo-inverse and ``s`` one number. Directions that A does not see are never spelt out.

    Attributes
    ----------
    s: singular values, float64, (n,) or (); zero where the direction is not seen.
    y: coefficients of ``A^+ y``, zero where ``s`` is.
    down: takes images to coefficients.
    up: takes coefficients to images; ``up(down(x))`` is the projection ``A^+ A x`` where no ``s`` is zero.
    """

    s: Tensor
    y: Tensor
    down: Callable[[Tensor], Tensor]
    up: Callable[[Tensor], Tensor]

    @classmethod
    def of(cls, A: LinearOperator, y: Tensor, shape: tuple[int, ...]) -> Self | None:
        """Of ``A`` on images of ``shape`` (C, H, W), measured as ``y`` (B, ...); None where there is no closed form."""
        if A.isometry is not None:
            c = A.isometry
            return cls(torch.tensor(c, dtype=torch.float64, device=y.device).sqrt(), y, A, lambda m: A.adjoint(m / c))
        svd = A.svd(shape)
        if svd is None:
            return None
        svd = svd.thin or svd
        s = svd.s.to(y.device)
        s = torch.where(s > CUTOFF * s.max(), s, 0)
        inverse = torch.where(s > 0, 1 / s, 0)
        return cls(s, inverse.to(y.dtype) * full_precision(svd.Uh)(y), full_precision(svd.Vh), full_precision(svd.V))

    def deviation(self, noise: float) -> Tensor:
        """``noise / s``, that of the coefficients of ``A^+ y`` where y carries ``noise``; infinite where nothing is seen."""
        return torch.where(self.s > 0, noise / self.s, torch.inf)

    def mix(self, *terms: Term, y: Tensor | float = 0.0) -> Tensor:
        """``y A^+ y`` plus the sum of the terms, weighted direction by direction: an image (B, C, H, W).

        The weights W where A sees act through their difference to the weight w where it does not: ``w x + V (W - w) V^H x``.
        """
        unseen = _sum(weight * x for weight, _, x in terms)
        changes = [(_like(x, inside - weight), x) for weight, inside, x in terms]
        if self.s.ndim == 0:
            seen = self.down(_sum(change * x for change, x in changes))
        else:
            seen = _like(self.y, self.s > 0) * _sum(change * self.down(x) for change, x in changes)
        return unseen + self.up(_like(self.y, y) * self.y + seen)


def _sum(images: Iterable[Tensor]) -> Tensor:
    return reduce(torch.add, images)


def _like(x: Tensor, weight: Tensor | float) -> Tensor | float:
    return weight.to(x) if isinstance(weight, Tensor) else weight
