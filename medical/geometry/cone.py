"""A cone of rays on an area detector: micro-CT, C-arms, and helical scanners."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from medical.geometry.beam import frame
from medical.geometry.detector import Detector
from medical.geometry.divergent import Divergent
from medical.geometry.rays import Rays
from medical.geometry.values import uniform

__all__ = ["ConeBeam"]


@dataclass(frozen=True, repr=False)
class ConeBeam(Divergent):
    """As :class:`FanBeam`, with rows along z: at angle b the source is at ``(DSO sin b, -DSO cos b, z0 + pitch b / (2 pi))``.

    The detector moves with the source. Curved: a cylinder about the source, rows parallel to the axis.

    Parameters
    ----------
    angles: radians; a helix runs on beyond one turn.
    detector: (rows, columns), or such a :class:`Detector`.
    source_distance: DSO, from the source to the axis of rotation.
    detector_distance: DOD, from the axis to the detector.
    pitch: how far the source moves along z in a turn; 0 is a circle. Clinicians divide it by the height that the detector
        covers at the axis, ``rows dv / m``: :attr:`normalised_pitch`.
    z0: height of the source at angle 0.
    """

    pitch: float = 0.0
    z0: float = 0.0

    @classmethod
    def circular(cls, views: int, detector: Detector, source_distance: float, detector_distance: float) -> Self:
        """``views`` equal steps over a full turn."""
        return cls(uniform(views, 0.0, 2 * math.pi), detector, source_distance, detector_distance)

    @classmethod
    def helical(
        cls, views: int, detector: Detector, source_distance: float, detector_distance: float, pitch: float, turns: float
    ) -> Self:
        """``views`` equal steps over ``turns`` turns; angle and height are 0 in the middle of the scan."""
        half = math.pi * turns
        return cls(uniform(views, -half, half), detector, source_distance, detector_distance, pitch)

    def __post_init__(self) -> None:
        for name in ("pitch", "z0"):
            value = float(getattr(self, name))
            if not math.isfinite(value):
                raise ValueError(f"{name} must be finite, got {value}")
            object.__setattr__(self, name, value)
        super().__post_init__()

    def _check_detector(self) -> None:
        if len(self.detector.size) != 2:
            raise ValueError(f"detector of a cone must be (rows, columns), got {self.detector.size}; FanBeam takes one line")

    def _check_unit(self) -> None:
        if self.pitch == 0:
            super()._check_unit()

    @property
    def normalised_pitch(self) -> float:
        """``pitch / (rows dv / m)``."""
        return self.pitch / (self.detector.rows * self.detector.pitch[0] / self.magnification)

    def heights(self) -> Tensor:
        """z of the source in each view, (views,), float64."""
        return self.z0 + self.pitch * torch.tensor(self.angles, dtype=torch.float64) / (2 * math.pi)

    def rays(self) -> Rays:
        _, r = frame(self.angles)
        source = self.source_distance * r
        source[:, 2] = self.heights()
        direction = self._directions()
        upwards = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64).expand_as(r)
        return Rays(source[:, None].expand_as(direction), direction, torch.zeros_like(r), upwards, self.detector.v)
