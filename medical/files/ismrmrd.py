"""ISMRMRD raw data (Inati et al. 2017): readouts put in their places on a grid, or kept with their trajectories."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medical.files.hdf5 import DEFLATED, dataset, reading, text
from medical.files.header import Header, Limits
from medical.files.readouts import Readouts

if TYPE_CHECKING:
    import h5py

__all__ = ["CartesianData", "Lines", "TrajectoryData", "read_ismrmrd"]

OUTER = ("repetition", "contrast", "slice")

Counters = Mapping[str, NDArray[np.int64]]


@dataclass(frozen=True, eq=False, kw_only=True)
class Lines:
    """Readouts on the encoded grid; zero where nothing was measured, the mean where several were.

    Attributes
    ----------
    kspace: (R, E, S, C, H, W) or in 3D (R, E, S, C, D, H, W), complex64, for repetitions, contrasts (echoes), slices and
        coils; W is the readout with its oversampling, H phase encoding 1, D phase encoding 2. DC lies at index n // 2.
    repeats: how often each sample was measured, int16, the same shape without C.
    """

    kspace: Tensor
    repeats: Tensor

    @property
    def mask(self) -> Tensor:
        """Which samples were measured, bool."""
        return self.repeats > 0


@dataclass(frozen=True, eq=False, kw_only=True)
class CartesianData:
    """A Cartesian measurement.

    Attributes
    ----------
    header: sizes, fields of view and limits from the XML.
    imaging: the lines of the image.
    calibration: the lines flagged as parallel calibration (those of the image as well), or None.
    noise: the noise measurement (C, samples), complex64, or None.
    counters: the numbers that the axes R, E and S stand for, as ``{"slice": (0, 1, 2), ...}``.
    dwell_us, noise_dwell_us: time of a sample in microseconds; the standard deviation of noise goes with its root's inverse.
    """

    header: Header
    imaging: Lines
    calibration: Lines | None
    noise: Tensor | None
    counters: Mapping[str, tuple[int, ...]]
    dwell_us: float
    noise_dwell_us: float | None


@dataclass(frozen=True, eq=False, kw_only=True)
class TrajectoryData:
    """A non-Cartesian measurement: A readouts of N samples, in the order of the file.

    Attributes
    ----------
    header, noise, dwell_us, noise_dwell_us: as of :class:`CartesianData`.
    data: (A, C, N), complex64.
    k: the trajectory (A, N, dimensions) as stored, float32, components (kx, ky[, kz]), or None where the file has none.
    counters: (A,) int64 for every encoding counter, as ``counters["slice"]``.
    """

    header: Header
    data: Tensor
    k: Tensor | None
    noise: Tensor | None
    counters: Mapping[str, Tensor]
    dwell_us: float
    noise_dwell_us: float | None


def read_ismrmrd(
    path: str | Path, *, only: Mapping[str, int] | None = None, encoding: int = 0, group: str = "dataset"
) -> CartesianData | TrajectoryData:
    """The measurement in the ISMRMRD file ``path``.

    Readouts are read a few hundred at a time, so that a selection needs the memory of the selection. Left out are
    navigators, phase correction, feedback, dummy and stabilisation readouts, and those of other encodings.

    Parameters
    ----------
    only: keep readouts with these counters, as ``{"slice": 3, "phase": 0}``. Cardiac phases and sets have no axis on the
        grid: where there are several, one must be chosen.
    encoding: number of the encoding in the XML header.
    group: HDF5 group of the measurement.

    Raises ``FileNotFoundError`` where there is no file, and ``ValueError`` naming the file where it is truncated, is not
    ISMRMRD, or has readouts that do not fit its header.
    """
    with reading(path) as file:
        found = _group(file, group)
        xml = text(np.ravel(dataset(found, "xml", (0, 1))[()])[0])
        header = Header.parse(xml, source=str(path), encoding=encoding)
        readouts = Readouts(dataset(found, "data", (1,)), only=only or {}, encoding=encoding)
        noise = readouts.noise()
        shared: dict[str, Any] = {
            "header": header,
            "noise": None if noise is None else torch.from_numpy(noise),
            "dwell_us": readouts.dwell(readouts.imaging),
            "noise_dwell_us": None if noise is None else readouts.dwell(readouts.noise_scan),
        }
        if header.trajectory == "cartesian" or (header.trajectory == "epi" and not readouts.has_trajectory):
            return _cartesian(readouts, header, shared)
        data, k = readouts.stacked()
        return TrajectoryData(
            data=torch.from_numpy(data),
            k=None if k is None else torch.from_numpy(k),
            counters={name: torch.from_numpy(values) for name, values in readouts.counters(readouts.imaging).items()},
            **shared,
        )


def _group(file: h5py.File, group: str) -> h5py.Group:
    if group not in file:
        raise ValueError(f"{file.filename}: has no group {group!r}, only {sorted(map(text, file))}; name one with group=")
    return file[group]


def _cartesian(readouts: Readouts, header: Header, shared: dict[str, Any]) -> CartesianData:
    counters = readouts.counters(readouts.imaging)
    for name in ("phase", "set"):
        values = np.unique(counters[name]).tolist()
        if len(values) > 1:
            raise ValueError(f"{readouts.path}: {name} has the values {values}; choose one, as only={{{name!r}: {values[0]}}}")
    axes = {name: np.unique(counters[name]) for name in OUTER}
    calibrating = readouts.calibration[_listed(readouts.counters(readouts.calibration), axes)]
    steps = readouts.counters(np.union1d(readouts.imaging, calibrating))
    _, ny, nz = header.encoded.matrix
    first = (
        _first(readouts.path, "kspace_encode_step_2", steps, header.step_2, nz),
        _first(readouts.path, "kspace_encode_step_1", steps, header.step_1, ny),
    )
    return CartesianData(
        imaging=_gridded(readouts, readouts.imaging, axes, header.encoded.matrix, first),
        calibration=_gridded(readouts, calibrating, axes, header.encoded.matrix, first) if len(calibrating) else None,
        counters={name: tuple(values.tolist()) for name, values in axes.items()},
        **shared,
    )


def _listed(counters: Counters, axes: Counters) -> NDArray[np.bool_]:
    return np.logical_and.reduce([np.isin(counters[name], values) for name, values in axes.items()])


def _first(path: str, name: str, counters: Counters, limits: Limits | None, size: int) -> int:
    """The step at the edge of an axis of ``size``: the step of the centre lies at size // 2.

    Without limits, or with a centre of 0 that would put lines outside (which says that it was not filled in), it is 0.
    """
    low, high = int(counters[name].min()), int(counters[name].max())
    first = 0 if limits is None else limits.centre - size // 2
    if limits is not None and limits.centre == 0 and high - first >= size:
        first = 0
    if low < first or high - first >= size:
        centre = "none" if limits is None else limits.centre
        raise ValueError(
            f"{path}: {name} goes from {low} to {high} with centre {centre}, which does not fit into the encoded matrix of "
            f"{size}; correct the XML header"
        )
    return first


def _gridded(
    readouts: Readouts, chosen: NDArray[np.int64], axes: Counters, matrix: tuple[int, int, int], first: tuple[int, int]
) -> Lines:
    """Every readout added where it belongs, divided by how often that was."""
    (nx, ny, nz), counters = matrix, readouts.counters(chosen)
    sizes = tuple(len(values) for values in axes.values())
    claimed, held = 8 * math.prod(sizes) * readouts.coils * nz * ny * nx, Path(readouts.path).stat().st_size
    if claimed > held * DEFLATED:  # before memory is taken
        raise ValueError(f"{readouts.path}: the encoded matrix of {matrix} takes {claimed} bytes, the file has {held}")
    kspace = np.zeros((*sizes, readouts.coils, nz, ny, nx), np.complex64)
    repeats = np.zeros((*sizes, nz, ny, nx), np.int16)
    outer = [np.searchsorted(values, counters[name]) for name, values in axes.items()]
    z, y = (counters[f"kspace_encode_step_{n}"] - edge for n, edge in zip((2, 1), first, strict=True))
    for i, (columns, samples) in enumerate(readouts.lines(chosen, nx)):
        r, e, s = (place[i] for place in outer)
        kspace[r, e, s, :, z[i], y[i]][:, columns] += samples
        repeats[r, e, s, z[i], y[i]][columns] += 1
    if (repeats > 1).any():
        kspace /= np.maximum(repeats, 1)[:, :, :, None]
    if nz == 1:
        kspace, repeats = kspace[..., 0, :, :], repeats[..., 0, :, :]
    return Lines(kspace=torch.from_numpy(kspace), repeats=torch.from_numpy(repeats))
