"""Slices to train a 2D prior on: packs and folders of NIfTI files, grouped by subject and brought to the prior's range."""

from __future__ import annotations

import json
import tarfile
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from medical.files import read_nifti
from medical.intensity import HounsfieldWindow, peak

__all__ = ["MODALITIES", "read_slices"]

EMPTY = 0.01  # mean value below which a slice shows nothing


def _ct(volume: Tensor) -> Tensor:
    return HounsfieldWindow().to_image(volume)


def _mr(volume: Tensor) -> Tensor:
    return volume.clamp(min=0) / peak(volume)


MODALITIES: dict[str, Callable[[Tensor], Tensor]] = {"ct": _ct, "mr": _mr}
"""How the values (N, H, W) of one subject become images around [0, 1]: CT numbers by a window, MR by their peak."""


def read_slices(path: str | Path, modality: str, *, exclude: Sequence[str] = ()) -> dict[str, Tensor]:
    """The slices of every subject in a ``.tar`` pack or a folder of NIfTI files, by name: float32 (N, H, W).

    A pack may hold ``index.json``, which names the subject of each file, and beside a file of unrelated slices a ``.json``
    list with the ``subject`` of each slice and, if padded, its ``valid`` box (x, y, width, height). Without either a file
    is a subject of its own. Empty slices are left out.

    Parameters
    ----------
    path: the pack or the folder.
    modality: a name of :data:`MODALITIES`.
    exclude: names of files to leave out, without suffix, as those whose licence forbids to train on them.

    Raises ``FileNotFoundError`` where nothing is there, and ``ValueError`` for an unknown modality, an excluded file that is
    not in the pack, and a pack without any volume.
    """
    path = Path(path)
    if modality not in MODALITIES:
        raise ValueError(f"modality must be one of {', '.join(MODALITIES)}, got {modality!r}")
    if not path.exists():
        raise FileNotFoundError(f"path: there is no file or folder {path}")
    if path.is_dir():
        return _read_folder(path, modality, exclude)
    with tempfile.TemporaryDirectory() as folder, tarfile.open(path) as tar:
        tar.extractall(folder, filter="data")
        return _read_folder(Path(folder), modality, exclude)


def _read_folder(folder: Path, modality: str, exclude: Sequence[str]) -> dict[str, Tensor]:
    files = {p.name.removesuffix(".gz").removesuffix(".nii"): p for p in sorted(folder.glob("*.nii*"))}
    if unknown := set(exclude) - set(files):
        raise ValueError(f"exclude names files that are not in {folder.name}: {', '.join(sorted(unknown))}")
    index = _json(folder / "index.json", {})
    subjects: dict[str, list[Tensor]] = {}
    for name, file in files.items():
        if name in exclude:
            continue
        slices = _json(folder / f"{name}.json", None)
        data = read_nifti(file).data
        if slices is None:
            subject = index.get(name, {}).get("subject", name)
            subjects.setdefault(subject, []).extend(MODALITIES[modality](data))
            continue
        for subject in dict.fromkeys(entry["subject"] for entry in slices):
            own = [_valid(data[i], entry.get("valid")) for i, entry in enumerate(slices) if entry["subject"] == subject]
            subjects.setdefault(subject, []).extend(MODALITIES[modality](image) for image in own)
    found = {subject: kept for subject, group in subjects.items() if (kept := [s for s in group if s.mean() > EMPTY])}
    if not found:
        raise ValueError(f"path: no volume in {folder.name}")
    return {subject: _stacked(group) for subject, group in found.items()}


def _json(path: Path, default: Any) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else default


def _valid(image: Tensor, box: Sequence[int] | None) -> Tensor:
    if box is None:
        return image
    x, y, width, height = box
    return image[y : y + height, x : x + width]


def _stacked(group: Sequence[Tensor]) -> Tensor:
    """(N, H, W), smaller slices padded with air at the right and below."""
    height, width = (max(s.shape[axis] for s in group) for axis in (0, 1))
    return torch.stack([torch.nn.functional.pad(s, (0, width - s.shape[1], 0, height - s.shape[0])) for s in group])
