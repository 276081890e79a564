"""From k-space to a volume: coils compressed and mapped, every slice reconstructed by a method of the table, NIfTI out."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from inverse import metrics
from inverse.operators.base import LinearOperator
from inverse.operators.noise import Gaussian
from medical.classical import Classical, ZeroFilled
from medical.coils import compress, espirit, low_resolution_maps
from medical.files import Scan, write_nifti
from medical.files.atomic import written_whole
from medical.operators import NUFFT, Sense, centred_fft
from medical.sampling import voronoi_density
from posterior.commands.options import Device
from posterior.kspace import Acquisition, Slice, open_kspace
from posterior.methods import MRI, Method, make, plain, within
from posterior.outputs import check_output, compute_device

__all__ = ["Reconstructed", "Reconstructing", "compressed", "operator_of", "reconstruct"]

SUFFIXES = (".nii", ".nii.gz")
LINES = 24  # of calibration at most, where k-space was gridded for it
TOLERANCE = 0.1  # of the weights of a trajectory
SUPPORT = 0.05  # of the brightest pixel, below which low-resolution maps are zero
MAPS = ("espirit", "lowres")
WINDOW = 11  # pixels that SSIM needs
CORNER, FAR = 100, 1.2  # samples that tell the noise, and how far out; the middle of an edge is 1


@dataclass(frozen=True, kw_only=True)
class Reconstructing:
    """How to reconstruct.

    Attributes
    ----------
    method: a name of :data:`posterior.methods.MRI`.
    given: settings of the method, None where it has its own. Slices are scaled to a maximum of about 1 for it.
    maps: "espirit" or "lowres"; sets: how many maps a coil.
    coils: virtual coils to compress to, None keeps all.
    only: readouts to take from an ISMRMRD file, as ``{"contrast": 0}``.
    """

    method: str = "sense"
    given: Mapping[str, Any] = field(default_factory=dict)
    maps: str = "espirit"
    sets: int = 1
    coils: int | None = None
    only: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Reconstructed:
    """What was written, and slice by slice how long it took and how close it came to the reference of the file.

    ``psnr`` in dB (infinite for an empty slice) and ``ssim`` are None where there is no reference; that of fastMRI is the root
    sum of squares of all coils, fully sampled, noise included. ``coils`` are those in the file and those reconstructed from.
    """

    output: str
    shape: tuple[int, ...]
    voxel: tuple[float, ...]
    method: str
    settings: dict[str, Any]
    coils: tuple[int, int]
    seconds: tuple[float, ...]
    iterations: tuple[int, ...]
    reasons: tuple[str, ...]
    psnr: tuple[float, ...] | None = None
    ssim: tuple[float, ...] | None = None


def reconstruct(
    source: Path, output: Path, settings: Reconstructing, *, complex_output: Path | None = None, device: Device = Device.auto,
    overwrite: bool = False, progress: Callable[[float, float], None] | None = None,
) -> Reconstructed:  # fmt: skip
    """Reconstruct the k-space file ``source`` into the NIfTI file ``output``: magnitudes, of all sets of maps together.

    ``complex_output`` (.npz) takes the complex images, ``image`` (slices, sets, h, w). Raises ``ValueError`` or ``OSError``
    for files that are missing or damaged, settings the method does not take, and k-space that allows no coil maps.
    """
    check_output(output, SUFFIXES, overwrite=overwrite)
    if complex_output is not None:
        check_output(complex_output, (".npz",), overwrite=overwrite)
    method = _method(settings)
    acquired = open_kspace(source, only=settings.only)
    where = compute_device(device)
    images, references, runs, ended = [], [], [], [time.perf_counter()]
    for number in range(acquired.slices):
        data = acquired.read(number)
        try:
            image, run = _slice(data, acquired, method, settings, where, within(progress, number, acquired.slices))
        except ValueError as error:
            raise ValueError(f"{source}, slice {number}: {error}") from error
        images.append(image)
        runs.append(run)
        references.append(data.reference)
        ended.append(time.perf_counter())
        if progress is not None:
            progress(number + 1, acquired.slices)
    x = torch.stack(images)  # (S, M, h, w)
    magnitude = torch.linalg.vector_norm(x, dim=1).float()
    volume = acquired.assemble(magnitude).contiguous()
    if complex_output is not None:
        _write_complex(complex_output, x, overwrite=overwrite)
    scan = Scan(data=volume, affine=acquired.affine)
    write_nifti(output, scan, overwrite=overwrite)
    psnr, ssim = _closeness(magnitude, references)
    solved = [run for run in runs if run is not None]
    return Reconstructed(
        output=str(output), shape=tuple(volume.shape), voxel=scan.spacing, method=settings.method,
        settings=plain(solved[-1].settings if solved else settings.given),
        coils=(acquired.coils, settings.coils or acquired.coils),
        seconds=tuple(b - a for a, b in pairwise(ended)),
        psnr=psnr, ssim=ssim,
        iterations=tuple(0 if run is None else run.iterations for run in runs),
        reasons=tuple(run.reason for run in solved if not run.converged),
    )  # fmt: skip


def _write_complex(path: Path, x: Tensor, *, overwrite: bool) -> None:
    with written_whole(path, overwrite=overwrite) as temporary:
        np.savez(temporary, image=x.numpy())


def _method(settings: Reconstructing) -> Method:
    """The method, once the settings about coils are known to go together."""
    if settings.maps not in MAPS:
        raise ValueError(f"--maps must be one of {', '.join(MAPS)}, got {settings.maps!r}")
    if settings.maps == "lowres" and settings.sets != 1:
        raise ValueError(f"--sets {settings.sets} needs --maps espirit; low-resolution maps are one set")
    return make(MRI, settings.method, settings.given)


def _slice(
    data: Slice, acquired: Acquisition, method: Method, settings: Reconstructing, device: torch.device,
    progress: Callable[[int, int], None] | None,
) -> tuple[Tensor, Classical | None]:  # fmt: skip
    """The complex image (M, h, w) and how the method fared; the image is scaled to a maximum of about 1 in between.

    A slice of zeros alone, as volumes often end in, is an image of zeros, and no method had to do with it.
    """
    if not bool(data.kspace.any()):
        sets = 1 if 1 in (acquired.coils, settings.coils) else settings.sets
        return data.kspace.new_zeros(sets, *acquired.cropped), None
    kspace, calibration = compressed(data, settings.coils)
    density = None if data.trajectory is None else voronoi_density(data.trajectory, acquired.shape).to(device)
    kspace = kspace.to(device)
    A = operator_of(kspace, calibration, data, acquired, settings, density)
    y = kspace[None]
    first = A.adjoint(y if density is None else y * density.to(y.real.dtype))
    scale = float(first.abs().max()) or 1.0
    sigma = acquired.sigma if acquired.sigma is not None else corner_noise(data)
    if sigma:
        A = A.with_noise(Gaussian(sigma / scale))
    if isinstance(method, ZeroFilled):
        method = replace(method, weights=density)
    run = method.reconstruct(A, y / scale, progress=progress)
    image = scale * run.estimate[0].cpu()
    if isinstance(A, (Sense, NUFFT)) and A.maps is not None:
        image = image * (A.maps != 0).any(1).cpu()  # where no coil sees anything, the penalty alone has painted
    for axis, count in zip((-2, -1), acquired.cropped, strict=True):
        image = image.narrow(axis, image.shape[axis] // 2 - count // 2, count)
    return image, run


def corner_noise(data: Slice) -> float | None:
    """Standard deviation of real and imaginary part, from the samples in the corners of k-space: nearly all noise.

    ``E |n|^2 = 2 sigma^2``, and half of the values lie below ``2 sigma^2 log 2``, which signal in a few does not change.
    None along a trajectory, and where fewer than ``CORNER`` samples were measured there.
    """
    if data.mask is None:
        return None
    v, u = (2 * torch.arange(n, dtype=torch.float64) / n - 1 for n in data.mask.shape)
    corner = data.mask & (torch.hypot(v[:, None], u) > FAR)
    if int(corner.sum()) < CORNER:
        return None
    medians = data.kspace[:, corner].abs().square().median(-1).values
    return float((medians.mean() / (2 * math.log(2))).sqrt())


def compressed(data: Slice, coils: int | None) -> tuple[Tensor, Tensor | None]:
    """K-space and calibration lines in so many virtual coils."""
    if coils is None or coils == len(data.kspace):
        return data.kspace, data.calibration
    if coils > len(data.kspace):
        raise ValueError(f"--coils-compress must be at most the {len(data.kspace)} coils of the file, got {coils}")
    squeeze = compress(data.kspace, coils)
    calibration = None if data.calibration is None else squeeze(data.calibration, 0)
    return squeeze(data.kspace, 0), calibration


def operator_of(
    kspace: Tensor,
    calibration: Tensor | None,
    data: Slice,
    acquired: Acquisition,
    settings: Reconstructing,
    density: Tensor | None,
) -> LinearOperator:
    """What takes the image of this slice to its k-space; a single coil needs no maps."""
    shape, device = acquired.shape, kspace.device
    if data.trajectory is not None and density is not None:
        if len(kspace) == 1:
            return NUFFT(data.trajectory, shape)
        images = NUFFT(data.trajectory, shape).adjoint(kspace[:, None] * density.to(kspace.real.dtype))[:, 0]
        return NUFFT(
            data.trajectory, shape, maps=_maps(centred_fft(images), settings, dense_lines(data.trajectory, density, shape))
        )
    mask = None if data.mask is None else data.mask.to(device)
    if len(kspace) == 1:
        return Sense.single(shape, mask).to(device)
    source = kspace if calibration is None else calibration.to(device)
    return Sense(_maps(source, settings, None), mask)


def dense_lines(trajectory: Tensor, density: Tensor, shape: tuple[int, int]) -> int:
    """Side of the square in the centre of k-space within which every sample stands for one of a full grid at most."""
    radius = trajectory.norm(dim=1)
    sparse = radius[density.cpu() > 1 + TOLERANCE]
    edge = float(sparse.min()) if len(sparse) else math.pi
    return max(1, min(LINES, int(edge / math.pi * min(shape) / math.sqrt(2))))


def _maps(kspace: Tensor, settings: Reconstructing, lines: int | None) -> Tensor:
    """Coil maps (M, C, H, W) from so many central lines, None for all that are fully sampled."""
    if settings.maps == "lowres":
        return low_resolution_maps(kspace, lines=lines, support=SUPPORT)
    return espirit(kspace, calibration=lines, maps=settings.sets).maps


def _closeness(images: Tensor, references: list[Tensor | None]) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None]:
    """PSNR and SSIM of every slice, for the largest value of the reference volume."""
    known = [reference for reference in references if reference is not None]
    if len(known) < len(images) or known[0].shape != images.shape[1:]:
        return None, None
    truth = torch.stack(known)
    peak = float(truth.max())
    if not peak > 0:
        return None, None
    psnr = metrics.psnr(images[:, None], truth[:, None], data_range=peak)
    ssim = metrics.ssim(images[:, None], truth[:, None], data_range=peak) if min(images.shape[1:]) >= WINDOW else None
    return tuple(psnr.tolist()), None if ssim is None else tuple(ssim.tolist())
