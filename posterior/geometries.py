"""What there is to know of a CT geometry before anything is measured: its facts, its drawing, and one to start from."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from medical.analytic.scans import settle
from medical.analytic.weights import gaps
from medical.files import read_nifti
from medical.files.atomic import written_whole
from medical.geometry import Beam, ConeBeam, Detector, FanBeam, ParallelBeam, VectorBeam, Volume, serialise
from medical.geometry.divergent import Divergent
from medical.geometry.drawing import draw as drawing
from medical.geometry.scene import field_of_view
from posterior.outputs import check_output

__all__ = ["TEMPLATES", "Facts", "draw", "facts", "new"]

SUSPICIOUS = 2.0  # voxels so many times larger or smaller than the detector's pixels are worth a warning
STEEP = 1.5  # the normalised pitch above which a helix with one source leaves gaps
GRID = Volume((256, 256), voxel=1.0)
ROWS = 64
SOURCE, BEYOND = 595.0, 490.6  # of a clinical scanner, mm


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What follows from a geometry; lengths in its unit, angles in degrees.

    Attributes
    ----------
    kind, views, detector, spacing: as in the file; ``spacing`` is (dv, du) or (du,).
    data: numbers in a measurement.
    angles: first angle, last angle, and the mean step; None for vectors.
    scan: "full", "short", "limited" or "helix", None where unknown.
    field_of_view: radii of the discs seen by every view and, where that is more, by one of two opposite views.
    magnification: how much larger the detector shows what lies on the axis.
    fan: angles of the outermost rays to the central one.
    normalised_pitch: of a helix.
    voxel: recommended side of a voxel, the detector's pixel at the axis.
    views_needed: for which the data are as dense along the angle as along the detector.
    grid, grid_voxel: of the volume in the file.
    warnings: what is probably not meant.
    """

    kind: str
    views: int
    detector: tuple[int, ...]
    spacing: tuple[float, ...]
    data: int
    angles: tuple[float, float, float] | None = None
    scan: str | None = None
    field_of_view: tuple[float, ...] = ()
    magnification: float | None = None
    fan: tuple[float, float] | None = None
    normalised_pitch: float | None = None
    voxel: float | None = None
    views_needed: int | None = None
    grid: tuple[int, ...] | None = None
    grid_voxel: tuple[float, ...] | None = None
    warnings: tuple[str, ...] = ()


def facts(path: Path) -> Facts:
    """The facts of the geometry in the YAML file ``path``. Raises what :func:`medical.geometry.serialise.read` raises."""
    volume, beam = serialise.read(path)
    d = beam.detector
    known = Facts(
        kind=type(beam).__name__,
        views=len(beam),
        detector=d.size,
        spacing=d.pitch[-len(d.size) :],
        data=math.prod(beam.shape),
        grid=volume.shape if volume else None,
        grid_voxel=volume.spacing if volume else None,
    )
    if isinstance(beam, VectorBeam):
        return known
    radii = tuple(field_of_view(beam))
    voxel = d.pitch[1] / beam.magnification
    scan, doubts = _scan(beam, volume, radii)
    turn = 2 * math.pi if beam.divergent else math.pi
    helix = isinstance(beam, ConeBeam) and beam.pitch != 0
    return replace(
        known,
        angles=_angles(beam),
        scan=scan,
        field_of_view=radii,
        magnification=beam.magnification if beam.divergent else None,
        fan=_degrees(beam.fan_angles) if isinstance(beam, Divergent) else None,
        normalised_pitch=beam.normalised_pitch if isinstance(beam, ConeBeam) and helix else None,
        voxel=voxel,
        views_needed=None if helix or not radii else math.ceil(turn * radii[-1] / voxel),
        warnings=(*doubts, *_warnings(beam, volume, voxel)),
    )


def draw(path: Path, output: Path, *, animated: bool = False, overwrite: bool = False) -> Path:
    """The geometry in the YAML file ``path`` as the drawing ``output`` (.svg), written completely or not at all."""
    check_output(output, (".svg",), overwrite=overwrite)
    volume, beam = serialise.read(path)
    svg = drawing(beam, volume, animated=animated)
    with written_whole(output, overwrite=overwrite) as temporary:
        temporary.write_text(svg, encoding="utf-8")
    return output


def new(output: Path, kind: str, *, scan: Path | None = None, views: int = 360, overwrite: bool = False) -> Path:
    """A geometry of the ``kind`` that sees all of a grid, the one of the NIfTI file ``scan`` or 256 x 256 mm, as YAML.

    Pixels of the detector are as large as voxels at the axis; the distances are a clinical scanner's, larger where needed.
    """
    check_output(output, (".yaml", ".yml"), overwrite=overwrite)
    grid = GRID
    if scan is not None:
        found = read_nifti(scan)
        grid = Volume(tuple(found.data.shape), voxel=found.spacing, flip_y=True)
    volume, beam = TEMPLATES[kind](grid, views)
    with written_whole(output, overwrite=overwrite) as temporary:
        serialise.write(temporary, (volume, beam))
    return output


def _parallel(grid: Volume, views: int) -> tuple[Volume, Beam]:
    flat = grid if grid.ndim == 2 else grid.slice()
    du = min(flat.spacing)
    return flat, ParallelBeam.uniform(views, Detector(math.ceil(2 * flat.outer_radius / du), du))


def _fan(grid: Volume, views: int, *, curved: bool = False) -> tuple[Volume, Beam]:
    flat = grid if grid.ndim == 2 else grid.slice()
    source, beyond = _distances(flat)
    return flat, FanBeam.uniform(views, _line(flat, source, beyond, curved), source, beyond)


