"""Exact lengths of rays within voxels, compiled; ``lanes`` grids lie side by side in memory and share the lengths.

Coordinates count voxels from the middle of the grid, along x, y and z of the world: voxel i of n lies between
``i - n / 2`` and ``i + 1 - n / 2``.
"""

from __future__ import annotations

import numpy as np
from numba import njit

__all__ = ["adjoint_rays", "forward_rays"]


@njit(nogil=True, cache=True, error_model="numpy")
def _line(table: tuple[np.ndarray, ...], view: int, row: int, column: int, o: np.ndarray, d: np.ndarray) -> float:
    """Point and direction of one ray into ``o`` and ``d``; returns the length that ``d`` stands for."""
    origin, direction, origin_step, direction_step, v, size = table
    length = 0.0
    for k in range(3):
        o[k] = origin[view, column, k] + v[row] * origin_step[view, k]
        d[k] = direction[view, column, k] + v[row] * direction_step[view, k]
        length += (d[k] * size[k]) ** 2
    return np.sqrt(length)


@njit(nogil=True, cache=True, error_model="numpy")
def _enter(o: np.ndarray, d: np.ndarray, shape: np.ndarray, plane: np.ndarray, next_s: np.ndarray) -> tuple[float, float]:
    """``(s in, s out)`` of the line ``o + s d`` in the grid; sets the next face on each axis and where it is met."""
    low, high = -np.inf, np.inf
    for k in range(3):
        half = shape[k] / 2
        if d[k] == 0:
            if not -half <= o[k] < half:
                return 0.0, 0.0
            continue
        a, b = (-half - o[k]) / d[k], (half - o[k]) / d[k]
        low, high = max(low, min(a, b)), min(high, max(a, b))
    if not low < high:
        return 0.0, 0.0
    for k in range(3):
        if d[k] == 0:
            next_s[k] = np.inf
            continue
        here = o[k] + low * d[k] + shape[k] / 2
        plane[k] = np.floor(here) if d[k] > 0 else np.ceil(here)
        next_s[k] = low
        while next_s[k] <= low:
            _advance(o, d, shape, plane, next_s, k)
    return low, high


@njit(nogil=True, cache=True, error_model="numpy")
def _advance(o: np.ndarray, d: np.ndarray, shape: np.ndarray, plane: np.ndarray, next_s: np.ndarray, k: int) -> None:
    """The next face on axis ``k``."""
    plane[k] += 1 if d[k] > 0 else -1
    next_s[k] = (plane[k] - shape[k] / 2 - o[k]) / d[k]


@njit(nogil=True, cache=True, error_model="numpy")
def _voxel(o: np.ndarray, d: np.ndarray, s: float, shape: np.ndarray, flip_y: bool) -> int:
    """The flat index of the voxel at ``s``, -1 outside; on a face, the voxel at the larger coordinate."""
    x = int(np.floor(o[0] + s * d[0] + shape[0] / 2))
    y = int(np.floor(o[1] + s * d[1] + shape[1] / 2))
    z = int(np.floor(o[2] + s * d[2] + shape[2] / 2))
    if not (0 <= x < shape[0] and 0 <= y < shape[1] and 0 <= z < shape[2]):
        return -1
    return (z * shape[1] + (shape[1] - 1 - y if flip_y else y)) * shape[0] + x


@njit(nogil=True, cache=True, error_model="numpy")
def forward_rays(
    grid: np.ndarray, shape: np.ndarray, flip_y: bool, table: tuple[np.ndarray, ...], begin: int, end: int, out: np.ndarray
) -> None:
    """Sums of value times length for the views ``begin <= view < end``: grid (voxels, lanes), out (..., columns, lanes)."""
    o, d, plane, next_s = np.zeros(3), np.zeros(3), np.zeros(3), np.zeros(3)
    for view in range(begin, end):
        for row in range(out.shape[1]):
            for column in range(out.shape[2]):
                length = _line(table, view, row, column, o, d)
                s, last = _enter(o, d, shape, plane, next_s)
                while s < last:
                    k = int(np.argmin(next_s))
                    t = min(next_s[k], last)
                    voxel = _voxel(o, d, (s + t) / 2, shape, flip_y)
                    part = grid.dtype.type((t - s) * length)
                    if voxel >= 0:
                        for lane in range(grid.shape[1]):
                            out[view, row, column, lane] += part * grid[voxel, lane]
                    s = t
                    _advance(o, d, shape, plane, next_s, k)


@njit(nogil=True, cache=True, error_model="numpy")
def adjoint_rays(data: np.ndarray, shape: np.ndarray, flip_y: bool, table: tuple[np.ndarray, ...], out: np.ndarray) -> None:
    """The transpose: data (views, rows, columns, lanes) onto out (voxels, lanes)."""
    o, d, plane, next_s = np.zeros(3), np.zeros(3), np.zeros(3), np.zeros(3)
    for view in range(data.shape[0]):
        for row in range(data.shape[1]):
            for column in range(data.shape[2]):
                length = _line(table, view, row, column, o, d)
                s, last = _enter(o, d, shape, plane, next_s)
                while s < last:
                    k = int(np.argmin(next_s))
                    t = min(next_s[k], last)
                    voxel = _voxel(o, d, (s + t) / 2, shape, flip_y)
                    part = data.dtype.type((t - s) * length)
                    if voxel >= 0:
                        for lane in range(data.shape[3]):
                            out[voxel, lane] += part * data[view, row, column, lane]
                    s = t
                    _advance(o, d, shape, plane, next_s, k)
