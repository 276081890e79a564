"""Compressed sensing of blocks: every block of the image is measured by the same few random patterns."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cached_property
from typing import Self

import torch
from torch import Tensor
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from inverse.operators.base import SVD, LinearOperator, Shape
from inverse.operators.filters import Decomposition
from inverse.operators.noise import Noise

__all__ = ["BlockGaussian", "count"]


def count(ratio: float, total: int) -> int:
    """``int(ratio total)`` measurements, at least one; ``ValueError`` unless ``ratio`` is in (0, 1]."""
    if not 0 < ratio <= 1:
        raise ValueError(f"ratio must be a share of the measurements in (0, 1], got {ratio}")
    return max(1, int(ratio * total))


class BlockGaussian(LinearOperator):
    """``y = R x_b`` for every block x_b of every channel (Gan 2007); x (B, C, H, W), y (B, C m, H / b, W / b).

    Images of any size that the side b of a block divides. Channel ``c m + k`` of y holds what row k of R measures of
    channel c. Usually made by ``BlockGaussian.random``.

    Parameters
    ----------
    rows: R, real, (m, b^2), its rows flattened patterns, row by row. In closed form for any matrix, and fastest where the
        rows are orthogonal and of one length.
    """

    rank = 3
    rows: Tensor

    def __init__(self, rows: Tensor, *, shape: Shape | None = None, noise: Noise | None = None) -> None:
        super().__init__(shape, noise)
        if rows.ndim != 2 or not rows.is_floating_point() or math.isqrt(rows.shape[1]) ** 2 != rows.shape[1]:
            raise ValueError(f"rows must be a real matrix (m, b * b), got shape {tuple(rows.shape)} of {rows.dtype}")
        if not bool(rows.isfinite().all()) or not bool(rows.any()):
            raise ValueError("rows must be finite and not all zero")
        self.register_buffer("rows", rows.to(torch.get_default_dtype()))
        self._refresh()
        if self.domain is not None:
            self.output_shape(self.domain)

    def _refresh(self) -> None:
        gram = self.rows.double() @ self.rows.double().mT
        self._length = float(gram.diagonal().mean())
        self._crooked = float((gram - self._length * torch.eye(len(gram)).to(gram)).abs().max()) / self._length
        self.__dict__.pop("_decomposition", None)

    @classmethod
    def random(
        cls, ratio: float = 0.25, block: int = 32, *, seed: int = 0, shape: Shape | None = None, noise: Noise | None = None
    ) -> Self:
        """``int(ratio block^2)`` orthonormal rows, uniformly distributed: Gaussian ones, orthonormalised."""
        if not isinstance(block, int) or block < 1:
            raise ValueError(f"block must be a whole number of pixels, at least 1, got {block!r}")
        size = (block**2, count(ratio, block**2))
        gaussian = torch.randn(*size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        Q, R = torch.linalg.qr(gaussian)
        return cls((Q * R.diagonal().sign()).mT.contiguous(), shape=shape, noise=noise)

    @property
    def block(self) -> int:
        """Pixels along the side of a block."""
        return math.isqrt(self.rows.shape[1])

    @property
    def isometry(self) -> float | None:  # type: ignore[override]
        # up to the rounding of the rows' own dtype: float32 rows used in float64 are not quite orthogonal
        return self._length if self._crooked <= 64 * torch.finfo(self.rows.dtype).eps else None

    def _apply_operator(self, x: Tensor) -> Tensor:
        columns = self.rows.to(x.dtype) @ self._blocks(x)
        return columns.flatten(1, 2).unflatten(-1, (x.shape[-2] // self.block, x.shape[-1] // self.block))

    def _adjoint(self, y: Tensor) -> Tensor:
        m = len(self.rows)
        return self._image(self.rows.to(y.dtype).mT @ y.flatten(2).unflatten(1, (y.shape[1] // m, m)), y.shape)

    def _blocks(self, x: Tensor) -> Tensor:
        """Every block as a column: (B, C, b^2, blocks)."""
        return pixel_unshuffle(x, self.block).flatten(2).unflatten(1, (x.shape[1], -1))

    def _image(self, columns: Tensor, measured: Shape) -> Tensor:
        """The image of ``columns`` (B, C, b^2, blocks), for a measurement of shape ``measured``."""
        return pixel_shuffle(columns.flatten(1, 2).unflatten(-1, measured[-2:]), self.block)

    def output_shape(self, shape: Shape) -> Shape:
        C, h, w = self.divided(shape, self.block)
        return (C * len(self.rows), h, w)

    def input_shape(self, shape: Shape) -> Shape:
        Cm, h, w = shape
        if Cm % len(self.rows):
            raise ValueError(f"{self!r}: y must have a multiple of {len(self.rows)} channels, got shape {tuple(shape)}")
        return (Cm // len(self.rows), h * self.block, w * self.block)

    def check_input(self, x: Tensor) -> None:
        super().check_input(x)
        self.output_shape(tuple(x.shape[1:]))

    def check_output(self, y: Tensor) -> None:
        super().check_output(y)
        self.input_shape(tuple(y.shape[1:]))

    @cached_property
    @torch.inference_mode(False)  # it outlives the mode it was made in
    def _decomposition(self) -> Decomposition:
        return Decomposition.of(self.rows)

    def svd(self, shape: Shape | None = None) -> SVD:
        shape = self.known_shape(shape, "svd")
        kept, full = int((self._decomposition.s > 0).sum()), self.block**2
        svd = self._svd(shape, full)
        return svd if kept == full else replace(svd, thin=self._svd(shape, kept))

    def _svd(self, shape: Shape, kept: int) -> SVD:
        """Of the first ``kept`` singular values of R; coefficients are (C, kept, blocks), flattened."""
        measured, D = self.output_shape(shape), self._decomposition
        grid = (shape[0], kept, measured[1] * measured[2])
        rank = min(kept, D.U.shape[1])

        def Vh(x: Tensor) -> Tensor:
            return (D.to(x).Vh[:kept] @ self._blocks(x)).flatten(1)

        def V(c: Tensor) -> Tensor:
            return self._image(D.to(c).Vh[:kept].mT @ c.view(-1, *grid), measured)

        def Uh(y: Tensor) -> Tensor:
            columns = D.to(y).U[:, :rank].mT @ y.reshape(-1, grid[0], len(self.rows), grid[2])
            return torch.nn.functional.pad(columns, (0, 0, 0, kept - rank)).flatten(1)

        def U(c: Tensor) -> Tensor:
            return (D.to(c).U[:, :rank] @ c.view(-1, *grid)[:, :, :rank]).view(-1, *measured)

        return SVD(D.s[None, :kept, None].expand(grid).flatten(), U, Uh, V, Vh)

    def extra_repr(self) -> str:
        own = f"rows={tuple(self.rows.shape)}, block={self.block}"
        return ", ".join(filter(None, [own, super().extra_repr()]))
