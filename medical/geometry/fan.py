"""A fan of rays from a source that turns about the axis: one slice of a CT scanner."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import torch

from medical.geometry.beam import frame
from medical.geometry.detector import Detector
from medical.geometry.divergent import Divergent
from medical.geometry.rays import Rays
from medical.geometry.values import uniform

__all__ = ["FanBeam"]


@dataclass(frozen=True, repr=False)
class FanBeam(Divergent):
    """At angle theta the source is at ``DSO (sin theta, -cos theta)``, the detector's middle opposite at DOD from the axis.

    Flat: column u lies at ``u (cos theta, sin theta)`` from that middle. Curved: its ray leaves the central one by the
    angle ``u / (DSO + DOD)``, towards larger u.

    Parameters
    ----------
    angles: radians, any sequence; a full turn is ``uniform(360, 0, 2 pi)``.
    detector: columns, or a :class:`Detector` of one line, flat or curved.
    source_distance: DSO, from the source to the axis of rotation.
    detector_distance: DOD, from the axis to the detector.
    """

    @classmethod
    def uniform(cls, views: int, detector: Detector | int, source_distance: float, detector_distance: float) -> Self:
        """``views`` equal steps over a full turn."""
        return cls(uniform(views, 0.0, 2 * math.pi), detector, source_distance, detector_distance)  # type: ignore[arg-type]

    def _check_detector(self) -> None:
        if len(self.detector.size) != 1:
            raise ValueError(f"detector of a fan must be one line of columns, got {self.detector.size}; ConeBeam takes rows")

    def rays(self) -> Rays:
        _, r = frame(self.angles)
        direction, nothing = self._directions(), torch.zeros_like(r)
        return Rays((self.source_distance * r)[:, None].expand_as(direction), direction, nothing, nothing, self.detector.v)
