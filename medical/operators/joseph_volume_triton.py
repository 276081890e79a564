"""Joseph's method for volumes on GPUs, any rays: cones, helices, tilted detectors."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from medical.geometry import Rays, Volume
from medical.operators.lines import index_rays
from medical.operators.triton_kernels import MARGIN
from medical.operators.triton_tuning import Tuned
from medical.operators.triton_volume_kernels import forward_volume, scatter_volume

__all__ = ["VolumeTriton"]

MINORS = ((1, 2), (0, 2), (1, 0))
PAD = MARGIN.value

_tiles = tuple(
    {"COLUMNS": c, "ROWS": r, "warps": w} for c, r, w in ((4, 32, 4), (8, 32, 8), (2, 32, 2), (8, 16, 4), (1, 128, 4))
)
FORWARD = Tuned(forward_volume, _tiles, ("plane", "width", "AXIS"))
SCATTER = Tuned(scatter_volume, _tiles, ("plane", "width", "AXIS"), ("volume",))


class VolumeTriton:
    """Forward and adjoint projection of volumes (N, nz, ny, nx) to data (N, views, rows, columns).

    Rays are set up as they come, none are stored. Memory beyond input and output: one padded copy of a volume.
    """

    def __init__(self, volume: Volume, rays: Rays, device: torch.device) -> None:
        self.size, self.data = volume.shape, rays.shape
        inside, unit = index_rays(volume, rays), 1 / volume.to_index()[0]
        self.axes = [axis for axis in range(3) if _followed(inside, axis)]
        parts = (inside.origin, inside.direction, inside.origin_step, inside.direction_step, inside.v, unit)
        self.table = tuple(part.contiguous().to(device) for part in parts)

    def forward(self, x: Tensor) -> Tensor:
        """``A x`` for each of the N volumes."""
        out = x.new_zeros(len(x), *self.data)
        for volume, data in zip(x, out, strict=True):
            for axis in self.axes:
                self._launch(FORWARD, F.pad(volume.permute(_order(axis)), (PAD,) * 4).contiguous(), data, axis)
        return out

    def adjoint(self, y: Tensor) -> Tensor:
        """``A^T y`` for each of the N sets of data."""
        out = y.new_zeros(len(y), *self.size)
        for data, volume in zip(y.contiguous(), out, strict=True):
            for axis in self.axes:
                target = volume.permute(_order(axis))
                copy = target.new_zeros([n + 2 * PAD * (k > 0) for k, n in enumerate(target.shape)])
                self._launch(SCATTER, copy, data, axis)
                target += copy[:, PAD:-PAD, PAD:-PAD]
        return out

    def _launch(self, kernel: Tuned, copy: Tensor, data: Tensor, axis: int) -> None:
        views, rows, columns = self.data
        planes, *sizes = copy.shape
        kernel(
            lambda t: (views * -(-rows // t["ROWS"]) * -(-columns // t["COLUMNS"]),),
            copy, *copy.stride()[:2], planes, *(n - 2 * PAD for n in sizes), *self.table, data, rows, columns, axis,
            *MINORS[axis],
        )  # fmt: skip


def _order(axis: int) -> tuple[int, int, int]:
    """How the axes of a volume [z, y, x] are put in the order major, minors."""
    return (2 - axis, 2 - MINORS[axis][0], 2 - MINORS[axis][1])


def _followed(inside: Rays, axis: int) -> bool:
    """Whether some ray may follow ``axis`` most: as large as it gets in a column, against the least of the others there."""
    v = torch.stack(inside.v.aminmax())
    ends = inside.direction[:, :, None] + v[:, None] * inside.direction_step[:, None, None]
    most = ends.abs().amax(2)
    least = torch.where(ends.prod(2) <= 0, 0.0, ends.abs().amin(2))
    rounded = most[..., axis, None] * (1 + 1e-9)  # kernels fuse what is added here, so that ties may fall otherwise
    return bool((rounded >= least[..., list(MINORS[axis])]).all(-1).any())
