"""Pixel-driven backprojection on the CPU, compiled; the formulas are those of :mod:`medical.analytic.pixels`.

Loops along a row of the picture, or along z, have neither branches nor calls, so that they run on several pixels at a time.
Numbers under ``plane`` are the source distance, the first u and 1 / du.
"""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np

__all__ = ["backproject_curved", "backproject_flat", "backproject_parallel", "backproject_volume"]

_compiled: Any = numba.njit(nogil=True, cache=True, error_model="numpy", fastmath=True)
_inlined: Any = numba.njit(inline="always", error_model="numpy", fastmath=True)

Index: Any = np.uint32


@_inlined
def _at(row, position):  # type: ignore[no-untyped-def]
    """The value of ``row`` at a fractional index by linear interpolation, zero outside."""
    last = row.shape[0] - 1
    inside = 1.0 if (position >= 0) and (position <= last) else 0.0
    i = Index(min(np.int32(min(max(position, 0.0), float(last))), np.int32(last - 1)))
    f = row.dtype.type(position - i)
    return row.dtype.type(inside) * (row[i] + f * (row[i + Index(1)] - row[i]))


@_compiled
def backproject_parallel(q, out, views, grid, plane, block) -> None:  # type: ignore[no-untyped-def]
    """Adds to the rows ``block`` of ``out`` (B, ny, nx) what ``q`` (B, V, N) holds for them; views (V, 3), grid (y, x)."""
    ys, xs = grid
    _, first, scale = plane
    for k in range(q.shape[1]):
        c, s = views[k, 0], views[k, 1]
        for b in range(q.shape[0]):
            row = q[b, k]
            for iy in range(block[0], block[1]):
                line, y = out[b, iy], ys[iy]
                for ix in range(xs.shape[0]):
                    line[ix] += _at(row, (xs[ix] * c + y * s - first) * scale)


@_compiled
def backproject_flat(q, out, views, grid, plane, block) -> None:  # type: ignore[no-untyped-def]
    """As :func:`backproject_parallel`, for a fan on a flat detector."""
    ys, xs = grid
    source, first, scale = plane
    for k in range(q.shape[1]):
        c, s = views[k, 0], views[k, 1]
        for b in range(q.shape[0]):
            row = q[b, k]
            for iy in range(block[0], block[1]):
                line, y = out[b, iy], ys[iy]
                for ix in range(xs.shape[0]):
                    ratio = source / (source - xs[ix] * s + y * c)
                    value = _at(row, ((xs[ix] * c + y * s) * ratio - first) * scale)
                    line[ix] += row.dtype.type(ratio * ratio) * value


@_compiled
def backproject_curved(q, out, views, grid, plane, block, angles, steepest) -> None:  # type: ignore[no-untyped-def]
    """As :func:`backproject_parallel`, for a fan on a curved detector.

    ``angles`` holds the arc tangent at equal steps from ``-steepest`` to ``steepest``, much finer than the columns.
    """
    ys, xs = grid
    source, first, scale = plane
    steps = 0.5 * (angles.shape[0] - 1) / steepest
    for k in range(q.shape[1]):
        c, s = views[k, 0], views[k, 1]
        for b in range(q.shape[0]):
            row = q[b, k]
            for iy in range(block[0], block[1]):
                line, y = out[b, iy], ys[iy]
                for ix in range(xs.shape[0]):
                    t = xs[ix] * c + y * s
                    l = source - xs[ix] * s + y * c  # noqa: E741
                    value = _at(row, (_at(angles, (t / l + steepest) * steps) - first) * scale)
                    line[ix] += row.dtype.type(source * source / (t * t + l * l)) * value


@_inlined
def _land(kind: int, t: float, l: float, source: float) -> tuple[float, float]:  # noqa: E741
    """``(u, ratio)`` of :mod:`medical.analytic.pixels`."""
    if kind == 0:
        return t, 1.0
    if kind == 1:
        return t * (source / l), source / l
    return math.atan2(t, l), source / math.sqrt(t * t + l * l)


@_compiled
def backproject_volume(kind, q, out, views, grid, plane, lines, window, block) -> None:  # type: ignore[no-untyped-def]
    """Adds to the rows ``block`` of ``out`` (B, ny, nx, nz) what ``q`` (B, V, N, R) holds for them; grid (z, y, x).

    lines: first w, 1 / dw, and how many rows beyond the outermost still take its value; window (V, nz): how much each view
    counts for each slice.
    """
    zs, ys, xs = grid
    source, first, scale = plane
    last = q.shape[2] - 1
    for k in range(q.shape[1]):
        c, s, height = views[k, 0], views[k, 1], views[k, 2]
        bottom, top = 0, zs.shape[0]
        while bottom < top and window[k, bottom] == 0:
            bottom += 1
        while top > bottom and window[k, top - 1] == 0:
            top -= 1
        for iy in range(block[0], block[1]):
            y = ys[iy]
            for ix in range(xs.shape[0]):
                u, ratio = _land(kind, xs[ix] * c + y * s, source - xs[ix] * s + y * c, source)
                position = (u - first) * scale
                if position < 0 or position > last:
                    continue
                i = min(int(position), last - 1)
                f = q.dtype.type(position - i)
                for b in range(q.shape[0]):
                    _add_rows(out[b, iy, ix], q[b, k, i], q[b, k, i + 1], f, zs, height, ratio, lines, window[k], bottom, top)


@_inlined
def _add_rows(out, left, right, f, zs, height, ratio, lines, window, bottom, top) -> None:  # type: ignore[no-untyped-def]
    """Along z, between two columns of the detector."""
    first, scale, margin = lines
    last = left.shape[0] - 1
    weight = ratio * ratio
    for iz in range(bottom, top):
        row = ((zs[iz] - height) * ratio - first) * scale
        inside = weight * window[iz] if (row >= -margin) and (row <= last + margin) else 0.0
        row = min(max(row, 0.0), float(last))
        j = Index(min(np.int32(row), np.int32(max(last - 1, 0))))
        above = Index(min(np.int32(j) + 1, np.int32(last)))
        g = left.dtype.type(row - j)
        low = left[j] + f * (right[j] - left[j])
        high = left[above] + f * (right[above] - left[above])
        out[iz] += left.dtype.type(inside) * (low + g * (high - low))
