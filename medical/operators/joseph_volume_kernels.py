"""Joseph's method on the CPU, volumes: each ray is set up in float64 and walked plane by plane with bilinear weights.

The volume is copied once for each axis that rays follow, with that axis first and two voxels of padding on the others.
Axes of the copies: major, then ``MINORS`` in their order; x, y and z are 0, 1 and 2.
"""

from __future__ import annotations

import numpy as np
from numba import njit

__all__ = ["MARGIN", "MINORS", "SHIFT", "adjoint_volume", "axes_used", "forward_volume"]

BLOCK = 32  # planes a block, of the same ones for all rays and threads: positions are counted from its first plane
MARGIN = 2  # voxels of padding
SHIFT = 64  # keeps positions within a block positive; a whole number of voxels, at least BLOCK
MINORS = ((1, 2), (0, 2), (1, 0))

_whole = np.uint64


@njit(nogil=True, cache=True, error_model="numpy")
def _ray(table: tuple[np.ndarray, ...], view: int, row: int, column: int, o: np.ndarray, d: np.ndarray) -> int:
    """Point and direction of one ray, in voxel indices, into ``o`` and ``d``; returns the axis it follows most."""
    origin, direction, origin_step, direction_step, v = table[:5]
    for k in range(3):
        o[k] = origin[view, column, k] + v[row] * origin_step[view, k]
        d[k] = direction[view, column, k] + v[row] * direction_step[view, k]
    axis = 0
    for k in range(1, 3):
        if abs(d[k]) > abs(d[axis]):
            axis = k
    return axis


@njit(nogil=True, cache=True, error_model="numpy")
def _range(a: float, s: float, size: int, first: int, last: int) -> tuple[int, int]:
    """The planes within ``first <= i < last`` where ``-1 < a + s i < size``."""
    if s == 0:
        return (first, last) if -1 < a < size else (first, first)
    low, high = (-1 - a) / s, (size - a) / s
    if low > high:
        low, high = high, low
    low, high = max(low, first - 1.0), min(high, float(last))
    return max(first, int(np.ceil(low))), min(last, int(np.floor(high)) + 1)


@njit(nogil=True, cache=True, error_model="numpy")
def axes_used(table: tuple[np.ndarray, ...]) -> np.ndarray:
    """How many rays follow x, y and z most."""
    count = np.zeros(3, np.int64)
    o, d = np.zeros(3), np.zeros(3)
    views, columns = table[0].shape[:2]
    for view in range(views):
        for column in range(columns):
            for row in range(table[4].size):
                count[_ray(table, view, row, column, o, d)] += 1
    return count


@njit(nogil=True, cache=True, fastmath=True, error_model="numpy")
def _setup(
    table: tuple[np.ndarray, ...],
    at: tuple[int, int, int],
    axis: int,
    minors: tuple[int, int],
    size: tuple[int, int],
    planes: tuple[int, int],
    o: np.ndarray,
    d: np.ndarray,
) -> tuple[int, int, float]:
    """``(first, last, weight)`` of the ray ``at`` (view, row, column) on the copy along ``axis``, empty if not its own.

    Its intercepts are left in ``o``, its slopes in ``d``; ``size`` is that of the minor axes, without padding.
    """
    if _ray(table, at[0], at[1], at[2], o, d) != axis:
        return 0, 0, 0.0
    scale, m0, m1 = table[5], minors[0], minors[1]
    length = np.sqrt((d[0] / scale[0]) ** 2 + (d[1] / scale[1]) ** 2 + (d[2] / scale[2]) ** 2)
    s0, s1 = d[m0] / d[axis], d[m1] / d[axis]
    a0, a1 = o[m0] - s0 * o[axis], o[m1] - s1 * o[axis]
    weight = length / abs(d[axis])
    first, last = _range(a0, s0, size[0], planes[0], planes[1])
    if first < last:
        first, last = _range(a1, s1, size[1], first, last)
    o[0], o[1], d[0], d[1] = a0, a1, s0, s1
    return first, last, weight


