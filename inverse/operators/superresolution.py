"""Super-resolution: a small image is measured, the block means or the bicubic reduction of the large one."""

from __future__ import annotations

from typing import Self

from torch import Tensor

from inverse.operators.base import SVD, LinearOperator, Shape
from inverse.operators.filters import Filter
from inverse.operators.noise import Noise
from inverse.operators.resize import area_filter, bicubic_filter
from inverse.operators.separable import filter_svd

__all__ = ["Downsample"]


class Downsample(LinearOperator):
    """One pixel for every ``factor`` x ``factor`` pixels: x (B, C, H, W), y (B, C, H / factor, W / factor).

    Images of any size that ``factor`` divides. Made by ``Downsample.area`` or ``Downsample.bicubic``.

    Parameters
    ----------
    filter: applied to rows and to columns, its stride the factor.
    """

    rank = 3

    def __init__(self, filter: Filter, *, shape: Shape | None = None, noise: Noise | None = None) -> None:
        super().__init__(shape, noise)
        self.filter = filter
        if self.domain is not None:
            self.output_shape(self.domain)

    @classmethod
    def area(cls, factor: int, *, shape: Shape | None = None, noise: Noise | None = None) -> Self:
        """The mean of each block; the pseudo-inverse repeats each pixel."""
        return cls(area_filter(_checked(factor)), shape=shape, noise=noise)

    @classmethod
    def bicubic(cls, factor: int, *, shape: Shape | None = None, noise: Noise | None = None) -> Self:
        """Antialiased cubic reduction, equal to MATLAB's ``imresize(x, 1 / factor)``."""
        return cls(bicubic_filter(_checked(factor)), shape=shape, noise=noise)

    @property
    def factor(self) -> int:
        """Pixels of the image to one of the measurement, along each axis."""
        return self.filter.stride

    @property
    def isometry(self) -> float | None:  # type: ignore[override]
        # disjoint windows inside the image: the rows of the matrix are orthogonal
        if len(self.filter.taps) > self.factor:
            return None
        return sum(tap**2 for tap in self.filter.taps) ** 2

    def _apply_operator(self, x: Tensor) -> Tensor:
        return self.filter.apply(self.filter.apply(x, -1), -2)

    def _adjoint(self, y: Tensor) -> Tensor:
        return self.filter.adjoint(self.filter.adjoint(y, -2), -1)

    def output_shape(self, shape: Shape) -> Shape:
        return self.divided(shape, self.factor)

    def input_shape(self, shape: Shape) -> Shape:
        C, h, w = shape
        return (C, h * self.factor, w * self.factor)

    def check_input(self, x: Tensor) -> None:
        super().check_input(x)
        self.output_shape(tuple(x.shape[1:]))

    def svd(self, shape: Shape | None = None) -> SVD | None:
        return filter_svd((self.filter, self.filter), self.known_shape(shape, "svd"))

    def extra_repr(self) -> str:
        return ", ".join(filter(None, [f"factor={self.factor}, taps={len(self.filter.taps)}", super().extra_repr()]))


def _checked(factor: int) -> int:
    if not isinstance(factor, int) or factor < 1:
        raise ValueError(f"factor must be a whole number, at least 1, got {factor!r}")
    return factor
