"""A folder of DICOM slices, CT or MR, as one volume."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from medical.files.dicom_file import check_slice, decoding, numbers, read_header, read_values
from medical.files.scan import Scan

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = ["LPS_TO_RAS", "read_dicom", "series_headers"]

UNEVEN = 0.1  # of the slice spacing; positions in files are rounded, while a missing slice is off by one
ORIENTED = 1e-4  # direction cosines that differ less are the same
SAME = ("Rows", "Columns", "Modality", "FrameOfReferenceUID")
CLOSE = ("PixelSpacing", "ImageOrientationPatient")
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])

Slices = list[tuple[Path, "Dataset"]]


def read_dicom(folder: str | Path, *, series: str | None = None) -> Scan:
    """The slices of one series in ``folder`` (not in folders within), sorted along their normal, as a :class:`Scan`.

    data[z, y, x] = slope * stored + intercept: Hounsfield units for CT. y counts the rows of a picture from its top, x its
    columns from the left, z the slices in the direction x cross y. The affine takes DICOM's LPS to the RAS of NIfTI; a
    gantry tilt is in it and is not resampled. Files that are not DICOM, or hold something else than pictures, are passed over.

    Parameters
    ----------
    series: SeriesInstanceUID of the series to read, where the folder holds several.

    Raises ``NotADirectoryError`` where there is no folder, and ``ValueError`` naming it or the file for no pictures, several
    series, slices of different size, orientation, modality or frame of reference, slices that are missing or there twice,
    compressed, coloured or multi-frame pixels, and damaged files.
    """
    folder = Path(folder)
    slices = series_headers(folder, series=series)
    with decoding(folder, "damaged DICOM series"):
        first = slices[0][1]
        for path, header in slices:
            with decoding(path):
                check_slice(path, header)
                _check_alike(path, header, first)
        across, down = np.split(numbers(first, "ImageOrientationPatient"), 2)
        normal = np.cross(across, down)
        slices.sort(key=lambda found: float(_position(found[1]) @ normal))
        affine = torch.from_numpy(_affine(folder, slices))
        data = torch.from_numpy(np.stack([read_values(path) for path, _ in slices]))
        unit = str(first.get("RescaleType") or ("HU" if first.get("Modality") == "CT" else ""))
        return Scan(data=data, affine=affine, unit="" if unit == "US" else unit)


def series_headers(folder: Path, *, series: str | None = None) -> Slices:
    """Path and header of each picture of the only series in ``folder``, or of ``series``, in the order of their names.

    Raises ``NotADirectoryError`` where there is no folder, and ``ValueError`` for damaged files, no pictures, and several
    series without ``series``.
    """
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder}: must be a folder of DICOM slices")
    slices = [
        (path, header) for path in sorted(folder.iterdir()) if path.is_file() and (header := read_header(path)) is not None
    ]
    if not slices:
        raise ValueError(f"{folder}: holds no DICOM pictures; name the folder of the slices itself")
    found = sorted({str(header.get("SeriesInstanceUID", "")) for _, header in slices})
    if series is None and len(found) > 1:
        raise ValueError(f"{folder}: holds {len(found)} series; choose one with series=, of {found}")
    if series is not None and series not in found:
        raise ValueError(f"series must be one of those in {folder}, {found}, got {series!r}")
    return [(path, header) for path, header in slices if series in (None, str(header.get("SeriesInstanceUID", "")))]


def _check_alike(path: Path, header: Dataset, first: Dataset) -> None:
    for name in SAME:
        if header.get(name) != first.get(name):
            raise ValueError(f"{path}: {name} is {header.get(name)}, in other slices {first.get(name)}")
    for name in CLOSE:
        if not np.allclose(numbers(header, name), numbers(first, name), rtol=0, atol=ORIENTED):
            raise ValueError(f"{path}: {name} is {header[name].value}, in other slices {first[name].value}")


def _position(header: Dataset) -> NDArray[np.float64]:
    return numbers(header, "ImagePositionPatient")


def _affine(folder: Path, slices: Slices) -> NDArray[np.float64]:
    """(x, y, z, 1) to RAS in mm, of slices in order."""
    first = slices[0][1]
    across, down = np.split(numbers(first, "ImageOrientationPatient"), 2)
    dy, dx = numbers(first, "PixelSpacing")  # between rows, between columns
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1], affine[:3, 3] = across * dx, down * dy, _position(first)
    affine[:3, 2] = _step(folder, slices, np.cross(across, down))
    return LPS_TO_RAS @ affine


def _step(folder: Path, slices: Slices, normal: NDArray[np.float64]) -> NDArray[np.float64]:
    """From one slice to the next."""
    if len(slices) == 1:
        header = slices[0][1]
        thickness = header.get("SpacingBetweenSlices") or header.get("SliceThickness")
        if not thickness:
            raise ValueError(f"{folder}: a single slice that states no SliceThickness has no volume")
        return normal * float(thickness)
    positions = np.stack([_position(header) for _, header in slices])
    gaps = np.diff(positions @ normal)
    spacing = float(np.median(gaps))
    if gaps.min() <= UNEVEN * max(spacing, 1e-3):
        number = int(gaps.argmin())
        names = f"{slices[number][0].name} and {slices[number + 1][0].name}"
        raise ValueError(
            f"{folder}: two slices at {positions[number].tolist()} mm, {names}; a volume has one at each place: take out "
            "copies, and put echoes or phases into folders of their own"
        )
    for before, after in pairwise(range(len(slices))):
        if abs(gaps[before] - spacing) > UNEVEN * spacing:
            names = f"{slices[before][0].name} and {slices[after][0].name}"
            raise ValueError(
                f"{folder}: uneven slices, {gaps[before]:g} mm between numbers {before} and {after} along the normal ({names}) "
                f"and {spacing:g} mm elsewhere; slices are missing"
            )
    step = (positions[-1] - positions[0]) / (len(slices) - 1)
    straight = positions[0] + np.arange(len(slices))[:, None] * step
    if np.abs(positions - straight).max() > 0.5 * spacing:
        raise ValueError(f"{folder}: the slices do not lie on a straight line; they are not one volume")
    return step
