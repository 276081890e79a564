"""Joseph's method for small pictures: the whole matrix, kept, which no walk along rays beats while it fits in the cache."""

from __future__ import annotations

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor

from medical.geometry import Rays, Volume
from medical.operators.lines import Lines, lines

__all__ = ["MOST_ENTRIES", "MatrixJoseph", "entries"]

MOST_ENTRIES = 2**19
"""Beyond that the compiled loops are as fast: 64 x 64 pixels and 60 views of 95 columns have 4e5 entries, 8 MiB both ways."""


def entries(volume: Volume, rays: Rays) -> int:
    """How many entries the matrix would have at most."""
    return sum(2 * int((each.last - each.first).sum()) for each in lines(volume, rays))


class MatrixJoseph:
    """Forward and adjoint projection of slices (N, ny, nx) to sinograms (N, views, columns), float32 or float64."""

    def __init__(self, volume: Volume, rays: Rays) -> None:
        self.size, self.rays = volume.shape, (rays.shape[0], rays.shape[2])
        parts = [_entries(each, volume.shape) for each in lines(volume, rays)]
        rows, columns, values = (np.concatenate(each) for each in zip(*parts, strict=True))
        shape = (self.rays[0] * self.rays[1], self.size[0] * self.size[1])
        matrix = csr_array((values, (rows, columns)), shape=shape)
        self._double = (matrix, matrix.T.tocsr())
        self._single = tuple(each.astype(np.float32) for each in self._double)

    def forward(self, x: Tensor) -> Tensor:
        """``A x`` for each of the N slices."""
        return self._product(0, x).view(len(x), *self.rays)

    def adjoint(self, y: Tensor) -> Tensor:
        """``A^T y`` for each of the N sinograms."""
        return self._product(1, y).view(len(y), *self.size)

    def _product(self, which: int, t: Tensor) -> Tensor:
        matrix = (self._double if t.dtype == torch.float64 else self._single)[which]
        if len(t) == 1:
            return torch.from_numpy(matrix @ t.reshape(-1).numpy())[None]
        return torch.from_numpy(matrix @ np.ascontiguousarray(t.flatten(1).T.numpy())).T.contiguous()


def _entries(each: Lines, size: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows, columns and values of the rays that share a major axis."""
    count = each.last - each.first
    ray = np.repeat(np.arange(len(count)), count)
    plane = np.arange(len(ray)) - np.repeat(np.cumsum(count) - count, count) + each.first[ray]
    at = each.intercept[ray] + each.slope[ray] * plane
    near = np.floor(at)
    share = at - near
    planes, minor = np.tile(plane, 2), np.concatenate([near, near + 1]).astype(np.int64)
    values = np.concatenate([1 - share, share]) * np.tile(each.weight[ray], 2)
    inside = (minor >= 0) & (minor < size[each.major])
    row, column = (minor, planes) if each.major == 0 else (planes, minor)
    return np.tile(each.index[ray], 2)[inside], (row * size[1] + column)[inside], values[inside]
