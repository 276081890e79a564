"""What a scanner would have measured: an image seen by several coils, or k-space of one, sampled in part and made noisy."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import h5py
import torch
from torch import Tensor

from medical.coils import root_sum_of_squares
from medical.coils.simulation import simulated_maps
from medical.files import Header, KSpace, Space, fastmri_shape, read_fastmri, read_nifti, write_fastmri
from medical.files.atomic import written_whole
from medical.files.scan import LENGTHS
from medical.operators import NUFFT, centred_fft, centred_ifft
from medical.sampling import equispaced, gaussian, poisson_disc, radial, spiral, uniform, variable_density
from posterior.kspace import AFFINE, NOISE, TRAJECTORY
from posterior.outputs import check_output

__all__ = ["MASKS", "TRAJECTORIES", "Simulated", "Simulating", "simulate"]

COILS = 8
TURNS = 4  # of an interleaf of a spiral
PICTURES = (".nii", ".nii.gz")

Shape = tuple[int, int]

MASKS: dict[str, Callable[[Shape, float, int, int], Tensor]] = {
    "equispaced": lambda shape, acceleration, acs, seed: equispaced(shape, acceleration, acs=acs),
    "uniform": lambda shape, acceleration, acs, seed: uniform(shape, acceleration, acs=acs, seed=seed),
    "gaussian": lambda shape, acceleration, acs, seed: gaussian(shape, acceleration, acs=acs, seed=seed),
    "variable-density": lambda shape, acceleration, acs, seed: variable_density(shape, acceleration, acs=acs, seed=seed),
    "poisson": lambda shape, acceleration, acs, seed: poisson_disc(shape, acceleration, acs=acs, seed=seed),
}
"""Masks by shape, acceleration, calibration lines and seed; the last two choose points, the others columns."""


def _radial(shape: Shape, acceleration: float, acs: int) -> Tensor:
    """Fully sampled by pi / 2 N spokes, each read out at twice the rate; the centre always is, whatever ``acs``."""
    n = max(shape)
    spokes = max(1, round(math.pi / 2 * n / acceleration))
    return radial(spokes, 2 * n).view(spokes, 2 * n, 2)


def _spiral(shape: Shape, acceleration: float, acs: int) -> Tensor:
    """Fully sampled by N / 2 turns in all, four an interleaf; some of the interleaves stay in the centre and fill it.

    From sample to sample it is one step of the grid at most.
    """
    n = max(shape)
    total, central = max(1, round(n / 2 / TURNS / acceleration)), math.ceil(acs / 2 / TURNS)
    if central >= total:
        raise ValueError(
            f"acs must leave some of the {total} interleaves that acceleration {acceleration:g} measures, got {acs}, which "
            f"takes {central}; take a smaller acs or acceleration"
        )
    samples = math.ceil(math.pi * TURNS * n)
    parts = [spiral(total - central, samples, turns=TURNS)]
    if central:
        parts.append(spiral(central, samples, turns=TURNS, radius=math.pi * min(1.0, acs / n)))
    return torch.cat(parts).view(total, samples, 2)


TRAJECTORIES: dict[str, Callable[[Shape, float, int], Tensor]] = {"radial": _radial, "spiral": _spiral}
"""Trajectories (interleaves, samples, 2) by the shape of the image, the acceleration and the calibration lines."""


@dataclass(frozen=True, kw_only=True)
class Simulating:
    """How to measure.

    Attributes
    ----------
    coils: to simulate around a picture, 8 where None; k-space has its own.
    acceleration: samples of a full measurement over those taken.
    mask: a name of :data:`MASKS` or :data:`TRAJECTORIES`.
    acs: calibration lines, or points a side, in the centre.
    noise: standard deviation of real and imaginary part of a sample, as a share of the brightest pixel.
    seed: of mask and noise.
    """

    coils: int | None = None
    acceleration: float = 4.0
    mask: str = "equispaced"
    acs: int = 24
    noise: float = 0.0
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Simulated:
    """What was written: ``shape`` (slices, coils, H, W) or (slices, coils, interleaves, samples), and the share measured."""

    output: str
    shape: tuple[int, ...]
    measured: float
    noise_sigma: float


@dataclass(frozen=True, eq=False, kw_only=True)
class _Source:
    """Fully sampled k-space: slice by slice (C, H, W), with the reference (S, h, w), and what the file is to say of it."""

    slices: int
    shape: Shape
    kspace: Callable[[], Iterator[Tensor]]
    reference: Tensor
    header: Header
    attributes: dict[str, object]
    noise: float | None  # of real and imaginary part, as far as it is known; of a picture's k-space it is 0


def simulate(
    source: Path,
    output: Path,
    settings: Simulating,
    *,
    overwrite: bool = False,
    progress: Callable[[float, float], None] | None = None,
) -> Simulated:
    """Measure the NIfTI volume or the fully sampled fastMRI file ``source``, into the fastMRI file ``output``.

    Slices are those of the first axis. Radial and spiral measurements have a dataset ``trajectory`` beside ``kspace``.
    Raises ``ValueError`` or ``OSError`` for files that are missing or damaged, and settings that do not fit them.
    """
    check_output(output, (".h5", ".hdf5"), overwrite=overwrite)
    found = (_picture if source.name.lower().endswith(PICTURES) else _measured)(source, settings)
    sample, mask, trajectory, share = _sampling(found, settings)
    generator = torch.Generator().manual_seed(settings.seed)
    sigma = settings.noise * float(found.reference.max())
    slices = []
    for number, full in enumerate(found.kspace()):
        y = sample(full)
        noise = torch.randn(y.shape, dtype=y.dtype, generator=generator) * (sigma * math.sqrt(2))
        taken = 1 if mask is None else y != 0 if found.noise is None else mask  # a scanner's zeros may be padding
        slices.append(y + noise * taken)
        if progress is not None:
            progress(number + 1, found.slices)
    kspace = torch.stack(slices)
    header = found.header if trajectory is None else _off_grid(found, settings.mask)
    known = {**found.attributes, "simulation": json.dumps(asdict(settings) | {"source": source.name})}
    if found.noise is not None and (total := math.hypot(found.noise, sigma)):
        known[NOISE] = total
    data = KSpace(
        kspace=kspace, mask=mask, reference=found.reference, header=header, maximum=float(found.reference.max()),
        norm=float(found.reference.norm()), attributes=known,
    )  # fmt: skip
    _write(output, data, trajectory, overwrite=overwrite)
    return Simulated(output=str(output), shape=tuple(kspace.shape), measured=share, noise_sigma=sigma)


def _write(path: Path, data: KSpace, trajectory: Tensor | None, *, overwrite: bool) -> None:
    with written_whole(path, overwrite=overwrite) as temporary:
        write_fastmri(temporary, data)
        if trajectory is not None:
            with h5py.File(temporary, "r+") as file:
                file[TRAJECTORY] = trajectory.numpy()


def _sampling(found: _Source, settings: Simulating) -> tuple[Callable[[Tensor], Tensor], Tensor | None, Tensor | None, float]:
    """How a slice is sampled, the mask or the trajectory of the file, and the samples taken over those of a full grid."""
    if settings.mask in TRAJECTORIES:
        trajectory = TRAJECTORIES[settings.mask](found.shape, settings.acceleration, settings.acs)
        A = NUFFT(trajectory.flatten(0, 1), found.shape)
        sides = trajectory.shape[:2]
        share = math.prod(sides) / math.prod(found.shape)
        return (lambda full: A(centred_ifft(full)[:, None])[:, 0].unflatten(-1, sides)), None, trajectory, share
    if settings.mask not in MASKS:
        raise ValueError(f"--mask must be one of {', '.join((*MASKS, *TRAJECTORIES))}, got {settings.mask!r}")
    mask = MASKS[settings.mask](found.shape, settings.acceleration, settings.acs, settings.seed)
    return (lambda full: full * mask), mask[0] if len(mask) == 1 else mask, None, float(mask.double().mean())


def _picture(path: Path, settings: Simulating) -> _Source:
    """A NIfTI volume seen by simulated coils, whose sum of squares is the picture itself."""
    scan = read_nifti(path)
    S, H, W = scan.data.shape
    maps = simulated_maps((H, W), settings.coils or COILS)[0]
    dz, dy, dx = scan.spacing
    space = Space(matrix=(H, W, 1), fov=(H * dy, W * dx, dz))
    millimetres = torch.diag(torch.tensor([LENGTHS[scan.length]] * 3 + [1.0], dtype=torch.float64)) @ scan.affine
    return _Source(
        slices=S, shape=(H, W), kspace=lambda: (centred_fft(maps * image) for image in scan.data), reference=scan.data.abs(),
        header=Header(encoded=space, recon=space, coils=len(maps)), attributes={AFFINE: millimetres.flatten().tolist()},
        noise=0.0,
    )  # fmt: skip


def _measured(path: Path, settings: Simulating) -> _Source:
    """Fully sampled k-space of a fastMRI file, with its reference or else the root sum of squares."""
    if settings.coils is not None:
        raise ValueError(f"--coils is for pictures: {path} is taken for k-space, which has its own coils")
    S, C, H, W = fastmri_shape(path)
    data = read_fastmri(path)
    if data.mask is not None and not bool(data.mask.all()):
        raise ValueError(
            f"{path}: k-space must be fully sampled, but its mask leaves out {int((~data.mask).sum())} lines or points"
        )
    reference = data.reference
    if reference is None:
        reference = torch.stack([root_sum_of_squares(centred_ifft(k), 0) for k in data.kspace])
    space = Space(matrix=(H, W, 1), fov=(float(H), float(W), 1.0))
    header = data.header or Header(encoded=space, recon=space, coils=C)
    known = {name: value for name, value in data.attributes.items() if name not in (NOISE, "simulation")}
    return _Source(
        slices=S, shape=(H, W), kspace=lambda: iter(data.kspace), reference=reference, header=header, attributes=dict(known),
        noise=float(data.attributes[NOISE]) if NOISE in data.attributes else None,
    )  # fmt: skip


def _off_grid(found: _Source, trajectory: str) -> Header:
    """The header with the kind of trajectory, and the size of the image as its encoded matrix."""
    encoded = replace(found.header.encoded, matrix=(*found.shape, 1))
    return replace(found.header, encoded=encoded, trajectory=trajectory, xml="")
