"""Types of HDF5 values, checked before the HDF5 library converts them: damaged ones make it crash or go on for ever."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import h5py

__all__ = ["check_types"]


def check_types(found: h5py.Group | h5py.Dataset) -> None:
    """Raise ``ValueError`` naming the file for numbers in ``found`` and its attributes that are none of NumPy's.

    Integers and floating-point numbers must have one of the usual layouts of bits, and lists of variable length hold items
    of more than a byte: others are damaged texts.
    """
    import h5py

    kinds = [("an attribute", found.attrs.get_id(name).get_type()) for name in found.attrs]
    if isinstance(found, h5py.Dataset):
        kinds.append(("the dataset", found.id.get_type()))
    for what, kind in kinds:
        for leaf in _leaves(kind):
            if not _usual(leaf):
                raise ValueError(
                    f"{found.file.filename}: damaged HDF5 file, or {what} of {found.name!r} has an unusual type, {leaf.dtype}; "
                    "write it again"
                )


def _leaves(kind: Any) -> Iterator[Any]:
    """The types that a type is made of."""
    import h5py

    of_bytes = isinstance(kind, h5py.h5t.TypeVlenID) and kind.get_super().get_size() == 1
    if isinstance(kind, h5py.h5t.TypeCompoundID):
        for n in range(kind.get_nmembers()):
            yield from _leaves(kind.get_member_type(n))
    elif isinstance(kind, h5py.h5t.TypeArrayID | h5py.h5t.TypeVlenID) and not of_bytes:
        yield from _leaves(kind.get_super())
    else:
        yield kind


def _usual(kind: Any) -> bool:
    import h5py

    if isinstance(kind, h5py.h5t.TypeVlenID):
        return False  # of bytes: a text with a damaged type
    if isinstance(kind, h5py.h5t.TypeIntegerID | h5py.h5t.TypeFloatID):
        return bool(kind == h5py.h5t.py_create(kind.dtype))
    return True
