"""Phantoms of ellipses and ellipsoids: exact line integrals for any beam, and pictures of them.

An ellipse is an ellipsoid whose axis along z has no end, so that both are projected and drawn by the same few lines.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor

from medical.geometry.beam import Beam
from medical.geometry.vectors import VectorBeam
from medical.geometry.volume import Volume

__all__ = ["Ellipses", "Ellipsoids"]

CHUNK = 2**21
"""Rays, or parts of lines, worked on at a time."""

TILT = math.radians(18)

# centre x, y; half axes a, b; tilt; original and modified value
HEAD = (
    (0.0, 0.0, 0.69, 0.92, 0.0, 2.0, 1.0),
    (0.0, -0.0184, 0.6624, 0.874, 0.0, -0.98, -0.8),
    (0.22, 0.0, 0.11, 0.31, -TILT, -0.02, -0.2),
    (-0.22, 0.0, 0.16, 0.41, TILT, -0.02, -0.2),
    (0.0, 0.35, 0.21, 0.25, 0.0, 0.01, 0.1),
    (0.0, 0.1, 0.046, 0.046, 0.0, 0.01, 0.1),
    (0.0, -0.1, 0.046, 0.046, 0.0, 0.01, 0.1),
    (-0.08, -0.605, 0.046, 0.023, 0.0, 0.01, 0.1),
    (0.0, -0.606, 0.023, 0.023, 0.0, 0.01, 0.1),
    (0.06, -0.605, 0.023, 0.046, 0.0, 0.01, 0.1),
)

# centre x, y, z; half axes a, b, c; turn about z; original and modified value
HEAD_3D = (
    (0.0, 0.0, 0.0, 0.69, 0.92, 0.9, 0.0, 2.0, 1.0),
    (0.0, 0.0, 0.0, 0.6624, 0.874, 0.88, 0.0, -0.98, -0.8),
    (-0.22, 0.0, -0.25, 0.41, 0.16, 0.21, 6 * TILT, -0.02, -0.2),
    (0.22, 0.0, -0.25, 0.31, 0.11, 0.22, 4 * TILT, -0.02, -0.2),
    (0.0, 0.35, -0.25, 0.21, 0.25, 0.5, 0.0, 0.02, 0.2),
    (0.0, 0.1, -0.25, 0.046, 0.046, 0.046, 0.0, 0.02, 0.2),
    (-0.08, -0.65, -0.25, 0.046, 0.023, 0.02, 0.0, 0.01, 0.1),
    (0.06, -0.65, -0.25, 0.046, 0.023, 0.02, 5 * TILT, 0.01, 0.1),
    (0.06, -0.105, 0.625, 0.056, 0.04, 0.1, 5 * TILT, 0.02, 0.2),
    (0.0, 0.1, 0.625, 0.056, 0.056, 0.1, 0.0, -0.02, -0.2),
)


@dataclass(frozen=True)
class _Phantom:
    """A sum of ellipsoids, each of one value."""

    table: tuple[tuple[float, ...], ...]

    columns: ClassVar[tuple[str, ...]]

    def __post_init__(self) -> None:
        table = torch.as_tensor(self.table, dtype=torch.float64)
        if table.ndim != 2 or table.shape[1] != len(self.columns) or not len(table):
            raise ValueError(
                f"table must have shape (n, {len(self.columns)}): {', '.join(self.columns)}; got {tuple(table.shape)}"
            )
        if not bool(table.isfinite().all()):
            raise ValueError("table must be finite")
        axes = table[:, [k for k, name in enumerate(self.columns) if name in "abc"]]
        if float(axes.min()) <= 0:
            raise ValueError(f"table must hold positive half axes, got {float(axes.min())}")
        object.__setattr__(self, "table", tuple(tuple(row) for row in table.tolist()))

    def project(self, beam: Beam | VectorBeam) -> Tensor:
        """Exact line integrals along every ray of ``beam``, of its shape, float64, in value times length.

        With the axes of an ellipsoid scaled to one, the ray ``q + s w`` is nearest to its middle at ``q' = q - (q.w / w.w) w``,
        and its chord is ``2 sqrt(1 - |q'|^2) / |w|``.
        """
        views, *rest = beam.shape
        step = max(1, CHUNK // math.prod(rest))
        blocks = (beam[k : k + step].rays().lines() for k in range(0, views, step))
        return torch.cat([self._chords(points, directions) for points, directions in blocks]).view(beam.shape)

    def sample(self, volume: Volume) -> Tensor:
        """The values at the middles of the voxels, of the volume's shape, float64; a picture is the plane z = 0."""
        z, y, x = _axes(volume)
        image = torch.zeros(len(z), len(y), len(x), dtype=torch.float64)
        for centre, axes, turn, value in self._parts():
            for k, height in enumerate(z):
                away = torch.stack(torch.broadcast_tensors(x, y[:, None], height), -1) - centre
                image[k] += value * ((away @ turn.T / axes).square().sum(-1) <= 1)
        return image.view(volume.shape)

    def rasterise(self, volume: Volume, *, oversampling: int = 8) -> Tensor:
        """Means over the voxels, of the volume's shape, float64; a picture is the plane z = 0.

        Along x the part of a voxel within an ellipsoid is exact; across, the mean of ``oversampling`` lines each way.
        """
        if isinstance(oversampling, bool) or not isinstance(oversampling, int) or oversampling < 1:
            raise ValueError(f"oversampling must be a whole number, at least 1, got {oversampling!r}")
        z, y, x = _axes(volume)
        fine = ((torch.arange(oversampling, dtype=torch.float64) + 0.5) / oversampling - 0.5) * volume.spacing[-2]
        deep = fine / volume.spacing[-2] * volume.spacing[0] if volume.ndim == 3 else torch.zeros(1, dtype=torch.float64)
        image = torch.zeros(len(z), len(y), len(x), dtype=torch.float64)
        lines, parts = (y[:, None] + fine).flatten(), self._parts()
        for k, height in enumerate(z):
            for offset in deep:
                for part in parts:
                    _add_lines(image[k], part, x, lines, float(height + offset), volume.spacing[-1])
        return image.div_(oversampling * len(deep)).view(volume.shape)

    def _chords(self, points: Tensor, directions: Tensor) -> Tensor:
        total = torch.zeros(points.shape[:-1], dtype=torch.float64)
        for centre, axes, turn, value in self._parts():
            q, w = (points - centre) @ turn.T / axes, directions @ turn.T / axes
            ww = w.square().sum(-1, keepdim=True)
            nearest = q - (q * w).sum(-1, keepdim=True) / ww * w
            total += value * 2 * ((1 - nearest.square().sum(-1)).clamp_min(0) / ww[..., 0]).sqrt()
        return total

    def _parts(self) -> list[tuple[Tensor, Tensor, Tensor, float]]:
        """``(centre, half axes, rotation into the axes, value)`` of each."""
        table = torch.tensor(self._ellipsoids(), dtype=torch.float64)
        parts = []
        for row in table:
            c, s = math.cos(row[6]), math.sin(row[6])
            turn = torch.tensor([[c, s, 0], [-s, c, 0], [0, 0, 1]], dtype=torch.float64)
            parts.append((row[:3], row[3:6], turn, float(row[7])))
        return parts

    def _ellipsoids(self) -> tuple[tuple[float, ...], ...]:
        """Rows of an :class:`Ellipsoids` table."""
        return self.table


@dataclass(frozen=True)
class Ellipsoids(_Phantom):
    """A sum of ellipsoids, each of one value: ``f(r) = sum of the values of those that hold r``.

    Parameters
    ----------
    table: one row an ellipsoid, (n, 8): centre cx, cy, cz, half axes a, b, c, angle phi about z in radians by which the
        axis a is turned from x towards y, value. Lengths in the world's unit, values in one over it.

    Raises ``ValueError`` for another shape, half axes that are not positive, and what is not finite.
    """

    columns: ClassVar[tuple[str, ...]] = ("cx", "cy", "cz", "a", "b", "c", "phi", "value")

    @classmethod
    def ball(cls, radius: float, centre: Sequence[float] = (0.0, 0.0, 0.0), value: float = 1.0) -> Self:
        """One ball about ``centre`` (x, y, z)."""
        return cls(((*centre, radius, radius, radius, 0.0, value),))

    @classmethod
    def shepp_logan(cls, size: float = 2.0, *, original: bool = False) -> Self:
        """The head of Kak and Slaney (1988), table 3.2, in a cube of side ``size``.

        Values as in the picture of modified contrast, 0.1 to 1; ``original`` for those of the book, which differ by 1 %.
        """
        return cls(_scaled(HEAD_3D, size, 6, original))


@dataclass(frozen=True)
class Ellipses(_Phantom):
    """A sum of ellipses, each of one value; in a volume and for a cone, of cylinders along z without end.

    Parameters
    ----------
    table: one row an ellipse, (n, 6): centre cx, cy, half axes a, b, angle phi in radians by which the axis a is turned
        from x towards y, value. Lengths in the world's unit, values in one over it.

    Raises ``ValueError`` for another shape, half axes that are not positive, and what is not finite.
    """

    columns: ClassVar[tuple[str, ...]] = ("cx", "cy", "a", "b", "phi", "value")

    @classmethod
    def disc(cls, radius: float, centre: Sequence[float] = (0.0, 0.0), value: float = 1.0) -> Self:
        """One disc about ``centre`` (x, y)."""
        return cls(((*centre, radius, radius, 0.0, value),))

    @classmethod
    def shepp_logan(cls, size: float = 2.0, *, original: bool = False) -> Self:
        """The head of Shepp and Logan (1974) in a square of side ``size``.

        Values of modified contrast (Toft 1996), 0 to 1; ``original`` for those of 1974, which differ by 1 %.
        """
        return cls(_scaled(HEAD, size, 4, original))

    def _ellipsoids(self) -> tuple[tuple[float, ...], ...]:
        return tuple((cx, cy, 0.0, a, b, math.inf, phi, value) for cx, cy, a, b, phi, value in self.table)


def _scaled(head: Sequence[Sequence[float]], size: float, lengths: int, original: bool) -> tuple[tuple[float, ...], ...]:
    """Rows with their lengths times ``size / 2``, the angle, and one of the two values."""
    if not 0 < size < math.inf:
        raise ValueError(f"size must be positive and finite, got {size}")
    return tuple((*(v * size / 2 for v in row[:lengths]), row[lengths], row[-2 if original else -1]) for row in head)


def _axes(volume: Volume) -> tuple[Tensor, Tensor, Tensor]:
    z = volume.axis(-3) if volume.ndim == 3 else torch.zeros(1, dtype=torch.float64)
    return z, volume.axis(-2), volume.axis(-1)


def _add_lines(
    image: Tensor, part: tuple[Tensor, Tensor, Tensor, float], x: Tensor, lines: Tensor, z: float, width: float
) -> None:
    """Adds to each row the value times how much of its pixels lies within, summed over its ``lines`` along x at height z."""
    centre, axes, turn, value = part
    start = torch.stack([torch.zeros_like(lines), lines - centre[1], (z - centre[2]).expand_as(lines)], -1)
    q, w = start @ turn.T / axes, turn[:, 0] / axes
    middle = -(q @ w) / w.square().sum()
    room = 1 - (q + middle[:, None] * w).square().sum(-1)
    hit = torch.nonzero(room > 0)[:, 0]
    half = room[hit].sqrt()[:, None] / w.norm()
    left, right = (centre[0] + middle[hit])[:, None] - half, (centre[0] + middle[hit])[:, None] + half
    within = torch.minimum(right, x + width / 2) - torch.maximum(left, x - width / 2)
    image.index_add_(0, hit // (len(lines) // len(image)), value / width * within.clamp_min_(0))
