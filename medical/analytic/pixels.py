"""Pixel-driven backprojection: each voxel takes the filtered value that its ray meets in every view, interpolated.

With ``t = x cos b + y sin b`` and ``l = DSO - (x sin b - y cos b)``, the distance from the source along the central ray,
a voxel at (x, y, z) is seen at u and w and counts ``ratio^2``::

    parallel    u = t            ratio = 1
    flat        u = t ratio      ratio = DSO / l
    curved      u = atan2(t, l)  ratio = DSO / sqrt(t^2 + l^2)      w = (z - z_b) ratio

u and w are lengths at the axis of rotation; u is an angle where the detector is curved.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from medical.geometry.beam import Beam
from medical.geometry.cone import ConeBeam
from medical.geometry.fan import FanBeam
from medical.geometry.volume import Volume

__all__ = ["Pixels", "at_axis", "backproject", "reach_columns"]

PARALLEL, FLAT, CURVED = 0, 1, 2
BLOCK = 16  # rows of the picture that a thread works on at a time
ANGLES = 2**13  # of the table of arc tangents for a curved detector
CHUNK = 2**22  # pixels times views of one step without the compiled kernels


@dataclass(frozen=True, eq=False)
class Pixels:
    """Where every voxel of a grid is seen in every view.

    Attributes
    ----------
    kind: parallel (0), flat (1) or curved (2).
    grid: coordinates z, y and x of the voxels; z is one zero for a picture.
    views: (V, 3), cosine and sine of the angle, and height of the source.
    source: DSO; unused where parallel.
    columns, rows: first coordinate and step at the axis of rotation.
    window: (V, nz), how much a view counts for a slice.
    margin: how many rows beyond the outermost a voxel may be seen and still takes that row's value.
    """

    kind: int
    grid: tuple[Tensor, Tensor, Tensor]
    views: Tensor
    source: float
    columns: tuple[float, float]
    rows: tuple[float, float]
    window: Tensor
    margin: float = 0.5

    @classmethod
    def of(cls, volume: Volume, beam: Beam) -> Pixels:
        """The voxels of ``volume`` seen by a parallel, fan or cone ``beam``, every view counting alike for all slices."""
        z = volume.axis(-3) if volume.ndim == 3 else torch.zeros(1, dtype=torch.float64)
        theta = torch.tensor(beam.angles, dtype=torch.float64)
        heights = beam.heights() if isinstance(beam, ConeBeam) else torch.zeros_like(theta)
        kind = (CURVED if beam.detector.curved else FLAT) if beam.divergent else PARALLEL
        source = beam.source_distance if isinstance(beam, (FanBeam, ConeBeam)) else 1.0
        u, w = at_axis(beam)
        (dv, du), m = beam.detector.pitch, beam.magnification
        return cls(
            kind,
            (z, volume.axis(-2), volume.axis(-1)),
            torch.stack([theta.cos(), theta.sin(), heights], -1),
            source,
            (float(u[0]), du / (m * source if kind == CURVED else m)),
            (float(w[0]), dv / m),
            torch.ones(len(theta), len(z), dtype=torch.float64),
        )

    def __getitem__(self, chosen: slice) -> Pixels:
        """Some of the views."""
        return replace(self, views=self.views[chosen], window=self.window[chosen])

    def _land(self) -> tuple[Tensor, Tensor]:
        """``(column, ratio)``, (V, ny, nx) each."""
        _, y, x = self.grid
        y = y[:, None]
        c, s = self.views[:, 0, None, None], self.views[:, 1, None, None]
        t, l = x * c + y * s, self.source - x * s + y * c  # noqa: E741
        if self.kind == PARALLEL:
            u, ratio = t, torch.ones_like(t)
        elif self.kind == FLAT:
            ratio = self.source / l
            u = t * ratio
        else:
            u, ratio = torch.atan2(t, l), self.source / torch.hypot(t, l)
        return (u - self.columns[0]) / self.columns[1], ratio

    def gather(self, q: Tensor) -> Tensor:
        """(B, V, N, R) to (B, nz, ny, nx), by torch, on any device and with gradients."""
        pixels = self._to(q.device)
        column, ratio = pixels._land()
        last, rows = q.shape[2] - 1, q.shape[3]
        i = column.clamp(0, last - 1).long()
        f = (column - i).to(q.dtype)
        weight = ratio.square() * ((column >= 0) & (column <= last))
        base = torch.arange(len(i), device=q.device)[:, None, None] * (last + 1) + i
        flat, slices = q.flatten(1), []
        for iz, z in enumerate(pixels.grid[0]):
            row = ((z - pixels.views[:, 2, None, None]) * ratio - pixels.rows[0]) / pixels.rows[1]
            inside = (row >= -self.margin) & (row <= rows - 1 + self.margin)
            row = row.clamp(0, rows - 1)
            j = row.long()
            g, step = (row - j).to(q.dtype), (j + 1).clamp_max(rows - 1) - j
            low, high = (_lerp(flat, base * rows + k, rows, f) for k in (j, j + step))
            counts = (weight * inside * pixels.window[:, iz, None, None]).to(q.dtype)
            slices.append((counts * (low + g * (high - low))).sum(1))
        return torch.stack(slices, 1)

    def _to(self, device: torch.device) -> Pixels:
        z, y, x = (a.to(device) for a in self.grid)
        return replace(self, grid=(z, y, x), views=self.views.to(device), window=self.window.to(device))

    def steps(self, pictures: int) -> list[slice]:
        """Views that are gathered at a time, of so many ``pictures``."""
        pixels = pictures * len(self.grid[1]) * len(self.grid[2])
        count = max(1, CHUNK // max(1, pixels))
        return [slice(k, k + count) for k in range(0, len(self.views), count)]


def at_axis(beam: Beam) -> tuple[Tensor, Tensor]:
    """Coordinates u of the columns and w of the rows as seen at the axis of rotation; u in radians where curved."""
    m = beam.magnification
    if beam.detector.curved and isinstance(beam, (FanBeam, ConeBeam)):
        return beam.detector.u / beam.distance, beam.detector.v / m
    return beam.detector.u / m, beam.detector.v / m


def backproject(q: Tensor, pixels: Pixels) -> Tensor:
    """The sum over views of what the voxels see of ``q`` (B, V, N, R): (B, nz, ny, nx); differentiable, any number of times."""
    result: Tensor = _Backprojection.apply(q, pixels)
    return result


def _lerp(flat: Tensor, index: Tensor, step: int, f: Tensor) -> Tensor:
    left, right = flat[:, index], flat[:, index + step]
    return left + f * (right - left)


class _Backprojection(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, pixels: Pixels) -> Tensor:
        ctx.pixels, ctx.shape = pixels, q.shape
        if q.device.type == "cpu":
            return _compiled(q, pixels)
        return torch.stack([pixels[k].gather(q[:, k]) for k in pixels.steps(len(q))]).sum(0)

    @staticmethod
    def backward(ctx: Any, *cotangent: Tensor) -> Any:
        return _Transpose.apply(cotangent[0], ctx.pixels, ctx.shape), None


class _Transpose(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, pixels: Pixels, shape: torch.Size) -> Tensor:
        ctx.pixels = pixels
        parts = []
        for k in pixels.steps(len(x) * len(pixels.grid[0])):  # unlike gather, its transpose keeps what all slices need
            views = len(range(*k.indices(shape[1])))
            vjp = torch.func.vjp(pixels[k].gather, x.new_zeros(shape[0], views, *shape[2:]))[1]
            parts.append(vjp(x)[0])
        return torch.cat(parts, 1)

    @staticmethod
    def backward(ctx: Any, *cotangent: Tensor) -> Any:
        return _Backprojection.apply(cotangent[0], ctx.pixels), None, None


def _compiled(q: Tensor, pixels: Pixels) -> Tensor:
    """On the CPU, in blocks of rows of the picture shared out over torch's threads."""
    z, y, x = pixels.grid
    plane = len(z) == 1 and q.shape[3] == 1 and bool((pixels.window == 1).all())
    out = q.new_zeros(len(q), len(y), len(x), len(z), requires_grad=False)
    work = (_plane_work if plane else _volume_work)(q.detach().contiguous().numpy(), out.numpy(), pixels)
    _share(lambda first: work((first, min(first + BLOCK, len(y)))), range(0, len(y), BLOCK))
    return out.permute(0, 3, 1, 2).contiguous()


