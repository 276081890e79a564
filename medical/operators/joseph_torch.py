"""Joseph's method in plain torch, on any device: the reference that the compiled projectors are held to."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

from medical.geometry import Rays, Volume
from medical.operators.lines import index_rays

__all__ = ["TorchJoseph"]

MARGIN = 2  # voxels of padding across the planes: a ray's neighbours always exist
SAMPLES = 2**22  # points on rays, times grids, that are worked on at a time


@dataclass(frozen=True, eq=False)
class Walk:
    """K rays along one axis: on plane i they are at ``intercept + slope i``, (K, minor axes), and a plane counts ``weight``."""

    index: Tensor
    intercept: Tensor
    slope: Tensor
    weight: Tensor


class TorchJoseph:
    """Forward and adjoint projection of grids (N, *grid) to (N, *data), pictures or volumes, float32 or float64.

    A ray walks plane by plane along the axis it follows most (the first of x, y, z where two tie), and on each plane the
    voxels about it are weighted linearly, by zero outside the grid::

        y = length / |d_major| sum_i sum_corners prod_m (1 - |p_m(i) - corner_m|) x[i, corner]

    Memory beyond input and output: a padded copy of all grids, and a few tables of ``SAMPLES`` numbers.

    Parameters
    ----------
    volume: the grid, (ny, nx) or (nz, ny, nx).
    rays: of the beam, in the world frame; pictures take the first row.
    device: where the rays are set up, in float64; on the CPU for devices without it.
    """

    def __init__(self, volume: Volume, rays: Rays, device: torch.device) -> None:
        inside = index_rays(volume, rays)
        place = torch.device("cpu") if device.type == "mps" else device
        rows = inside.v if volume.ndim == 3 else inside.v[:1]
        parts = inside.origin, inside.direction, inside.origin_step, inside.direction_step, rows, 1 / volume.to_index()[0]
        self._origin, self._direction, self._origin_step, self._direction_step, self._v, self._unit = (
            part.to(place) for part in parts
        )
        views, _, columns = rays.shape
        self._rays = views, len(rows), columns
        self.size = volume.shape
        self.data = self._rays if volume.ndim == 3 else (views, columns)

    def forward(self, x: Tensor) -> Tensor:
        """``A x`` for each of the N grids."""
        if not len(x):
            return x.new_zeros(0, *self.data)
        out = x.new_zeros(math.prod(self.data), len(x))
        for axis in range(len(self.size)):
            voxels = _major_first(x, axis)
            flat = voxels.reshape(-1, len(x))
            for walk in self._walks(axis, len(x)):
                total = x.new_zeros(len(walk.index), len(x))
                for voxel, weight in _taps(walk, voxels.shape[:-1], x):
                    total += torch.einsum("kp,kpn->kn", weight, flat[voxel])
                out[walk.index] = total * walk.weight.to(x)[:, None]
        return out.T.reshape(len(x), *self.data)

    def adjoint(self, y: Tensor) -> Tensor:
        """``A^T y`` for each of the N sets of data."""
        out = y.new_zeros(len(y), *self.size)
        if not len(y):
            return out
        values = y.reshape(len(y), -1).T
        for axis in range(len(self.size)):
            voxels = torch.zeros_like(_major_first(out, axis))
            flat = voxels.view(-1, len(y))
            for walk in self._walks(axis, len(y)):
                value = values[walk.index] * walk.weight.to(y)[:, None]
                for voxel, weight in _taps(walk, voxels.shape[:-1], y):
                    flat.index_add_(0, voxel.flatten(), torch.einsum("kp,kn->kpn", weight, value).flatten(0, 1))
            out += _back(voxels, axis)
        return out

    def _walks(self, axis: int, grids: int) -> Iterator[Walk]:
        """The rays that follow ``axis``, in blocks; 0, 1 and 2 are x, y and z."""
        planes, count = self.size[-1 - axis], math.prod(self._rays)
        block = max(1, SAMPLES // (planes * grids))
        minors = [m for m in reversed(range(len(self.size))) if m != axis]
        for begin in range(0, count, block):
            index = torch.arange(begin, min(begin + block, count), device=self._v.device)
            view, row, column = torch.unravel_index(index, self._rays)
            v = self._v[row, None]
            o = self._origin[view, column] + v * self._origin_step[view]
            d = self._direction[view, column] + v * self._direction_step[view]
            own = (d[:, : len(self.size)].abs().argmax(-1) == axis).nonzero().flatten()
            o, d, major = o[own], d[own], d[own, axis, None]
            slope = d[:, minors] / major
            length = torch.linalg.vector_norm(d * self._unit, dim=-1)
            yield Walk(index[own], o[:, minors] - slope * o[:, axis, None], slope, length / major[:, 0].abs())


def _taps(walk: Walk, shape: torch.Size, like: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """``(voxel, weight)`` of each corner about the rays, (K, planes) each: where it lies in a flat ``shape``, and its share."""
    plane = torch.arange(shape[0], device=walk.slope.device)
    position = walk.intercept[:, None] + walk.slope[:, None] * plane[:, None]
    near = position.floor()
    far = position - near
    for corner in product((0, 1), repeat=len(shape) - 1):
        voxel, weight = plane.expand(position.shape[:2]), torch.ones_like(position[..., 0])
        for m, (c, n) in enumerate(zip(corner, shape[1:], strict=True)):
            within = near[..., m].clamp(-MARGIN, n - 2 * MARGIN).long() + MARGIN + c  # padding holds zeros
            voxel = voxel * n + within
            weight = weight * (far[..., m] if c else 1 - far[..., m])
        yield voxel.to(like.device), weight.to(like)


def _major_first(x: Tensor, axis: int) -> Tensor:
    """Grids (N, [z,] y, x) as (planes along ``axis``, padded minor axes, N)."""
    planes = x.movedim(-1 - axis, 0).movedim(1, -1)
    return F.pad(planes, (0, 0) + (MARGIN, MARGIN) * (planes.ndim - 2)).contiguous()


def _back(voxels: Tensor, axis: int) -> Tensor:
    """The transpose of ``_major_first``."""
    inner = voxels[(slice(None), *[slice(MARGIN, -MARGIN)] * (voxels.ndim - 2))]
    return inner.movedim(-1, 1).movedim(0, -1 - axis)
