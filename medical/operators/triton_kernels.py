"""Joseph's method on GPUs, slices: Triton kernels over rays, and for the adjoint over pixels.

Positions are fixed-point numbers of 64 bits, 32 of them after the point for float32 images and 44 for float64. They are
walked by exact additions: a ray is where float64 puts it to 1e-7 pixels on every plane, with no double precision in a loop.
Slices are padded by ``MARGIN`` pixels on all sides, so that a ray's two neighbours always exist.
"""

# mypy: disable-error-code=no-untyped-def
from __future__ import annotations

import triton
import triton.language as tl

__all__ = ["MARGIN", "as_real", "forward_slices", "gather_slices", "scatter_slices", "split"]

MARGIN = tl.constexpr(2)
GUARD = tl.constexpr(0.0625)  # of a bin, against rounding in float32


@triton.jit
def as_real(part, REAL: tl.constexpr):
    """A fixed-point number in [0, 1] as a floating-point one; for float32 rounded to 24 bits."""
    if tl.float64 == REAL:
        return part.to(tl.float64) * 5.684341886080802e-14  # 2^-44
    else:  # noqa: RET505 - compiled apart
        return ((part + 128) >> 8).to(tl.int32).to(tl.float32) * 5.960464477539063e-08  # 2^-24


@triton.jit
def split(position, REAL: tl.constexpr):
    """``(whole, fraction)`` of a position."""
    BITS: tl.constexpr = 44 if tl.float64 == REAL else 32
    whole = position >> BITS
    return whole.to(tl.int32), as_real(position - (whole << BITS), REAL)


