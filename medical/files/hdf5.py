"""HDF5 files read with one clear line for everything that can be wrong with them."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medical.files.damage import damage
from medical.files.hdf5_lengths import check_lengths
from medical.files.hdf5_types import check_types

if TYPE_CHECKING:
    import h5py

__all__ = ["DEFLATED", "check_finite", "dataset", "reading", "software", "text"]

DAMAGED = "truncated or damaged HDF5 file; copy or write it again"
DEFLATED = 1032  # bytes that deflate makes of one, at most
BOUNDED = {1, 2, 3, 32000}  # HDF5's filters that stay within it: deflate, shuffle, checksum, LZF


@contextmanager
def reading(path: str | Path) -> Iterator[h5py.File]:
    """The HDF5 file ``path``, open for reading in this block, which does nothing else.

    Raises ``FileNotFoundError`` where there is no file, and ``ValueError`` naming the file where it is not HDF5, or is
    truncated or damaged, be it found out on opening or while reading.
    """
    import h5py

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such file")
    if not h5py.is_hdf5(path):
        raise ValueError(f"{path}: not an HDF5 file")
    with damage(path, DAMAGED, OSError, RuntimeError, KeyError, MemoryError), h5py.File(path, "r") as file:
        _check_claims(file)
        yield file


def dataset(group: h5py.Group, name: str, ranks: tuple[int, ...]) -> h5py.Dataset:
    """The dataset ``name`` of ``group``. Raises ``ValueError`` where it is missing, empty or of another rank."""
    import h5py

    found, path = group.get(name), group.file.filename
    if not isinstance(found, h5py.Dataset):
        raise ValueError(f"{path}: has no dataset {name!r}, only {sorted(map(text, group))}")
    if found.shape is None or found.ndim not in ranks:
        allowed = " or ".join(map(str, ranks))
        raise ValueError(f"{path}: dataset {name!r} must have {allowed} axes, got shape {found.shape}")
    if 0 in found.shape:
        raise ValueError(f"{path}: dataset {name!r} is empty, shape {found.shape}")
    _check_claims(found)
    return found


def _check_claims(found: h5py.Group | h5py.Dataset) -> None:
    """What a damaged file may claim, before the library acts on it."""
    import h5py

    with damage(Path(found.file.filename), DAMAGED, LookupError, TypeError, struct.error):
        check_types(found)
        _check_attributes(found)
        check_lengths(found)
        if isinstance(found, h5py.Dataset):
            _check_storage(found)


def _check_storage(found: h5py.Dataset) -> None:
    """Before memory is taken: a damaged shape or type may claim any size, and what was never written would read as zeros."""
    import h5py

    layout = found.id.get_create_plist()
    if layout.get_layout() == h5py.h5d.VIRTUAL or layout.get_external_count():
        return  # lies in other files
    filters = {layout.get_filter(n)[0] for n in range(layout.get_nfilters())}
    if filters - BOUNDED:
        return
    held, size = found.id.get_storage_size(), Path(found.file.filename).stat().st_size
    claimed = math.prod(found.shape) * found.dtype.itemsize
    if held > size or claimed > held * (DEFLATED if filters else 1):
        raise ValueError(
            f"{found.file.filename}: truncated or damaged HDF5 file, dataset {found.name!r} of shape {found.shape} takes "
            f"{claimed} bytes and has {held} in a file of {size}; copy or write it again"
        )


def _check_attributes(found: h5py.Group | h5py.Dataset) -> None:
    size = Path(found.file.filename).stat().st_size
    for name in found.attrs:
        attribute = found.attrs.get_id(name)
        claimed = math.prod(attribute.shape or ()) * attribute.dtype.itemsize
        if claimed > size:
            raise ValueError(
                f"{found.file.filename}: damaged HDF5 file, attribute {name!r} takes {claimed} bytes; copy it again"
            )


def check_finite(values: NDArray[Any], what: str) -> None:
    """Raise ``ValueError`` that begins with ``what`` if a value is NaN or infinite."""
    finite = np.isfinite(values)
    if not finite.all():
        raise ValueError(f"{what} has {finite.size - int(finite.sum())} values that are NaN or infinite; replace them first")


def text(value: Any) -> str:
    """A string that HDF5 gave as ``str`` or as bytes."""
    return value.decode("utf-8", errors="replace") if isinstance(value, bytes) else str(value)


def software() -> str:
    """Name and version of this package, as written into files."""
    try:
        return f"posterior {version('posterior')}"
    except PackageNotFoundError:
        return "posterior (not installed)"
