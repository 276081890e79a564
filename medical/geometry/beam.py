"""What every beam is: a value with views that can be taken apart, and rays."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import ClassVar, Self

import torch
from torch import Tensor

from medical.geometry.detector import Detector
from medical.geometry.rays import Rays
from medical.geometry.values import angle_text, chosen, floats

__all__ = ["Beam"]

TWO_TURNS = 4 * math.pi


@dataclass(frozen=True, repr=False)
class Beam:
    """Views at ``angles`` (radians) seen by one detector; equal by value, sliced like a list, never changed in place."""

    angles: tuple[float, ...]
    detector: Detector

    divergent: ClassVar[bool] = False
    """Whether the rays of a view start at one point."""

    def __post_init__(self) -> None:
        angles = floats("angles", self.angles)
        if not angles:
            raise ValueError("angles must hold at least one view, got none")
        object.__setattr__(self, "angles", angles)
        object.__setattr__(self, "detector", Detector.of(self.detector))
        self._check_unit()

    def _check_unit(self) -> None:
        span = max(self.angles) - min(self.angles)
        if span > TWO_TURNS:
            raise ValueError(
                f"angles must be in radians, got a range of {span:.6g}, more than two turns; convert degrees by torch.deg2rad, "
                f"or take them modulo 2 pi"
            )

    def rays(self) -> Rays:
        """All rays, in the world frame."""
        raise NotImplementedError(f"{type(self).__name__} must define rays()")

    @property
    def magnification(self) -> float:
        """How much larger the detector shows what lies on the axis of rotation; 1 for a parallel beam."""
        return 1.0

    def coverage(self) -> tuple[float, float]:
        """How far from the axis of rotation the outermost rays pass, on the side of smaller u and of larger u."""
        return self.detector.reach

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the measurement: (views, columns) or (views, rows, columns)."""
        return (len(self), *self.detector.size)

    def __len__(self) -> int:
        return len(self.angles)

    def __getitem__(self, which: int | slice | Iterable[int] | Tensor) -> Self:
        """The same beam with some of its views: an index, a slice, indices, or a mask."""
        return replace(self, angles=tuple(self.angles[k] for k in chosen(len(self), which)))

    def __repr__(self) -> str:
        """The call that rebuilds it."""
        parts = [f"angles={angle_text(self.angles)}"]
        parts += [f"{f.name}={getattr(self, f.name)!r}" for f in fields(self) if f.name != "angles"]
        return f"{type(self).__name__}({', '.join(parts)})"

    def draw(self, path: str | Path | None = None) -> str:
        """The beam as a drawing (SVG text), written to ``path`` where one is given."""
        from medical.geometry.drawing import draw

        return draw(self, path=path)

    def _repr_svg_(self) -> str:
        return self.draw()


def frame(angles: tuple[float, ...]) -> tuple[Tensor, Tensor]:
    """``(e, r)``, (views, 3) each: the detector's axis (cos, sin, 0) and the direction of the rays (sin, -cos, 0)."""
    theta = torch.tensor(angles, dtype=torch.float64)
    zero = torch.zeros_like(theta)
    return torch.stack([theta.cos(), theta.sin(), zero], -1), torch.stack([theta.sin(), -theta.cos(), zero], -1)


def positive(name: str, value: float) -> float:
    """``value`` as a float, positive and finite."""
    value = float(value)
    if not 0 < value < math.inf:
        raise ValueError(f"{name} must be positive and finite, got {value}")
    return value
