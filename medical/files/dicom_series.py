"""Volumes written as DICOM series, one file a slice: new, derived, and in the patient space of the volume."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medical.files.atomic import folder_written_whole
from medical.files.dicom import LPS_TO_RAS, series_headers
from medical.files.dicom_attributes import MODALITIES, series_attributes
from medical.files.dicom_file import decoding, series_of
from medical.files.hdf5 import check_finite
from medical.files.scan import LENGTHS, Scan

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = ["Rescale", "write_dicom"]

FULL = 65535  # largest stored value
AIR = -1024  # intercept of most scanners
FINEST = 2.0**-10  # HU
UPRIGHT = 1e-4  # largest cosine between rows and columns


@dataclass(frozen=True, kw_only=True)
class Rescale:
    """value = slope * stored + intercept, with stored from 0 to 65535; both as DICOM's 16 characters hold them."""

    slope: float
    intercept: float

    @classmethod
    def of(cls, values: Tensor, modality: str) -> Rescale:
        """For all ``values`` of a volume. Whole numbers that span at most 65535 are exact: slope 1.

        Other CT numbers are rounded to the finest power of two that spans them, 2^-10 HU to 1 HU: the error is at most half of
        it. Other MR values fill 16 bits: slope = (max - min(min, 0)) / 65535, the error at most half of that.

        Raises ``ValueError`` for CT numbers that span more than 65535 HU.
        """
        from pydicom.valuerep import format_number_as_ds

        low, high = float(values.min()), float(values.max())
        base = math.floor(low)
        if high - low <= FULL and torch.equal(values, values.round()):
            usual = AIR if modality == "CT" else 0
            return cls(slope=1.0, intercept=float(usual if usual <= low and high - usual <= FULL else low))
        if modality == "CT":
            if high - base > FULL:
                raise ValueError(f"data must span at most {FULL} HU for 16 bits, got {low:g} to {high:g}; clip it first")
            return cls(slope=max(FINEST, 2.0 ** math.ceil(math.log2((high - base) / FULL))), intercept=float(base))
        slope, intercept = (high - min(low, 0.0)) / FULL, min(low, 0.0)
        return cls(slope=float(format_number_as_ds(slope)), intercept=float(format_number_as_ds(intercept)))

    def stored(self, values: NDArray[np.float32]) -> NDArray[np.uint16]:
        """The nearest stored values."""
        return ((values.astype(np.float64) - self.intercept) / self.slope).round().clip(0, FULL).astype("<u2")


def write_dicom(
    folder: str | Path,
    scan: Scan,
    *,
    like: str | Path | None = None,
    modality: str | None = None,
    description: str = "Reconstruction",
    overwrite: bool = False,
) -> Path:
    """Write ``scan`` as a new series of 16-bit CT or MR images into ``folder``, completely or not at all. Returns the folder.

    Slice k is ``data[k]``, its rows and columns those of the picture; place and spacing are the affine's, RAS turned to LPS,
    and a gantry tilt is kept. Values survive as :class:`Rescale` says. :func:`read_dicom` sorts slices along x cross y: where
    the affine is left-handed in LPS they come back in the other order, in the same places; ``canonical(scan)`` is not.
    Instances, series and, without ``like``, study and frame of reference get new UIDs; all is marked as derived.

    Parameters
    ----------
    like: folder of the series that the scan was made from and lies in the space of, or one file of it, which chooses among
        several series. Patient, study, frame of reference and acquisition are copied from it; nothing private is.
    modality: ``"CT"``, in HU, or ``"MR"``; by default that of ``like``, or CT for the unit HU.
    description: name of the series, at most 64 characters.
    overwrite: replace a folder of .dcm files, but never the source.

    Raises ``ValueError`` for values that are not finite or span too much, an affine whose rows and columns are not at a right
    angle, a modality that is unknown or another than that of ``like``, and ``FileExistsError`` for a folder that is not empty.
    """
    folder = Path(folder)
    check_finite(scan.data.detach().cpu().numpy(), "data of the scan")
    if not description or len(description) > 64 or "\\" in description:
        raise ValueError(f"description must have 1 to 64 characters, none of them a backslash, got {description!r}")
    if max(scan.data.shape[1:]) > FULL:
        raise ValueError(f"data must have at most {FULL} rows and columns, got {tuple(scan.data.shape)}")
    source = None if like is None else _source(Path(like), folder)
    modality = _modality(scan, modality, source)
    affine = _affine(scan)
    rescale = Rescale.of(scan.data.detach().cpu(), modality)
    with folder_written_whole(folder, ".dcm", overwrite=overwrite) as temporary:
        with decoding(Path(like or folder), "attributes that cannot be copied"):
            series = series_attributes(modality, description, source)
        _describe(series, scan, affine, rescale)
        for k, values in enumerate(scan.data.detach().cpu().numpy()):
            _write_slice(temporary / f"{k + 1:05d}.dcm", series, affine @ [0, 0, k, 1], rescale.stored(values))
    return folder