@triton.jit
def forward_slices(
    image, plane, minor, lane_step, intercept, slope, weight, first, last, index, out, ray_step, out_lane_step, count, lanes,
    RAYS: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    """``out[index, lane] = weight sum_i image(i, intercept + slope i, lane)`` for ``RAYS`` rays and ``LANES`` slices.

    ``plane``, ``minor`` and ``lane_step`` are the strides of image; ``first <= i < last`` are the planes a ray meets.
    """
    REAL: tl.constexpr = image.dtype.element_ty
    k = tl.program_id(0) * RAYS + tl.arange(0, RAYS)
    lane = tl.program_id(1) * LANES + tl.arange(0, LANES)
    real, use = k < count, lane < lanes
    low = tl.load(first + k, mask=real, other=2147483647)
    high = tl.load(last + k, mask=real, other=0)
    begin, end = tl.min(low, 0), tl.max(high, 0)
    step = tl.load(slope + k, mask=real, other=0)
    position = tl.load(intercept + k, mask=real, other=0) + step * begin
    total = tl.zeros((RAYS, LANES), REAL)
    for i in range(begin, end):
        q, f = split(position, REAL)
        inside = ((i >= low) & (i < high))[:, None] & use[None, :]
        at = image + ((q + MARGIN) * minor + (i + MARGIN) * plane)[:, None] + (lane * lane_step)[None, :]
        near = tl.load(at, mask=inside, other=0)
        far = tl.load(at + minor, mask=inside, other=0)
        total += near + f[:, None] * (far - near)
        position += step
    w = tl.load(weight + k, mask=real, other=0)
    o = tl.load(index + k, mask=real, other=0)
    tl.store(
        out + (o * ray_step)[:, None] + (lane * out_lane_step)[None, :], total * w[:, None], mask=real[:, None] & use[None, :]
    )


@triton.jit
def scatter_slices(
    image, plane, minor, lane_step, intercept, slope, first, last, data, ray_step, data_lane_step, count, lanes,
    RAYS: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    """Adds ``data[k]`` to where ray k passes: the transpose, for any rays; in no determined order, by atomic additions."""
    REAL: tl.constexpr = image.dtype.element_ty
    k = tl.program_id(0) * RAYS + tl.arange(0, RAYS)
    lane = tl.program_id(1) * LANES + tl.arange(0, LANES)
    real, use = k < count, lane < lanes
    low = tl.load(first + k, mask=real, other=2147483647)
    high = tl.load(last + k, mask=real, other=0)
    begin, end = tl.min(low, 0), tl.max(high, 0)
    step = tl.load(slope + k, mask=real, other=0)
    position = tl.load(intercept + k, mask=real, other=0) + step * begin
    source = data + (k * ray_step)[:, None] + (lane * data_lane_step)[None, :]
    value = tl.load(source, mask=real[:, None] & use[None, :], other=0)
    for i in range(begin, end):
        q, f = split(position, REAL)
        inside = ((i >= low) & (i < high))[:, None] & use[None, :]
        at = image + ((q + MARGIN) * minor + (i + MARGIN) * plane)[:, None] + (lane * lane_step)[None, :]
        far = f[:, None] * value
        tl.atomic_add(at, value - far, mask=inside, sem="relaxed")
        tl.atomic_add(at + minor, far, mask=inside, sem="relaxed")
        position += step


@triton.jit
def gather_slices(
    image, plane, minor, lane_step, intercept, slope, data, ray_step, data_lane_step, ends, bins, groups, bin_count, planes,
    across, lanes, PLANES: tl.constexpr, PIXELS: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    """Adds ``sum_k max(0, 1 - |intercept_k + slope_k i - j|) data[k]`` to pixel j of plane i: the transpose, without atomics.

    Rays are in groups (one for each view), sorted by where they meet a plane. ``ends`` (groups, 4) holds intercept and
    slope of a group's first and last ray; between those, ``bins`` (groups, bin_count + 1) says which ray is the first at
    or beyond each of ``bin_count`` equal steps, on any plane. So a pixel finds the few rays that touch it.
    """
    REAL: tl.constexpr = image.dtype.element_ty
    BITS: tl.constexpr = 44 if tl.float64 == REAL else 32
    blocks = tl.cdiv(across, PIXELS)
    tile = tl.arange(0, PLANES * PIXELS)
    i = tl.program_id(0) // blocks * PLANES + tile // PIXELS
    j = tl.program_id(0) % blocks * PIXELS + tile % PIXELS
    lane = tl.program_id(1) * LANES + tl.arange(0, LANES)
    inside, use = (i < planes) & (j < across), lane < lanes
    here = j.to(tl.int64) << BITS
    one = tl.full((1,), 1, tl.int64) << BITS
    total = tl.zeros((PLANES * PIXELS, LANES), REAL)
    for g in range(groups):
        head = tl.load(ends + 4 * g) + tl.load(ends + 4 * g + 1) * i
        span = tl.load(ends + 4 * g + 2) + tl.load(ends + 4 * g + 3) * i - head
        a_bin = tl.where(span == 0, 1, span).to(tl.float32) / bin_count
        middle, half = (here - head).to(tl.float32) / a_bin, one.to(tl.float32) / tl.abs(a_bin) + GUARD
        low = tl.minimum(tl.maximum(middle - half, 0.0), bin_count)
        high = tl.minimum(tl.maximum(middle + half, -1.0), bin_count - 1)
        row = bins + g * (bin_count + 1)
        start = tl.load(row + tl.floor(low).to(tl.int32), mask=inside, other=0)
        stop = tl.load(row + tl.floor(high).to(tl.int32) + 1, mask=inside, other=0)
        for c in range(tl.max(stop - start, 0)):
            k = start + c
            mine = k < stop
            position = tl.load(intercept + k, mask=mine, other=0) + tl.load(slope + k, mask=mine, other=0) * i
            apart = tl.abs(position - here)
            mine = mine & (apart < one)
            w = as_real(tl.where(mine, one - apart, 0), REAL)
            at = data + (k * ray_step)[:, None] + (lane * data_lane_step)[None, :]
            total += w[:, None] * tl.load(at, mask=mine[:, None] & use[None, :], other=0)
    at = image + ((j + MARGIN) * minor + (i + MARGIN) * plane)[:, None] + (lane * lane_step)[None, :]
    both = inside[:, None] & use[None, :]
    tl.store(at, tl.load(at, mask=both, other=0) + total, mask=both)
