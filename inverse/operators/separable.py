"""``y = R x C^T``: operators that act on rows and columns apart, with the singular values of two small matrices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from inverse.operators.base import SVD, LinearOperator, Shape
from inverse.operators.filters import Decomposition, Filter, decompose
from inverse.operators.noise import Noise

__all__ = ["LARGEST_SVD", "Separable", "filter_svd", "separable_svd"]

LARGEST_SVD = 2048  # pixels a side; the decomposition of a matrix of this size takes seconds, once

Factors = Callable[[Tensor], tuple[Decomposition, Decomposition]]


def separable_svd(factors: Factors, shape: Shape) -> SVD:
    """The SVD of ``R x C^T`` on images of ``shape`` (C, H, W), the same for every channel.

    ``factors(like)`` gives the decompositions of R and C with their matrices on the device and in the dtype of ``like``.
    Coefficients are images themselves: entry (c, i, j) belongs to the singular value ``s_i(R) s_j(C)``.
    """
    R, C = factors(torch.zeros((), dtype=torch.float64))
    kept, full = (int((R.s > 0).sum()), int((C.s > 0).sum())), (len(R.s), len(C.s))
    svd = _separable_svd(factors, shape[0], full)
    return svd if kept == full else replace(svd, thin=_separable_svd(factors, shape[0], kept))


def filter_svd(filters: tuple[Filter, Filter], shape: Shape) -> SVD | None:
    """The SVD of a filter down the rows and one along the columns; None for images of ``shape`` too large for it."""
    if max(shape) > LARGEST_SVD:
        return None

    def factors(like: Tensor) -> tuple[Decomposition, Decomposition]:
        rows, columns = (decompose(f, n, like.dtype, like.device) for f, n in zip(filters, shape[1:], strict=True))
        return rows, columns

    return separable_svd(factors, shape)


def _separable_svd(factors: Factors, channels: int, kept: tuple[int, int]) -> SVD:
    """Of the first ``kept`` singular values of R and of C."""
    m, n = kept
    R, C = factors(torch.zeros((), dtype=torch.float64))
    s = torch.outer(R.s[:m], C.s[:n]).repeat(channels, 1, 1).flatten()
    rank = (min(m, R.U.shape[1]), min(n, C.U.shape[1]))

    def Vh(x: Tensor) -> Tensor:
        R, C = factors(x)
        return (R.Vh[:m] @ x @ C.Vh[:n].mT).flatten(1)

    def V(c: Tensor) -> Tensor:
        R, C = factors(c)
        return R.Vh[:m].mT @ c.view(-1, channels, m, n) @ C.Vh[:n]

    def Uh(y: Tensor) -> Tensor:
        R, C = factors(y)
        coefficients = R.U[:, : rank[0]].mT @ y @ C.U[:, : rank[1]]
        return torch.nn.functional.pad(coefficients, (0, n - rank[1], 0, m - rank[0])).flatten(1)

    def U(c: Tensor) -> Tensor:
        R, C = factors(c)
        return R.U[:, : rank[0]] @ c.view(-1, channels, m, n)[..., : rank[0], : rank[1]] @ C.U[:, : rank[1]].mT

    return SVD(s, U, Uh, V, Vh)


class Separable(LinearOperator):
    """``y = R x C^T`` on every channel; x (B, C, H, W), y (B, C, h, w).

    Parameters
    ----------
    rows: R, real, (h, H), which mixes the rows of the image.
    columns: C, real, (w, W), which mixes its columns.
    cutoff: singular values of R and of C below this count as zero, in the operator itself.
    """

    rank = 3
    rows: Tensor
    columns: Tensor

    def __init__(
        self, rows: Tensor, columns: Tensor, *, cutoff: float = 0.0, shape: Shape | None = None, noise: Noise | None = None
    ) -> None:
        super().__init__(shape, noise)
        for name, matrix in (("rows", rows), ("columns", columns)):
            if matrix.ndim != 2 or not matrix.is_floating_point():
                raise ValueError(f"{name} must be a real matrix, got shape {tuple(matrix.shape)} of {matrix.dtype}")
            kept = Decomposition.of(matrix, cutoff).matrix() if cutoff > 0 else matrix
            self.register_buffer(name, kept.to(torch.get_default_dtype()))
        self.cutoff = cutoff
        self._refresh()
        if self.domain is not None:
            self.output_shape(self.domain)

    def _refresh(self) -> None:
        # what was cut off has come back as rounding error
        self._factors = (Decomposition.of(self.rows, self.cutoff / 2), Decomposition.of(self.columns, self.cutoff / 2))

    def _apply_operator(self, x: Tensor) -> Tensor:
        return self.rows.to(x.dtype) @ x @ self.columns.to(x.dtype).mT

    def _adjoint(self, y: Tensor) -> Tensor:
        return self.rows.to(y.dtype).mT @ y @ self.columns.to(y.dtype)

    def output_shape(self, shape: Shape) -> Shape:
        return self._mapped(shape, (self.rows.shape[1], self.columns.shape[1]), (self.rows.shape[0], self.columns.shape[0]))

    def input_shape(self, shape: Shape) -> Shape:
        return self._mapped(shape, (self.rows.shape[0], self.columns.shape[0]), (self.rows.shape[1], self.columns.shape[1]))

    def _mapped(self, shape: Shape, taken: tuple[int, int], given: tuple[int, int]) -> Shape:
        if tuple(shape[-2:]) != taken:
            raise ValueError(f"{self!r} maps images of {taken[0]} x {taken[1]} pixels, got shape {tuple(shape)}")
        return (*shape[:-2], *given)

    def check_input(self, x: Tensor) -> None:
        super().check_input(x)
        self.output_shape(tuple(x.shape[1:]))

    def check_output(self, y: Tensor) -> None:
        super().check_output(y)
        self.input_shape(tuple(y.shape[1:]))

    def svd(self, shape: Shape | None = None) -> SVD:
        def factors(like: Tensor) -> tuple[Decomposition, Decomposition]:
            R, C = self._factors
            return R.to(like), C.to(like)

        return separable_svd(factors, self.known_shape(shape, "svd"))

    def extra_repr(self) -> str:
        return f"rows={tuple(self.rows.shape)}, columns={tuple(self.columns.shape)}"
