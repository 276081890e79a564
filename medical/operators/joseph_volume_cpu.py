"""Joseph's method for volumes on the CPU, any rays: cones, helices, tilted detectors."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from medical.geometry import Rays, Volume
from medical.operators.joseph_volume_kernels import BLOCK, MARGIN, MINORS, adjoint_volume, axes_used, forward_volume
from medical.operators.lines import index_rays
from medical.operators.threads import share_out

__all__ = ["VolumeJoseph"]


class VolumeJoseph:
    """Forward and adjoint projection of volumes (N, nz, ny, nx) to data (N, views, rows, columns), float32 or float64.

    Memory beyond input and output: one padded copy of a volume. Rays are set up as they come, none are stored.
    """

    def __init__(self, volume: Volume, rays: Rays) -> None:
        self.size, self.data = volume.shape, rays.shape
        inside, scale = index_rays(volume, rays), volume.to_index()[0]
        parts = (inside.origin, inside.direction, inside.origin_step, inside.direction_step, inside.v, scale)
        self.table = tuple(part.contiguous().numpy() for part in parts)
        self.axes = tuple(int(axis) for axis in np.flatnonzero(axes_used(self.table)))

    def forward(self, x: Tensor) -> Tensor:
        """``A x`` for each of the N volumes."""
        out = x.new_zeros(len(x), *self.data)
        for volume, data in zip(x, out, strict=True):
            target = data.numpy()
            for axis in self.axes:
                copy = _padded(volume.permute(_order(axis)))
                share_out(lambda a, b: forward_volume(copy, axis, MINORS[axis], self.table, a, b, target), self.data[0])  # noqa: B023
        return out

    def adjoint(self, y: Tensor) -> Tensor:
        """``A^T y`` for each of the N sets of data."""
        out = y.new_zeros(len(y), *self.size)
        for data, volume in zip(y, out, strict=True):
            source = data.contiguous().numpy()
            for axis in self.axes:
                target = volume.permute(_order(axis))
                copy = np.zeros([n + 2 * MARGIN * (k > 0) for k, n in enumerate(target.shape)], source.dtype)
                share_out(
                    lambda a, b: adjoint_volume(source, axis, MINORS[axis], self.table, a, b, copy),  # noqa: B023
                    len(copy),
                    grain=BLOCK,
                )
                target += torch.from_numpy(copy[:, MARGIN:-MARGIN, MARGIN:-MARGIN])
        return out


def _order(axis: int) -> tuple[int, int, int]:
    """How the axes of a volume [z, y, x] are put in the order major, minors."""
    return (2 - axis, 2 - MINORS[axis][0], 2 - MINORS[axis][1])


def _padded(volume: Tensor) -> np.ndarray:
    array = volume.numpy()
    out = np.zeros([n + 2 * MARGIN * (k > 0) for k, n in enumerate(array.shape)], array.dtype)
    out[:, MARGIN:-MARGIN, MARGIN:-MARGIN] = array
    return out
