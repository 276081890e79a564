"""The elevation: a geometry with rows seen from the side, central ray against z."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from medical.geometry.canvas import PALETTE, Panel, animate, draw_axes
from medical.geometry.cone import ConeBeam
from medical.geometry.plan import SIDE
from medical.geometry.scene import Scene, frames
from medical.geometry.volume import Volume

__all__ = ["beside"]


def beside(scene: Scene, left: float, animated: bool) -> Panel:
    """Central ray of the first view and z."""
    start, end = (t[0, :2] for t in scene.central(scene.beam[0]))
    c = (end - start) / torch.linalg.vector_norm(end - start)

    def flat(points: Tensor) -> Tensor:
        return torch.stack([points[..., :2] @ c, points[..., 2]], -1)

    sources = flat(scene.central(scene.shown)[0])
    starts, ends = (flat(t[0]).tolist() for t in scene.towers(scene.beam[0]))
    box = box_corners(scene.volume, c) if scene.volume and scene.volume.ndim == 3 else []
    panel = Panel.fit([*sources.tolist(), *starts, *ends, *box, (0.0, 0.0)], (left, 110, 400, SIDE - 90), stretch=None)
    if box:
        panel.area(box, PALETTE["grid"], 0.16)
        panel.line([*box, box[0]], PALETTE["grid"], width=1.2)
        panel.label(box[0], "slice 0", away=(0.5, -1), gap=4)
    panel.area([starts[0], starts[-1], *reversed(ends)], PALETTE["ray"], 0.13)
    for k in {0, len(starts) - 1}:
        panel.line([starts[k], ends[k]], PALETTE["ray"], width=1.1, name="ray")
    draw_axis_and_helix(panel, scene, sources)
    draw_rows(panel, ends)
    stretched = f", {panel.stretch:g} times as large" if panel.stretch != 1 else ""
    draw_axes(panel, (along(c), f"z{stretched}"), (left - 22, SIDE + 90))
    if animated:
        tower = scene.towers(frames(scene.beam))
        animate(panel, flat(tower[0]), flat(tower[1]))
    return panel


def box_corners(volume: Volume, c: Tensor) -> list[tuple[float, float]]:
    """The outline of the grid across the direction ``c``: from its lowest slice up."""
    (cz, cy, cx), (lz, ly, lx) = volume.centre, volume.extent  # type: ignore[misc]
    middle, half = float(c[0] * cx + c[1] * cy), float(c[0].abs() * lx + c[1].abs() * ly) / 2
    low, high = cz - lz / 2, cz + lz / 2
    return [(middle - half, low), (middle + half, low), (middle + half, high), (middle - half, high)]


def draw_axis_and_helix(panel: Panel, scene: Scene, sources: Tensor) -> None:
    """The axis of rotation, the sources, and how far they climb in a turn."""
    heights = [(panel.origin[1] - y) / panel.scale[1] for y in (85.0, SIDE + 40)]
    panel.line([(0.0, heights[0]), (0.0, heights[1])], PALETTE["text"], dash="9 3 2 3", name="axis")
    panel.label((0.0, heights[0]), "axis of rotation", gap=3)
    path = sources.tolist()
    if sources[:, 1].max() > sources[:, 1].min():
        panel.line(path, PALETTE["source"], width=0.8)
    for point in path[1:]:
        panel.dot(point, PALETTE["source"], 1.6, name="source")
    panel.dot(path[0], PALETTE["source"], 6.0, name="source first")
    beam = scene.beam
    if isinstance(beam, ConeBeam) and beam.pitch and abs(beam.angles[-1] - beam.angles[0]) >= 2 * math.pi:
        x, z = path[0][0] - 16 / panel.scale[0], path[0][1]
        climbed = z + math.copysign(beam.pitch, beam.pitch * (beam.angles[-1] - beam.angles[0]))
        panel.arrow([(x, z), (x, climbed)], PALETTE["source"])
        panel.label((x, climbed), f"pitch {beam.pitch:.5g}", away=(0.3, climbed - z), gap=5, colour=PALETTE["source"])


def draw_rows(panel: Panel, ends: list[list[float]]) -> None:
    """The rows of the detector with row 0 and the direction of v."""
    colour = PALETTE["detector"]
    panel.line(ends, colour, width=4.0, name="detector")
    panel.dot(ends[0], colour, 6.0, name="pixel")
    panel.label(ends[0], "row 0", away=(0.3, math.copysign(1, ends[0][1] - ends[-1][1])), gap=11, colour=colour)
    if len(ends) > 1:
        off = 13 / panel.scale[0]
        start, stop = (
            [ends[0][i] + f * (ends[-1][i] - ends[0][i]) + (off if i == 0 else 0) for i in (0, 1)] for f in (0.3, 0.7)
        )
        panel.arrow([start, stop], colour)
        panel.label(stop, "v", away=(0, stop[1] - start[1]), gap=4, colour=colour)


def along(c: Tensor) -> str:
    """A name for the horizontal direction ``c``."""
    for name, axis in (("x", 0), ("y", 1)):
        if c[axis].abs() > 1 - 1e-9:
            return name if c[axis] > 0 else f"−{name}"
    return "along the central ray of view 0"
