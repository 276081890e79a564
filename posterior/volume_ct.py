"""CT volumes to reconstruct: simulated from a full scan in few views, or from the projections of a sinogram file."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from medical.classical import CGLS
from medical.files import Scan, read_sinogram
from medical.files.orientation import canonical
from medical.files.scan import LENGTHS
from medical.files.volumes import read_volume
from medical.geometry import Beam, Detector, ParallelBeam, VectorBeam, Volume, serialise
from medical.intensity import HounsfieldWindow
from medical.operators import Projector
from medical.transmission import WATER, LogPoisson, hounsfield
from posterior.projections import grid_of, sliced
from posterior.tomography import Reconstructing, affine_of, geometry_of, measurement_of, noise_of, per_length
from posterior.turned import TurnedVolume, in_plane, turned
from posterior.volume_inputs import Measured

__all__ = ["Views", "measured_ct", "simulated_ct"]

STEPS = 20  # of least squares, for geometries that no formula inverts


@dataclass(frozen=True, kw_only=True)
class Views:
    """How a CT scan is simulated.

    Attributes
    ----------
    views: of a parallel beam, in equal steps over ``degrees``; None where the ``geometry`` has them.
    geometry: YAML file of another beam.
    photons: of a ray that meets nothing; None leaves out the noise.
    water: attenuation of water in 1/mm.
    seed: of the noise.
    """

    views: int | None = None
    degrees: float = 180.0
    geometry: Path | None = None
    photons: float | None = None
    water: float = WATER
    seed: int = 0

    def __post_init__(self) -> None:
        if (self.views is None) == (self.geometry is None):
            raise ValueError(
                "a scan is measured in --views of a parallel beam or along the rays of --geometry: give one of them"
            )
        if self.geometry is not None and self.degrees != 180.0:
            raise ValueError("--range is for the parallel beam of --views; --geometry has angles of its own")


def simulated_ct(path: Path, views: Views, slices: str = "") -> Measured:
    """The scan in ``path`` (NIfTI, or a folder of DICOM slices), measured in a few views; the truth is the scan itself.

    ``slices`` ("FIRST:LAST") are axial ones, from the feet. Values outside of the window count as its nearest below, and as
    they are above. Raises ``ValueError`` or ``OSError`` for files that are missing or damaged, values that are no CT numbers,
    and a geometry that does not fit.
    """
    scan, undo = canonical(_in_hounsfield(read_volume(path), views.water, path))
    scan = sliced(scan, slices, path)
    window = HounsfieldWindow()
    image = window.to_image(scan.data)
    volume, beam = _beam(views, scan, path)
    scale = _attenuation(window, views.water)
    noise = None if views.photons is None else LogPoisson(views.photons, attenuation=scale)
    A = Projector(volume, beam, noise=noise)
    y = A.measure(image[:, None] if volume.ndim == 2 else image[None, None], seed=views.seed)
    like = path if path.is_dir() or not path.name.lower().endswith((".nii", ".nii.gz")) else None

    def place(values: Tensor) -> Scan:
        return undo(Scan(data=values.contiguous(), affine=scan.affine, length=scan.length))

    def truth() -> Scan:
        return undo(Scan(data=window.to_hounsfield(image), affine=scan.affine, unit="HU", length=scan.length))

    facts = {"views": len(beam), "photons": views.photons, **_described(beam)}
    return Measured(
        A=A, y=y, modality="CT", black=window.low, white=window.high, place=place, truth=truth(), like=like,
        baseline=_baseline(A, y, A), facts=facts,
    )  # fmt: skip


def measured_ct(path: Path, *, water: float | None = None, slices: str = "") -> Measured:
    """The projections in the HDF5 file ``path``; images are turned to canonical axes where its affine tells how.

    ``slices`` are those of the file, for projections of slices. Raises ``ValueError`` or ``OSError`` for files that are
    missing or damaged, and geometries without a grid.
    """
    header = read_sinogram(path, part=slice(0, 1)).header
    volume, beam = geometry_of(header, path)
    water_attenuation = per_length(header, Reconstructing(water=water), path)
    assert water_attenuation is not None
    window = HounsfieldWindow()
    scale = _attenuation(window, water_attenuation)
    noise = noise_of(header)
    if isinstance(noise, LogPoisson):
        noise = LogPoisson(noise.photons, readout=noise.readout, attenuation=scale)
    raw = Projector(volume, beam, noise=noise, truncated=True)
    length = header.unit if header.unit in LENGTHS else "mm"
    if slices and header.axes[0] != "slices":
        raise ValueError(f"--slices chooses among slices; the projections in {path} are {header.axes}, of the whole volume")
    kept = _chosen(header.shape[0], slices, path)
    affine = (affine_of(volume) if header.affine is None else header.affine.double()).clone()
    if slices:
        affine[:3, 3] += kept.start * affine[:3, 2]
    y = measurement_of(read_sinogram(path, part=kept)) / scale
    sides = (len(y), *volume.shape) if volume.ndim == 2 else volume.shape
    _, undo = canonical(Scan(data=torch.zeros(sides), affine=affine, length=length))
    A = turned(raw, undo) if volume.ndim == 3 or in_plane(undo) else raw

    def place(values: Tensor) -> Scan:
        in_order = A.turn(values) if isinstance(A, TurnedVolume) else values
        return Scan(data=in_order.contiguous(), affine=affine, length=length)

    return Measured(
        A=A, y=y, modality="CT", black=window.low, white=window.high, place=place, baseline=_baseline(raw, y, A),
        facts={"views": len(beam), "photons": getattr(noise, "photons", None), **_described(beam)},
    )  # fmt: skip


def _attenuation(window: HounsfieldWindow, water: float) -> float:
    """What a value of 1 in the image attenuates in a unit of length."""
    return (window.high - window.low) / 1000 * water


def _in_hounsfield(scan: Scan, water: float, path: Path) -> Scan:
    if scan.unit == "1/mm":
        return Scan(data=hounsfield(scan.data, water), affine=scan.affine, unit="HU", length=scan.length, header=scan.header)
    low = float(scan.data.min())
    if low >= 0:
        raise ValueError(f"{path}: must hold CT numbers in HU, in which air is -1000; its smallest value is {low:g}")
    return scan


def _beam(views: Views, scan: Scan, path: Path) -> tuple[Volume, Beam | VectorBeam]:
    """A parallel beam that sees the corners of the slices, or the beam of the file with the grid of the scan."""
    if views.geometry is not None:
        chosen, beam = serialise.read(views.geometry)
        return grid_of(chosen, scan, flat=len(beam.shape) == 2, names=(path, views.geometry)), beam
    flat = Volume(tuple(scan.data.shape[-2:]), scan.spacing[-2:])
    du = min(flat.spacing)
    detector = Detector(math.ceil(2 * flat.outer_radius / du), du)
    assert views.views is not None
    return flat, ParallelBeam.uniform(views.views, detector, stop=math.radians(views.degrees))


def _described(beam: Beam | VectorBeam) -> dict[str, Any]:
    found: dict[str, Any] = {"beam": type(beam).__name__, "detector": " x ".join(map(str, beam.detector.size))}
    if not isinstance(beam, VectorBeam):
        found["angles"] = f"{math.degrees(beam.angles[0]):.4g} to {math.degrees(beam.angles[-1]):.4g} degrees"
    return found


def _baseline(raw: Projector, y: Tensor, A: Any) -> tuple[str, Callable[[], Tensor]]:
    """Filtered back-projection, that of Feldkamp for cones, or least squares where there is no formula."""
    back = A.back if isinstance(A, TurnedVolume) else lambda x: x
    try:
        raw.fbp(y[:1])
    except (TypeError, ValueError):
        return "Least squares", lambda: back(CGLS(iterations=STEPS).reconstruct(raw, y).estimate)
    return "FBP", lambda: back(raw.fbp(y, window="hann"))


def _chosen(count: int, slices: str, path: Path) -> slice:
    """``slices`` as a range, checked."""
    empty = Scan(data=torch.zeros(count, 1, 1), affine=torch.eye(4, dtype=torch.float64))
    kept = sliced(empty, slices, path)
    first = int(kept.affine[2, 3])
    return slice(first, first + len(kept.data))
