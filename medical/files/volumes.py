"""One door for volumes: NIfTI files and DICOM series, told apart by their path."""

from __future__ import annotations

from pathlib import Path

from medical.files.dicom import read_dicom
from medical.files.dicom_file import is_dicom, series_of
from medical.files.dicom_series import write_dicom
from medical.files.nifti import read_nifti, write_nifti
from medical.files.scan import Scan

__all__ = ["read_volume", "write_volume"]

NIFTI = (".nii", ".nii.gz")
ACCEPTED = "a NIfTI file (.nii, .nii.gz), a folder of DICOM slices or one DICOM file of its series"


def read_volume(path: str | Path) -> Scan:
    """The volume at ``path``: a NIfTI file, a folder that holds one DICOM series, or one file of the series to read.

    Raises ``FileNotFoundError`` where there is nothing, ``ValueError`` naming the path for another kind of file, and
    otherwise what :func:`read_nifti` and :func:`read_dicom` raise.
    """
    path = Path(path)
    if path.is_dir():
        return read_dicom(path)
    if path.name.lower().endswith(NIFTI):
        return read_nifti(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: there is no such file or folder")
    if is_dicom(path):
        return read_dicom(path.parent, series=series_of(path))
    raise ValueError(f"{path}: must be {ACCEPTED}")


def write_volume(
    path: str | Path, scan: Scan, *, like: str | Path | None = None, modality: str | None = None, overwrite: bool = False
) -> Path:
    """Write ``scan``, completely or not at all: NIfTI where ``path`` ends so, otherwise a new folder of DICOM slices.

    Parameters
    ----------
    like, modality: as of :func:`write_dicom`; NIfTI needs neither, its header travels in the scan.

    Returns the path. Raises ``ValueError`` for a path that ends as another kind of file does, and otherwise what
    :func:`write_nifti` and :func:`write_dicom` raise.
    """
    path = Path(path)
    if path.name.lower().endswith(NIFTI):
        return write_nifti(path, scan, overwrite=overwrite)
    if path.suffix and not path.is_dir():
        raise ValueError(f"{path}: must end in .nii or .nii.gz, or be the name of a folder for DICOM slices, without suffix")
    return write_dicom(path, scan, like=like, modality=modality, overwrite=overwrite)
