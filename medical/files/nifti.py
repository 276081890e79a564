"""NIfTI volumes, .nii and .nii.gz: array axes (i, j, k) of the file become ``data[k, j, i]``, and back."""

from __future__ import annotations

import io
import math
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from medical.files.atomic import written_whole
from medical.files.damage import damage
from medical.files.hdf5 import DEFLATED, check_finite
from medical.files.scan import Scan

__all__ = ["read_nifti", "write_nifti"]

SUFFIXES = (".nii", ".nii.gz")
UNIT = "unit="  # how the header's description begins where the values have a unit
LENGTH_NAMES = {"meter": "m", "mm": "mm", "micron": "um", "unknown": "mm"}


def read_nifti(path: str | Path) -> Scan:
    """The volume in the NIfTI-1 or NIfTI-2 file ``path``.

    data[z, y, x] = slope * array[x, y, z] + intercept, in float32: integers up to 2^24 are exact. A picture (i, j) has
    depth one; axes of length one after the third are left out. The affine is the sform, or where there is none the qform.

    Raises ``FileNotFoundError`` where there is no file, and ``ValueError`` naming the file where it is no NIfTI file, is
    truncated, has more than three axes, is empty, complex or coloured, or holds NaN or infinite values.
    """
    import nibabel as nib

    path = Path(path)
    _check_suffix(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such file")
    broken = (OSError, EOFError, LookupError, TypeError, ArithmeticError, AttributeError, MemoryError, struct.error, zlib.error)
    theirs = (nib.filebasedimages.ImageFileError, nib.spatialimages.HeaderDataError)
    with damage(path, "damaged or no NIfTI file", *broken, *theirs), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of odd values that are checked here
        image: Any = nib.load(path, mmap=False)
        _check_kind(path, image)
        _check_size(path, image)
        array = np.asanyarray(image.dataobj)
        length = LENGTH_NAMES.get(image.header.get_xyzt_units()[0], "mm")
    array = array.reshape((*image.shape, 1)[:3])
    with np.errstate(over="ignore"):  # beyond float32 it is infinite, which the check reports
        data = np.ascontiguousarray(array.transpose(2, 1, 0), dtype=np.float32)
    check_finite(data, f"{path}: the volume")
    affine = torch.from_numpy(np.array(image.affine, dtype=np.float64))
    try:
        return Scan(
            data=torch.from_numpy(data),
            affine=affine,
            unit=_unit(image.header),
            length=length,
            header=_header_bytes(image.header),
        )
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def write_nifti(path: str | Path, scan: Scan, *, overwrite: bool = False) -> Path:
    """Write ``scan`` as float32, completely or not at all; ``.nii.gz`` is compressed. Returns the path.

    array[x, y, z] = data[z, y, x]. A scan that was read from NIfTI keeps its header, apart from type and scaling of the
    numbers; another affine than the header's becomes the sform. The unit of the values goes into an empty description.

    Raises ``ValueError`` for a suffix that is neither, for values that are not finite, and for an affine that float32
    cannot hold to 1e-6; ``FileExistsError`` without ``overwrite`` for a file that is there.
    """
    import nibabel as nib

    path = Path(path)
    _check_suffix(path)
    array = scan.data.detach().cpu().numpy().transpose(2, 1, 0)
    check_finite(array, "data of the scan")
    header = _header(scan, array.shape)
    image = (nib.Nifti2Image if header["sizeof_hdr"] == 540 else nib.Nifti1Image)(array, None, header)
    with written_whole(path, overwrite=overwrite) as temporary:
        image.to_filename(temporary)
    return path


def _check_suffix(path: Path) -> None:
    if not path.name.lower().endswith(SUFFIXES):
        raise ValueError(f"{path}: the suffix must be {' or '.join(SUFFIXES)}")


def _check_kind(path: Path, image: Any) -> None:
    import nibabel as nib

    if not isinstance(image, nib.Nifti1Image):  # NIfTI-2 is a kind of it
        raise ValueError(f"{path}: must be NIfTI-1 or NIfTI-2, got {type(image).__name__}")
    shape, kind = image.shape, image.get_data_dtype()
    if kind.names is not None or kind.kind not in "iuf":
        raise ValueError(f"{path}: the values must be real numbers, got {kind}; save parts or colours as volumes of their own")
    if 0 in shape or len(shape) < 2:
        raise ValueError(f"{path}: the volume is empty or no image, shape {shape}")
    if any(n != 1 for n in shape[3:]):
        raise ValueError(f"{path}: must be one volume (i, j, k), got shape {shape}; save the volumes of a series one by one")


def _check_size(path: Path, image: Any) -> None:
    """Before memory is taken for the volume: a damaged header may claim any size."""
    claimed = image.dataobj.offset + math.prod(image.shape) * image.get_data_dtype().itemsize
    held = path.stat().st_size * (DEFLATED if path.name.lower().endswith(".gz") else 1)
    if claimed > held:
        raise ValueError(f"shape {image.shape} takes {claimed} bytes, the file holds at most {held}; copy it again")


def _header_bytes(header: Any) -> bytes:
    buffer = io.BytesIO()
    header.write_to(buffer)
    return buffer.getvalue()


def _header(scan: Scan, shape: tuple[int, ...]) -> Any:
    """The header of the file: that of the scan, or a new one, for float32 of ``shape`` and the affine of the scan."""
    import nibabel as nib

    affine = scan.affine.numpy()
    if scan.header is None:
        header: Any = nib.Nifti1Header()
        header.set_xyzt_units({short: name for name, short in LENGTH_NAMES.items() if name != "unknown"}[scan.length])
    else:
        second = 540 in (int.from_bytes(scan.header[:4], order) for order in ("little", "big"))
        header = (nib.Nifti2Header if second else nib.Nifti1Header).from_fileobj(io.BytesIO(scan.header))
    header.set_data_dtype(np.float32)
    header.set_data_shape(shape)
    header.set_slope_inter(1.0, 0.0)
    if scan.header is None or not np.array_equal(header.get_best_affine(), affine):
        header.set_qform(affine, code="unknown")  # sets the voxel size too
        header.set_sform(affine, code="scanner" if scan.header is None else "aligned")
        _check_affine(affine, header.get_best_affine())
    if not header["descrip"].item() or _unit(header):
        header["descrip"] = (UNIT + scan.unit)[:79] if scan.unit else b""
    return header


def _check_affine(affine: NDArray[np.float64], stored: NDArray[np.float64]) -> None:
    if not np.allclose(stored, affine, rtol=1e-6, atol=1e-6):
        raise ValueError(f"affine does not fit into a NIfTI header: {affine.tolist()} would become {stored.tolist()}")


def _unit(header: Any) -> str:
    description = header["descrip"].item().decode("latin-1")
    return description[len(UNIT) :] if description.startswith(UNIT) else ""
