"""Files and folders that are there completely or not at all."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["folder_written_whole", "written_whole"]


@contextmanager
def written_whole(path: str | Path, *, overwrite: bool = False) -> Iterator[Path]:
    """A name beside ``path`` to write to; renamed to ``path`` when the block ends well, and removed when it does not.

    Raises ``FileNotFoundError`` where the folder is missing, ``FileExistsError`` for a folder at ``path`` and, without
    ``overwrite``, for a file.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"path: there is no folder {path.parent} to write {path.name} to")
    if path.is_dir():
        raise FileExistsError(f"path: {path} is a folder; name a file in it")
    if path.exists() and not overwrite:
        raise FileExistsError(f"path: {path} is there already; overwrite=True replaces it")
    temporary = path.with_name(f".{uuid.uuid4().hex}.part.{path.name}")  # suffixes stay: they choose the format
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def folder_written_whole(path: str | Path, suffix: str, *, overwrite: bool = False) -> Iterator[Path]:
    """A new folder beside ``path`` to fill; renamed to ``path`` when the block ends well, and removed when it does not.

    With ``overwrite`` a folder of nothing but files that end in ``suffix`` is replaced, whole by whole.

    Raises ``FileNotFoundError`` where the folder around it is missing, and ``FileExistsError`` for a file at ``path``, for a
    folder that holds something else and, without ``overwrite``, for one that is not empty.
    """
    path = Path(path).absolute()
    if not path.parent.is_dir():
        raise FileNotFoundError(f"path: there is no folder {path.parent} to write {path.name} to")
    if path.exists() and not path.is_dir():
        raise FileExistsError(f"path: {path} is a file; name a folder")
    found = sorted(path.iterdir()) if path.is_dir() else []
    if found and not overwrite:
        raise FileExistsError(f"path: {path} holds files already; overwrite=True replaces the folder")
    if others := [p.name for p in found if p.suffix.lower() != suffix or not p.is_file()]:
        raise FileExistsError(
            f"path: {path} holds {others[0]}, which is no {suffix} file, and is not replaced; name a new folder"
        )
    temporary, old = (path.with_name(f".{uuid.uuid4().hex}.{kind}.{path.name}") for kind in ("part", "old"))
    temporary.mkdir()
    try:
        yield temporary
        if path.is_dir():
            os.replace(path, old)
        try:
            os.replace(temporary, path)
        except BaseException:
            if old.is_dir():
                os.replace(old, path)
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)
