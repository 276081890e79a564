"""Overlaps of pixels and strips, compiled; ``lanes`` pictures lie side by side in memory and share them."""

from __future__ import annotations

import numpy as np
from numba import njit

__all__ = ["adjoint_strips", "forward_strips"]

Pixels = tuple[np.ndarray, np.ndarray, float, float, bool]
"""x of the columns, y of the rows, the sides of a pixel, and whether rays diverge."""
Edges = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""Of the strips: normals (views, edges, 2) and offsets (views, edges), the sources (views, 2), widths (views, columns)."""


@njit(nogil=True, cache=True, error_model="numpy")
def _share(t: float, wx: float, wy: float) -> float:
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
def _before(edges: Edges, view: int, edge: int, x: float, y: float, dx: float, dy: float) -> float:
    """Share of the pixel at (x, y) on the near side of an edge, where u is smaller."""
    normals, offsets = edges[0], edges[1]
    nx, ny = normals[view, edge, 0], normals[view, edge, 1]
    return _share(offsets[view, edge] - nx * x - ny * y, dx * abs(nx), dy * abs(ny))


@njit(nogil=True, cache=True, error_model="numpy")
def _first(edges: Edges, view: int, edge: int, x: float, y: float, dx: float, dy: float) -> int:
    """The first edge that has something of the pixel before it, searched from ``edge`` on."""
    while edge > 0 and _before(edges, view, edge - 1, x, y, dx, dy) > 0:
        edge -= 1
    while edge < edges[1].shape[1] - 1 and _before(edges, view, edge, x, y, dx, dy) == 0:
        edge += 1
    return edge


@njit(nogil=True, cache=True, error_model="numpy")
def _scale(pixels: Pixels, edges: Edges, view: int, x: float, y: float) -> float:
    """Area of a pixel over the distance from the source, where rays diverge."""
    _, _, dx, dy, divergent = pixels
    sources = edges[2]
    return dx * dy / (np.hypot(x - sources[view, 0], y - sources[view, 1]) if divergent else 1.0)


@njit(nogil=True, cache=True, error_model="numpy")
def forward_strips(image: np.ndarray, pixels: Pixels, edges: Edges, begin: int, end: int, out: np.ndarray) -> None:
    """image (ny, nx, lanes) to out (views, columns, lanes), the views ``begin <= view < end``."""
    xs, ys, dx, dy, _ = pixels
    widths = edges[3]
    for view in range(begin, end):
        edge = 0
        for row in range(ys.size):
            for column in range(xs.size):
                x, y = xs[column], ys[row]
                edge = _first(edges, view, edge, x, y, dx, dy)
                scale = _scale(pixels, edges, view, x, y)
                k = max(edge, 1)
                before = _before(edges, view, k - 1, x, y, dx, dy)
                while before < 1 and k <= widths.shape[1]:
                    share = _before(edges, view, k, x, y, dx, dy)
                    weight = out.dtype.type((share - before) * scale / widths[view, k - 1])
                    for lane in range(out.shape[2]):
                        out[view, k - 1, lane] += weight * image[row, column, lane]
                    before, k = share, k + 1


@njit(nogil=True, cache=True, error_model="numpy")
def adjoint_strips(data: np.ndarray, pixels: Pixels, edges: Edges, begin: int, end: int, out: np.ndarray) -> None:
    """The transpose: data (views, columns, lanes) to the rows ``begin <= row < end`` of out (ny, nx, lanes)."""
    xs, ys, dx, dy, _ = pixels
    widths = edges[3]
    for view in range(data.shape[0]):
        edge = 0
        for row in range(begin, end):
            for column in range(xs.size):
                x, y = xs[column], ys[row]
                edge = _first(edges, view, edge, x, y, dx, dy)
                scale = _scale(pixels, edges, view, x, y)
                k = max(edge, 1)
                before = _before(edges, view, k - 1, x, y, dx, dy)
                while before < 1 and k <= widths.shape[1]:
                    share = _before(edges, view, k, x, y, dx, dy)
                    weight = out.dtype.type((share - before) * scale / widths[view, k - 1])
                    for lane in range(out.shape[2]):
                        out[row, column, lane] += weight * data[view, k - 1, lane]
                    before, k = share, k + 1
