"""Overlaps of pixels and strips, compiled; ``lanes`` pictures lie side by side in memory and share them."""

from __future__ import annotations

import numpy as np
from numba import njit

__all__ = ["adjoint_strips", "forward_strips"]


@njit(nogil=True, cache=True, error_model="numpy")
def _share(t, wx, wy):
    """Share of a pixel on the near side of a line at distance ``t`` from its middle; ``wx``, ``wy``: its sides' shadows."""
    outer, inner = (wx + wy) / 2, abs(wx - wy) / 2
    if t <= -outer:
        return 0.0
    if t >= outer:
        return 1.0
    if t < -inner:
        return (t + outer) ** 2 / (2 * wx * wy)
    if t > inner:
        return 1 - (outer - t) ** 2 / (2 * wx * wy)
    return 0.5 + t / max(wx, wy)


@njit(nogil=True, cache=True, error_model="numpy")
def _before(normals, offsets, view, edge, x, y, dx, dy):
    """Share of the pixel at (x, y) on the near side of an edge, where u is smaller."""
    nx, ny = normals[view, edge, 0], normals[view, edge, 1]
    return _share(offsets[view, edge] - nx * x - ny * y, dx * abs(nx), dy * abs(ny))


@njit(nogil=True, cache=True, error_model="numpy")
def _first(normals, offsets, view, edge, x, y, dx, dy):
    """The first edge that has something of the pixel before it, searched from ``edge`` on."""
    while edge > 0 and _before(normals, offsets, view, edge - 1, x, y, dx, dy) > 0:
        edge -= 1
    while edge < offsets.shape[1] - 1 and _before(normals, offsets, view, edge, x, y, dx, dy) == 0:
        edge += 1
    return edge


@njit(nogil=True, cache=True, error_model="numpy")
def _scale(pixels, edges, view, x, y):
    """Area of a pixel over the distance from the source, where rays diverge."""
    _, _, dx, dy, divergent = pixels
    sources = edges[2]
    return dx * dy / (np.hypot(x - sources[view, 0], y - sources[view, 1]) if divergent else 1.0)


@njit(nogil=True, cache=True, error_model="numpy")
def forward_strips(image, pixels, edges, begin, end, out):
    """image (ny, nx, lanes) to out (views, columns, lanes), the views ``begin <= view < end``."""
    xs, ys, dx, dy, _ = pixels
    normals, offsets, _, widths = edges
    for view in range(begin, end):
        edge = 0
        for row in range(ys.size):
            for column in range(xs.size):
                x, y = xs[column], ys[row]
                edge = _first(normals, offsets, view, edge, x, y, dx, dy)
                scale = _scale(pixels, edges, view, x, y)
                k = max(edge, 1)
                before = _before(normals, offsets, view, k - 1, x, y, dx, dy)
                while before < 1 and k < offsets.shape[1]:
                    share = _before(normals, offsets, view, k, x, y, dx, dy)
                    weight = out.dtype.type((share - before) * scale / widths[view, k - 1])
                    for lane in range(out.shape[2]):
                        out[view, k - 1, lane] += weight * image[row, column, lane]
                    before, k = share, k + 1


@njit(nogil=True, cache=True, error_model="numpy")
def adjoint_strips(data, pixels, edges, begin, end, out):
    """The transpose: data (views, columns, lanes) to the rows ``begin <= row < end`` of out (ny, nx, lanes)."""
    xs, ys, dx, dy, _ = pixels
    normals, offsets, _, widths = edges
    for view in range(data.shape[0]):
        edge = 0
        for row in range(begin, end):
            for column in range(xs.size):
                x, y = xs[column], ys[row]
                edge = _first(normals, offsets, view, edge, x, y, dx, dy)
                scale = _scale(pixels, edges, view, x, y)
                k = max(edge, 1)
                before = _before(normals, offsets, view, k - 1, x, y, dx, dy)
                while before < 1 and k < offsets.shape[1]:
                    share = _before(normals, offsets, view, k, x, y, dx, dy)
                    weight = out.dtype.type((share - before) * scale / widths[view, k - 1])
                    for lane in range(out.shape[2]):
                        out[row, column, lane] += weight * data[view, k - 1, lane]
                    before, k = share, k + 1