def _plane_work(q: Any, out: Any, pixels: Pixels) -> Callable[[tuple[int, int]], None]:
    from medical.analytic import kernels

    grid, plane = (pixels.grid[1].numpy(), pixels.grid[2].numpy()), (pixels.source, pixels.columns[0], 1 / pixels.columns[1])
    data, picture, views = q.reshape(q.shape[:3]), out.reshape(out.shape[:3]), pixels.views.numpy()
    if pixels.kind != CURVED:
        kernel = kernels.backproject_flat if pixels.kind == FLAT else kernels.backproject_parallel
        return lambda rows: kernel(data, picture, views, grid, plane, rows)
    sine = math.hypot(*(float(a.abs().max()) for a in pixels.grid[1:])) / pixels.source
    steepest = math.tan(math.asin(sine)) or 1.0
    angles = torch.linspace(-steepest, steepest, ANGLES, dtype=torch.float64).atan().numpy()
    return lambda rows: kernels.backproject_curved(data, picture, views, grid, plane, rows, angles, steepest)


def _volume_work(q: Any, out: Any, pixels: Pixels) -> Callable[[tuple[int, int]], None]:
    from medical.analytic import kernels

    grid, plane = tuple(a.numpy() for a in pixels.grid), (pixels.source, pixels.columns[0], 1 / pixels.columns[1])
    lines, views, window = (
        (pixels.rows[0], 1 / pixels.rows[1], float(pixels.margin)),
        pixels.views.numpy(),
        pixels.window.numpy(),
    )
    return lambda rows: kernels.backproject_volume(pixels.kind, q, out, views, grid, plane, lines, window, rows)


def _share(work: Callable[[int], None], items: range) -> None:
    threads = min(torch.get_num_threads(), len(items))
    if threads == 1:
        for item in items:
            work(item)
        return
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, items))


def reach_columns(volume: Volume, beam: Beam) -> tuple[int, int]:
    """How many columns are missing on either side of the detector to see all of ``volume`` in every view."""
    radius, (u, _) = volume.outer_radius, at_axis(beam)
    limit, step = radius, beam.detector.pitch[1] / beam.magnification
    if isinstance(beam, (FanBeam, ConeBeam)):
        if radius >= beam.source_distance:
            raise ValueError(
                f"volume must lie within the source's circle: its corners are {radius:.6g} from the axis of rotation, "
                f"source_distance is {beam.source_distance:.6g}; choose a smaller volume or check the unit of lengths"
            )
        angle = math.asin(radius / beam.source_distance)
        limit = angle if beam.detector.curved else beam.source_distance * math.tan(angle)
        step = beam.detector.pitch[1] / beam.distance if beam.detector.curved else step
    most = 4 * len(u) + 4
    low, high = math.ceil((limit + float(u[0])) / step), math.ceil((limit - float(u[-1])) / step)
    return min(max(low, 0) + 1, most), min(max(high, 0) + 1, most)
