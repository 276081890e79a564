"""Multi-coil and single-coil k-space in the HDF5 layout of fastMRI (Zbontar et al. 2018)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from medical.files.atomic import written_whole
from medical.files.hdf5 import check_finite, dataset, reading, software, text
from medical.files.header import Header

if TYPE_CHECKING:
    import h5py

__all__ = ["KSpace", "fastmri_shape", "read_fastmri", "write_fastmri"]

KNOWN = ("acquisition", "max", "norm", "patient_id")
SOFTWARE = "software"
REFERENCES = ("reconstruction_rss", "reconstruction_esc")


@dataclass(frozen=True, eq=False, kw_only=True)
class KSpace:
    """Cartesian k-space of S slices and what the file says of it; DC lies at index n // 2 of both axes.

    Attributes
    ----------
    kspace: (S, C, H, W), complex64; H is the readout, W the phase encoding, C is 1 for a single coil.
    mask: which samples were taken, bool (W,) for whole columns or (H, W), or None where the file has none.
    reference: magnitude image (S, h, w), float32: root sum of squares, or for a single coil the emulated one; or None.
    header: sizes and fields of view, or None.
    acquisition, patient_id: as in the file, empty where it has none.
    maximum, norm: largest value and Euclidean norm of the whole reference volume, or None.
    attributes: other attributes of the file: text, numbers or lists of numbers.
    """

    kspace: Tensor
    mask: Tensor | None = None
    reference: Tensor | None = None
    header: Header | None = None
    acquisition: str = ""
    patient_id: str = ""
    maximum: float | None = None
    norm: float | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.kspace.ndim != 4 or 0 in self.kspace.shape or self.kspace.dtype != torch.complex64:
            raise ValueError(f"kspace must be complex64 (S, C, H, W), got {self.kspace.dtype} {tuple(self.kspace.shape)}")
        S, _, H, W = self.kspace.shape
        if self.mask is not None and (self.mask.dtype != torch.bool or tuple(self.mask.shape) not in ((W,), (H, W))):
            raise ValueError(f"mask must be bool ({W},) or ({H}, {W}), got {self.mask.dtype} {tuple(self.mask.shape)}")
        if self.reference is not None and (self.reference.ndim != 3 or len(self.reference) != S):
            raise ValueError(f"reference must be ({S}, h, w), got {tuple(self.reference.shape)}")
        taken = {*KNOWN, SOFTWARE} & set(self.attributes)
        if taken:
            raise ValueError(f"attributes must not be named {sorted(taken)}; these have places of their own")


def fastmri_shape(path: str | Path) -> tuple[int, int, int, int]:
    """(S, C, H, W) of the k-space in ``path``, without reading it: for going through a volume slice by slice."""
    with reading(path) as file:
        shape = _kspace(file).shape
    S, C, H, W = shape if len(shape) == 4 else (shape[0], 1, *shape[1:])
    return S, C, H, W


def read_fastmri(path: str | Path, *, slices: int | slice | Sequence[int] | None = None) -> KSpace:
    """The slices with the numbers ``slices``, all by default, of the fastMRI file ``path``; nothing else is read.

    Raises ``FileNotFoundError`` where there is no file, ``IndexError`` for a slice that is not there, and ``ValueError``
    naming the file where it is truncated, lacks k-space, or holds another rank or type, NaN or infinite values.
    """
    with reading(path) as file:
        stored = _kspace(file)
        chosen = _numbers(slices, len(stored))
        kspace = np.empty((len(chosen), *stored.shape[1:]), np.complex64)
        for place, number in enumerate(chosen):
            kspace[place] = stored[number]
        check_finite(kspace, f"{path}: dataset 'kspace'")
        known, others = _attributes(file)
        names = REFERENCES if stored.ndim == 4 else REFERENCES[::-1]
        name = next((name for name in names if name in file), None)
        reference = None if name is None else _reference(file, name, chosen, len(stored))
        mask = np.array(dataset(file, "mask", (1, 2))[()]) != 0 if "mask" in file else None
        xml = text(dataset(file, "ismrmrd_header", (0,))[()]) if "ismrmrd_header" in file else ""
    try:
        return KSpace(
            kspace=torch.from_numpy(kspace if kspace.ndim == 4 else kspace[:, None]),
            mask=None if mask is None else torch.from_numpy(mask),
            reference=reference,
            header=Header.parse(xml, source="attribute ismrmrd_header") if xml else None,
            **known,
            attributes=others,
        )
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def write_fastmri(path: str | Path, data: KSpace, *, overwrite: bool = False) -> Path:
    """Write ``data`` in the same layout, completely or not at all; one coil becomes a single-coil file. Returns the path.

    Raises ``ValueError`` for NaN or infinite values, and ``FileExistsError`` without ``overwrite`` for a file that is there.
    """
    import h5py

    kspace = data.kspace.detach().cpu().numpy()
    check_finite(kspace, "kspace")
    single = kspace.shape[1] == 1
    kspace = kspace[:, 0] if single else kspace
    values = {"acquisition": data.acquisition, "patient_id": data.patient_id, "max": data.maximum, "norm": data.norm}
    with written_whole(path, overwrite=overwrite) as temporary, h5py.File(temporary, "w") as file:
        file.create_dataset("kspace", data=kspace, chunks=(1, *kspace.shape[1:]))
        if data.mask is not None:
            file["mask"] = data.mask.cpu().numpy().astype(np.uint8)
        if data.reference is not None:
            file[REFERENCES[single]] = data.reference.detach().cpu().numpy().astype(np.float32)
        if data.header is not None:
            file["ismrmrd_header"] = data.header.to_xml()
        for name, value in {**values, **data.attributes, SOFTWARE: software()}.items():
            if value is not None and not (isinstance(value, str) and not value):
                file.attrs[name] = value
    return Path(path)


def _kspace(file: h5py.File) -> h5py.Dataset:
    stored = dataset(file, "kspace", (3, 4))
    if stored.dtype.kind != "c":
        raise ValueError(f"{file.filename}: dataset 'kspace' must be complex, got {stored.dtype}")
    return stored


def _numbers(slices: int | slice | Sequence[int] | None, count: int) -> list[int]:
    if slices is None:
        return list(range(count))
    if isinstance(slices, slice):
        numbers = list(range(count))[slices]
    else:
        numbers = [slices] if isinstance(slices, int) else [int(number) for number in slices]
    if not numbers or not all(-count <= number < count for number in numbers):
        raise IndexError(f"slices must name some of the {count} slices, 0 to {count - 1}, got {slices}")
    return [number % count for number in numbers]


def _reference(file: h5py.File, name: str, chosen: list[int], count: int) -> Tensor:
    stored = dataset(file, name, (3,))
    if len(stored) != count:
        raise ValueError(f"{file.filename}: dataset {name!r} has {len(stored)} slices, 'kspace' has {count}")
    values = np.stack([stored[number] for number in chosen]).astype(np.float32)  # small beside the k-space
    check_finite(values, f"{file.filename}: dataset {name!r}")
    return torch.from_numpy(values)


def _attributes(file: h5py.File) -> tuple[dict[str, Any], dict[str, Any]]:
    """The attributes with places of their own, and the others."""
    plain = {name: _plain(value) for name, value in file.attrs.items()}
    known = {name: str(plain.get(name, "")) for name in ("acquisition", "patient_id")}
    numbers = {place: plain.get(name) for place, name in (("maximum", "max"), ("norm", "norm"))}
    others = {name: value for name, value in plain.items() if name not in (*KNOWN, SOFTWARE)}
    return {**known, **numbers}, others


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return text(value)
    return value.tolist() if isinstance(value, np.generic | np.ndarray) else value
