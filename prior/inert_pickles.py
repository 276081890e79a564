"""Torch files that pickle objects of other packages: their tensors are read, and nothing that the file names runs.

A pickle names classes and functions, which unpickling imports and calls. Here the few names that make tensors and
dictionaries stand for code of this module, and every other one for an empty class: nothing is imported, and what the pickle
calls, builds or fills holds nothing. So Lightning checkpoints are read without the packages that their settings come from.
"""

from __future__ import annotations

import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import partial
from io import BytesIO
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO

import torch
from torch import Tensor

__all__ = ["Inert", "read_inert"]

DTYPES: Mapping[str, torch.dtype] = MappingProxyType(
    {
        "BFloat16Storage": torch.bfloat16,
        "BoolStorage": torch.bool,
        "ByteStorage": torch.uint8,
        "CharStorage": torch.int8,
        "ComplexDoubleStorage": torch.complex128,
        "ComplexFloatStorage": torch.complex64,
        "DoubleStorage": torch.float64,
        "FloatStorage": torch.float32,
        "HalfStorage": torch.float16,
        "IntStorage": torch.int32,
        "LongStorage": torch.int64,
        "ShortStorage": torch.int16,
    }
)
LEGACY = 0x1950A86A20F9469CFC6C  # the first pickle of files from before torch 1.6
ODD = (
    *(AttributeError, EOFError, IndexError, KeyError, MemoryError, OverflowError, RuntimeError, TypeError, ValueError),
    *(struct.error, zipfile.BadZipFile),
)
"""What unpickling raises where a pickle is damaged or does what no torch file does, besides ``UnpicklingError``."""

Storage = Callable[[torch.dtype, str, int], Tensor]
"""The storage of a type, by its key in the file and its number of entries: a flat tensor."""


class Inert:
    """What stands for an object of another package; it takes whatever the pickle does to it and keeps nothing."""

    def __new__(cls, *_args: Any, **_kwargs: Any) -> Inert:
        return super().__new__(cls)

    def __init__(self, *_args: Any, **_kwargs: Any) -> None: ...

    def __call__(self, *_args: Any, **_kwargs: Any) -> Inert:
        return self

    def __setstate__(self, state: Any) -> None: ...

    def __setitem__(self, key: Any, value: Any) -> None: ...

    def append(self, value: Any) -> None: ...

    def extend(self, values: Any) -> None: ...

    def add(self, value: Any) -> None: ...


def read_inert(path: Path) -> Any:
    """The content of the torch file ``path``, of either format: tensors, plain values and containers, else :class:`Inert`.

    Tensors are in memory and on the CPU; parameters come as tensors, without gradients and hooks. Raises
    ``pickle.UnpicklingError`` where the file is damaged, or where no tensor lies in its containers.
    """
    try:
        content = _zipped(path) if zipfile.is_zipfile(path) else _legacy(path)
    except ODD as error:
        raise pickle.UnpicklingError(f"{type(error).__name__}: {error}") from error
    if not _holds_tensor(content):
        raise pickle.UnpicklingError("there is no tensor outside of pickled objects")
    return content


def _zipped(path: Path) -> Any:
    buffers: dict[str, bytearray] = {}
    with zipfile.ZipFile(path) as archive:
        (pickled,) = (name for name in archive.namelist() if name.rpartition("/")[2] == "data.pkl")
        root = pickled.removesuffix("data.pkl")

        def record(name: str) -> bytes:
            if archive.getinfo(root + name).compress_type != zipfile.ZIP_STORED:
                raise ValueError(f"{name} is compressed, which torch never does")
            return archive.read(root + name)

        def storage(dtype: torch.dtype, key: str, count: int) -> Tensor:
            if key not in buffers:
                buffers[key] = bytearray(record(f"data/{key}"))
            return _flat(buffers[key], dtype, count)

        if f"{root}byteorder" in archive.namelist() and record("byteorder") != b"little":
            raise ValueError("the tensors are not little-endian")
        return _Unpickler(BytesIO(record("data.pkl")), storage).load()


def _legacy(path: Path) -> Any:
    """Three pickles of small things, one of the content, one of the keys of its storages; then the storages, in that order."""
    buffers: dict[str, bytearray] = {}
    counts: dict[str, int] = {}
    left = path.stat().st_size

    def storage(dtype: torch.dtype, key: str, count: int) -> Tensor:
        nonlocal left
        if key not in buffers:
            left -= count * dtype.itemsize
            if count < 0 or left < 0:
                raise ValueError(f"there cannot be {count} entries of {dtype} in the file")
            buffers[key], counts[key] = bytearray(count * dtype.itemsize), count
        return _flat(buffers[key], dtype, count)

    with path.open("rb") as file:
        magic, _protocol, system, content, keys = (_Unpickler(file, storage).load() for _ in range(5))
        if magic != LEGACY or not system["little_endian"]:
            raise ValueError("this is no torch file, or its tensors are not little-endian")
        for key in keys:
            if struct.unpack("<q", file.read(8)) != (counts[key],) or file.readinto(buffers[key]) < len(buffers[key]):
                raise EOFError(f"storage {key} is cut off or of another size")
    return content


def _flat(buffer: bytearray, dtype: torch.dtype, count: int) -> Tensor:
    return torch.frombuffer(buffer, dtype=dtype, count=count) if count else torch.empty(0, dtype=dtype)


def _tensor(storage: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_rest: Any) -> Tensor:
    return storage.as_strided(size, stride, offset)


def _parameter(data: Tensor, *_rest: Any) -> Tensor:
    return data


MAKERS: Mapping[tuple[str, str], Callable[..., Any]] = MappingProxyType(
    {
        ("torch._utils", "_rebuild_tensor"): _tensor,
        ("torch._utils", "_rebuild_tensor_v2"): _tensor,
        ("torch._utils", "_rebuild_parameter"): _parameter,
        ("torch._utils", "_rebuild_parameter_with_state"): _parameter,
    }
)


class _Unpickler(pickle.Unpickler):
    """Every name in a pickle goes through :meth:`find_class`, which looks nothing up outside of this module."""

    def __init__(self, file: BinaryIO, storage: Storage) -> None:
        super().__init__(file, encoding="utf-8")
        self.storage = storage

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module in ("torch", "torch.cuda") and name in DTYPES:
            return DTYPES[name]
        if (module, name) in MAKERS:
            return partial(MAKERS[module, name])  # one of its own, for a pickle may set attributes of what it is given
        return type(name, (Inert,), {"__module__": module})

    def persistent_load(self, pid: Any) -> Tensor:
        match pid:
            case ("storage", torch.dtype() as dtype, str() as key, str(), int() as count, *view) if not any(view):
                return self.storage(dtype, key, count)
        raise pickle.UnpicklingError(f"{pid!r} is no storage")


def _holds_tensor(content: Any) -> bool:
    """Whether a tensor lies in ``content``, containers in containers, which may hold themselves."""
    left, seen = [content], set()
    while left:
        part = left.pop()
        if isinstance(part, Tensor):
            return True
        if isinstance(part, dict | list | tuple) and id(part) not in seen:
            seen.add(id(part))
            left.extend(part.values() if isinstance(part, dict) else part)
    return False