def _source(like: Path, folder: Path) -> Dataset:
    """Header of the first slice of the series ``like``."""
    if not like.exists():
        raise FileNotFoundError(f"like: there is no folder or file {like}")
    home, series = (like.parent, series_of(like)) if like.is_file() else (like, None)
    if folder.resolve() == home.resolve():
        raise ValueError(f"folder must be another than that of the source, got {folder} for both")
    return series_headers(home, series=series)[0][1]


def _modality(scan: Scan, modality: str | None, source: Dataset | None) -> str:
    if modality is not None and modality not in MODALITIES:
        raise ValueError(f"modality must be 'CT' or 'MR', got {modality!r}")
    theirs = None if source is None else str(source.get("Modality"))
    if theirs is not None and (theirs not in MODALITIES or modality not in (None, theirs)):
        raise ValueError(f"like must be a series of {modality or 'CT or MR'}, its modality is {theirs}")
    found = modality or theirs or ("CT" if scan.unit == "HU" else None)
    if found is None:
        raise ValueError(
            f"modality must be given as 'CT' or 'MR': the values are in {scan.unit or 'no unit'}, and there is no like"
        )
    if (found == "CT" and scan.unit not in ("HU", "")) or (found == "MR" and scan.unit == "HU"):
        raise ValueError(
            f"data must be in HU for CT and not in HU for MR, got unit {scan.unit!r} for {found}; convert it first"
        )
    return found


def _affine(scan: Scan) -> NDArray[np.float64]:
    """(x, y, z, 1) to LPS in mm."""
    affine = LPS_TO_RAS @ scan.affine.numpy()
    affine[:3] *= LENGTHS[scan.length]
    across, down = (affine[:3, n] / np.linalg.norm(affine[:3, n]) for n in (0, 1))
    if abs(across @ down) > UPRIGHT:
        angle = math.degrees(math.acos(across @ down))
        raise ValueError(
            f"affine must have rows and columns at a right angle for DICOM, got {angle:.4g} degrees; resample first"
        )
    return affine


def _describe(series: Dataset, scan: Scan, affine: NDArray[np.float64], rescale: Rescale) -> None:
    """What follows from the volume and is the same for all slices."""
    dx, dy = (float(np.linalg.norm(affine[:3, n])) for n in (0, 1))
    across, down = affine[:3, 0] / dx, affine[:3, 1] / dy
    gap = abs(float(np.cross(across, down) @ affine[:3, 2]))
    series.PixelSpacing, series.ImageOrientationPatient = _decimal([dy, dx]), _decimal(np.concatenate([across, down]))
    series.SliceThickness, series.SpacingBetweenSlices = _decimal([gap, gap])
    _, series.Rows, series.Columns = scan.data.shape
    series.SamplesPerPixel, series.PhotometricInterpretation, series.PixelRepresentation = 1, "MONOCHROME2", 0
    series.BitsAllocated, series.BitsStored, series.HighBit = 16, 16, 15
    series.RescaleSlope, series.RescaleIntercept = _decimal([rescale.slope, rescale.intercept])
    series.RescaleType = "HU" if series.Modality == "CT" else scan.unit or "US"  # unspecified
    if series.Modality == "MR":
        low, high = float(scan.data.min()), float(scan.data.max())
        series.WindowCenter, series.WindowWidth = _decimal([(low + high) / 2, max(high - low, rescale.slope)])


def _write_slice(path: Path, series: Dataset, position: NDArray[np.float64], stored: NDArray[np.uint16]) -> None:
    """``series``, which gets what is this slice's own."""
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    series.SOPInstanceUID = generate_uid(prefix=None)
    series.InstanceNumber = int(path.stem)
    series.ImagePositionPatient = _decimal(position[:3])
    series.PixelData = stored.tobytes()
    series.file_meta = FileMetaDataset()
    series.file_meta.MediaStorageSOPClassUID = series.SOPClassUID
    series.file_meta.MediaStorageSOPInstanceUID = series.SOPInstanceUID
    series.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    series.save_as(path, enforce_file_format=True)


def _decimal(values: Sequence[float] | NDArray[np.float64]) -> list[str]:
    """As DICOM's decimal strings of at most 16 characters."""
    from pydicom.valuerep import format_number_as_ds

    return [format_number_as_ds(float(value)) for value in values]
