"""The plan: a geometry seen from above, against z."""

from __future__ import annotations

import math

from torch import Tensor

from medical.geometry.canvas import PALETTE, Panel, animate, draw_axes, text
from medical.geometry.divergent import Divergent
from medical.geometry.scene import Scene, field_of_view, frames
from medical.geometry.volume import Volume

__all__ = ["SIDE", "above"]

SIDE = 520.0  # of the panel, pixels


def above(scene: Scene, animated: bool) -> Panel:
    """The plane of x and y, seen against z."""
    sources, _ = scene.central(scene.shown)
    first, last = (t[0, :, :2].tolist() for t in scene.fans(scene.beam[0]))
    around = max(field_of_view(scene.beam), default=0.0)
    corners = [(-around, -around), (around, around)] + (grid_corners(scene.volume) if scene.volume else [])
    panel = Panel.fit([*sources[:, :2].tolist(), *first, *last, *corners], (70, 80, SIDE - 20, SIDE - 20))
    if scene.volume:
        draw_grid(panel, scene.volume)
    draw_field(panel, scene)
    draw_fan(panel, first, last, scene.beam.divergent)
    draw_sources(panel, sources[:, :2], scene)
    draw_detector(panel, last, scene.beam.detector.columns)
    draw_centre(panel, scene)
    draw_axes(panel, ("x", "y"), (28.0, SIDE + 90))
    text(panel.parts, (104, SIDE + 94), "from above, z towards you")
    if animated:
        starts, ends = scene.fans(frames(scene.beam))
        animate(panel, starts[..., :2], ends[..., :2])
    return panel


def grid_corners(volume: Volume) -> list[tuple[float, float]]:
    """The corners of the grid in x and y: at row and column 0 first, then along the first row."""
    (cy, cx), (ly, lx) = volume.centre[-2:], volume.extent[-2:]  # type: ignore[index]
    first, last = (cy + ly / 2, cy - ly / 2) if volume.flip_y else (cy - ly / 2, cy + ly / 2)
    return [(cx - lx / 2, first), (cx + lx / 2, first), (cx + lx / 2, last), (cx - lx / 2, last)]


def draw_grid(panel: Panel, volume: Volume) -> None:
    """The grid, its pixel [0, 0], and the directions in which rows and columns grow."""
    (x0, y0), (x1, _), (_, y1), _ = corners = grid_corners(volume)
    colour = PALETTE["grid"]
    panel.area(corners, colour, 0.16)
    ny, nx = volume.shape[-2:]
    for n, across in ((nx, True), (ny, False)):
        cells = n if n <= 16 else 8
        for k in range(cells + 1):
            x, y = x0 + (x1 - x0) * k / cells, y0 + (y1 - y0) * k / cells
            edge = k in (0, cells)
            panel.line([(x, y0), (x, y1)] if across else [(x0, y), (x1, y)], colour, width=1.2 if edge else 0.35)
    side = [max(h, 7 / panel.scale[0]) for h in volume.spacing[-2:]]
    down = math.copysign(1.0, y1 - y0)
    x, y = x0 + side[1], y0 + down * side[0]
    panel.area([(x0, y0), (x, y0), (x, y), (x0, y)], PALETTE["text"], 0.9)
    gap, length = 8 / panel.scale[0], max(30 / panel.scale[0], 0.25 * min(abs(x1 - x0), abs(y1 - y0)))
    panel.arrow([(x0, y0 - down * gap), (x0 + length, y0 - down * gap)], colour, width=1.2)
    panel.arrow([(x0 - gap, y0), (x0 - gap, y0 + down * length)], colour, width=1.2)
    panel.label((x0 + length / 2, y0 - down * gap), "column", away=(0, -down), gap=4)
    panel.label((x0 - gap, y0 + down * length), "row", away=(-1, 0), gap=6)


def draw_field(panel: Panel, scene: Scene) -> None:
    """The field of view; a second circle where the detector is offset."""
    radii = field_of_view(scene.beam)
    names = ["field of view", "seen from one side"] if min(scene.beam.coverage()) > 0 else ["seen from one side"]
    for k, (radius, name) in enumerate(zip(radii, names, strict=False)):
        panel.ring((0.0, 0.0), PALETTE["field"], radius * panel.scale[0], dash="" if k else "5 4", name="field")
        side = -1 if k else 1
        at = side * radius * math.cos(math.radians(35)), -radius * math.sin(math.radians(35))
        panel.label(at, name, away=(side, -0.7), gap=9, colour=PALETTE["field"])


