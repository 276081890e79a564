"""``|A x - y|^2 / 2`` and its gradient, by one application of A and one of its adjoint an iteration."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from inverse.operators.base import LinearOperator
from inverse.operators.solve import inner
from medical.classical.inputs import Inputs

__all__ = ["DataTerm", "NormalTerm", "ResidualTerm", "data_term", "relative", "size"]


class DataTerm(Protocol):
    """``f(x) = |A x - y|^2 / 2``. ``image(x)`` is linear, so that of an extrapolated point follows from those at hand."""

    def image(self, x: Tensor) -> Tensor:
        """What value and gradient at ``x`` are made of."""

    def gradient(self, image: Tensor) -> Tensor:
        """``A^H (A x - y)``."""

    def value(self, image: Tensor, x: Tensor) -> Tensor:
        """``f(x)`` of each batch member, (B,)."""

    def curvature(self, image: Tensor, x: Tensor) -> Tensor:
        """``|A x|^2`` of each batch member, in the shape that multiplies images."""

    def residual(self, image: Tensor) -> Tensor | None:
        """``y - A x``; None where A x is not worked out."""


class ResidualTerm:
    """By ``A x``, for operators whose ``A^H A`` has no short cut."""

    def __init__(self, inputs: Inputs) -> None:
        self.A, self.y = inputs.A, inputs.y

    def image(self, x: Tensor) -> Tensor:
        return self.A(x)

    def gradient(self, image: Tensor) -> Tensor:
        return self.A.adjoint(image - self.y)

    def value(self, image: Tensor, x: Tensor) -> Tensor:
        return torch.linalg.vector_norm((image - self.y).flatten(1), dim=1).square() / 2

    def curvature(self, image: Tensor, x: Tensor) -> Tensor:
        return size(image).square().view(-1, *[1] * (x.ndim - 1))

    def residual(self, image: Tensor) -> Tensor | None:
        return self.y - image


class NormalTerm:
    """By ``A^H A x``, where the operator has a faster ``normal`` than its adjoint after itself (a Toeplitz embedding).

    ``f(x) = <x, A^H A x> / 2 - Re <x, A^H y> + |y|^2 / 2``, summed in float64; it is as exact as ``normal`` is.
    """

    def __init__(self, inputs: Inputs) -> None:
        self.A, self.b = inputs.A, inputs.b
        self.constant = torch.linalg.vector_norm(inputs.y.flatten(1), dim=1).double().square() / 2

    def image(self, x: Tensor) -> Tensor:
        return self.A.normal(x)

    def gradient(self, image: Tensor) -> Tensor:
        return image - self.b

    def value(self, image: Tensor, x: Tensor) -> Tensor:
        precise = torch.complex128 if x.is_complex() else torch.float64
        product = inner(x.to(precise), image.to(precise) / 2 - self.b.to(precise))
        return product.real.flatten() + self.constant

    def curvature(self, image: Tensor, x: Tensor) -> Tensor:
        return inner(x, image).real

    def residual(self, image: Tensor) -> Tensor | None:
        return None


def data_term(inputs: Inputs) -> DataTerm:
    """The faster of the two for this operator."""
    short_cut = type(inputs.A).normal is not LinearOperator.normal
    return NormalTerm(inputs) if short_cut else ResidualTerm(inputs)


def size(x: Tensor) -> Tensor:
    """``|x|`` of each batch member, (B,)."""
    return torch.linalg.vector_norm(x.flatten(1), dim=1)


def relative(step: Tensor, x: Tensor) -> Tensor:
    """``|step| / |x|`` of each batch member, (B,); 0 where both are zero."""
    moved, norm = size(step), size(x)
    return torch.where(moved == 0, 0, moved / norm.clamp(min=torch.finfo(norm.dtype).tiny))
