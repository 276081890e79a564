"""Where the voxels are: a grid of them, as a value."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from medical.geometry.values import floats, whole_numbers

__all__ = ["Volume"]


@dataclass(frozen=True)
class Volume:
    """A grid of pixels or voxels in the world frame, axes last to first: ``img[row, col]`` is (y, x), ``vol[z, y, x]``.

    Column i lies at ``x = (i - (nx - 1) / 2) dx + cx``, and y and z alike. **Row 0 of a picture is at the top**, at the
    largest y; in a volume all three coordinates grow with their index. ``flip_y`` says otherwise.

    Parameters
    ----------
    shape: (ny, nx) or (nz, ny, nx).
    voxel: sides of a voxel, one number or one an axis, (dy, dx) or (dz, dy, dx), in the unit of all lengths.
    centre: where the middle of the grid lies, (cy, cx) or (cz, cy, cx).
    flip_y: whether y falls as the row grows; by default for pictures only.

    Raises ``ValueError`` for a shape, voxel or centre that is no such grid.
    """

    shape: tuple[int, ...]
    voxel: float | Sequence[float] = 1.0
    centre: float | Sequence[float] = 0.0
    flip_y: bool | None = None

    def __post_init__(self) -> None:
        shape = whole_numbers("shape", self.shape)
        if len(shape) not in (2, 3):
            raise ValueError(f"shape must be (ny, nx) or (nz, ny, nx), got {shape}")
        voxel = floats("voxel", self.voxel, len(shape))
        if min(voxel) <= 0:
            raise ValueError(f"voxel must be positive, got {self.voxel}")
        object.__setattr__(self, "shape", shape)
        object.__setattr__(self, "voxel", voxel)
        object.__setattr__(self, "centre", floats("centre", self.centre, len(shape)))
        object.__setattr__(self, "flip_y", len(shape) == 2 if self.flip_y is None else bool(self.flip_y))

    @property
    def ndim(self) -> int:
        """2 or 3."""
        return len(self.shape)

    @property
    def spacing(self) -> tuple[float, ...]:
        """The sides of a voxel, one an axis, as ``shape``."""
        return self.voxel  # type: ignore[return-value]

    @property
    def extent(self) -> tuple[float, ...]:
        """The sides of the whole grid, as ``shape``."""
        return tuple(n * h for n, h in zip(self.shape, self.spacing, strict=True))

    @property
    def radius(self) -> float:
        """Of the largest disc about the axis of rotation that lies within the grid; 0 where the grid leaves it out."""
        (cy, cx), (ly, lx) = self.centre[-2:], self.extent[-2:]  # type: ignore[index]
        return max(0.0, min(ly / 2 - abs(cy), lx / 2 - abs(cx)))

    @property
    def outer_radius(self) -> float:
        """Of the smallest disc about the axis of rotation that holds the grid."""
        (cy, cx), (ly, lx) = self.centre[-2:], self.extent[-2:]  # type: ignore[index]
        return math.hypot(ly / 2 + abs(cy), lx / 2 + abs(cx))

    def holds(self, point: Sequence[float]) -> bool:
        """Whether ``point`` (x, y, z) lies within the grid or on its edge; z counts for blocks only."""
        sides = zip(reversed(self.extent), reversed(self.centre), point, strict=False)  # type: ignore[arg-type]
        return all(abs(p - c) <= side / 2 for side, c, p in sides)

    def axis(self, axis: int) -> Tensor:
        """Coordinates of the voxels' middles along ``axis`` (-1 is x, -2 y, -3 z), float64."""
        n, h, c = self.shape[axis], self.spacing[axis], self.centre[axis]  # type: ignore[index]
        values = (torch.arange(n, dtype=torch.float64) - (n - 1) / 2) * h
        return c - values if axis in (-2, self.ndim - 2) and self.flip_y else c + values

    def slice(self) -> Volume:
        """The grid of one slice, (ny, nx), with the same direction of y."""
        return Volume(self.shape[-2:], self.spacing[-2:], self.centre[-2:], self.flip_y)  # type: ignore[index]

    def to_index(self) -> tuple[Tensor, Tensor]:
        """``(scale, shift)``, float64 of three, x first: ``index = scale * (x, y, z) + shift`` is where a point lies.

        A picture is one voxel thick along z, of its own size.
        """
        n = torch.tensor((1, *self.shape)[-3:], dtype=torch.float64).flip(0)
        h = torch.tensor((1.0, *self.spacing)[-3:], dtype=torch.float64).flip(0)
        c = torch.tensor((0.0, *self.centre)[-3:], dtype=torch.float64).flip(0)  # type: ignore[misc]
        scale = 1 / h
        if self.flip_y:
            scale[1] = -scale[1]
        return scale, (n - 1) / 2 - scale * c
