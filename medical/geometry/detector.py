"""The detector: how many pixels, how large, and where its middle is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from medical.geometry.values import floats, whole_numbers

__all__ = ["Detector"]


@dataclass(frozen=True)
class Detector:
    """Pixels on a line or an area: column j lies at ``u = (j - (columns - 1) / 2) du + offset``, rows alike at v.

    Parameters
    ----------
    shape: columns, or (rows, columns).
    spacing: distance of neighbouring pixels' middles, one number or (dv, du); along the arc where curved.
    offset: where the middle of the detector lies, u or (v, u); along the arc where curved. One number is u.
    curved: columns lie on a circle (with rows: a cylinder) about the source, at equal angles.

    Raises ``ValueError`` for sizes below one, spacings that are not positive, and what is not finite.
    """

    shape: int | Sequence[int]
    spacing: float | Sequence[float] = 1.0
    offset: float | Sequence[float] = 0.0
    curved: bool = False

    def __post_init__(self) -> None:
        shape = whole_numbers("detector shape", self.shape)
        if len(shape) > 2:
            raise ValueError(f"detector shape must be columns or (rows, columns), got {shape}")
        spacing = floats("detector spacing", self.spacing, len(shape))
        if min(spacing) <= 0:
            raise ValueError(f"detector spacing must be positive, got {self.spacing}")
        along = self.offset if len(shape) == 1 or torch.as_tensor(self.offset).ndim else (0.0, float(self.offset))  # type: ignore[arg-type]
        object.__setattr__(self, "shape", shape)
        object.__setattr__(self, "spacing", spacing)
        object.__setattr__(self, "offset", floats("detector offset", along, len(shape)))
        object.__setattr__(self, "curved", bool(self.curved))

    @classmethod
    def of(cls, detector: Detector | int | Sequence[int]) -> Detector:
        """A detector as it is, or the one of this shape with unit spacing."""
        return detector if isinstance(detector, Detector) else cls(detector)

    @property
    def size(self) -> tuple[int, ...]:
        """(columns,) or (rows, columns)."""
        return self.shape  # type: ignore[return-value]

    @property
    def rows(self) -> int:
        """Number of rows, 1 for a line."""
        return self.size[0] if len(self.size) == 2 else 1

    @property
    def columns(self) -> int:
        """Number of columns."""
        return self.size[-1]

    @property
    def pitch(self) -> tuple[float, float]:
        """(dv, du), where dv is 1 for a line."""
        spacing: tuple[float, ...] = self.spacing  # type: ignore[assignment]
        return (spacing[0] if len(spacing) == 2 else 1.0, spacing[-1])

    @property
    def u(self) -> Tensor:
        """Coordinates of the columns, (columns,), float64."""
        return _positions(self.columns, self.pitch[1], self.offset[-1])  # type: ignore[index]

    @property
    def v(self) -> Tensor:
        """Coordinates of the rows, (rows,), float64; zero for a line."""
        return _positions(self.rows, self.pitch[0], self.offset[0] if len(self.size) == 2 else 0.0)  # type: ignore[index]

    @property
    def reach(self) -> tuple[float, float]:
        """How far the columns' outer edges lie from the middle ray, (towards smaller u, towards larger u)."""
        half, middle = self.columns * self.pitch[1] / 2, self.offset[-1]  # type: ignore[index]
        return half - middle, half + middle


def _positions(n: int, step: float, offset: float) -> Tensor:
    return (torch.arange(n, dtype=torch.float64) - (n - 1) / 2) * step + offset
