"""What fans and cones share: a source that turns about the axis, and a detector opposite to it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from medical.geometry.beam import Beam, frame, positive

__all__ = ["Divergent"]


@dataclass(frozen=True, repr=False)
class Divergent(Beam):
    """Rays from a source at distance DSO from the axis to a detector at DOD beyond it, both turning about the axis.

    Parameters
    ----------
    angles: radians.
    detector: flat, or curved about the source.
    source_distance: DSO, from the source to the axis of rotation.
    detector_distance: DOD, from the axis to the detector.
    """

    source_distance: float
    detector_distance: float

    divergent: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_detector()
        object.__setattr__(self, "source_distance", positive("source_distance", self.source_distance))
        beyond = float(self.detector_distance)
        if not 0 <= beyond < math.inf:
            raise ValueError(f"detector_distance must be finite and not negative, got {beyond}")
        object.__setattr__(self, "detector_distance", beyond)
        if max(self.fan_angles) >= math.pi / 2:
            raise ValueError(
                f"detector must subtend less than 90 degrees on either side of the central ray, got "
                f"{math.degrees(max(self.fan_angles)):.1f}; move it away or make its spacing smaller"
            )

    def _check_detector(self) -> None:
        """Raise ``ValueError`` unless the detector has the axes that this beam needs."""
        raise NotImplementedError(f"{type(self).__name__} must define _check_detector()")

    @property
    def distance(self) -> float:
        """From the source to the detector."""
        return self.source_distance + self.detector_distance

    @property
    def magnification(self) -> float:
        return self.distance / self.source_distance

    @property
    def fan_angles(self) -> tuple[float, float]:
        """The angles between the central ray and the detector's outer edges, towards smaller and larger u, in radians."""
        low, high = (edge / self.distance for edge in self.detector.reach)
        return (low, high) if self.detector.curved else (math.atan(low), math.atan(high))

    def coverage(self) -> tuple[float, float]:
        low, high = self.fan_angles
        return self.source_distance * math.sin(low), self.source_distance * math.sin(high)

    def _directions(self) -> Tensor:
        """From the source to each column, (views, columns, 3): ``L c + u e``; ``L (cos g c + sin g e)``, g = u / L, curved."""
        e, r = frame(self.angles)
        central, u = -r, self.detector.u[:, None]
        if not self.detector.curved:
            return self.distance * central[:, None] + u * e[:, None]
        g = u / self.distance
        return self.distance * (g.cos() * central[:, None] + g.sin() * e[:, None])
