"""The measurement of a volume: an operator of slices, taken slice by slice, or an operator of the volume as a whole."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from inverse.operators.base import LinearOperator, Operator
from inverse.operators.precision import lengthened
from medical.classical import spectral_norm
from medical.samplers.run import Run

__all__ = ["Stack"]


@dataclass(frozen=True, eq=False)
class Stack:
    """``y = A x + n`` for a volume x as slices (D, C, H, W), weighted with how exact each number of y is.

    An operator of images (C, H, W) measures every slice alike: y is (D, ...). One of volumes (C, D, H, W) measures them
    together: y is (1, ...). The data term is ``|W (y - A x)|^2 / 2`` with ``W^2 = noise^2 / std^2``, the least-squares weights
    of noise that differs from number to number, brought to a common level ``noise``; W is 1 where it does not differ.
    """

    A: LinearOperator
    y: Tensor
    run: Run

    @classmethod
    def checked(cls, A: Operator, y: Tensor, run: Run) -> Stack:
        """Raise ``TypeError`` for an operator that is not linear, ``ValueError`` for a measurement that does not fit."""
        if not isinstance(A, LinearOperator):
            raise TypeError(f"A must be a linear operator, got {A!r}; volumes are reconstructed from linear measurements")
        A.check_output(y)
        y = lengthened(y.detach())
        if not bool(torch.isfinite(y).all()):
            raise ValueError(f"y must be finite, got {int((~torch.isfinite(y)).sum())} value(s) that are NaN or infinite")
        stack = cls(A, y, run)
        if stack.volumetric and len(y) != 1:
            raise ValueError(f"y of an operator of volumes must be one measurement, (1, ...), got {tuple(y.shape)}")
        if len(stack._image_shape) not in (3, 4):
            raise ValueError(f"A must take images (C, H, W) or volumes (C, D, H, W), got {A!r}")
        return stack

    @cached_property
    def _image_shape(self) -> tuple[int, ...]:
        return tuple(self.A.input_shape(tuple(self.y.shape[1:])))

    @property
    def volumetric(self) -> bool:
        """Whether the operator takes volumes, and not slices."""
        return len(self._image_shape) == 4

    @cached_property
    def shape(self) -> tuple[int, int, int, int]:
        """(D, C, H, W)."""
        shape = self._image_shape
        C, D, H, W = shape if self.volumetric else (shape[0], len(self.y), *shape[1:])
        return D, C, H, W

    @cached_property
    def back_projected(self) -> Tensor:
        """``A^H W^2 y``, (D, C, H, W): its type is that of the images."""
        return self._adjoint(self.y)

    @cached_property
    def noise(self) -> float:
        """The common level of the noise, 0 without: ``noise^-2 = mean std^-2``."""
        std = self.A.noise.std(self.y)
        if not bool((std > 0).all()):
            return 0.0
        return float(std.double().pow(-2).mean().pow(-0.5))

    @cached_property
    def _weights(self) -> Tensor | None:
        """``W^2``, where it is not 1 everywhere."""
        std = self.A.noise.std(self.y)
        if self.noise == 0 or std.numel() == 1:
            return None
        return (self.noise / std).square().expand_as(self.y.real)

    def normal(self, x: Tensor) -> Tensor:
        """``A^H W^2 A x``, (D, C, H, W)."""
        if self.volumetric:
            return self._weighted_normal(self.volume(x), slice(0, 1))[0].transpose(0, 1)
        return self.run.map(lambda part: self._weighted_normal(x[part], part), len(x))

    def _weighted_normal(self, x: Tensor, part: slice) -> Tensor:
        A, weights = self._operator(part), self._weights
        y = A(x)
        return A.adjoint(y if weights is None else weights[part] * y)

    def forward(self, x: Tensor) -> Tensor:
        """``A x`` of the slices x, in the shape of y."""
        if self.volumetric:
            return self.A(self.volume(x))
        return self.run.map(lambda part: self._operator(part)(x[part]), len(x))

    def adjoint(self, y: Tensor) -> Tensor:
        """``A^H y``, (D, C, H, W)."""
        if self.volumetric:
            return self.A.adjoint(y)[0].transpose(0, 1)
        return self.run.map(lambda part: self._operator(part).adjoint(y[part]), len(y))

    def misfit(self, x: Tensor, part: slice) -> tuple[Tensor, Tensor]:
        """``A^H W^2 (A x - y)`` of the slices ``part``, (n, C, H, W), and ``|W (A x - y)|^2``, one a measurement.

        That is one a slice, (n,), or for an operator of volumes, which takes all slices at once, one altogether, (1,).
        """
        A, weights = self._operator(part), self._weights
        taken = slice(0, 1) if self.volumetric else part
        r = A(self.volume(x)) - self.y[taken]
        weighted = r if weights is None else weights[taken] * r
        gradient = A.adjoint(weighted)
        squares = (r.conj() * weighted).real.flatten(1).sum(1, dtype=torch.float64)
        return gradient[0].transpose(0, 1) if self.volumetric else gradient, squares

    def _adjoint(self, y: Tensor) -> Tensor:
        return self.adjoint(y if self._weights is None else self._weights * y)

    def _operator(self, part: slice) -> LinearOperator:
        """The operator of these slices: its own ``part(slices)``, where it differs from slice to slice."""
        of = getattr(self.A, "part", None)
        return self.A if of is None else of(part)

    @cached_property
    def norm_squared(self) -> float:
        """``|A|^2``, without the weights, from above within about a percent; of the slice in the middle of a stack."""
        middle = slice(self.shape[0] // 2, self.shape[0] // 2 + 1)
        x = self.back_projected
        if self.volumetric:
            return float(spectral_norm(self.A, self.volume(x)).max()) ** 2
        return float(spectral_norm(self._operator(middle), x[middle]).max()) ** 2

    def volume(self, x: Tensor) -> Tensor:
        """Slices (D, C, H, W) in the shape that the operator takes: as they are, or (1, C, D, H, W)."""
        return x.transpose(0, 1)[None].contiguous() if self.volumetric else x
