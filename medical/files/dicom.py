"""A folder of DICOM slices, CT or MR, as one volume."""

from __future__ import annotations

import struct
import warnings
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from medical.files.damage import damage
from medical.files.scan import Scan

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = ["read_dicom"]

SUFFIXES = (".dcm", ".ima")  # what bears one must be DICOM
UNEVEN = 0.1  # of the slice spacing; positions in files are rounded, while a missing slice is off by one
ORIENTED = 1e-4  # direction cosines that differ less are the same
NEEDED = ("Rows", "Columns", "PixelSpacing", "ImageOrientationPatient", "ImagePositionPatient")
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def read_dicom(folder: str | Path, *, series: str | None = None) -> Scan:
    """The slices of one series in ``folder`` (not in folders within), sorted along their normal, as a :class:`Scan`.

    data[z, y, x] = slope * stored + intercept: Hounsfield units for CT. y counts the rows of a picture from its top, x its
    columns from the left, z the slices in the direction x cross y. The affine takes DICOM's LPS to the RAS of NIfTI; a
    gantry tilt is in it and is not resampled. Files that are not DICOM, or hold something else than pictures, are passed over.

    Parameters
    ----------
    series: SeriesInstanceUID of the series to read, where the folder holds several.

    Raises ``NotADirectoryError`` where there is no folder, and ``ValueError`` naming it for no pictures, several series,
    slices of different size or orientation, slices that are missing or there twice, compressed, coloured or multi-frame
    pixels, and damaged files.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder}: must be a folder of DICOM slices")
    slices = _one_series(folder, _headers(folder), series)
    first = slices[0][1]
    for path, header in slices:
        with damage(path, "damaged DICOM file", *_broken()):
            _check_slice(path, header)
            _check_alike(path, header, first)
    across, down = np.split(np.array(first.ImageOrientationPatient, dtype=np.float64), 2)
    normal = np.cross(across, down)
    slices.sort(key=lambda found: float(_position(found[1]) @ normal))
    affine = _affine(folder, [header for _, header in slices])
    data = np.stack([_values(path) for path, _ in slices])
    unit = getattr(first, "RescaleType", None) or ("HU" if first.get("Modality") == "CT" else "")
    return Scan(data=torch.from_numpy(data), affine=torch.from_numpy(affine), unit="" if unit == "US" else str(unit))


def _broken() -> tuple[type[Exception], ...]:
    """What pydicom raises for damaged files, apart from ``ValueError``."""
    from pydicom.errors import BytesLengthException

    known = (OSError, EOFError, KeyError, AttributeError, TypeError, NotImplementedError, RuntimeError, struct.error)
    return *known, BytesLengthException


def _headers(folder: Path) -> list[tuple[Path, Dataset]]:
    """The files that hold a picture, without reading their pixels."""
    import pydicom

    found: list[tuple[Path, Dataset]] = []
    for path in sorted(p for p in folder.iterdir() if p.is_file()):
        try:
            with damage(path, "damaged DICOM file", *_broken()):
                header = pydicom.dcmread(path, stop_before_pixels=True)
                header.get("SeriesInstanceUID")
        except pydicom.errors.InvalidDicomError:
            if path.suffix.lower() in SUFFIXES:
                raise ValueError(f"{path}: damaged, or no DICOM file; remove it or copy it again") from None
            continue
        if "Rows" in header:
            found.append((path, header))
        elif "Image Storage" in _kind(header):
            raise ValueError(f"{path}: truncated, it ends before the size of the picture; copy it again")
    if not found:
        raise ValueError(f"{folder}: holds no DICOM pictures; name the folder of the slices itself")
    return found


def _kind(header: Dataset) -> str:
    """Name of what the file holds, such as "CT Image Storage"; a file that ends before saying so counts as a picture."""
    found = header.file_meta.get("MediaStorageSOPClassUID") or header.get("SOPClassUID")
    return found.name if found else "Image Storage"


def _one_series(folder: Path, slices: list[tuple[Path, Dataset]], series: str | None) -> list[tuple[Path, Dataset]]:
    found = sorted({str(header.get("SeriesInstanceUID", "")) for _, header in slices})
    if series is None and len(found) > 1:
        raise ValueError(f"{folder}: holds {len(found)} series; choose one with series=, of {found}")
    if series is not None and series not in found:
        raise ValueError(f"series must be one of those in {folder}, {found}, got {series!r}")
    return [(path, header) for path, header in slices if series in (None, str(header.get("SeriesInstanceUID", "")))]


def _check_slice(path: Path, header: Dataset) -> None:
    missing = [name for name in NEEDED if header.get(name) is None]
    if missing:
        frames = "; multi-frame files are not read, split them first" if header.get("NumberOfFrames", 1) != 1 else ""
        raise ValueError(f"{path}: lacks {', '.join(missing)}{frames}")
    if int(header.get("NumberOfFrames", 1) or 1) != 1:
        raise ValueError(f"{path}: has {header.NumberOfFrames} frames; multi-frame files are not read, split them first")
    if int(header.get("SamplesPerPixel", 1)) != 1:
        raise ValueError(f"{path}: must be grey, got {header.SamplesPerPixel} samples a pixel")
    if len(_position(header)) != 3:
        raise ValueError(f"{path}: ImagePositionPatient must be three numbers, got {header.ImagePositionPatient}")
    syntax = header.file_meta.get("TransferSyntaxUID")
    if syntax is None:
        raise ValueError(f"{path}: states no transfer syntax; write it again as explicit little endian")
    if syntax.is_encapsulated:
        raise ValueError(f"{path}: compressed pixels ({syntax.name}) are not read; decompress them first")


def _check_alike(path: Path, header: Dataset, first: Dataset) -> None:
    for name in ("Rows", "Columns"):
        if header[name].value != first[name].value:
            raise ValueError(f"{path}: {name} is {header[name].value}, in other slices {first[name].value}")
    for name in ("PixelSpacing", "ImageOrientationPatient"):
        if not np.allclose(_numbers(header, name), _numbers(first, name), rtol=0, atol=ORIENTED):
            raise ValueError(f"{path}: {name} is {header[name].value}, in other slices {first[name].value}")


def _numbers(header: Dataset, name: str) -> NDArray[np.float64]:
    return np.array(header[name].value, dtype=np.float64)


def _position(header: Dataset) -> NDArray[np.float64]:
    return _numbers(header, "ImagePositionPatient")


def _affine(folder: Path, headers: list[Dataset]) -> NDArray[np.float64]:
    """(x, y, z, 1) to RAS in mm, of slices in order."""
    first = headers[0]
    across, down = np.split(_numbers(first, "ImageOrientationPatient"), 2)
    dy, dx = _numbers(first, "PixelSpacing")  # between rows, between columns
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1], affine[:3, 3] = across * dx, down * dy, _position(first)
    affine[:3, 2] = _step(folder, headers, np.cross(across, down))
    return LPS_TO_RAS @ affine


def _step(folder: Path, headers: list[Dataset], normal: NDArray[np.float64]) -> NDArray[np.float64]:
    """From one slice to the next."""
    if len(headers) == 1:
        thickness = headers[0].get("SpacingBetweenSlices") or headers[0].get("SliceThickness")
        if not thickness:
            raise ValueError(f"{folder}: a single slice that states no SliceThickness has no volume")
        return normal * float(thickness)
    positions = np.stack([_position(header) for header in headers])
    gaps = np.diff(positions @ normal)
    spacing = float(np.median(gaps))
    if gaps.min() <= UNEVEN * max(spacing, 1e-3):
        number = int(gaps.argmin())
        raise ValueError(f"{folder}: two slices at {positions[number].tolist()} mm; a volume has one at each place")
    for before, after in pairwise(range(len(headers))):
        if abs(gaps[before] - spacing) > UNEVEN * spacing:
            raise ValueError(
                f"{folder}: uneven slices, {gaps[before]:g} mm between numbers {before} and {after} along the normal and "
                f"{spacing:g} mm elsewhere; slices are missing"
            )
    step = (positions[-1] - positions[0]) / (len(headers) - 1)
    straight = positions[0] + np.arange(len(headers))[:, None] * step
    if np.abs(positions - straight).max() > 0.5 * spacing:
        raise ValueError(f"{folder}: the slices do not lie on a straight line; they are not one volume")
    return step


def _values(path: Path) -> NDArray[np.float32]:
    """Slope times stored value plus intercept, (H, W)."""
    import pydicom

    with damage(path, "truncated or damaged pixels", *_broken()), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what is said of the file's style does not touch its pixels
        file: Any = pydicom.dcmread(path)
        stored = file.pixel_array
        slope, intercept = file.get("RescaleSlope"), file.get("RescaleIntercept")
        slope, intercept = (1.0 if slope is None else float(slope)), (0.0 if intercept is None else float(intercept))
    values = (stored.astype(np.float64) * slope + intercept).astype(np.float32)
    if not np.isfinite(values).all():
        raise ValueError(f"{path}: holds values that are NaN or infinite")
    return values
