"""Files that are there completely or not at all."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["written_whole"]


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
