"""K-space files of three kinds as one thing: slices to reconstruct, and what a picture of them needs to know.

fastMRI, fastMRI with a trajectory (ours, see ``docs/medical_cli.md``) and ISMRMRD; which it is, the file itself tells.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import torch
from torch import Tensor

from medical.coils import mix_coils, noise_covariance, whitening_matrix
from medical.files import CartesianData, TrajectoryData, fastmri_shape, read_fastmri, read_ismrmrd
from medical.files.hdf5 import check_finite, dataset, reading
from medical.sampling.trajectories import check_trajectory

__all__ = ["AFFINE", "NOISE", "TRAJECTORY", "Acquisition", "Slice", "open_kspace", "spacing_affine"]

TRAJECTORY = "trajectory"  # dataset (interleaves, samples, 2), rad/pixel
AFFINE, NOISE = "affine", "noise_sigma"  # attributes: of the picture, 16 numbers; of the noise in each part of a sample
WHITE = math.sqrt(0.5)  # noise of one part of a whitened sample


@dataclass(frozen=True, eq=False, kw_only=True)
class Slice:
    """One slice's measurement: ``kspace`` (C, H, W) with its ``mask`` (H, W), or (C, K) with its ``trajectory`` (K, 2).

    ``calibration`` holds lines measured for the coil maps alone, (C, H, W); ``reference`` the magnitude image of the file.
    """

    kspace: Tensor
    mask: Tensor | None = None
    trajectory: Tensor | None = None
    calibration: Tensor | None = None
    reference: Tensor | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class Acquisition:
    """A file of k-space.

    Attributes
    ----------
    slices, coils: how many.
    shape: of the images (H, W) that k-space belongs to; cropped: of the middle that is kept.
    affine: of the volume that ``assemble`` gives, float64 (4, 4), mm.
    sigma: noise of real and imaginary part, None where unknown.
    read: slice number to :class:`Slice`.
    assemble: images (S, h, w) to the volume [z, y, x].
    """

    slices: int
    coils: int
    shape: tuple[int, int]
    cropped: tuple[int, int]
    affine: Tensor
    sigma: float | None
    read: Callable[[int], Slice]
    assemble: Callable[[Tensor], Tensor] = lambda images: images


def open_kspace(path: Path, *, only: Mapping[str, int] | None = None) -> Acquisition:
    """The measurement in ``path``. ``only`` selects readouts of an ISMRMRD file, as ``{"contrast": 0}``.

    Raises ``FileNotFoundError``, or ``ValueError`` naming the file where it is damaged or of neither kind.
    """
    with reading(path) as file:
        flat, names = "kspace" in file, list(file)
        groups = [name for name in names if isinstance(file[name], h5py.Group) and {"data", "xml"} <= set(file[name])]
    if flat:
        if only:
            raise ValueError(f"{path} is a fastMRI file; --repetition, --contrast and --slab choose within ISMRMRD files")
        return _fastmri(path)
    if not groups:
        raise ValueError(
            f"{path}: neither a fastMRI file (dataset 'kspace') nor an ISMRMRD one (group 'dataset'); it has {names}"
        )
    found = read_ismrmrd(path, only=only, group=groups[0])
    return _gridded(found, path) if isinstance(found, CartesianData) else _along_trajectory(found, path)


def spacing_affine(spacing: tuple[float, float, float], shape: tuple[int, int, int]) -> Tensor:
    """The affine of a volume [z, y, x] about the origin, of ``spacing`` (dz, dy, dx); its place in the scanner is unknown."""
    steps = torch.tensor(spacing[::-1], dtype=torch.float64)
    affine = torch.diag(torch.cat([steps, torch.ones(1, dtype=torch.float64)]))
    affine[:3, 3] = -steps * (torch.tensor(shape[::-1], dtype=torch.float64) - 1) / 2
    return affine


def _fastmri(path: Path) -> Acquisition:
    S, C, H, W = fastmri_shape(path)
    k, image = _trajectory(path, (H, W)), (H, W)
    first = read_fastmri(path, slices=0)
    header, attributes = first.header, first.attributes
    if k is not None:
        if header is None:
            raise ValueError(f"{path}: k-space along a trajectory needs an ismrmrd_header with the size of the image")
        image = header.encoded.matrix[0], header.encoded.matrix[1]
    cropped, spacing = image, (1.0, 1.0, 1.0)
    if header is not None:
        (fx, fy, _), depth = header.encoded.fov, header.recon.fov[2] / header.recon.matrix[2]
        spacing = (depth or 1.0, fx / image[0] or 1.0, fy / image[1] or 1.0)
        cropped = min(header.recon.matrix[0], image[0]), min(header.recon.matrix[1], image[1])
    if first.reference is not None:
        cropped = min(first.reference.shape[1], image[0]), min(first.reference.shape[2], image[1])

    def read(number: int) -> Slice:
        data = read_fastmri(path, slices=number)
        reference = None if data.reference is None else data.reference[0]
        if k is not None:
            return Slice(kspace=data.kspace[0].flatten(1), trajectory=k, reference=reference)
        measured = (data.kspace[0] != 0).any(0)
        if data.mask is not None:
            measured = measured & data.mask
        return Slice(kspace=data.kspace[0] * measured, mask=measured, reference=reference)

    return Acquisition(
        slices=S, coils=C, shape=image, cropped=cropped, affine=_affine(attributes, spacing, (S, *cropped), path),
        sigma=float(attributes[NOISE]) if NOISE in attributes else None, read=read,
    )  # fmt: skip


def _affine(
    attributes: Mapping[str, object], spacing: tuple[float, float, float], shape: tuple[int, int, int], path: Path
) -> Tensor:
    stored = attributes.get(AFFINE)
    if stored is None:
        return spacing_affine(spacing, shape)
    affine = torch.as_tensor(stored, dtype=torch.float64).flatten()
    if len(affine) != 16:
        raise ValueError(f"{path}: attribute {AFFINE!r} must hold 16 numbers, got {len(affine)}")
    return affine.view(4, 4)


def _trajectory(path: Path, shape: tuple[int, int]) -> Tensor | None:
    """The trajectory (K, 2) of the file, where it has one, for samples of ``shape`` (interleaves, samples)."""
    with reading(path) as file:
        if TRAJECTORY not in file:
            return None
        values = np.asarray(dataset(file, TRAJECTORY, (3,))[()], dtype=np.float64)
    if values.shape != (*shape, 2):
        raise ValueError(f"{path}: dataset 'trajectory' must be {(*shape, 2)}, as the samples in 'kspace', got {values.shape}")
    check_finite(values, f"{path}: dataset 'trajectory'")
    try:
        return check_trajectory(torch.from_numpy(values).flatten(0, 1), 2)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _gridded(data: CartesianData, path: Path) -> Acquisition:
    """A Cartesian ISMRMRD file; in 3D the readout is transformed and its positions become the slices."""
    for axis, name in enumerate(("repetition", "contrast")):
        if data.imaging.kspace.shape[axis] > 1:
            raise ValueError(f"{path} has {name}s {list(data.counters[name])}; choose one by --{name}")
    white = _whitening(data)
    lines = [data.imaging.kspace[0, 0]] + ([] if data.calibration is None else [data.calibration.kspace[0, 0]])
    stacks = [k if white is None else mix_coils(white, k, 1) for k in lines]  # (S, C, [D,] H, W)
    mask = data.imaging.mask[0, 0]
    header = data.header
    (nx, ny, nz), (fx, fy, fz) = header.encoded.matrix, header.encoded.fov
    (rx, ry, rz) = (min(a, b) for a, b in zip(header.recon.matrix, header.encoded.matrix, strict=True))
    sigma, coils = None if white is None else WHITE, stacks[0].shape[1]
    if stacks[0].ndim == 4:
        spacing = (header.recon.fov[2] / header.recon.matrix[2] or 1.0, fy / ny, fx / nx)
        return Acquisition(
            slices=len(mask), coils=coils, shape=(ny, nx), cropped=(ry, rx),
            affine=spacing_affine(spacing, (len(mask), ry, rx)), sigma=sigma, read=_reader(stacks, mask),
        )  # fmt: skip
    if len(mask) > 1:
        raise ValueError(f"{path} has {len(mask)} slabs {list(data.counters['slice'])}; choose one by --slab")
    along = [_middle(_line_ifft(k[0]), rx).permute(3, 0, 1, 2) for k in stacks]  # (X, C, D, H)
    return Acquisition(
        slices=rx, coils=coils, shape=(nz, ny), cropped=(rz, ry),
        affine=spacing_affine((fz / nz, fy / ny, fx / nx), (rz, ry, rx)),
        sigma=sigma, read=_reader(along, mask[0].any(-1).expand(rx, -1, -1)), assemble=lambda images: images.permute(1, 2, 0),
    )  # fmt: skip


def _reader(stacks: list[Tensor], mask: Tensor) -> Callable[[int], Slice]:
    def read(number: int) -> Slice:
        calibration = stacks[1][number] if len(stacks) > 1 else None
        return Slice(kspace=stacks[0][number], mask=mask[number], calibration=calibration)

    return read


def _along_trajectory(data: TrajectoryData, path: Path) -> Acquisition:
    """A non-Cartesian ISMRMRD file, two-dimensional, its trajectory in cycles a pixel."""
    header, k = data.header, data.k
    if k is None or k.shape[-1] < 2 or (k.shape[-1] > 2 and bool((k[..., 2] != k.flatten()[2]).any())):
        raise ValueError(f"{path}: needs a trajectory (kx, ky) in its readouts, got {None if k is None else tuple(k.shape)}")
    if float(k[..., :2].abs().max()) > 0.5 * (1 + 1e-4):
        largest = float(k[..., :2].abs().max())
        raise ValueError(
            f"{path}: the trajectory must be in cycles a pixel, within [-0.5, 0.5], got values up to {largest:.4g}"
        )
    for name in ("repetition", "contrast"):
        values = data.counters[name].unique().tolist()
        if len(values) > 1:
            raise ValueError(f"{path} has {name}s {values}; choose one by --{name}")
    white, numbers = _whitening(data), data.counters["slice"].unique()
    samples = data.data if white is None else mix_coils(white, data.data, 1)
    frequencies = check_trajectory((2 * math.pi * k[..., :2].double().flip(-1)).flatten(0, 1), 2).view(*k.shape[:2], 2)
    (nx, ny, _), (fx, fy, _) = header.encoded.matrix, header.encoded.fov
    cropped = min(header.recon.matrix[1], ny), min(header.recon.matrix[0], nx)

    def read(number: int) -> Slice:
        rows = data.counters["slice"] == numbers[number]
        return Slice(kspace=samples[rows].transpose(0, 1).flatten(1), trajectory=frequencies[rows].flatten(0, 1))

    depth = header.recon.fov[2] / header.recon.matrix[2] or 1.0
    return Acquisition(
        slices=len(numbers), coils=samples.shape[1], shape=(ny, nx), cropped=cropped,
        affine=spacing_affine((depth, fy / ny, fx / nx), (len(numbers), *cropped)),
        sigma=None if white is None else WHITE, read=read,
    )  # fmt: skip


def _whitening(data: CartesianData | TrajectoryData) -> Tensor | None:
    """The matrix that makes the noise of a sample white, of variance one; from the noise scan, for the data's dwell time."""
    if data.noise is None:
        return None
    ratio = (data.noise_dwell_us or data.dwell_us) / data.dwell_us if data.dwell_us else 1.0
    return whitening_matrix(noise_covariance(data.noise) * (ratio or 1.0))


def _line_ifft(kspace: Tensor) -> Tensor:
    """The centred unitary inverse transform of the readout alone."""
    return torch.fft.fftshift(torch.fft.ifft(torch.fft.ifftshift(kspace, dim=-1), norm="ortho"), dim=-1)


def _middle(x: Tensor, count: int) -> Tensor:
    return x.narrow(-1, x.shape[-1] // 2 - count // 2, count)
