"""One-dimensional filters, with a stride, along one axis of an image: two of them make a blur or a reduction.

A filter is applied as blocks: a window of ``BLOCK`` outputs and its neighbourhood times a small Toeplitz matrix, which
keeps the work near that of the taps and leaves it to the matrix multiplication of the machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from inverse.operators.boundary import check_boundary, fold, pad

__all__ = ["Decomposition", "Filter", "decompose"]

BLOCK = 16


@dataclass(frozen=True, eq=False)
class Decomposition:
    """``M = U diag(s) Vh`` of an m x n matrix: U (m, min(m, n)), s (n,) with zeros on the null space, Vh (n, n)."""

    U: Tensor
    s: Tensor
    Vh: Tensor

    @classmethod
    def of(cls, matrix: Tensor, cutoff: float = 0.0) -> Decomposition:
        """In float64; singular values below ``cutoff`` become zero, and so do those that are rounding errors."""
        m, n = matrix.shape
        U, s, Vh = torch.linalg.svd(matrix.double())
        cutoff = max(cutoff, float(s[0]) * max(m, n) * torch.finfo(torch.float64).eps)
        s = torch.cat([torch.where(s < cutoff, 0, s), s.new_zeros(max(0, n - len(s)))])
        return cls(U[:, : min(m, n)], s, Vh)

    def matrix(self) -> Tensor:
        """``M`` again."""
        k = self.U.shape[1]
        return (self.U * self.s[:k].to(self.U.dtype)) @ self.Vh[:k]

    def to(self, like: Tensor) -> Decomposition:
        """U and Vh on the device and in the dtype of ``like``; s stays float64, on the CPU."""
        return Decomposition(self.U.to(like), self.s, self.Vh.to(like))


@dataclass(frozen=True)
class Filter:
    """``y_i = sum_j taps_j x_{stride i + j - before}``, the image going on past its edge as ``boundary`` says.

    An axis of ``n`` samples becomes one of ``n / stride``; n must be divisible.
    """

    taps: tuple[float, ...]
    before: int
    boundary: str
    stride: int = 1

    def __post_init__(self) -> None:
        check_boundary(self.boundary)
        if not 0 <= self.before < len(self.taps) or self.after < 0:
            raise ValueError(f"before must place {len(self.taps)} taps around a stride of {self.stride}, got {self.before}")

    @property
    def after(self) -> int:
        """Samples needed past the end of the axis."""
        return len(self.taps) - self.before - self.stride

    def apply(self, x: Tensor, dim: int) -> Tensor:
        """The filtered ``x`` along ``dim``, -1 or -2."""
        padded = pad(x, dim, self.before, self.after, self.boundary)
        return _correlate(padded, self.taps, self.stride, dim)

    def adjoint(self, y: Tensor, dim: int) -> Tensor:
        """The exact adjoint of ``apply``."""
        if self.before == self.after == 0:  # disjoint windows that fill the axis
            return torch.stack([tap * y for tap in self.taps], dim).flatten(dim - 1, dim)
        K = len(self.taps)
        zeros = [torch.zeros_like(y)] * (self.stride - 1)
        spread = torch.stack([y, *zeros], dim).flatten(dim - 1, dim)  # stride - 1 zeros after each sample
        padded = pad(spread, dim, K - 1, K - self.stride, "zero")
        return fold(_correlate(padded, self.taps[::-1], 1, dim), dim, self.before, self.after, self.boundary)

    def matrix(self, n: int) -> Tensor:
        """The filter on ``n`` samples as a matrix (n / stride, n), float64."""
        return self.apply(torch.eye(n, dtype=torch.float64), -2)


def _correlate(x: Tensor, taps: tuple[float, ...], stride: int, dim: int) -> Tensor:
    """``y_i = sum_j taps_j x_{stride i + j}`` along ``dim``, wherever the taps lie inside."""
    K = len(taps)
    m = (x.shape[dim] - K) // stride + 1
    block = min(BLOCK, m)
    blocks = -(-m // block)
    window = (block - 1) * stride + K
    x = pad(x, dim, 0, max(0, (blocks - 1) * block * stride + window - x.shape[dim]), "zero")
    T = _toeplitz(taps, stride, block, x.dtype, x.device)
    windows = x.unfold(dim, window, block * stride).contiguous()  # overlapping, they would be multiplied one by one
    y = windows @ T if dim == -1 else T.mT @ windows.mT
    return y.flatten(dim - 1, dim).narrow(dim, 0, m)


@lru_cache(maxsize=64)
@torch.inference_mode(False)  # it outlives the mode it was made in
def _toeplitz(taps: tuple[float, ...], stride: int, block: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The matrix T (window, block) with ``T[stride i + j, i] = taps_j``."""
    T = torch.zeros((block - 1) * stride + len(taps), block, dtype=torch.float64)
    for j, tap in enumerate(taps):
        T[j + stride * torch.arange(block), torch.arange(block)] = tap
    return T.to(device, dtype)


@lru_cache(maxsize=8)
@torch.inference_mode(False)  # it outlives the mode it was made in
def decompose(taps: Filter, n: int, dtype: torch.dtype, device: torch.device) -> Decomposition:
    """The singular value decomposition of a filter on ``n`` samples, its matrices cast to ``dtype``; s stays float64."""
    return Decomposition.of(taps.matrix(n)).to(torch.empty((), dtype=dtype, device=device))
