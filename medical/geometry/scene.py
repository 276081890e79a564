"""What a drawing of a geometry has to show: sources, rays and detector of some of its views."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from medical.geometry.beam import Beam
from medical.geometry.detector import Detector
from medical.geometry.vectors import VectorBeam
from medical.geometry.volume import Volume

__all__ = ["Scene", "field_of_view", "frames"]

DOTS = 360  # sources drawn at most
FRAMES = 48  # of an animation at most


@dataclass(frozen=True, eq=False)
class Scene:
    """What there is to see. ``reach``: how far parallel rays are drawn; ``shown``: the views whose sources are drawn."""

    beam: Beam | VectorBeam
    volume: Volume | None
    reach: float
    shown: Beam | VectorBeam

    @classmethod
    def of(cls, beam: Beam | VectorBeam, volume: Volume | None) -> Scene:
        """The scene of a geometry."""
        size = max(map(abs, beam.detector.reach))
        reach = 1.3 * max(size, volume.outer_radius if volume else size)
        step = math.ceil(len(beam) / DOTS)
        return cls(beam, volume, reach, beam[::step] if step > 1 else beam)

    def lines(self, beam: Beam | VectorBeam) -> tuple[Tensor, Tensor]:
        """Where the rays of ``beam`` start and where they meet the detector, (views, rows, columns, 3) each."""
        rays = beam.rays()
        v = rays.v.view(1, -1, 1, 1)
        points = rays.origin[:, None] + v * rays.origin_step[:, None, None]
        ways = rays.direction[:, None] + v * rays.direction_step[:, None, None]
        if beam.divergent:
            return points, points + ways
        ways = self.reach * ways / torch.linalg.vector_norm(ways, dim=-1, keepdim=True)
        return points - ways, points + ways

    def central(self, beam: Beam | VectorBeam) -> tuple[Tensor, Tensor]:
        """The same for the central ray, u = v = 0, (views, 3) each."""
        starts, ends = self.lines(replace(beam, detector=Detector((1,) * len(beam.detector.size))))
        return starts[:, 0, 0], ends[:, 0, 0]

    def fans(self, beam: Beam | VectorBeam) -> tuple[Tensor, Tensor]:
        """The same for the columns of the middle row, (views, columns, 3) each, at most 65 columns."""
        line = beam.detector
        if len(line.size) == 2:
            line = Detector((1, line.columns), line.pitch, (0.0, float(line.u[0] + line.u[-1]) / 2), line.curved)
        starts, ends = self.lines(replace(beam, detector=line))
        pick = torch.linspace(0, line.columns - 1, min(65, line.columns)).round().long()
        return starts[:, 0, pick], ends[:, 0, pick]

    def towers(self, beam: Beam | VectorBeam) -> tuple[Tensor, Tensor]:
        """The same for the rows of the middle column, (views, rows, 3) each."""
        d = beam.detector
        column = Detector((d.rows, 1), (d.pitch[0], 1.0), (float(d.v[0] + d.v[-1]) / 2, 0.0))
        starts, ends = self.lines(replace(beam, detector=column))
        return starts[:, :, 0], ends[:, :, 0]


def field_of_view(beam: Beam | VectorBeam) -> list[float]:
    """Radii of the discs seen from every side and, where that is more, from one side at least; none where unknown."""
    low, high = sorted(beam.coverage())
    found = [r for r in (low, high) if 0 < r < math.inf]
    return found[:1] if len(found) == 2 and high < 1.005 * low else found


def frames(beam: Beam | VectorBeam) -> Beam | VectorBeam:
    """Some of the views, in their order, for an animation."""
    return beam[:: math.ceil(len(beam) / FRAMES)]
