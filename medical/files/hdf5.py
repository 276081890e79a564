"""HDF5 files read with one clear line for everything that can be wrong with them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medical.files.damage import damage

if TYPE_CHECKING:
    import h5py

__all__ = ["check_finite", "dataset", "reading", "software", "text"]


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
    what = "truncated or damaged HDF5 file; copy or write it again"
    with damage(path, what, OSError, RuntimeError, KeyError), h5py.File(path, "r") as file:
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
    return found


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