def _curved(grid: Volume, views: int) -> tuple[Volume, Beam]:
    return _fan(grid, views, curved=True)


def _cone(grid: Volume, views: int) -> tuple[Volume, Beam]:
    block = _block(grid)
    source, beyond = _distances(block)
    line, dv = _line(block, source, beyond, False), _rounded(block.spacing[0] * (source + beyond) / source)
    near = source / (source - block.outer_radius)  # the cone is narrowest at the edge near the source
    rows = math.ceil(block.shape[0] * near)
    detector = Detector((rows, line.columns), (dv, line.pitch[1]))
    return block, ConeBeam.circular(views, detector, source, beyond)


def _helix(grid: Volume, views: int) -> tuple[Volume, Beam]:
    block = _block(grid)
    source, beyond = _distances(block)
    line, dv = _line(block, source, beyond, True), _rounded(block.spacing[0] * (source + beyond) / source)
    detector = Detector((min(ROWS, block.shape[0]), line.columns), (dv, line.pitch[1]), curved=True)
    pitch = detector.rows * block.spacing[0]  # a normalised pitch of one
    turns = block.extent[0] / pitch + 1
    return block, ConeBeam.helical(math.ceil(views * turns), detector, source, beyond, pitch, turns)


TEMPLATES: dict[str, Callable[[Volume, int], tuple[Volume, Beam]]] = {
    "parallel": _parallel,
    "fan": _fan,
    "curved": _curved,
    "cone": _cone,
    "helix": _helix,
}
"""Kinds of geometry to start from."""


def _block(grid: Volume) -> Volume:
    if grid.ndim == 3:
        return grid
    return Volume((ROWS, *grid.shape), voxel=(min(grid.spacing), *grid.spacing), flip_y=True)


def _distances(grid: Volume) -> tuple[float, float]:
    """Of source and detector from the axis, such that the grid takes up at most 60 % of the way to the source."""
    factor = max(1.0, grid.outer_radius / (0.6 * SOURCE))
    return SOURCE * factor, BEYOND * factor


def _line(grid: Volume, source: float, beyond: float, curved: bool) -> Detector:
    """A line that sees the corners of the grid."""
    distance = source + beyond
    du = _rounded(min(grid.spacing[-2:]) * distance / source)
    angle = math.asin(grid.outer_radius / source)
    half = distance * (angle if curved else math.tan(angle))
    return Detector(math.ceil(2 * half / du), du, curved=curved)


def _rounded(length: float) -> float:
    """Up to four figures, which read well."""
    unit = 10.0 ** (math.floor(math.log10(length)) - 3)
    return float(f"{math.ceil(length / unit * (1 - 1e-9)) * unit:.10g}")


def _degrees(pair: tuple[float, float]) -> tuple[float, float]:
    return math.degrees(pair[0]), math.degrees(pair[1])


def _angles(beam: Beam) -> tuple[float, float, float]:
    first, last = _degrees((beam.angles[0], beam.angles[-1]))
    return first, last, (last - first) / max(1, len(beam) - 1)


def _scan(beam: Beam, volume: Volume | None, radii: tuple[float, ...]) -> tuple[str | None, tuple[str, ...]]:
    """Which part of a turn is covered, and a warning where it is not enough."""
    if isinstance(beam, ConeBeam) and beam.pitch:
        return "helix", ()
    if len(beam) < 2:
        return None, ("a single view determines no picture",)
    grid = volume or Volume((2, 2), voxel=max(radii, default=1.0) / math.sqrt(2))
    try:
        scan = settle(beam, "auto", grid)
    except ValueError as error:
        return "limited", (str(error),)
    return scan, ("the views leave out a part of half a turn: a limited angle",) if scan == "limited" else ()


def _warnings(beam: Beam, volume: Volume | None, voxel: float) -> list[str]:
    """What is probably not meant, a sentence each."""
    found = []
    period = 2 * math.pi if beam.divergent else math.pi
    if len(beam) > 1 and not (isinstance(beam, ConeBeam) and beam.pitch) and float(gaps(beam.angles, period)[1].min()) < 1e-9:
        found.append("some views measure the same as others (an end point counted twice?)")
    if isinstance(beam, ConeBeam) and abs(beam.normalised_pitch) > STEEP:
        found.append(f"the normalised pitch {beam.normalised_pitch:.3g} is above {STEEP:g}: the helix leaves gaps")
    if volume is None:
        return found
    reach = max(beam.coverage())
    if reach < volume.radius * (1 - 1e-9):
        found.append(
            f"truncated: the detector sees {reach:.5g} from the axis, the grid reaches {volume.radius:.5g}; it is allowed with "
            f"--truncated, and the edge comes out too bright"
        )
    if not 1 / SUSPICIOUS <= min(volume.spacing[-2:]) / voxel <= SUSPICIOUS:
        found.append(f"voxels of {min(volume.spacing[-2:]):.4g} for pixels of {voxel:.4g} at the axis")
    if isinstance(beam, Divergent) and volume.outer_radius >= beam.source_distance:
        found.append(f"the source, {beam.source_distance:.5g} from the axis, passes through the grid")
    if isinstance(beam, ConeBeam) and volume.ndim == 3 and not beam.pitch:
        height = beam.detector.rows * beam.detector.pitch[0] / beam.magnification
        if height < volume.extent[0] * (1 - 1e-9):
            found.append(f"the rows cover a height of {height:.5g} at the axis, the grid is {volume.extent[0]:.5g} high")
    return found
