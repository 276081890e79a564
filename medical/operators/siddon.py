"""Siddon's projector: every ray counts each voxel by the exact length it spends in it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from medical.geometry import Rays, Volume
from medical.operators.siddon_kernels import adjoint_rays, forward_rays
from medical.operators.threads import share_out

__all__ = ["Siddon"]


class Siddon:
    """Line integrals of voxels that are constant inside (Siddon 1985), on the CPU; grids (N, ...) side by side.

    A ray that runs exactly along the face between two voxels belongs to the one at the larger coordinate. The cosine of pi / 2
    is no exact zero: such a ray slips from one to the other on its way.
    """

    def __init__(self, volume: Volume, rays: Rays) -> None:
        self.grid, self.data = volume.shape, rays.shape
        self.rows = volume.ndim == 3
        self.flip_y = bool(volume.flip_y)
        self.shape = np.array((1, *volume.shape)[-3:][::-1], np.int64)
        size, middle = (torch.tensor((one, *many)[-3:], dtype=torch.float64).flip(0) for one, many in _axes(volume))
        steps = (rays.direction / size, rays.origin_step / size, rays.direction_step / size)
        parts = ((rays.origin - middle) / size, *steps, rays.v, size)
        self.table = tuple(part.contiguous().numpy() for part in parts)

    def forward(self, x: Tensor) -> Tensor:
        """``A x`` for each of the N grids."""
        grid = np.ascontiguousarray(x.cpu().flatten(1).T.numpy())
        out = np.zeros((*self.data, len(x)), grid.dtype)
        share_out(lambda a, b: forward_rays(grid, self.shape, self.flip_y, self.table, a, b, out), self.data[0])
        y = torch.from_numpy(out).movedim(-1, 0).to(x.device)
        return (y if self.rows else y[:, :, 0]).contiguous()

    def adjoint(self, y: Tensor) -> Tensor:
        """``A^T y`` for each of the N sets of data."""
        data = np.ascontiguousarray(y.cpu().view(len(y), *self.data).movedim(0, -1).numpy())
        out = np.zeros((int(self.shape.prod()), len(y)), data.dtype)
        adjoint_rays(data, self.shape, self.flip_y, self.table, out)
        return torch.from_numpy(out).T.reshape(len(y), *self.grid).to(y.device)


def _axes(volume: Volume) -> tuple[tuple[float, tuple[float, ...]], tuple[float, tuple[float, ...]]]:
    """Voxel sides and the middle of the grid, each with what z has where the volume is a picture."""
    return (1.0, volume.spacing), (0.0, volume.centre)  # type: ignore[return-value]
