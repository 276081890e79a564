"""Joseph's method on GPUs, volumes: Triton kernels that set up each ray in float64 and walk it in fixed point.

Positions are those of ``triton_kernels``. Axes of the copies of a volume: major, then two minors, padded by ``MARGIN``
voxels; x, y and z are 0, 1 and 2. A tile of rays is ``COLUMNS`` by ``ROWS`` of one view, rows side by side in memory.
"""

# mypy: disable-error-code=no-untyped-def
from __future__ import annotations

import triton
import triton.language as tl

from medical.operators.triton_kernels import MARGIN, split

__all__ = ["forward_volume", "scatter_volume"]

FAR = tl.constexpr(131072.0)  # planes or voxels; where a ray is beyond them does not matter


@triton.jit
def wins(a, b, FIRST: tl.constexpr):
    """Whether a ray follows the axis of component ``a`` rather than that of ``b``; where they tie, the first."""
    if FIRST:
        return tl.abs(a) >= tl.abs(b)
    else:  # noqa: RET505 - compiled apart
        return tl.abs(a) > tl.abs(b)


@triton.jit
def plane_range(intercept, slope, size, planes):
    """``(first, last)``: planes ``first <= i < last`` where ``-1 < intercept + slope i < size``, of ``planes``."""
    flat = slope == 0
    safe = tl.where(flat, 1.0, slope)
    a, b = (-1 - intercept) / safe, (size - intercept) / safe
    within = (intercept > -1) & (intercept < size)
    low = tl.where(flat, tl.where(within, 0.0, FAR), tl.minimum(a, b))
    high = tl.where(flat, FAR, tl.maximum(a, b))
    first = tl.ceil(tl.minimum(tl.maximum(low, 0.0), FAR)).to(tl.int32)
    last = tl.floor(tl.minimum(tl.maximum(high, -1.0), FAR)).to(tl.int32) + 1
    return first, tl.minimum(last, planes)


@triton.jit
def component(start, step, v, view, column, columns, k: tl.constexpr):
    """Component k of the rays' points or directions, in voxel indices."""
    a = tl.load(start + (view * columns + column) * 3 + k)
    return tl.fma(v, tl.load(step + view * 3 + k), a)  # fused everywhere: all kernels see the same number


@triton.jit
def fixed(position, REAL: tl.constexpr):
    """A position as a fixed-point number."""
    ONE: tl.constexpr = 17592186044416.0 if tl.float64 == REAL else 4294967296.0
    near = tl.minimum(tl.maximum(position, -FAR), FAR)
    return tl.floor(near * ONE + 0.5).to(tl.int64)


@triton.jit
def ray(
    origin, direction, origin_step, direction_step, heights, unit, view, row, column, columns, size0, size1, planes,
    REAL: tl.constexpr, AXIS: tl.constexpr, M0: tl.constexpr, M1: tl.constexpr,
):  # fmt: skip
    """``(first, last, weight, p0, s0, p1, s1)`` of rays along ``AXIS``: planes met, length a plane stands for, and the two
    positions on plane 0 and steps, fixed-point; no planes for the rays that follow another axis."""
    v = tl.load(heights + row)
    d = component(direction, direction_step, v, view, column, columns, AXIS)
    d0 = component(direction, direction_step, v, view, column, columns, M0)
    d1 = component(direction, direction_step, v, view, column, columns, M1)
    own = wins(d, d0, AXIS < M0) & wins(d, d1, AXIS < M1)
    d = tl.where(own, d, 1.0)
    o = component(origin, origin_step, v, view, column, columns, AXIS)
    s0, s1 = d0 / d, d1 / d
    a0 = component(origin, origin_step, v, view, column, columns, M0) - s0 * o
    a1 = component(origin, origin_step, v, view, column, columns, M1) - s1 * o
    x, y, z = d * tl.load(unit + AXIS), d0 * tl.load(unit + M0), d1 * tl.load(unit + M1)
    weight = tl.sqrt(x * x + y * y + z * z) / tl.abs(d)
    first0, last0 = plane_range(a0, s0, size0, planes)
    first1, last1 = plane_range(a1, s1, size1, planes)
    first, last = tl.maximum(first0, first1), tl.where(own, tl.minimum(last0, last1), 0)
    return first, last, weight.to(REAL), fixed(a0, REAL), fixed(s0, REAL), fixed(a1, REAL), fixed(s1, REAL)