@njit(nogil=True, cache=True, fastmath=True, error_model="numpy")
def forward_volume(
    volume: np.ndarray, axis: int, minors: tuple[int, int], table: tuple[np.ndarray, ...], begin: int, end: int, out: np.ndarray
) -> None:
    """Adds the rays of the views ``begin <= view < end`` that follow ``axis`` to ``out`` (views, rows, columns)."""
    real, flat, shape = volume.dtype.type, volume.reshape(-1), volume.shape
    across, size = _whole(shape[2]), (shape[1] - 2 * MARGIN, shape[2] - 2 * MARGIN)
    o, d = np.zeros(3), np.zeros(3)
    for view in range(begin, end):
        for column in range(table[0].shape[1]):
            for row in range(table[4].size):
                at = (view, row, column)
                first, last, weight = _setup(table, at, axis, minors, size, (0, shape[0]), o, d)
                total, s0, s1 = real(0), real(d[0]), real(d[1])
                for block in range(first // BLOCK * BLOCK, last, BLOCK):
                    start = max(first, block)
                    at0, at1 = o[0] + d[0] * start, o[1] + d[1] * start
                    w0, w1 = np.floor(at0), np.floor(at1)
                    b0, b1 = real(at0 - w0 + SHIFT), real(at1 - w1 + SHIFT)
                    corner = (np.int64(w0) - SHIFT + MARGIN) * shape[2] + np.int64(w1) - SHIFT + MARGIN
                    for i in range(start, min(block + BLOCK, last)):
                        p0, p1 = b0 + s0 * real(i - start), b1 + s1 * real(i - start)
                        q0, q1 = np.int32(p0), np.int32(p1)
                        f0, f1 = p0 - real(q0), p1 - real(q1)
                        k = _whole(i * shape[1] * shape[2] + corner + q0 * shape[2] + q1)
                        low = flat[k] + f1 * (flat[k + _whole(1)] - flat[k])
                        k += across
                        high = flat[k] + f1 * (flat[k + _whole(1)] - flat[k])
                        total += low + f0 * (high - low)
                if first < last:
                    out[view, row, column] += total * real(weight)


@njit(nogil=True, cache=True, fastmath=True, error_model="numpy")
def adjoint_volume(
    data: np.ndarray, axis: int, minors: tuple[int, int], table: tuple[np.ndarray, ...], begin: int, end: int, out: np.ndarray
) -> None:
    """The transpose of ``forward_volume`` onto the planes ``begin <= i < end`` of ``out``, the copy along ``axis``."""
    real, flat, shape = data.dtype.type, out.reshape(-1), out.shape
    across, size = _whole(shape[2]), (shape[1] - 2 * MARGIN, shape[2] - 2 * MARGIN)
    o, d = np.zeros(3), np.zeros(3)
    for view in range(table[0].shape[0]):
        for column in range(table[0].shape[1]):
            for row in range(table[4].size):
                at = (view, row, column)
                first, last, weight = _setup(table, at, axis, minors, size, (begin, end), o, d)
                if first >= last:
                    continue
                value, s0, s1 = data[view, row, column] * real(weight), real(d[0]), real(d[1])
                for block in range(first // BLOCK * BLOCK, last, BLOCK):
                    start = max(first, block)
                    at0, at1 = o[0] + d[0] * start, o[1] + d[1] * start
                    w0, w1 = np.floor(at0), np.floor(at1)
                    b0, b1 = real(at0 - w0 + SHIFT), real(at1 - w1 + SHIFT)
                    corner = (np.int64(w0) - SHIFT + MARGIN) * shape[2] + np.int64(w1) - SHIFT + MARGIN
                    for i in range(start, min(block + BLOCK, last)):
                        p0, p1 = b0 + s0 * real(i - start), b1 + s1 * real(i - start)
                        q0, q1 = np.int32(p0), np.int32(p1)
                        f0, f1 = p0 - real(q0), p1 - real(q1)
                        k = _whole(i * shape[1] * shape[2] + corner + q0 * shape[2] + q1)
                        high = f0 * value
                        low = value - high
                        flat[k] += low - f1 * low
                        flat[k + _whole(1)] += f1 * low
                        k += across
                        flat[k] += high - f1 * high
                        flat[k + _whole(1)] += f1 * high
