"""A geometry at a glance: grid, axis, sources, detector and rays, from above and, where there are rows, from the side."""

from __future__ import annotations

import math
from pathlib import Path

from medical.geometry.beam import Beam
from medical.geometry.canvas import document, text
from medical.geometry.divergent import Divergent
from medical.geometry.elevation import beside
from medical.geometry.plan import SIDE, above
from medical.geometry.scene import Scene, field_of_view
from medical.geometry.vectors import VectorBeam
from medical.geometry.volume import Volume

__all__ = ["draw"]


def draw(
    beam: Beam | VectorBeam, volume: Volume | None = None, *, path: str | Path | None = None, animated: bool = False
) -> str:
    """``beam`` and ``volume`` as SVG text, written to ``path`` where one is given.

    From above: the grid with its first pixel and the directions of rows and columns, the axis of rotation, all sources
    (at most 360 of them; for parallel rays where they come from), the first view's outermost and central rays, the
    detector with its pixel 0, the sense of rotation, the distances and the field of view. Where there are rows, a second
    panel shows central ray and z. ``animated`` lets source and detector run through the views.
    """
    scene = Scene.of(beam, volume)
    panels = [("above", above(scene, animated))]
    wide = SIDE + 120
    if len(beam.detector.size) == 2:
        panels.append(("side", beside(scene, wide + 50, animated)))
        wide += 480
    page: list[str] = []
    text(page, (24, 30), title(beam), bold=True)
    notes = summary(scene)
    for k, words in enumerate(notes):
        text(page, (24, SIDE + 132 + 19 * k), words)
    drawing = document([*page, *(p.svg(name) for name, p in panels)], (wide, SIDE + 132 + 19 * len(notes)), title(beam))
    if path is not None:
        Path(path).write_text(drawing, encoding="utf-8")
    return drawing


def title(beam: Beam | VectorBeam) -> str:
    """Kind and views."""
    views = f"{len(beam)} view" + ("s" if len(beam) > 1 else "")
    if isinstance(beam, VectorBeam):
        return f"{type(beam).__name__}, {views}"
    first, last = (math.degrees(a) for a in (beam.angles[0], beam.angles[-1]))
    words = f", {first:.5g}° to {last:.5g}°" if len(beam) > 1 else f" at {first:.5g}°"
    return f"{type(beam).__name__}, {views}" + words.replace("-", "−")


def summary(scene: Scene) -> list[str]:
    """The numbers, in two or three lines."""
    beam, d, volume = scene.beam, scene.beam.detector, scene.volume
    counts = ([f"{d.rows} rows"] if len(d.size) == 2 else []) + [f"{d.columns} columns"]
    words = f"detector: {' × '.join(counts)}, spacing {numbers(d.pitch[-len(d.size) :])}"
    words += ", curved" if d.curved else ", flat"
    if any(d.offset):  # type: ignore[arg-type]
        words += ", offset " + numbers(d.offset)  # type: ignore[arg-type]
    lines = [words]
    if isinstance(beam, Divergent):
        low, high = (math.degrees(a) for a in beam.fan_angles)
        lines.append(f"magnification {beam.magnification:.4g}, fan {-low:.4g}° to {high:.4g}°".replace("-", "−"))
    radii = field_of_view(beam)
    words = f"field of view of radius {' and '.join(f'{r:.5g}' for r in radii)}" if radii else ""
    if volume:
        words += (", " if words else "") + f"grid {' × '.join(map(str, volume.shape))}, voxel {numbers(volume.spacing)}"
        words += ", row 0 at the top" if volume.flip_y else ", row 0 at the bottom"
    return lines + ([words] if words else [])


def numbers(values: tuple[float, ...]) -> str:
    """``values`` with a cross between them, once where they are all the same."""
    shown = values[:1] if len(set(values)) == 1 else values
    return " × ".join(f"{v:.5g}" for v in shown).replace("-", "−")
