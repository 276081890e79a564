"""Where results go, checked before any work, and where the work is done."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from posterior.commands.options import Device

if TYPE_CHECKING:
    import torch

__all__ = ["check_output", "compute_device"]


def check_output(path: Path, suffixes: Sequence[str], *, overwrite: bool) -> None:
    """Raise ``ValueError`` or ``OSError``, naming ``path``, where a file with one of the ``suffixes`` cannot be written."""
    if not path.name.lower().endswith(tuple(suffixes)):
        raise ValueError(f"{path}: the suffix must be {' or '.join(suffixes)}, got {path.suffix or 'none'!r}")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path}: there is no folder {path.parent}")
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; name a file in it")
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} is there already; --overwrite replaces it")
    if path.exists() and not os.access(path, os.W_OK):
        raise PermissionError(f"{path} must not be written to")


def compute_device(device: Device) -> torch.device:
    """The device that ``--device`` names; ``ValueError`` for a CUDA device that is not there."""
    import torch

    if device is Device.cuda and not torch.cuda.is_available():
        raise ValueError("--device cuda: torch finds no CUDA device; use cpu or auto")
    return torch.device("cuda" if device is not Device.cpu and torch.cuda.is_available() else "cpu")
