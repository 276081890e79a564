"""Lengths that HDF5 files state for texts and lists, checked before the HDF5 library takes memory for them.

A value of variable length is stored as (length, address, number in the heap at that address): 4, 8 and 4 bytes. The library
believes the length; a damaged one takes gigabytes, and crashes some of its versions. Layouts are those of the HDF5 File Format
Specification, version 3.0.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import h5py

__all__ = ["check_lengths"]

REFERENCE = 16  # bytes of a stored value
ATTRIBUTE, CONTINUATION = 0x0C, 0x10  # messages of object headers
VARIABLE = 9  # class of types


def check_lengths(found: h5py.Group | h5py.Dataset) -> None:
    """Raise ``ValueError`` naming the file where the texts and lists of ``found`` are longer together than the file.

    Attributes of the group or dataset and values of the dataset are looked at. Left to the library are headers with checksums
    (since HDF5 1.8, on demand), compressed tables, and files that begin with a block of another program.
    """
    path = Path(found.file.filename)
    if found.file.userblock_size:
        return
    with path.open("rb") as raw:
        claims = [("an attribute", sum(_attributes(raw, found))), ("the dataset", _values(raw, found))]
    for what, claimed in claims:
        if claimed > path.stat().st_size:
            raise ValueError(
                f"{path}: damaged HDF5 file, {what} of {found.name!r} claims {claimed} bytes; copy or write it again"
            )


def _attributes(raw: BinaryIO, found: h5py.Group | h5py.Dataset) -> Iterator[int]:
    """Lengths of the values of attributes, from the messages in the object's header."""
    import h5py

    start = h5py.h5o.get_info(found.id).addr
    version, _, _, _, size = struct.unpack("<BBHII", _at(raw, start, 12))
    blocks = [(start + 16, size)]
    for offset, length in blocks if version == 1 else ():  # grows below
        block, place = _at(raw, offset, length), 0
        while place + 8 <= len(block):
            kind, size = struct.unpack_from("<HH", block, place)
            message, place = block[place + 8 : place + 8 + size], place + 8 + size
            if kind == CONTINUATION and len(blocks) < 1000:
                blocks.append(struct.unpack_from("<QQ", message))
            elif kind == ATTRIBUTE:
                yield from _lengths(_value(message), REFERENCE, 0).tolist()


def _value(message: bytes) -> bytes:
    """The values of an attribute of variable length, empty for one of another type."""
    version, _, *sizes = struct.unpack_from("<BBHHH", message)
    start = 9 if version == 3 else 8
    name, kind, space = ((size + 7) // 8 * 8 if version == 1 else size for size in sizes)
    if message[start + name] & 0x0F != VARIABLE:
        return b""
    values = message[start + name + kind + space :]
    return values[: len(values) // REFERENCE * REFERENCE]


def _values(raw: BinaryIO, found: h5py.Group | h5py.Dataset) -> int:
    """Bytes that the values of a dataset claim, 0 where they have fixed lengths."""
    import h5py

    if not isinstance(found, h5py.Dataset) or found.ndim > 1:
        return 0
    stride, fields = _layout(found.id.get_type())
    if not fields:
        return 0
    table = b"".join(_at(raw, offset, size) for offset, size in _stored(found, stride))
    table = table[: len(table) // stride * stride]
    return sum(int(_lengths(table, stride, offset).sum(dtype=np.uint64)) * size for offset, size in fields)


def _layout(kind: Any) -> tuple[int, list[tuple[int, int]]]:
    """Bytes of an element in the file, and for each value of variable length in it (offset, bytes of an item)."""
    import h5py

    if isinstance(kind, h5py.h5t.TypeStringID) and kind.is_variable_str():
        return REFERENCE, [(0, 1)]
    if isinstance(kind, h5py.h5t.TypeVlenID):
        return REFERENCE, [(0, kind.get_super().get_size())]
    if not isinstance(kind, h5py.h5t.TypeCompoundID):
        return kind.get_size(), []
    members = [(kind.get_member_offset(n), kind.get_member_type(n)) for n in range(kind.get_nmembers())]
    lists = [(at, item.get_super().get_size()) for at, item in members if isinstance(item, h5py.h5t.TypeVlenID)]
    return kind.get_size(), lists


def _stored(found: h5py.Dataset, stride: int) -> list[tuple[int, int]]:
    """(offset, size) of the parts of the file that hold the elements."""
    import h5py

    layout = found.id.get_create_plist()
    if layout.get_layout() == h5py.h5d.CONTIGUOUS:
        offset = found.id.get_offset()
        return [] if offset is None else [(offset, found.size * stride)]
    chunks: list[tuple[int, int]] = []
    if layout.get_layout() == h5py.h5d.CHUNKED and not layout.get_nfilters():
        found.id.chunk_iter(lambda chunk: chunks.append((chunk.byte_offset, chunk.size)))
    return chunks


def _lengths(table: bytes, stride: int, offset: int) -> NDArray[np.uint32]:
    rows = np.frombuffer(table, np.uint8).reshape(-1, stride)
    return np.ascontiguousarray(rows[:, offset : offset + 4]).view("<u4").ravel()


def _at(raw: BinaryIO, offset: int, size: int) -> bytes:
    end = raw.seek(0, 2)
    raw.seek(min(offset, end))
    return raw.read(min(size, end))
