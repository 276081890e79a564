"""Parallel rays: synchrotrons, electron microscopes, and fans rebinned."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import torch

from medical.geometry.beam import Beam, frame
from medical.geometry.detector import Detector
from medical.geometry.rays import Rays
from medical.geometry.values import uniform

__all__ = ["ParallelBeam"]


@dataclass(frozen=True, repr=False)
class ParallelBeam(Beam):
    """At angle theta the ray at u is ``u (cos theta, sin theta) + s (sin theta, -cos theta)``; rows lie along z.

    Parameters
    ----------
    angles: radians, any sequence; ``uniform(180)`` covers [0, pi).
    detector: columns, (rows, columns) or a :class:`Detector`, flat.
    """

    @classmethod
    def uniform(cls, views: int, detector: Detector | int, stop: float = math.pi) -> Self:
        """``views`` equal steps over [0, stop)."""
        return cls(uniform(views, 0.0, stop), detector)  # type: ignore[arg-type]

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.detector.curved:
            raise ValueError("detector of a parallel beam must be flat, got curved=True; FanBeam and ConeBeam take curved ones")

    def rays(self) -> Rays:
        e, r = frame(self.angles)
        u = self.detector.u
        upwards = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64).expand_as(e)
        direction = r[:, None].expand(-1, len(u), -1)
        return Rays(u[:, None] * e[:, None], direction, upwards, torch.zeros_like(e), self.detector.v)
