"""Operators of complex images on the real ones among them: what MRI sees of an image that is known to have no phase."""

from __future__ import annotations

import torch
from torch import Tensor

from inverse.operators.base import LinearOperator, Shape
from inverse.operators.solve import inner

__all__ = ["RealImages"]


class RealImages(LinearOperator):
    """``y = A x`` for real x: the adjoint between real images and complex measurements is ``Re A^H y``.

    It is exact for the real inner product, ``Re <A x, y> = <x, Re A^H y>``, and so are what follows from it: ``pinv`` and
    ``prox`` find real images. With ``A = Sense.single(shape, mask)`` this is the MRI of DiffusionMBIR (Chung et al. 2023),
    single-coil and real, ``A^T A`` having the eigenvalues 0, 1/2 (a frequency is measured and its mirror is not) and 1; with
    ``legacy_fft=True`` and 1 / (H W) in front of A^T it is the official pair, number for number.

    Parameters
    ----------
    A: of complex images, such as ``Sense`` or ``NUFFT``. The noise is that of A.
    """

    domain: Shape
    _unit: Tensor

    def __init__(self, A: LinearOperator) -> None:
        if not isinstance(A, LinearOperator) or A.domain is None:
            raise TypeError(f"A must be a linear operator of complex images of known shape, such as Sense, got {A!r}")
        super().__init__(A.domain, A.noise)
        self.A = A
        # real, and first: ``norm`` draws its images in the type of the first buffer
        self.register_buffer("_unit", torch.ones(()), persistent=False)

    def _apply_operator(self, x: Tensor) -> Tensor:
        return self.A._apply_operator(x)

    def _adjoint(self, y: Tensor) -> Tensor:
        x = self.A._adjoint(y)
        return x.real if x.is_complex() else x

    def check_input(self, x: Tensor) -> None:
        super().check_input(x)
        if x.is_complex():
            raise ValueError(f"{self!r}: x must be real, got {x.dtype}; take x.real, or the operator {self.A!r} itself")
        self.A.check_input(x)

    def check_output(self, y: Tensor) -> None:
        super().check_output(y)
        self.A.check_output(y)

    def output_shape(self, shape: Shape) -> Shape:
        return self.A.output_shape(shape)

    def adjointness(self, shape: Shape | None = None, *, seed: int = 0) -> float:
        """``|Re <A x, y> - <x, Re A^H y>| / (|A x| |y|)`` for random x and y, in float32."""
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(1, *self.known_shape(shape, "adjointness"), generator=generator).to(self._unit.device)
        ax = self(x)
        y = torch.randn(ax.shape, generator=generator, dtype=ax.dtype).to(ax.device)
        gap = inner(ax, y).real - inner(x, self.adjoint(y))
        return float(gap.abs() / (ax.norm() * y.norm()))

    def part(self, slices: slice) -> LinearOperator:
        """The operator of these slices of a stack; itself where A measures every slice alike."""
        of = getattr(self.A, "part", None)
        return self if of is None else RealImages(of(slices))
