"""What libraries say of damaged files, as one clear line that names the file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["damage"]


@contextmanager
def damage(path: Path, what: str, *errors: type[Exception]) -> Iterator[None]:
    """Turn ``ValueError`` and ``errors`` raised in this block, which reads ``path``, into ``ValueError("path: what (why)")``.

    A ``ValueError`` that names the file is ours and goes through, and so does a lack of permission.
    """
    caught: tuple[type[Exception], ...] = (ValueError, *errors)
    try:
        yield
    except PermissionError:
        raise
    except caught as error:
        if isinstance(error, ValueError) and str(path) in str(error):
            raise
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{path}: {what} ({why})") from error
