"""The files of a reconstructed volume: their names, whether they may be written, and the state of a run under way."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from medical.files import Scan
from medical.files.volumes import write_volume

__all__ = ["VolumeOutputs"]

NIFTI = (".nii.gz", ".nii")


@dataclass(frozen=True, kw_only=True)
class VolumeOutputs:
    """``out.nii.gz`` or the folder ``out``, and beside it ``out_std``, ``out_measured``, ``out_filled``, ``out.html``.

    Attributes
    ----------
    path: of the estimate: a NIfTI file, or a folder for DICOM slices.
    parts: names of further volumes.
    report: whether there is one.
    overwrite: replace what is there.
    """

    path: Path
    parts: tuple[str, ...] = ()
    report: bool = False
    overwrite: bool = False

    def part(self, name: str) -> Path:
        """The path of the volume ``name``."""
        stem, suffix = self._split()
        return self.path.with_name(f"{stem}_{name}{suffix}")

    @property
    def html(self) -> Path:
        """The path of the report."""
        return self.path.with_name(f"{self._split()[0]}.html")

    @property
    def state(self) -> Path:
        """The file that keeps a run's state until it is done."""
        return self.path.with_name(f".{self.path.name}.state")

    def check(self) -> None:
        """Raise ``ValueError`` or ``OSError``, naming the path, where one of the files could not be written."""
        if not self.path.name or (self.path.suffix and not self._split()[1]):
            raise ValueError(f"{self.path}: the suffix must be .nii or .nii.gz, or none for a folder of DICOM slices")
        if not self.path.parent.is_dir():
            raise FileNotFoundError(f"{self.path}: there is no folder {self.path.parent}")
        if not os.access(self.path.parent, os.W_OK):
            raise PermissionError(f"{self.path.parent} must not be written to")
        volumes = [self.path, *(self.part(name) for name in self.parts)]
        for path in [*volumes, self.html] if self.report else volumes:
            if path.is_dir() and (self._split()[1] or path == self.html):
                raise IsADirectoryError(f"{path} is a folder; name a file in it")
            if path.exists() and not self.overwrite and not (path.is_dir() and not any(path.iterdir())):
                raise FileExistsError(f"{path} is there already; --overwrite replaces it")

    def check_state(self, *, resume: bool) -> None:
        """Raise ``ValueError`` where an earlier run has left its state and is not to be gone on with."""
        if self.state.exists() and not resume:
            raise ValueError(
                f"{self.state}: an earlier run was cut short; go on with it by --resume, or remove the file to begin again"
            )

    def write(self, scan: Scan, name: str = "", *, like: Path | None, modality: str) -> Path:
        """Write the estimate, or the volume ``name``; completely or not at all."""
        path = self.part(name) if name else self.path
        return write_volume(path, scan, like=like, modality=modality, overwrite=self.overwrite)

    def _split(self) -> tuple[str, str]:
        name = self.path.name
        suffix = next((s for s in NIFTI if name.lower().endswith(s)), "")
        return name[: len(name) - len(suffix)], name[len(name) - len(suffix) :]
