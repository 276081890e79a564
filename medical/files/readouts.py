"""The table of readouts in an ISMRMRD file: which are which, and their samples, a block at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from medical.files.hdf5 import check_finite

if TYPE_CHECKING:
    import h5py

__all__ = ["COUNTERS", "Readouts"]

COUNTERS = (
    "kspace_encode_step_1",
    "kspace_encode_step_2",
    "average",
    "slice",
    "contrast",
    "phase",
    "repetition",
    "set",
    "segment",
)
NOISE, CALIBRATION, CALIBRATION_AND_IMAGING, REVERSED = 19, 20, 21, 22
NOT_IMAGES = (23, 24, 26, 27, 28, 29, 30, 31)  # navigation, phase correction, feedback, dummies, surface coils, stabilisation
BLOCK = 256  # readouts

Indices = NDArray[np.int64]


class Readouts:
    """The readouts of one measurement, told apart by their flags; indices count the rows of the table.

    Parameters
    ----------
    table: dataset of rows (head, traj, data).
    only: counters that readouts must have, but for noise.
    encoding: number of the encoding that readouts must belong to, but for noise.
    """

    def __init__(self, table: h5py.Dataset, *, only: Mapping[str, int], encoding: int) -> None:
        self.path = str(table.file.filename)
        self._table = table
        if table.dtype.names is None or not {"head", "traj", "data"} <= set(table.dtype.names):
            raise ValueError(f"{self.path}: the table of readouts must have the columns head, traj and data, got {table.dtype}")
        self._head = table.fields("head")[()]
        unknown = set(only) - set(COUNTERS)
        if unknown:
            raise ValueError(f"{self.path}: only must name counters of {', '.join(COUNTERS)}, got {sorted(unknown)}")
        wanted = self._head["encoding_space_ref"] == encoding
        for name, value in only.items():
            wanted &= self._head["idx"][name] == value
        noise, calibrating = self._flagged(NOISE), self._flagged(CALIBRATION) | self._flagged(CALIBRATION_AND_IMAGING)
        wanted &= ~np.logical_or.reduce([noise, *(self._flagged(flag) for flag in NOT_IMAGES)])
        apart = self._flagged(CALIBRATION) & ~self._flagged(CALIBRATION_AND_IMAGING)
        self.noise_scan: Indices = np.flatnonzero(noise)
        self.calibration: Indices = np.flatnonzero(wanted & calibrating)
        self.imaging: Indices = np.flatnonzero(wanted & ~apart)
        if not len(self.imaging):
            chosen = f" with {dict(only)}" if only else ""
            raise ValueError(f"{self.path}: has no imaging readouts of encoding {encoding}{chosen} among its {len(noise)}")
        self.coils = self._same("active_channels", np.concatenate([self.imaging, self.calibration]))

    @property
    def has_trajectory(self) -> bool:
        """Whether the imaging readouts come with their places in k-space."""
        return bool((self._head["trajectory_dimensions"][self.imaging] > 0).any())

    def counters(self, chosen: Indices) -> dict[str, Indices]:
        """Every encoding counter of the ``chosen`` readouts."""
        return {name: self._head["idx"][name][chosen].astype(np.int64) for name in COUNTERS}

    def dwell(self, chosen: Indices) -> float:
        """Time of a sample in microseconds, of the first of the ``chosen``."""
        return float(self._head["sample_time_us"][chosen[0]])

    def noise(self) -> NDArray[np.complex64] | None:
        """All noise readouts one after the other, (C, samples), or None."""
        if not len(self.noise_scan):
            return None
        self._same("active_channels", np.concatenate([self.noise_scan, self.imaging[:1]]))
        return np.concatenate([samples for _, samples, _ in self._samples(self.noise_scan)], axis=1)

    def stacked(self) -> tuple[NDArray[np.complex64], NDArray[np.float32] | None]:
        """The imaging readouts (A, C, N) and their trajectory (A, N, dimensions), without the samples to be discarded."""
        number, before, after, dimensions = (
            self._same(name, self.imaging)
            for name in ("number_of_samples", "discard_pre", "discard_post", "trajectory_dimensions")
        )
        kept = slice(before, number - after)
        data = np.empty((len(self.imaging), self.coils, len(range(number)[kept])), np.complex64)
        k = np.empty((len(data), data.shape[2], dimensions), np.float32)
        for place, (row, samples, trajectory) in enumerate(self._samples(self.imaging)):
            data[place] = samples[:, kept]
            if len(trajectory) != number * dimensions:
                raise ValueError(f"{self.path}: readout {row} has {len(trajectory)} trajectory numbers for {number} samples")
            k[place] = trajectory.reshape(number, dimensions)[kept]
        check_finite(k, f"{self.path}: the trajectory")
        return data, k if dimensions else None

    def lines(self, chosen: Indices, size: int) -> Iterator[tuple[Indices, NDArray[np.complex64]]]:
        """For each of the ``chosen``: columns of a grid of ``size`` and samples (C, n), the centre sample at size // 2.

        A reversed readout runs the other way. k = size / 2 is the same frequency of the grid as -size / 2.
        """
        for row, samples, _ in self._samples(chosen):
            head, number = self._head[row], samples.shape[1]
            centre, after = int(head["center_sample"]), number - int(head["discard_post"])
            if centre == 0 and number == size:
                centre = number // 2  # not filled in: such a readout cannot start in the centre
            kept = np.arange(int(head["discard_pre"]), after)
            columns = (kept - centre) * (-1 if self._is(row, REVERSED) else 1) + size // 2
            if size % 2 == 0 and columns.max(initial=0) == size and columns.min() > 0:
                columns %= size
            if not len(kept) or columns.min() < 0 or columns.max() >= size:
                raise ValueError(
                    f"{self.path}: readout {row} of {number} samples with centre sample {centre} does not fit into the encoded "
                    f"matrix of {size}; correct the XML header"
                )
            yield columns, samples[:, kept]

    def _samples(self, chosen: Indices) -> Iterator[tuple[int, NDArray[np.complex64], NDArray[np.float32]]]:
        """(row, samples (C, N), trajectory) of the ``chosen`` rows, which are in order."""
        for start in range(0, len(self._head), BLOCK):
            rows = chosen[(chosen >= start) & (chosen < start + BLOCK)]
            if not len(rows):
                continue
            block = self._table[int(rows[0]) : int(rows[-1]) + 1]
            for row in rows.tolist():
                head, _, numbers = (block[row - int(rows[0])][name] for name in ("head", "traj", "data"))
                coils, number = int(head["active_channels"]), int(head["number_of_samples"])
                if len(numbers) != 2 * coils * number:
                    raise ValueError(
                        f"{self.path}: readout {row} has {len(numbers)} numbers for {coils} coils x {number} complex samples"
                    )
                check_finite(numbers, f"{self.path}: readout {row}")
                yield row, numbers.view(np.complex64).reshape(coils, number), block[row - int(rows[0])]["traj"]

    def _same(self, name: str, chosen: Indices) -> int:
        values = np.unique(self._head[name][chosen])
        if len(values) != 1:
            raise ValueError(f"{self.path}: {name} must be the same for all readouts, got {values.tolist()}")
        return int(values[0])

    def _flagged(self, flag: int) -> NDArray[np.bool_]:
        return (self._head["flags"] >> np.uint64(flag - 1)) & np.uint64(1) == 1  # flags count from 1

    def _is(self, row: int, flag: int) -> bool:
        return bool(int(self._head["flags"][row]) >> (flag - 1) & 1)
