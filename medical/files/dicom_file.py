"""One file of a DICOM series: its header, whether it can be a slice of a volume, and its values."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medical.files.damage import damage
from medical.files.hdf5 import check_finite

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = ["check_slice", "decoding", "is_dicom", "numbers", "read_header", "read_values", "series_of"]

SUFFIXES = (".dcm", ".ima")  # what bears one must be DICOM
PREAMBLE = 128  # bytes before "DICM"
UPRIGHT = 1e-3  # direction cosines are rounded in files
NEEDED = {"PixelSpacing": 2, "ImageOrientationPatient": 6, "ImagePositionPatient": 3}
GREY = ("MONOCHROME1", "MONOCHROME2")


@contextmanager
def decoding(path: Path, what: str = "damaged DICOM file") -> Iterator[None]:
    """Turn what pydicom raises in this block for damaged files into ``ValueError("path: what (why)")``.

    Values are decoded when they are asked for, not when the file is read. Its warnings of the file's style are not passed on.
    """
    from pydicom.errors import BytesLengthException

    known = (OSError, EOFError, LookupError, AttributeError, TypeError, NotImplementedError, RuntimeError, ArithmeticError)
    theirs = (MemoryError, struct.error, zlib.error, BytesLengthException)
    with damage(path, what, *known, *theirs), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def is_dicom(path: Path) -> bool:
    """Whether the file begins as a DICOM file, or has the suffix of one."""
    with path.open("rb") as file:
        return file.read(PREAMBLE + 4)[PREAMBLE:] == b"DICM" or path.suffix.lower() in SUFFIXES


def read_header(path: Path) -> Dataset | None:
    """The header of the picture in ``path``; None where the file is not DICOM, or holds something else than a picture.

    Raises ``ValueError`` naming a file that is damaged, or has the suffix of DICOM and is none.
    """
    if not is_dicom(path):
        return None
    with decoding(path):
        header = _parsed(path, pixels=False)
        header.get("SeriesInstanceUID")
        if "Rows" in header:
            return header
        found = header.file_meta.get("MediaStorageSOPClassUID") or header.get("SOPClassUID")
        picture = found is None or "Image Storage" in found.name  # one that ends before saying what it holds counts as one
    if picture:
        raise ValueError(f"{path}: truncated, it ends before the size of the picture; copy it again")
    return None


def series_of(path: Path) -> str:
    """SeriesInstanceUID of the picture in ``path``, empty where it has none. Raises ``ValueError`` where it is no picture."""
    header = read_header(path)
    if header is None:
        raise ValueError(f"{path}: holds no DICOM picture; name a slice, or the folder of the slices")
    return str(header.get("SeriesInstanceUID", ""))


def _parsed(path: Path, *, pixels: bool) -> Any:
    """Read from memory: a length in a damaged file can then ask for no more than there is."""
    import pydicom

    try:
        return pydicom.dcmread(io.BytesIO(path.read_bytes()), stop_before_pixels=not pixels)
    except pydicom.errors.InvalidDicomError:
        raise ValueError(f"{path}: damaged, or no DICOM file; remove it or copy it again") from None


def check_slice(path: Path, header: Dataset) -> None:
    """Raise ``ValueError`` naming ``path`` unless it is one grey picture, not compressed, with a place in the patient."""
    missing = [name for name in ("Rows", "Columns", *NEEDED) if header.get(name) is None]
    if missing:
        frames = "; multi-frame files are not read, split them first" if header.get("NumberOfFrames", 1) != 1 else ""
        raise ValueError(f"{path}: lacks {', '.join(missing)}{frames}")
    if int(header.get("NumberOfFrames", 1) or 1) != 1:
        raise ValueError(f"{path}: has {header.NumberOfFrames} frames; multi-frame files are not read, split them first")
    if int(header.get("SamplesPerPixel", 1)) != 1:
        raise ValueError(f"{path}: must be grey, got {header.SamplesPerPixel} samples a pixel")
    if (kind := header.get("PhotometricInterpretation", GREY[1])) not in GREY:
        raise ValueError(f"{path}: must be grey, got PhotometricInterpretation {kind}")
    if "ModalityLUTSequence" in header:
        raise ValueError(f"{path}: values from a table (ModalityLUTSequence) are not read; only slope and intercept are")
    _check_place(path, header)
    syntax = header.file_meta.get("TransferSyntaxUID")
    if syntax is None:
        raise ValueError(f"{path}: states no transfer syntax; write it again as explicit little endian")
    if syntax.is_encapsulated:
        raise ValueError(f"{path}: compressed pixels ({syntax.name}) are not read; decompress them first")


def _check_place(path: Path, header: Dataset) -> None:
    for name, count in NEEDED.items():
        values = numbers(header, name)
        if values.shape != (count,) or not np.isfinite(values).all():
            raise ValueError(f"{path}: {name} must be {count} finite numbers, got {header[name].value}")
    if not (numbers(header, "PixelSpacing") > 0).all():
        raise ValueError(f"{path}: PixelSpacing must be above 0, got {header.PixelSpacing}")
    directions = numbers(header, "ImageOrientationPatient").reshape(2, 3)
    if not np.allclose(directions @ directions.T, np.eye(2), rtol=0, atol=UPRIGHT):
        given = header.ImageOrientationPatient
        raise ValueError(f"{path}: ImageOrientationPatient must be two unit vectors at a right angle, got {given}")


def numbers(header: Dataset, name: str) -> NDArray[np.float64]:
    """The value of the attribute ``name``, one or several numbers."""
    return np.array(header[name].value, dtype=np.float64)


def read_values(path: Path) -> NDArray[np.float32]:
    """Slope times stored value plus intercept, (H, W)."""
    with decoding(path, "truncated or damaged pixels"), np.errstate(over="ignore"):
        file = _parsed(path, pixels=True)
        stored = file.pixel_array
        slope, intercept = file.get("RescaleSlope"), file.get("RescaleIntercept")
        slope, intercept = (1.0 if slope is None else float(slope)), (0.0 if intercept is None else float(intercept))
        values = (stored.astype(np.float64) * slope + intercept).astype(np.float32)
    check_finite(values, f"{path}: the picture")
    return values
