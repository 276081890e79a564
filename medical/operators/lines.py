r"""Rays in the grid's own coordinates, as Joseph's method walks them: plane by plane along the axis they follow most.

In voxel indices a ray is ``minor(i) = intercept + slope i`` on plane i of its *major* axis, with ``|slope| <= 1``; every
plane stands for the length ``weight`` of ray. All of it is worked out once, in float64.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from medical.geometry import Rays, Volume

__all__ = ["Lines", "index_rays", "lines"]


@dataclass(frozen=True, eq=False)
class Lines:
    """The rays of a slice that share a major axis, n of them; arrays of NumPy, float64 but for whole numbers.

    Attributes
    ----------
    major: 0 where planes are columns (rays that run mostly along x), 1 where they are rows.
    index: (n,), which value of the flat sinogram each is.
    intercept, slope: (n,), where it meets plane i: at ``intercept + slope i`` on the other axis, in pixels.
    weight: (n,), length of ray a plane stands for.
    first, last: (n,), the planes ``first <= i < last`` on which it is less than one pixel outside the grid.
    """

    major: int
    index: np.ndarray
    intercept: np.ndarray
    slope: np.ndarray
    weight: np.ndarray
    first: np.ndarray
    last: np.ndarray


def index_rays(volume: Volume, rays: Rays) -> Rays:
    """``rays`` with points and directions in voxel indices, x first; the directions keep what length they stand for."""
    scale, shift = volume.to_index()
    steps = (rays.direction * scale, rays.origin_step * scale, rays.direction_step * scale)
    return Rays(rays.origin * scale + shift, *steps, rays.v)


def lines(volume: Volume, rays: Rays) -> tuple[Lines, Lines]:
    """The rays of a beam through a picture, those along x and those along y; ties go to x (Joseph 1982).

    ``volume`` is a grid (ny, nx); of ``rays`` the first detector row is taken.
    """
    inside = index_rays(volume, rays)
    origin, direction = (t[..., :2].reshape(-1, 2) for t in (inside.origin, inside.direction))
    length = torch.linalg.vector_norm(rays.direction, dim=-1).reshape(-1)
    along_x = direction[:, 0].abs() >= direction[:, 1].abs()
    return _along(volume, 0, along_x, (origin, direction, length)), _along(volume, 1, ~along_x, (origin, direction, length))


def _along(volume: Volume, major: int, chosen: Tensor, table: tuple[Tensor, Tensor, Tensor]) -> Lines:
    index = chosen.nonzero().flatten()
    origin, direction, length = (t[index] for t in table)
    slope = direction[:, 1 - major] / direction[:, major]
    intercept = origin[:, 1 - major] - slope * origin[:, major]
    planes, across = volume.shape[1 - major], volume.shape[major]
    first, last = plane_range(intercept, slope, planes, across)
    parts = (index, intercept, slope, length / direction[:, major].abs(), first, last)
    return Lines(major, *(part.contiguous().numpy() for part in parts))


def plane_range(intercept: Tensor, slope: Tensor, planes: int, across: int) -> tuple[Tensor, Tensor]:
    """``(first, last)``: planes ``first <= i < last`` where ``-1 < intercept + slope i < across``, of ``planes``."""
    flat = slope == 0
    safe = torch.where(flat, 1.0, slope)
    a, b = (-1 - intercept) / safe, (across - intercept) / safe
    inside = (intercept > -1) & (intercept < across)
    low = torch.where(flat, torch.where(inside, 0.0, float(planes)), torch.minimum(a, b))
    high = torch.where(flat, float(planes - 1), torch.maximum(a, b))
    first = low.ceil().clamp(0, planes).long()
    return first, torch.maximum(first, (high.floor() + 1).clamp(0, planes).long())
