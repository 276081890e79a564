"""From a CT scan to what a scanner would have measured: NIfTI in, projections with their geometry out."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from medical.files import Scan, SinogramHeader, SinogramWriter, read_nifti, sinogram_writer
from medical.files.scan import LENGTHS
from medical.geometry import Volume, serialise
from medical.operators import Projector
from medical.transmission import WATER, Transmission, attenuation
from posterior.commands.options import Device
from posterior.outputs import check_output, compute_device

__all__ = ["BLOCK", "Projected", "Projecting", "grid_of", "project", "sliced"]

BLOCK = 2**24  # numbers of image and measurement worked on at a time
AIR = -1000.0  # HU
SUFFIXES = (".h5", ".hdf5")


@dataclass(frozen=True, kw_only=True)
class Projecting:
    """How to project.

    Attributes
    ----------
    unit: of the scan: "hu", "attenuation" (1/mm), or "auto", what the file says and HU where it says nothing.
    counts: photons of a ray that meets nothing; None leaves out the noise.
    readout: standard deviation of the electronic noise, in counts.
    model: of the rays, as of :class:`medical.operators.Projector`.
    slices: "FIRST:LAST" of the scan, LAST left out; empty for all.
    truncated: allow a detector that does not see the whole object.
    water: attenuation of water, 1/mm.
    seed: of the noise.
    """

    unit: str = "auto"
    counts: float | None = None
    readout: float = 0.0
    model: str = "joseph"
    slices: str = ""
    truncated: bool = False
    water: float = WATER
    seed: int = 0

    def __post_init__(self) -> None:
        if self.readout and self.counts is None:
            raise ValueError("--readout is noise in counts: give their number by --counts")


@dataclass(frozen=True, kw_only=True)
class Projected:
    """What was written: ``shape`` and ``axes`` of the projections, their largest value, and what had to be clipped.

    ``air`` counts voxels below -1000 HU, taken as vacuum; ``starved`` readings of less than one photon, raised to it.
    """

    output: str
    axes: tuple[str, ...]
    shape: tuple[int, ...]
    grid: tuple[int, ...]
    voxel: tuple[float, ...]
    maximum: float
    air: int
    starved: int


def project(
    scan: Path, geometry: Path, output: Path, settings: Projecting, *, device: Device = Device.auto, overwrite: bool = False,
    progress: Callable[[float, float], None] | None = None,
) -> Projected:  # fmt: skip
    """Project the NIfTI file ``scan`` along the rays of the YAML file ``geometry`` into the HDF5 file ``output``.

    A line of columns takes the scan slice by slice, a detector with rows the volume. Row 0 of a slice is at the top. The
    affine of the scan travels along untouched (in mm), that of its first slice where ``slices`` are chosen.

    Raises ``ValueError`` or ``OSError`` for files that are missing or damaged, and where scan and geometry do not fit.
    """
    check_output(output, SUFFIXES, overwrite=overwrite)
    chosen, beam = serialise.read(geometry)
    found = sliced(read_nifti(scan), settings.slices, scan)
    flat = len(beam.shape) == 2
    volume = grid_of(chosen, found, flat=flat, names=(scan, geometry))
    mu, air = _attenuation(found, settings, scan)
    A = Projector(volume, beam, model=settings.model, truncated=settings.truncated)
    where = compute_device(device)
    described = serialise.to_dict(volume, beam) | {"settings": asdict(settings) | {"scan": scan.name}}
    header = SinogramHeader(
        shape=(len(mu), *beam.shape) if flat else beam.shape,
        axes=("slices", "views", "columns") if flat else ("views", "rows", "columns"),
        geometry=described,
        affine=_millimetres(found),
        flat=None if settings.counts is None else torch.full((beam.shape[-1],), float(settings.counts)),
    )
    with sinogram_writer(output, header, overwrite=overwrite) as writer:
        maximum, starved = _write(writer, A, mu.to(where), settings, progress)
    return Projected(
        output=str(output), axes=header.axes, shape=header.shape, grid=tuple(mu.shape), voxel=volume.spacing,
        maximum=maximum, air=air, starved=starved,
    )  # fmt: skip


def _write(
    writer: SinogramWriter, A: Projector, mu: Tensor, settings: Projecting, progress: Callable[[float, float], None] | None
) -> tuple[float, int]:
    """Projects in blocks; the largest value, and how many readings had less than a photon."""
    beam = None if settings.counts is None else Transmission(settings.counts, readout=settings.readout)
    generator = torch.Generator().manual_seed(settings.seed)
    batch = mu[:, None] if A.volume.ndim == 2 else mu[None, None]
    step = max(1, BLOCK // (math.prod(A.domain or ()) + math.prod(A.beam.shape)))
    maximum, starved = 0.0, 0
    for first in range(0, len(batch), step):
        p = A(batch[first : first + step]).cpu()
        counts = None
        if beam is not None:
            counts = torch.stack([beam.noise.sample(beam.expected(q), generator) for q in p])
            p, low = beam.line_integrals(counts)
            starved += low
        maximum = max(maximum, float(p.max()))
        block = (p[:, 0], None if counts is None else counts[:, 0])
        writer.append(*(block if A.volume.ndim == 2 else (t if t is None else t[0] for t in block)))
        if progress is not None:
            progress(min(first + step, len(batch)), len(batch))
    return maximum, starved


def sliced(scan: Scan, slices: str, path: Path) -> Scan:
    """The ``slices`` of the scan, with the affine moved to the first of them."""
    if not slices:
        return scan
    found = re.fullmatch(r"(\d*):(\d*)", slices)
    if found is None:
        raise ValueError(f"--slices must be FIRST:LAST, whole numbers of which either may be left out, got {slices!r}")
    first, last = (int(text) if text else None for text in found.groups())
    kept = range(len(scan.data))[first:last]
    if not kept:
        raise ValueError(f"--slices {slices} holds none of the {len(scan.data)} slices of {path}")
    affine = scan.affine.clone()
    affine[:3, 3] += kept.start * affine[:3, 2]
    return Scan(data=scan.data[kept.start : kept.stop], affine=affine, unit=scan.unit, length=scan.length)


def grid_of(chosen: Volume | None, scan: Scan, *, flat: bool, names: tuple[Path, Path]) -> Volume:
    """The volume of the geometry, which has to be the scan's, or else that of the scan; row 0 of a slice at the top."""
    shape, spacing = tuple(scan.data.shape), scan.spacing
    own = Volume(shape[-2:], spacing[-2:]) if flat else Volume(shape, spacing, flip_y=True)
    if chosen is None:
        return own
    if chosen.shape != own.shape:
        what = "slices of" if flat else "volume"
        raise ValueError(
            f"{names[1]}: volume.shape is {chosen.shape}, but {names[0]} has {what} {own.shape}; "
            f"leave volume out to take the scan's own grid"
        )
    if any(abs(a - b) > 1e-3 * b for a, b in zip(chosen.spacing, own.spacing, strict=True)):
        raise ValueError(
            f"{names[1]}: volume.voxel is {_short(chosen.spacing)}, but {names[0]} has voxels of {_short(own.spacing)} mm; "
            f"leave volume out to take the scan's own grid"
        )
    return chosen


def _attenuation(scan: Scan, settings: Projecting, path: Path) -> tuple[Tensor, int]:
    """Attenuation in 1/mm, (D, H, W), and how many voxels were below that of vacuum and raised to it."""
    says = {"HU": "hu", "1/mm": "attenuation"}.get(scan.unit, "")
    unit = (says or "hu") if settings.unit == "auto" else settings.unit
    if says and unit != says:
        raise ValueError(f"{path} says that its values are {scan.unit}; leave out --unit {unit}")
    if unit == "attenuation":
        if bool((scan.data < 0).any()):
            raise ValueError(f"{path}: attenuation must not be negative, got {float(scan.data.min()):g}; is it --unit hu?")
        return scan.data, 0
    below = int((scan.data < AIR).sum())
    return attenuation(scan.data.clamp(min=AIR), settings.water), below


def _millimetres(scan: Scan) -> Tensor:
    factor = LENGTHS[scan.length]
    return scan.affine if factor == 1 else torch.diag(torch.tensor([factor] * 3 + [1.0], dtype=torch.float64)) @ scan.affine


def _short(lengths: tuple[float, ...]) -> str:
    return " x ".join(f"{h:.6g}" for h in lengths)
