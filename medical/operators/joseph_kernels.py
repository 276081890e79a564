"""Joseph's method on the CPU, slices: compiled loops over rays and planes.

A slice is padded by two pixels on either side of the minor axis, so that a ray's two neighbours always exist. Planes are
taken in blocks, the same ones for all rays and threads: within a block the position is counted from the first plane that
the ray meets, which keeps float32 exact to 1e-5 pixels.
``lanes`` slices may lie side by side in memory; their weights are then worked out once for all of them.
"""

from __future__ import annotations

import numpy as np
from numba import njit

__all__ = ["BLOCK", "MARGIN", "adjoint_lanes", "adjoint_slice", "forward_lanes", "forward_slice"]

BLOCK = 32  # planes a block
MARGIN = 2  # pixels of padding
SHIFT = 64  # keeps positions within a block positive, whatever the slope; a whole number of pixels, at least BLOCK

_whole = np.uint64  # unsigned, so that no index is tried for being negative


@njit(nogil=True, cache=True, fastmath=True, error_model="numpy")
def forward_slice(image: np.ndarray, width: int, line: tuple[np.ndarray, ...], begin: int, end: int, out: np.ndarray) -> None:
    """``out[index] += weight sum_i image(i, intercept + slope i)`` for rays ``begin <= k < end``; image flat."""
    index, intercept, slope, weight, first, last = line
    real = image.dtype.type
    for k in range(begin, end):
        total = real(0)
        step = real(slope[k])
        for block in range(first[k] // BLOCK * BLOCK, last[k], BLOCK):
            low = max(first[k], block)
            at = intercept[k] + slope[k] * low
            whole = np.floor(at)
            start = real(at - whole + SHIFT)
            corner = np.int64(whole) - SHIFT + MARGIN
            for i in range(low, min(block + BLOCK, last[k])):
                p = start + step * real(i - low)
                q = np.int32(p)
                f = p - real(q)
                o = _whole(i * width + corner + q)
                near = image[o]
                total += near + f * (image[o + _whole(1)] - near)
        out[index[k]] += total * real(weight[k])


@njit(nogil=True, cache=True, fastmath=True, error_model="numpy")
def adjoint_slice(
    sinogram: np.ndarray, width: int, line: tuple[np.ndarray, ...], begin: int, end: int, out: np.ndarray
) -> None:
    """The transpose of ``forward_slice`` onto the planes ``begin <= i < end`` of ``out``, (planes, width) flat."""
    index, intercept, slope, weight, first, last = line
    real = sinogram.dtype.type
    for k in range(index.size):
        value = sinogram[index[k]] * real(weight[k])
        step = real(slope[k])
        for block in range(max(first[k] // BLOCK * BLOCK, begin), min(last[k], end), BLOCK):
            low = max(first[k], block)
            at = intercept[k] + slope[k] * low
            whole = np.floor(at)
            start = real(at - whole + SHIFT)
            corner = np.int64(whole) - SHIFT + MARGIN
            for i in range(low, min(block + BLOCK, last[k], end)):
                p = start + step * real(i - low)
                q = np.int32(p)
                far = (p - real(q)) * value
                o = _whole(i * width + corner + q)
                out[o] += value - far
                out[o + _whole(1)] += far


@njit(nogil=True, cache=True, fastmath=True, error_model="numpy")
def forward_lanes(
    image: np.ndarray, width: int, lanes: int, line: tuple[np.ndarray, ...], begin: int, end: int, out: np.ndarray
) -> None:
    """``forward_slice`` for ``lanes`` slices, which lie side by side: image (planes, width, lanes), out (rays, lanes), flat."""
    index, intercept, slope, weight, first, last = line
    real = image.dtype.type
    L = _whole(lanes)
    total = np.zeros(lanes, image.dtype)
    planes = image.size // (width * lanes)
    for block in range(0, planes, BLOCK):
        for k in range(begin, end):
            low, high = max(first[k], block), min(last[k], block + BLOCK)
            if low >= high:
                continue
            at = intercept[k] + slope[k] * low
            whole = np.floor(at)
            start, step = real(at - whole + SHIFT), real(slope[k])
            corner = np.int64(whole) - SHIFT + MARGIN
            for lane in range(lanes):
                total[lane] = 0
            for i in range(low, high):
                p = start + step * real(i - low)
                q = np.int32(p)
                f = p - real(q)
                g = real(1) - f
                near = _whole(i * width + corner + q) * L
                far = near + L
                for lane in range(lanes):
                    total[lane] += g * image[near + _whole(lane)] + f * image[far + _whole(lane)]
            o = _whole(index[k]) * L
            for lane in range(lanes):
                out[o + _whole(lane)] += total[lane] * real(weight[k])


@njit(nogil=True, cache=True, fastmath=True, error_model="numpy")
def adjoint_lanes(
    sinogram: np.ndarray, width: int, lanes: int, line: tuple[np.ndarray, ...], begin: int, end: int, out: np.ndarray
) -> None:
    """The transpose of ``forward_lanes`` onto the planes ``begin <= i < end``."""
    index, intercept, slope, weight, first, last = line
    real = sinogram.dtype.type
    L = _whole(lanes)
    value = np.zeros(lanes, sinogram.dtype)
    for block in range(begin, end, BLOCK):
        for k in range(index.size):
            low, high = max(first[k], block), min(last[k], block + BLOCK, end)
            if low >= high:
                continue
            at = intercept[k] + slope[k] * low
            whole = np.floor(at)
            start, step = real(at - whole + SHIFT), real(slope[k])
            corner = np.int64(whole) - SHIFT + MARGIN
            o = _whole(index[k]) * L
            for lane in range(lanes):
                value[lane] = sinogram[o + _whole(lane)] * real(weight[k])
            for i in range(low, high):
                p = start + step * real(i - low)
                q = np.int32(p)
                f = p - real(q)
                g = real(1) - f
                near = _whole(i * width + corner + q) * L
                far = near + L
                for lane in range(lanes):
                    out[near + _whole(lane)] += g * value[lane]
                for lane in range(lanes):
                    out[far + _whole(lane)] += f * value[lane]
