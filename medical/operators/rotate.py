r"""Rotate and sum: the parallel projector that DiffusionMBIR was published with (Chung et al. 2023, official code).

The picture (W, W) is padded with zeros to (P, P), P = ceil(sqrt(2) W), turned by every angle with bilinear interpolation and
summed along its rows. Coordinates run from -1 to 1 over the padded grid, x to the right and y downwards; a point at x and
upwards Y is seen at ``u = x cos theta + Y sin theta``, as by a :class:`medical.geometry.ParallelBeam`. Where P - W is odd the
picture's centre lies half a pixel beside the axis of rotation, for even W (-0.5 column, +0.5 upwards): mixing this operator
with others moves volumes by as much.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from inverse.operators.base import LinearOperator, Shape
from inverse.operators.noise import Noise
from medical.operators.batched import batched

__all__ = ["RotateRadon"]

BILINEAR, ZEROS = 0, 0  # as torch numbers them


class RotateRadon(LinearOperator):
    """Line integrals in pixels by rotate and sum: slices x (D, 1, W, W), sinograms y (D, 1, P, views), P = ceil(sqrt(2) W).

    Nothing is stored but the angles: the sampling grid of each is worked out when it is needed, so that the memory is that
    of one turned copy of the slices. The norm is ``|A|^2 = 1.52 W 2 views / pi``, nearly. On a GPU the exact adjoint adds up
    in no fixed order, so that its last digits vary.

    Parameters
    ----------
    size: W, pixels along a side, 2 at least.
    angles: theta of each view, in radians.
    matched: whether ``adjoint`` is exact. Else it is what the official code takes for ``A^T``, the unfiltered
        backprojection: ``pi / (2 views)`` times the sum over views of y, interpolated linearly at ``u``. It is
        ``pi / (2 views) A^T`` within some per cent, which scales weights of a data term by as much.
    """

    domain: Shape

    def __init__(
        self, size: int, angles: Tensor | Sequence[float], *, matched: bool = True, noise: Noise | None = None
    ) -> None:
        if size < 2:
            raise ValueError(f"size must be the pixels along a side of the slices, 2 at least, got {size}")
        angles = torch.as_tensor(angles, dtype=torch.float64)
        if angles.ndim != 1 or len(angles) == 0 or not bool(angles.isfinite().all()):
            raise ValueError(f"angles must be finite numbers in radians, one a view, shape (views,), got {angles}")
        super().__init__((1, size, size), noise)
        self.size, self.matched = int(size), matched
        self.angles = tuple(angles.tolist())

    @classmethod
    def sparse(cls, size: int, views: int, *, matched: bool = True, noise: Noise | None = None) -> Self:
        """Few views over half a turn: ``theta_i = i pi / views``."""
        return cls(size, math.pi * _numbers(views) / views, matched=matched, noise=noise)

    @classmethod
    def limited(cls, size: int, views: int, *, matched: bool = True, noise: Noise | None = None) -> Self:
        """The views 0, 1, ... degrees: 90 of them are a limited angle of 90 degrees."""
        return cls(size, math.pi / 180 * _numbers(views), matched=matched, noise=noise)

    @property
    def columns(self) -> int:
        """P, detector columns."""
        return math.ceil(math.sqrt(2) * self.size)

    def output_shape(self, shape: Shape) -> Shape:
        return (1, self.columns, len(self.angles))

    def _apply_operator(self, x: Tensor) -> Tensor:
        return batched(self._summed, x)

    def _adjoint(self, y: Tensor) -> Tensor:
        return batched(self._transpose if self.matched else self._back_projected, y)

    def _summed(self, x: Tensor) -> Tensor:
        """``A x``: slices are channels of one picture, and all of them turned by one grid."""
        slices = x.transpose(0, 1)
        views = [grid_sample(slices, self._turned(theta, x), align_corners=True)[0].sum(1) for theta in self.angles]
        return torch.stack(views, -1)[:, None]

    def _transpose(self, y: Tensor) -> Tensor:
        """``A^T y``: every sum is spread along its column, and every sample to the pixels that it came from."""
        x = total = y.new_zeros(1, len(y), self.size, self.size)
        gradient = torch.ops.aten.grid_sampler_2d_backward
        for view, theta in enumerate(self.angles):
            spread = y[:, 0, None, :, view].expand(-1, self.columns, -1)[None]
            total = total + gradient(spread, x, self._turned(theta, y), BILINEAR, ZEROS, True, [True, False])[0]
        return total.transpose(0, 1)

    def _back_projected(self, y: Tensor) -> Tensor:
        """``pi / (2 views)`` times the sum over views of y at ``u = x cos theta + Y sin theta``."""
        lines = y.movedim(-1, 0).permute(0, 2, 1, 3)  # (views, 1, D, P): slices as channels of pictures of one row
        total = torch.zeros((), dtype=y.dtype, device=y.device)
        for line, theta in zip(lines, self.angles, strict=True):
            total = total + grid_sample(line.unsqueeze(2), self._detector(theta, y), align_corners=True)
        return math.pi / (2 * len(self.angles)) * total.transpose(0, 1)

    def fbp(self, y: Tensor) -> Tensor:
        """Filtered backprojection of y, (D, 1, P, views) to (D, 1, W, W): the official ``A_dagger``.

        The ramp of :func:`medical.analytic.filters.ramp`, twice, along the detector, then the unfiltered backprojection.
        """
        from medical.analytic.filters import filter_columns, ramp

        self.check_output(y)
        return self._back_projected(2 * filter_columns(y.mT, lambda lags: ramp(lags, 1.0)).mT)

    def _turned(self, theta: float, like: Tensor) -> Tensor:
        """Where in the picture the pixels of the turned grid lie, (1, P, P, 2), edges of the picture at -1 and 1.

        ``x' = cos theta x + sin theta y`` and ``y' = -sin theta x + cos theta y`` over the padded grid.
        """
        a, b = self._crop
        c, s = math.cos(theta) / a, math.sin(theta) / a
        return _grid([[c, s, -b / a], [-s, c, -b / a]], self.columns, like)

    def _detector(self, theta: float, like: Tensor) -> Tensor:
        """Where on the detector the pixels of the picture are seen, (1, W, W, 2), its edges at -1 and 1; y is 0."""
        a, b = self._crop
        c, s = math.cos(theta), math.sin(theta)
        return _grid([[a * c, -a * s, b * (c - s)], [0.0, 0.0, 0.0]], self.size, like)

    @property
    def _crop(self) -> tuple[float, float]:
        """a and b: a coordinate of the picture, -1 to 1 along its side, is ``a (it) + b`` over the padded grid."""
        W, P = self.size, self.columns
        before = P // 2 - W // 2  # zeros before the picture; the rest comes after it
        return (W - 1) / (P - 1), (2 * before + W - 1) / (P - 1) - 1

    def extra_repr(self) -> str:
        unmatched = "" if self.matched else ", matched=False"
        return f"size={self.size}, views={len(self.angles)}{unmatched}"


def _grid(matrix: list[list[float]], side: int, like: Tensor) -> Tensor:
    """The points ``matrix (x, y, 1)`` of a square grid with this ``side``, (1, side, side, 2)."""
    theta = torch.tensor([matrix], dtype=like.dtype, device=like.device)
    return affine_grid(theta, [1, 1, side, side], align_corners=True)


def _numbers(views: int) -> Tensor:
    """0, 1, ..., views - 1, float64."""
    if views < 1:
        raise ValueError(f"views must be a number of angles, 1 at least, got {views}")
    return torch.arange(views, dtype=torch.float64)