def draw_fan(panel: Panel, starts: list[list[float]], ends: list[list[float]], divergent: bool) -> None:
    """The rays of the first view: filled, the outermost as lines, arrows where they are parallel."""
    panel.area([starts[0], *ends, starts[-1]], PALETTE["ray"], 0.13)
    n = len(starts)
    for k in {0, n - 1} if divergent else {0, n // 4, n // 2, 3 * n // 4, n - 1}:
        panel.line([starts[k], ends[k]], PALETTE["ray"], width=1.1, name="ray")
        way = [b - a for a, b in zip(starts[k], ends[k], strict=True)]
        panel.head([a + 0.22 * w for a, w in zip(starts[k], way, strict=True)], way, PALETTE["ray"], 8.0)


def draw_sources(panel: Panel, sources: Tensor, scene: Scene) -> None:
    """Every source as a dot, the first one large, and the sense in which they turn."""
    colour = PALETTE["source"]
    for point in sources[1:].tolist():
        panel.dot(point, colour, 1.6 if len(sources) > 40 else 3.0, name="source")
    first = sources[0].tolist()
    panel.dot(first, colour, 6.0, name="source first")
    panel.label(first, "source, view 0" if scene.beam.divergent else "rays of view 0", away=first, gap=12, colour=colour)
    radius, here = math.hypot(*first), math.atan2(first[1], first[0])
    if len(sources) < 2 or radius == 0:
        return
    x, y = sources[1].tolist()
    sense = math.copysign(1.0, first[0] * y - first[1] * x)
    radius += 16 / panel.scale[0]
    arc = [here + sense * (0.30 + 0.40 * k / 16) for k in range(17)]
    panel.arrow([(radius * math.cos(a), radius * math.sin(a)) for a in arc], colour, width=1.8)


def draw_detector(panel: Panel, ends: list[list[float]], columns: int) -> None:
    """The detector with its first and last pixel and the direction of u."""
    colour = PALETTE["detector"]
    panel.line(ends, colour, width=4.0, name="detector")
    (x0, y0), (x1, y1) = ends[0], ends[-1]
    length = math.hypot(x1 - x0, y1 - y0) or 1.0
    e, middle = ((x1 - x0) / length, (y1 - y0) / length), ends[len(ends) // 2]
    n = (-e[1], e[0])
    if n[0] * middle[0] + n[1] * middle[1] < 0:
        n = (-n[0], -n[1])
    panel.dot(ends[0], colour, 6.0, name="pixel")
    panel.label(ends[0], "pixel 0", away=n, gap=10, colour=colour)
    if columns > 1:
        off = 13 / panel.scale[0]
        start, stop = ([middle[i] + s * 0.14 * length * e[i] + n[i] * off for i in (0, 1)] for s in (-1, 1))
        panel.arrow([start, stop], colour)
        panel.label([(a + b) / 2 for a, b in zip(start, stop, strict=True)], "u", away=n, gap=6, colour=colour)
        panel.label(ends[-1], str(columns - 1), away=n, gap=10, colour=colour)


def draw_centre(panel: Panel, scene: Scene) -> None:
    """The axis of rotation, the central ray of the first view, and the distances along it."""
    start, end = (t[0, :2].tolist() for t in scene.central(scene.beam[0]))
    panel.line([start, end], PALETTE["text"], dash="9 3 2 3", name="central")
    colour = PALETTE["text"]
    panel.ring((0.0, 0.0), colour, 5.0, name="axis")
    panel.dot((0.0, 0.0), colour, 1.8)
    beam = scene.beam
    if not isinstance(beam, Divergent):
        return
    inner = max(field_of_view(beam)[:1] + ([scene.volume.outer_radius] if scene.volume else []), default=0.0)
    side = panel_normal(start, end)
    for name, at, length in (("DSO", start, beam.source_distance), ("DOD", end, beam.detector_distance)):
        if length * panel.scale[0] > 40:
            f = max(0.5, min(0.85, (inner + 26 / panel.scale[0]) / length))
            panel.label([f * c for c in at], f"{name} {length:.5g}", away=side, gap=7, colour=colour)


def panel_normal(start: list[float], end: list[float]) -> tuple[float, float]:
    """Across the way from ``start`` to ``end``, to the right of the page."""
    nx, ny = end[1] - start[1], start[0] - end[0]
    return (nx, ny) if nx >= 0 else (-nx, -ny)