@triton.jit
def tile(columns, rows, COLUMNS: tl.constexpr, ROWS: tl.constexpr):
    """``(view, row, column, real)`` of the rays of a program; those beyond the detector are not real."""
    across, down = tl.cdiv(columns, COLUMNS), tl.cdiv(rows, ROWS)
    pid = tl.program_id(0)
    t = tl.arange(0, COLUMNS * ROWS)
    view, part = pid // (across * down), pid % (across * down)
    row, column = part % down * ROWS + t % ROWS, part // down * COLUMNS + t // ROWS
    real = (row < rows) & (column < columns)
    return view, tl.minimum(row, rows - 1), tl.minimum(column, columns - 1), real


@triton.jit
def forward_volume(
    volume, plane, width, planes, size0, size1, origin, direction, origin_step, direction_step, heights, unit, data, rows,
    columns, AXIS: tl.constexpr, M0: tl.constexpr, M1: tl.constexpr, COLUMNS: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """Writes the line integrals of the rays that follow ``AXIS`` to data (views, rows, columns).

    ``plane`` and ``width`` are the first two strides of the copy of the volume along ``AXIS``.
    """
    REAL: tl.constexpr = volume.dtype.element_ty
    view, row, column, real = tile(columns, rows, COLUMNS, ROWS)
    first, last, weight, p0, s0, p1, s1 = ray(
        origin, direction, origin_step, direction_step, heights, unit, view, row, column, columns, size0, size1, planes,
        REAL, AXIS, M0, M1,
    )  # fmt: skip
    meets = real & (first < last)
    begin, end = tl.min(tl.where(meets, first, 2147483647), 0), tl.max(tl.where(meets, last, 0), 0)
    p0 += s0 * begin
    p1 += s1 * begin
    on = volume + begin.to(tl.int64) * plane
    total = tl.zeros((COLUMNS * ROWS,), REAL)
    for i in range(begin, end):
        q0, f0 = split(p0, REAL)
        q1, f1 = split(p1, REAL)
        inside = meets & (i >= first) & (i < last)
        at = on + ((q0 + MARGIN) * width + q1 + MARGIN)
        a, b = tl.load(at, mask=inside, other=0), tl.load(at + 1, mask=inside, other=0)
        c, d = tl.load(at + width, mask=inside, other=0), tl.load(at + width + 1, mask=inside, other=0)
        low, high = a + f1 * (b - a), c + f1 * (d - c)
        total += low + f0 * (high - low)
        p0 += s0
        p1 += s1
        on += plane
    tl.store(data + (view.to(tl.int64) * rows + row) * columns + column, total * weight, mask=meets)


@triton.jit
def scatter_volume(
    volume, plane, width, planes, size0, size1, origin, direction, origin_step, direction_step, heights, unit, data, rows,
    columns, AXIS: tl.constexpr, M0: tl.constexpr, M1: tl.constexpr, COLUMNS: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """The transpose of ``forward_volume`` onto the copy of the volume, in no determined order, by atomic additions."""
    REAL: tl.constexpr = volume.dtype.element_ty
    view, row, column, real = tile(columns, rows, COLUMNS, ROWS)
    first, last, weight, p0, s0, p1, s1 = ray(
        origin, direction, origin_step, direction_step, heights, unit, view, row, column, columns, size0, size1, planes,
        REAL, AXIS, M0, M1,
    )  # fmt: skip
    meets = real & (first < last)
    begin, end = tl.min(tl.where(meets, first, 2147483647), 0), tl.max(tl.where(meets, last, 0), 0)
    p0 += s0 * begin
    p1 += s1 * begin
    on = volume + begin.to(tl.int64) * plane
    value = tl.load(data + (view.to(tl.int64) * rows + row) * columns + column, mask=meets, other=0) * weight
    for i in range(begin, end):
        q0, f0 = split(p0, REAL)
        q1, f1 = split(p1, REAL)
        inside = meets & (i >= first) & (i < last)
        at = on + ((q0 + MARGIN) * width + q1 + MARGIN)
        high = f0 * value
        low = value - high
        tl.atomic_add(at, low - f1 * low, mask=inside, sem="relaxed")
        tl.atomic_add(at + 1, f1 * low, mask=inside, sem="relaxed")
        tl.atomic_add(at + width, high - f1 * high, mask=inside, sem="relaxed")
        tl.atomic_add(at + width + 1, f1 * high, mask=inside, sem="relaxed")
        p0 += s0
        p1 += s1
        on += plane
