"""From projections to a CT volume: the HDF5 file of a measurement in, NIfTI out, by any method of the table."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from inverse.operators.noise import Noise, Noiseless
from medical.files import Scan, Sinogram, SinogramHeader, read_sinogram, write_nifti
from medical.files.scan import LENGTHS
from medical.geometry import Beam, VectorBeam, Volume, serialise
from medical.operators import Projector
from medical.transmission import WATER, LogPoisson, hounsfield
from posterior.commands.options import Device
from posterior.methods import CT, make, plain, within
from posterior.outputs import check_output, compute_device

__all__ = [
    "Reconstructed",
    "Reconstructing",
    "affine_of",
    "geometry_of",
    "measurement_of",
    "noise_of",
    "per_length",
    "reconstruct",
]

BLOCK = 2**24  # numbers of image and measurement worked on at a time
SUFFIXES = (".nii", ".nii.gz")
POSITIVE = {"bounds": (0.0, math.inf)}


@dataclass(frozen=True, kw_only=True)
class Reconstructing:
    """How to reconstruct.

    Attributes
    ----------
    method: a name of :data:`posterior.methods.CT`.
    given: settings of the method, None where it has its own.
    unit: of the result: "hu" or "attenuation" (1 over the unit of length).
    water: attenuation of water in 1/mm; None takes what the file was made with, or that at 70 keV.
    positive: keep attenuation from becoming negative, where the method can.
    """

    method: str = "fbp"
    given: Mapping[str, Any] = field(default_factory=dict)
    unit: str = "hu"
    water: float | None = None
    positive: bool = True


@dataclass(frozen=True, kw_only=True)
class Reconstructed:
    """What was written, and how the method fared; of several blocks of slices the worst figures."""

    output: str
    shape: tuple[int, ...]
    voxel: tuple[float, ...]
    method: str
    settings: dict[str, Any]
    iterations: int
    converged: bool
    reason: str
    residual_ratio: float | None
    seconds: float


def reconstruct(
    source: Path, output: Path, settings: Reconstructing, *, device: Device = Device.auto, overwrite: bool = False,
    progress: Callable[[float, float], None] | None = None,
) -> Reconstructed:  # fmt: skip
    """Reconstruct the projections in the HDF5 file ``source`` into the NIfTI file ``output``.

    Its affine is that in ``source``, or where there is none the geometry's (x, y and z as right, anterior and superior).
    Raises ``ValueError`` or ``OSError`` for files that are missing or damaged, settings the method does not take, and
    geometries without a grid.
    """
    check_output(output, SUFFIXES, overwrite=overwrite)
    wished = POSITIVE if settings.positive else {}
    method = make(CT, settings.method, settings.given, wished=wished)
    header = read_sinogram(source, part=slice(0, 1)).header
    volume, beam = geometry_of(header, source)
    unit = per_length(header, settings, source)
    A = Projector(volume, beam, noise=noise_of(header), truncated=True)
    where = compute_device(device)
    began, parts, runs = time.perf_counter(), [], []
    blocks = _blocks(header, A)
    for index, part in enumerate(blocks):
        y = measurement_of(read_sinogram(source, part=part)).to(where)
        run = method.reconstruct(A, y, progress=within(progress, index, len(blocks)))
        parts.append(run.estimate.cpu().float())
        runs.append(run)
        if progress is not None:
            progress(index + 1, len(blocks))
    data = torch.cat(parts)[:, 0] if volume.ndim == 2 else parts[0][0, 0]
    data = data if unit is None else hounsfield(data, unit)
    affine = affine_of(volume) if header.affine is None else header.affine.double()
    length = header.unit if header.unit in LENGTHS else "mm"
    scan = Scan(data=data, affine=affine, unit=f"1/{header.unit}" if unit is None else "HU", length=length)
    write_nifti(output, scan, overwrite=overwrite)
    ratios = [r for run in runs if (r := run.residual_ratio) is not None]
    worst = max(runs, key=lambda run: (not run.converged, run.iterations))
    return Reconstructed(
        output=str(output), shape=tuple(data.shape), voxel=scan.spacing, method=settings.method, settings=plain(worst.settings),
        iterations=worst.iterations, converged=worst.converged, reason=worst.reason,
        residual_ratio=max(ratios) if ratios else None, seconds=time.perf_counter() - began,
    )  # fmt: skip


def geometry_of(header: SinogramHeader, path: Path) -> tuple[Volume, Beam | VectorBeam]:
    """The grid and the beam in the file, held against the shape of the projections."""
    try:
        volume, beam = serialise.from_dict({key: header.geometry[key] for key in ("volume", "beam") if key in header.geometry})
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: dataset 'geometry' is no geometry: {error}") from error
    if volume is None:
        raise ValueError(f"{path}: its geometry has no volume; write the file again with one, for the grid to reconstruct on")
    shape = header.shape[1:] if header.axes[0] == "slices" else header.shape
    if tuple(shape) != beam.shape:
        raise ValueError(f"{path}: the projections are {header.axes} {header.shape}, but its geometry measures {beam.shape}")
    return volume, beam


def noise_of(header: SinogramHeader) -> Noise:
    """Of the line integrals, from the photons that the file says were used."""
    if header.flat is None:
        return Noiseless()
    dark = 0.0 if header.dark is None else float(header.dark.mean())
    readout = header.geometry.get("settings", {}).get("readout", 0.0)
    return LogPoisson(float(header.flat.mean()) - dark, readout=float(readout))


def per_length(header: SinogramHeader, settings: Reconstructing, path: Path) -> float | None:
    """The attenuation of water in the unit of the file, or None where no CT numbers are wanted."""
    if settings.unit != "hu":
        return None
    if header.unit not in LENGTHS:
        raise ValueError(
            f"{path}: CT numbers need lengths in {', '.join(LENGTHS)}, got {header.unit!r}; take --unit attenuation"
        )
    stored = header.geometry.get("settings", {}).get("water", WATER)
    return LENGTHS[header.unit] * float(stored if settings.water is None else settings.water)


def _blocks(header: SinogramHeader, A: Projector) -> list[slice]:
    """Ranges along the first axis: of slices that fit into memory together, or all views."""
    count = header.shape[0]
    if header.axes[0] != "slices":
        return [slice(0, count)]
    step = max(1, BLOCK // (math.prod(A.volume.shape) + math.prod(A.beam.shape)))
    return [slice(first, min(first + step, count)) for first in range(0, count, step)]


def measurement_of(sinogram: Sinogram) -> Tensor:
    """(B, 1, views, columns) or (1, 1, views, rows, columns)."""
    return sinogram.data[:, None] if sinogram.header.axes[0] == "slices" else sinogram.data[None, None]


def affine_of(volume: Volume) -> Tensor:
    """From indices (x, y, z) to the world; slices of a picture lie as far apart as its columns, the first at z = 0."""
    affine = torch.eye(4, dtype=torch.float64)
    flat = volume.ndim == 2
    dz, dy, dx = (volume.spacing[-1], *volume.spacing) if flat else volume.spacing
    y = volume.axis(-2)
    affine[:3, :3] = torch.diag(torch.tensor([dx, -dy if volume.flip_y else dy, dz], dtype=torch.float64))
    affine[:3, 3] = torch.stack([volume.axis(-1)[0], y[0], torch.zeros_like(y[0]) if flat else volume.axis(-3)[0]])
    return affine
