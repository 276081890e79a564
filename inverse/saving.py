"""A reconstruction on disk: pictures to look at, arrays to work with, and a record of how they were made."""

from __future__ import annotations

import io
import json
import os
import shutil
import uuid
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from inverse.operators.base import LinearOperator
from inverse.panels import Panel, panels, picture

if TYPE_CHECKING:
    from inverse.reconstruction import Reconstruction

__all__ = ["RECORD", "check_free", "save"]

RECORD = "reconstruction.json"
FILES = frozenset({".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".npz", ".npy", ".json", ".nii", ".gz"})  # not folders
CONVENTIONS = {
    "arrays": "float32 (complex64), batch first; images (B, C, H, W) in units of [0, 1], not clipped; samples (S, B, C, H, W)",
    "residual": "measurement - A(estimate)",
    "measured, filled": "what the measurement fixes of the estimate and what the prior filled in; they sum to the estimate",
    "std": "standard deviation over the samples; as a picture, the root mean square over channels",
    "pictures": "8 bits, clipped; black and white are the values given for each",
}


def save(reconstruction: Reconstruction, path: str | Path, *, overwrite: bool = False) -> Path:
    """Write a folder, or where ``path`` ends in ``.png`` the estimate alone; completely or not at all. Returns the path.

    The folder holds ``estimate.png``, ``measurement.png``, ``std.png``, ``measured.png`` and ``filled.png`` as far as there
    are such pictures (numbered, where the batch has several members), ``arrays.npz`` with everything in float32, and
    ``reconstruction.json``: settings, seed, shapes, residual, cost, versions and conventions.

    Raises ``FileExistsError`` for something that is there already. With ``overwrite``, a file and a folder written by
    this function are replaced; any other folder that is not empty never is.
    """
    path = Path(path)
    if path.suffix.lower() in FILES:
        raise ValueError(f"path must be a folder, or a .png file for the estimate alone, got {path}")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"path: there is no folder {path.parent} to write {path.name} to")
    check_free(path, overwrite)
    if path.suffix.lower() == ".png":
        _write_file(path, _only_picture(reconstruction))
    else:
        _write_folder(path, _files(reconstruction))
    return path


def check_free(path: Path, overwrite: bool) -> None:
    """Raise ``FileExistsError`` where :func:`save` would, so that a long computation may find out first."""
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return
    if not overwrite:
        raise FileExistsError(f"path: {path} is there already; overwrite=True replaces it")
    if path.is_dir() and not (path / RECORD).is_file():
        raise FileExistsError(f"path: the folder {path} is not a saved reconstruction and will not be replaced")


def _files(reconstruction: Reconstruction) -> dict[str, bytes]:
    shown = {
        f"{panel.name}.png" if len(reconstruction.estimate) == 1 else f"{panel.name}_{member:03d}.png": panel
        for member, found in enumerate(panels(reconstruction))
        for panel in found
    }
    arrays = _arrays(reconstruction)
    record = _record(reconstruction, shown, {name: list(array.shape) for name, array in arrays.items()})
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    files = {name: _png(panel) for name, panel in shown.items()}
    files["arrays.npz"] = buffer.getvalue()
    files[RECORD] = (json.dumps(record, indent=2, default=str) + "\n").encode()
    return files


def _png(panel: Panel) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(panel.pixels()).save(buffer, "PNG")
    return buffer.getvalue()


def _only_picture(reconstruction: Reconstruction) -> bytes:
    estimate = reconstruction.estimate
    values = picture(estimate[0]) if len(estimate) == 1 else None
    if values is None:
        raise ValueError(
            f"path must be a folder for an estimate that is not one picture (1, C, H, W), got {tuple(estimate.shape)}"
        )
    return _png(Panel(name="estimate", values=values))


def _arrays(reconstruction: Reconstruction) -> dict[str, NDArray[Any]]:
    tensors = {
        "estimate": reconstruction.estimate,
        "samples": reconstruction.samples,
        "measurement": reconstruction.measurement,
        "residual": reconstruction.residual,
    }
    if reconstruction.std is not None:
        tensors["std"] = reconstruction.std
    if isinstance(reconstruction.operator, LinearOperator):
        tensors["measured"], tensors["filled"] = reconstruction.split()
    return {name: _array(tensor) for name, tensor in tensors.items()}


def _array(tensor: Tensor) -> NDArray[Any]:
    return tensor.detach().cpu().to(torch.complex64 if tensor.is_complex() else torch.float32).numpy()


def _record(reconstruction: Reconstruction, shown: dict[str, Panel], shapes: dict[str, list[int]]) -> dict[str, object]:
    return {
        "settings": reconstruction.settings,
        "operator": repr(reconstruction.operator),
        "noise": repr(reconstruction.operator.noise),
        "shapes": shapes,
        "residual_ratio": reconstruction.residual_ratio,
        "measured_share": reconstruction.measured_share(),
        "network_calls": reconstruction.network_calls,
        "seconds": round(reconstruction.seconds, 3),
        "trace": vars(reconstruction.trace),
        "pictures": {name: {"black": panel.black, "white": panel.white} for name, panel in shown.items()},
        "conventions": CONVENTIONS,
        "versions": {"posterior": _own_version(), "torch": torch.__version__, "numpy": np.__version__},
    }


def _own_version() -> str:
    try:
        return version("posterior")
    except PackageNotFoundError:
        return "unknown (not installed)"


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")


def _write_file(path: Path, data: bytes) -> None:
    temporary = _beside(path)
    try:
        temporary.write_bytes(data)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _write_folder(path: Path, files: dict[str, bytes]) -> None:
    temporary, old = _beside(path), _beside(path)
    try:
        temporary.mkdir()
        for name, data in files.items():
            (temporary / name).write_bytes(data)
        if path.exists():
            os.replace(path, old)
        os.replace(temporary, path)
    finally:
        if old.exists() and not path.exists():
            os.replace(old, path)  # what was there is better than nothing
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
