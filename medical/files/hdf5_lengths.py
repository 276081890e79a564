"""Texts and lists in HDF5 files: their lengths and heaps, checked before the HDF5 library acts on them.

A value of variable length is stored as (length, address of a heap, number in it): 4, 8 and 4 bytes. The library takes memory
for the length that it finds and walks through the heap; damaged ones make it take gigabytes, crash, or never return. Layouts
are those of the HDF5 File Format Specification, version 3.0.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import h5py

__all__ = ["check_lengths"]

REFERENCE = np.dtype([("length", "<u4"), ("heap", "<u8"), ("number", "<u4")])
ATTRIBUTE, CONTINUATION = 0x0C, 0x10  # messages of object headers
VARIABLE = 9  # class of types
BLOCKS = 1000  # of an object header; a circle of them ends here

References = NDArray[Any]


def check_lengths(found: h5py.Group | h5py.Dataset) -> None:
    """Raise ``ValueError`` naming the file where texts or lists of ``found`` are not in the heap as long as they claim to be.

    Attributes of the group or dataset and values of the dataset are looked at. Left to the library are headers with checksums
    (since HDF5 1.8, on demand), compressed tables, and files that begin with a block of another program.
    """
    path = Path(found.file.filename)
    if found.file.userblock_size:
        return
    heaps: dict[int, dict[int, int]] = {}
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as raw:
        for references, size in (*_attributes(raw, found), *_values(raw, found)):
            for length, heap, number in references[references["length"] > 0].tolist():
                if heap not in heaps:
                    heaps[heap] = _heap(raw, heap)
                held = heaps[heap].get(number, 0)
                if length * size > held:
                    raise ValueError(
                        f"{path}: damaged HDF5 file, {found.name!r} claims a text or list of {length * size} bytes "
                        f"where {held} are; copy or write it again"
                    )


def _heap(raw: mmap.mmap, start: int) -> dict[int, int]:
    """Sizes of the objects in the collection at ``start``, by their numbers; the objects fill it exactly."""
    if raw[start : start + 5] != b"GCOL\x01":
        raise ValueError(f"no heap at {start}")
    (size,) = struct.unpack_from("<Q", raw, start + 8)
    place, end, sizes = start + 16, start + size, {}
    while place + 16 <= end:  # less is left over
        number, _, _, held = struct.unpack_from("<HHIQ", raw, place)
        taken = 16 + (held + 7) // 8 * 8 if number else held  # number 0 is free space, with its header
        if taken < 16 or place + taken > min(end, len(raw)):
            raise ValueError(f"damaged heap at {start}")
        if number:
            sizes[number] = held
        place += taken
    return sizes


def _attributes(raw: mmap.mmap, found: h5py.Group | h5py.Dataset) -> Iterator[tuple[References, int]]:
    """References of attributes, from the messages in the object's header, and the bytes of an item."""
    import h5py

    start = h5py.h5o.get_info(found.id).addr
    version, _, _, _, size = struct.unpack_from("<BBHII", raw, start)
    blocks = [(start + 16, size)]
    for offset, length in blocks if version == 1 else ():  # grows below
        block, place = raw[offset : offset + length], 0
        while place + 8 <= len(block):
            kind, size = struct.unpack_from("<HH", block, place)
            message, place = block[place + 8 : place + 8 + size], place + 8 + size
            if kind == CONTINUATION and len(blocks) < BLOCKS:
                blocks.append(struct.unpack_from("<QQ", message))
            elif kind == ATTRIBUTE:
                yield _of_attribute(message), 1


def _of_attribute(message: bytes) -> References:
    """References of an attribute of variable length, none for one of another type."""
    version, _, *sizes = struct.unpack_from("<BBHHH", message)
    start = 9 if version == 3 else 8
    name, kind, space = ((size + 7) // 8 * 8 if version == 1 else size for size in sizes)
    variable = message[start + name] & 0x0F == VARIABLE
    return _table(message[start + name + kind + space :] if variable else b"", REFERENCE)


def _values(raw: mmap.mmap, found: h5py.Group | h5py.Dataset) -> Iterator[tuple[References, int]]:
    """References of the values of a dataset, field by field, and the bytes of an item."""
    import h5py

    if not isinstance(found, h5py.Dataset) or found.ndim > 1:
        return
    stride, fields = _layout(found.id.get_type())
    if not fields:
        return
    element = np.dtype(
        {"names": list(map(str, fields)), "formats": [REFERENCE] * len(fields), "offsets": list(fields), "itemsize": stride}
    )
    table = _table(b"".join(raw[offset : offset + size] for offset, size in _stored(found, stride)), element)
    for offset, size in fields.items():
        yield table[str(offset)], size


def _table(data: bytes, element: np.dtype[Any]) -> NDArray[Any]:
    return np.frombuffer(data, element, count=len(data) // element.itemsize)


def _layout(kind: Any) -> tuple[int, dict[int, int]]:
    """Bytes of an element in the file, and for each reference in it its offset and the bytes of an item."""
    import h5py

    if isinstance(kind, h5py.h5t.TypeStringID) and kind.is_variable_str():
        return REFERENCE.itemsize, {0: 1}
    if isinstance(kind, h5py.h5t.TypeVlenID):
        return REFERENCE.itemsize, {0: kind.get_super().get_size()}
    if not isinstance(kind, h5py.h5t.TypeCompoundID):
        return kind.get_size(), {}
    members = [(kind.get_member_offset(n), kind.get_member_type(n)) for n in range(kind.get_nmembers())]
    return kind.get_size(), {at: item.get_super().get_size() for at, item in members if isinstance(item, h5py.h5t.TypeVlenID)}


def _stored(found: h5py.Dataset, stride: int) -> list[tuple[int, int]]:
    """(offset, size) of the parts of the file that hold the elements, in any order."""
    import h5py

    layout = found.id.get_create_plist()
    if layout.get_layout() == h5py.h5d.CONTIGUOUS:
        offset = found.id.get_offset()
        return [] if offset is None else [(offset, found.size * stride)]
    chunks: list[tuple[int, int]] = []
    if layout.get_layout() == h5py.h5d.CHUNKED and not layout.get_nfilters():
        found.id.chunk_iter(lambda chunk: chunks.append((chunk.byte_offset, chunk.size)))
    return chunks
