"""Projections of a CT scanner in HDF5, with their geometry: the layout ``posterior sinogram``, version 1."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from medical.files.atomic import written_whole
from medical.files.hdf5 import check_finite, dataset, reading, software, text

if TYPE_CHECKING:
    import h5py

__all__ = ["AXES", "Sinogram", "SinogramHeader", "SinogramWriter", "read_sinogram", "sinogram_writer", "write_sinogram"]

FORMAT, VERSION = "posterior sinogram", 1
AXES = (("views", "columns"), ("slices", "views", "columns"), ("views", "rows", "columns"))
QUANTITY, QUANTITY_UNIT = "line integral", "1"  # attenuation times length
CHUNK = 2**18  # float32 values


@dataclass(frozen=True, eq=False, kw_only=True)
class SinogramHeader:
    """Everything in the file but the projections.

    Attributes
    ----------
    shape, axes: of the projections: (views, columns), (slices, views, columns) or (views, rows, columns).
    geometry: dictionary of text, numbers, lists and dictionaries, returned as it was written (tuples become lists).
    unit: of length, in the geometry and, to the power of -1, in attenuation; ``"mm"``.
    affine: (4, 4), float64, of the volume to be reconstructed, for its NIfTI file; or None.
    flat, dark: counts without object and without beam, float32, the last axis the columns; or None.
    software: what wrote the file; set on reading.
    """

    shape: tuple[int, ...]
    axes: tuple[str, ...]
    geometry: Mapping[str, Any]
    unit: str = "mm"
    affine: Tensor | None = None
    flat: Tensor | None = None
    dark: Tensor | None = None
    software: str = ""

    def __post_init__(self) -> None:
        if tuple(self.axes) not in AXES:
            raise ValueError(f"axes must be one of {', '.join(map(str, AXES))}, got {self.axes}")
        if len(self.shape) != len(self.axes) or min(self.shape) < 1:
            raise ValueError(f"shape must have a positive number for each of {self.axes}, got {self.shape}")
        if self.affine is not None and (tuple(self.affine.shape) != (4, 4) or not self.affine.isfinite().all()):
            raise ValueError(f"affine must be finite (4, 4), got {tuple(self.affine.shape)}: {self.affine.tolist()}")
        for name, counts in (("flat", self.flat), ("dark", self.dark)):
            if counts is not None and (counts.ndim not in (1, 2, 3) or counts.shape[-1] != self.shape[-1]):
                raise ValueError(f"{name} must end in {self.shape[-1]} columns, with 1 to 3 axes, got {tuple(counts.shape)}")
        if not isinstance(self.geometry, Mapping):
            raise TypeError(f"geometry must be a dictionary, got {type(self.geometry).__name__}; geometries have to_dict()")


@dataclass(frozen=True, eq=False, kw_only=True)
class Sinogram:
    """Line integrals, of unit 1, and where they were measured.

    Attributes
    ----------
    header: the geometry and the rest; its shape is that of the whole file.
    data: projections, float32, of the header's axes; along the first it may be a part.
    counts: the photons or detector readings they were computed from, of the same shape; or None.
    """

    header: SinogramHeader
    data: Tensor
    counts: Tensor | None = None

    def __post_init__(self) -> None:
        for name, values in (("data", self.data), ("counts", self.counts)):
            if values is not None and (values.ndim != len(self.header.shape) or values.shape[1:] != self.header.shape[1:]):
                raise ValueError(f"{name} must be {self.header.axes} {self.header.shape}, got {tuple(values.shape)}")


class SinogramWriter:
    """Appends blocks of projections to an open file; see :func:`sinogram_writer`."""

    def __init__(self, file: h5py.File, shape: tuple[int, ...]) -> None:
        self._file, self._shape = file, shape
        self.written = 0

    def append(self, block: Tensor, counts: Tensor | None = None) -> None:
        """The next ``block`` along the first axis, and its ``counts``: for all blocks or for none."""
        if block.ndim != len(self._shape) or block.shape[1:] != self._shape[1:]:
            raise ValueError(f"block must be (n, {', '.join(map(str, self._shape[1:]))}), got {tuple(block.shape)}")
        end = self.written + len(block)
        if end > self._shape[0]:
            raise ValueError(f"block goes to {end} along the first axis, the file ends at {self._shape[0]}")
        if counts is not None and counts.shape != block.shape:
            raise ValueError(f"counts must have the shape of the block, {tuple(block.shape)}, got {tuple(counts.shape)}")
        if self.written and (counts is None) is ("counts" in self._file):
            raise ValueError("counts must come with every block or with none")
        for name, values in (("sinogram", block), ("counts", counts)):
            if values is not None:
                self._write(name, values)
        self.written = end

    def _write(self, name: str, values: Tensor) -> None:
        array = values.detach().cpu().to(torch.float32).numpy()
        check_finite(array, name)
        if name not in self._file:
            rows = max(1, CHUNK // int(np.prod(self._shape[1:])))
            chunks = (min(rows, self._shape[0]), *self._shape[1:])
            self._file.create_dataset(name, self._shape, np.float32, chunks=chunks)
        self._file[name][self.written : self.written + len(array)] = array


@contextmanager
def sinogram_writer(path: str | Path, header: SinogramHeader, *, overwrite: bool = False) -> Iterator[SinogramWriter]:
    """Write a sinogram block by block, as blocks come; the file is there once all have come and the block has ended well.

    Raises ``TypeError`` or ``ValueError`` for a geometry that is not plain data, ``ValueError`` for blocks that do not fit,
    are not finite or do not reach the end, and ``FileExistsError`` without ``overwrite`` for a file that is there.
    """
    import h5py

    try:
        geometry = json.dumps(dict(header.geometry), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise type(error)(f"geometry must be text, finite numbers, lists and dictionaries ({error})") from error
    with written_whole(path, overwrite=overwrite) as temporary, h5py.File(temporary, "w") as file:
        file.attrs.update({"format": FORMAT, "version": VERSION, "software": software(), "unit": header.unit})
        file["geometry"] = geometry  # a dataset: an attribute ends at 64 KiB
        if header.affine is not None:
            file["affine"] = header.affine.cpu().numpy().astype(np.float64)
        for name, counts in (("flat", header.flat), ("dark", header.dark)):
            if counts is not None:
                values = counts.detach().cpu().numpy().astype(np.float32)
                check_finite(values, name)
                file[name] = values
        writer = SinogramWriter(file, header.shape)
        yield writer
        if writer.written != header.shape[0]:
            raise ValueError(f"{path}: {writer.written} of {header.shape[0]} {header.axes[0]} were written; append the rest")
        named = {"quantity": QUANTITY, "quantity_unit": QUANTITY_UNIT, "axes": ",".join(header.axes)}
        file["sinogram"].attrs.update(named)


def write_sinogram(path: str | Path, sinogram: Sinogram, *, overwrite: bool = False) -> Path:
    """Write ``sinogram``, completely or not at all. Returns the path. Raises what :func:`sinogram_writer` raises."""
    with sinogram_writer(path, sinogram.header, overwrite=overwrite) as writer:
        writer.append(sinogram.data, sinogram.counts)
    return Path(path)


def read_sinogram(path: str | Path, *, part: slice | None = None) -> Sinogram:
    """The sinogram in ``path``; with ``part``, that range along its first axis alone is read.

    Raises ``FileNotFoundError`` where there is no file, and ``ValueError`` naming the file where it is truncated, is not of
    this layout or of a later version, lacks a dataset, has the wrong rank, or holds NaN or infinite values.
    """
    with reading(path) as file:
        header = _header(file)
        chosen = range(header.shape[0])[part or slice(None)]
        if not chosen or chosen.step != 1:
            raise ValueError(f"{path}: part must be a range within 0 to {header.shape[0]} in steps of 1, got {part}")
        data = _floats(file, "sinogram", (len(header.shape),), slice(chosen.start, chosen.stop))
        counts = None
        if "counts" in file:
            if file["counts"].shape != header.shape:
                raise ValueError(f"{path}: dataset 'counts' must be {header.shape}, got {file['counts'].shape}")
            counts = _floats(file, "counts", (len(header.shape),), slice(chosen.start, chosen.stop))
    return Sinogram(header=header, data=data, counts=counts)


def _header(file: h5py.File) -> SinogramHeader:
    path = file.filename
    if text(file.attrs.get("format", "")) != FORMAT:
        raise ValueError(f"{path}: attribute 'format' must be {FORMAT!r}, got {file.attrs.get('format')!r}")
    if (version := file.attrs.get("version")) != VERSION:
        raise ValueError(f"{path}: version must be {VERSION}, got {version}; a later one needs a newer package")
    stored = dataset(file, "sinogram", (2, 3))
    if (quantity := text(stored.attrs.get("quantity", ""))) != QUANTITY:
        raise ValueError(f"{path}: dataset 'sinogram' must hold the quantity {QUANTITY!r}, got {quantity!r}")
    try:
        geometry = json.loads(text(dataset(file, "geometry", (0,))[()]))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: dataset 'geometry' is not JSON ({error})") from error
    optional = {
        name: _floats(file, name, ranks) if name in file else None
        for name, ranks in (("flat", (1, 2, 3)), ("dark", (1, 2, 3)), ("affine", (2,)))
    }
    try:
        return SinogramHeader(
            shape=tuple(stored.shape),
            axes=tuple(text(stored.attrs.get("axes", "")).split(",")),
            geometry=geometry,
            unit=text(file.attrs.get("unit", "mm")),
            software=text(file.attrs.get("software", "")),
            **optional,
        )
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error


def _floats(file: h5py.File, name: str, ranks: tuple[int, ...], part: slice | tuple[()] = ()) -> Tensor:
    """A dataset of real numbers, float64 for the affine and float32 otherwise."""
    stored = dataset(file, name, ranks)
    if stored.dtype.kind not in "iuf":
        raise ValueError(f"{file.filename}: dataset {name!r} must be real numbers, got {stored.dtype}")
    values = stored[part].astype(np.float64 if name == "affine" else np.float32)
    check_finite(values, f"{file.filename}: dataset {name!r}")
    return torch.from_numpy(values)
