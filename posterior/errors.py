"""What a user sees of an error: one line for what they can act on, a traceback for what they cannot."""

from __future__ import annotations

import sys

__all__ = ["USER_ERRORS", "one_line"]

USER_ERRORS = (ValueError, TypeError, OSError, MemoryError)
"""What the library raises for bad input. Anything else is a bug and keeps its traceback."""


CPU_MEMORY = ("can't allocate memory", "not enough memory")
"""What torch's allocator of main memory says, in a RuntimeError."""


def one_line(error: BaseException) -> str | None:
    """The message for the user, on one line, or None for a bug.

    Errors of the command line's parser count as the user's: they have ``format_message``.
    """
    usage = getattr(error, "format_message", None)
    if usage is not None:
        return _joined(usage())
    if _out_of_memory(error):
        details = _joined(str(error)) or "no details"
        return f"out of memory ({details}); take less at once: --tile for images, --slices for scans"
    if isinstance(error, OSError) and error.strerror:
        return _joined(f"{error.filename}: {error.strerror}" if error.filename else error.strerror)
    if isinstance(error, USER_ERRORS):
        return _joined(str(error)) or type(error).__name__
    return None


def _out_of_memory(error: BaseException) -> bool:
    torch = sys.modules.get("torch")  # where torch has not been imported, it has not raised either
    if isinstance(error, MemoryError) or (torch is not None and isinstance(error, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in CPU_MEMORY)


def _joined(message: str) -> str:
    return " ".join(message.split())
