"""MR volumes to reconstruct: from k-space of several coils, or simulated from a picture that such coils would see."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from inverse.operators.base import LinearOperator
from inverse.operators.noise import Gaussian
from medical.classical import ZeroFilled
from medical.files import Scan, write_nifti
from medical.files.orientation import canonical
from medical.files.volumes import read_volume
from medical.intensity import peak
from medical.operators import NUFFT, Sense
from medical.operators.per_slice import SliceOperators
from medical.sampling import voronoi_density
from posterior.kspace import Acquisition, Slice, open_kspace
from posterior.mri import Reconstructing, compressed, corner_noise, operator_of
from posterior.mri_simulation import Simulating, simulate
from posterior.projections import sliced
from posterior.volume_inputs import Measured, magnitude

__all__ = ["Coils", "measured_mri", "simulated_mri"]


@dataclass(frozen=True, kw_only=True)
class Coils:
    """How coil maps are estimated.

    Attributes
    ----------
    compressed: virtual coils to reconstruct from; None keeps all.
    only: readouts to take from an ISMRMRD file, as ``{"contrast": 0}``.
    """

    compressed: int | None = None
    only: Mapping[str, int] = field(default_factory=dict)


def measured_mri(path: Path, coils: Coils, slices: str = "") -> Measured:
    """The k-space in ``path`` (fastMRI or ISMRMRD), every slice with coil maps of its own, by ESPIRiT.

    Images are in units of the brightness of the zero-filled volume (:func:`medical.intensity.peak`). The truth is the
    reference in the file, where it has one. Raises ``ValueError`` or ``OSError`` for files that are missing or damaged, and
    k-space that allows no coil maps.
    """
    acquired = open_kspace(path, only=coils.only)
    numbers = _numbers(acquired, slices, path)
    stack = [acquired.read(n) for n in numbers]
    operators, data, zero_filled = [], [], []
    for number, measured in zip(numbers, stack, strict=True):
        try:
            A, y = _encoding(measured, acquired, coils)
        except ValueError as error:
            raise ValueError(f"{path}, slice {number}: {error}") from error
        operators.append(A)
        data.append(y)
        zero_filled.append(_zero_filled(A, y))
    y = torch.cat(data)
    if not bool(y.abs().any()):
        raise ValueError(f"{path}: k-space is zero everywhere; there is nothing to reconstruct from")
    first = torch.cat(zero_filled)
    white = peak(magnitude(first))
    sigma = _sigma(acquired, stack)
    A = SliceOperators(operators, noise=Gaussian(sigma / white) if sigma else None)
    seen = torch.stack([_support(a, acquired.shape) for a in operators])
    affine = acquired.affine.clone()
    if slices:
        affine[:3, 3] += numbers.start * affine[:3, 2]

    def place(values: Tensor) -> Scan:
        return Scan(data=acquired.assemble(_cropped(values * seen, acquired)).contiguous(), affine=affine)

    return Measured(
        A=A, y=y / white, modality="MR", black=0.0, white=white, place=place, truth=_truth(stack, acquired, affine),
        baseline=("Zero-filled", lambda: first / white),
        facts={"coils": acquired.coils, "measured": float((y != 0).double().mean()), "noise": sigma},
    )  # fmt: skip


def simulated_mri(path: Path, settings: Simulating, coils: Coils, slices: str = "") -> Measured:
    """The volume in ``path`` (NIfTI, or a folder of DICOM slices) as coils around it would measure it.

    The truth is the volume itself, what is below zero raised to it. It is measured in axial slices, ``slices``
    ("FIRST:LAST") of them counted from the feet.
    """
    scan, undo = canonical(read_volume(path))
    scan = sliced(scan, slices, path)
    data = scan.data.clamp(min=0)
    if not bool(data.any()):
        raise ValueError(f"{path}: no voxel is above zero; there is nothing to measure")
    with tempfile.TemporaryDirectory() as folder:
        picture, kspace = Path(folder) / "picture.nii", Path(folder) / "kspace.h5"
        write_nifti(picture, Scan(data=data, affine=scan.affine, length=scan.length))
        simulate(picture, kspace, settings)
        try:
            found = measured_mri(kspace, coils)
        except ValueError as error:
            raise ValueError(str(error).replace(str(kspace), str(path))) from error
    like = None if path.name.lower().endswith((".nii", ".nii.gz")) else path

    def place(values: Tensor) -> Scan:
        return undo(Scan(data=found.place(values).data, affine=scan.affine, length=scan.length))

    facts = {"acceleration": settings.acceleration, "mask": settings.mask, "calibration": settings.acs, **found.facts}
    truth = undo(Scan(data=data, affine=scan.affine, length=scan.length))
    return replace(found, place=place, truth=truth, like=like, facts=facts)


def _numbers(acquired: Acquisition, slices: str, path: Path) -> range:
    empty = Scan(data=torch.zeros(acquired.slices, 1, 1), affine=torch.eye(4, dtype=torch.float64))
    kept = sliced(empty, slices, path)
    first = int(kept.affine[2, 3])
    return range(first, first + len(kept.data))


def _encoding(data: Slice, acquired: Acquisition, coils: Coils) -> tuple[LinearOperator, Tensor]:
    """The operator of one slice and its measurement (1, C, ...); an empty slice, which has no maps, is known to be zero."""
    if not bool(data.kspace.any()):
        count = coils.compressed or len(data.kspace)
        maps = torch.full((count, *acquired.shape), 1 / math.sqrt(count), dtype=torch.complex64)
        y = data.kspace.new_zeros(1, count, *data.kspace.shape[1:])
        if data.trajectory is not None:
            return NUFFT(data.trajectory, acquired.shape, maps=maps), y
        return Sense(maps), y
    kspace, calibration = compressed(data, coils.compressed)
    density = None if data.trajectory is None else voronoi_density(data.trajectory, acquired.shape)
    return operator_of(kspace, calibration, data, acquired, Reconstructing(), density), kspace[None]


def _zero_filled(A: LinearOperator, y: Tensor) -> Tensor:
    density = voronoi_density(A.trajectory, A.domain[1:]) if isinstance(A, NUFFT) and A.domain is not None else None
    return ZeroFilled(weights=density).reconstruct(A, y).estimate


def _sigma(acquired: Acquisition, stack: list[Slice]) -> float | None:
    """Noise of real and imaginary part: what the file knows, or what the corners of all slices tell together."""
    if acquired.sigma is not None:
        return acquired.sigma
    found = [s for data in stack if data.kspace.any() and (s := corner_noise(data)) is not None]
    return math.sqrt(sum(s * s for s in found) / len(found)) if found else None


def _support(A: LinearOperator, shape: tuple[int, int]) -> Tensor:
    """Where any coil sees anything, (H, W): elsewhere nothing but the prior has painted."""
    maps = getattr(A, "maps", None)
    return torch.ones(shape, dtype=torch.bool) if maps is None else (maps != 0).flatten(0, -3).any(0)


def _cropped(values: Tensor, acquired: Acquisition) -> Tensor:
    for axis, count in zip((-2, -1), acquired.cropped, strict=True):
        values = values.narrow(axis, values.shape[axis] // 2 - count // 2, count)
    return values


def _truth(stack: list[Slice], acquired: Acquisition, affine: Tensor) -> Scan | None:
    known = [data.reference for data in stack if data.reference is not None]
    if len(known) < len(stack) or tuple(known[0].shape) != tuple(acquired.cropped):
        return None
    return Scan(data=acquired.assemble(torch.stack(known)).float().contiguous(), affine=affine)
