"""Image files: what is read of them, what is kept, and how they are written.

PNG, JPEG, TIFF and WebP, recognised by content when read and by suffix when written. Grey or colour, with or without
transparency; 8 or 16 bits a channel, or float TIFF in units of [0, 1]. Colour values are used as stored (no colour
management); the ICC profile travels along. Other metadata is dropped, after the EXIF orientation has been applied.
"""

from __future__ import annotations

import io
import os
import struct
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
import tifffile
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from posterior.sixteen import decode_png16, decode_tiff16, encode_png16, is_png16

__all__ = ["FORMATS", "Picture", "atomically", "check_format", "encode", "encode8", "read", "write_atomically"]

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".tif": "TIFF", ".tiff": "TIFF", ".webp": "WebP"}
READABLE = ("PNG", "JPEG", "WEBP")  # TIFF is dispatched by its magic number
SAME_COLOURS = frozenset({"1", "L", "LA", "I;16", "RGB", "RGBA"})  # Pillow modes whose ICC profile still holds
UNREADABLE = (OSError, SyntaxError, ValueError, KeyError, IndexError, TypeError, EOFError, struct.error, zlib.error)
TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
ORIENTATION, ICC = 274, 34675  # TIFF and EXIF tags
FLOAT_RANGE = (-1.0, 2.0)  # a noisy image in units of [0, 1] stays within; one in 0..255 or of radiances does not


@dataclass(frozen=True, eq=False, kw_only=True)
class Picture:
    """An image and what has to survive its restoration.

    Attributes
    ----------
    colour: (C, H, W), float32 in [0, 1]; C is 1 for grey, 3 for RGB.
    alpha: opacity (1, H, W), float32 in [0, 1], or None.
    depth: bits a channel: 8, 16, or 32 for float.
    icc: ICC profile, or None.
    """

    colour: Tensor
    alpha: Tensor | None = None
    depth: int = 8
    icc: bytes | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.colour.shape[-2], self.colour.shape[-1]

    def with_colour(self, colour: Tensor, alpha: Tensor | None = None) -> Picture:
        """The same kind of picture with other contents; the profile stays only where grey stays grey and RGB stays RGB."""
        icc = self.icc if len(colour) == len(self.colour) else None
        return replace(self, colour=colour, alpha=alpha, icc=icc)

    def samples(self, depth: int) -> NDArray[Any]:
        """The file's values, (H, W, C) with alpha last: uint8, uint16, or float32 for a depth of 32."""
        planes = self.colour if self.alpha is None else torch.cat([self.colour, self.alpha])
        values = planes.permute(1, 2, 0).contiguous().numpy()
        if depth == 32:
            return values
        white = 2**depth - 1
        return np.rint(values.clip(0, 1) * white).astype(np.uint8 if depth == 8 else np.uint16)


def read(path: Path, *, max_megapixels: float = 100.0) -> Picture:
    """The picture in the file ``path``, upright.

    Raises ``FileNotFoundError`` where there is no file, and ``ValueError`` for one that is no image, is damaged, holds
    several images, more than ``max_megapixels`` or numbers that are not finite.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such file")
    data = path.read_bytes()
    try:
        with _unlimited_pillow():
            stored = _decode(data, max_megapixels)
        return stored.picture()
    except _Refused as error:
        raise ValueError(f"{path}: {error}") from None
    except Image.UnidentifiedImageError:
        raise ValueError(f"{path}: not a PNG, JPEG, TIFF or WebP image") from None
    except (*UNREADABLE, tifffile.TiffFileError) as error:
        raise ValueError(f"{path}: damaged or unsupported image ({error})") from error


class _Refused(Exception):
    """A readable file that is not accepted, in words for the user."""


@dataclass(frozen=True, eq=False, kw_only=True)
class _Stored:
    """What the file says: samples (H, W, C) of any type, alpha last where C is 2 or 4, before the orientation."""

    samples: NDArray[Any]
    orientation: int
    icc: bytes | None

    def picture(self) -> Picture:
        kind = self.samples.dtype
        if kind.kind == "f":
            depth, values = 32, self.samples.astype(np.float32)
            _check_floats(values)
        elif kind in (np.uint8, np.uint16):
            depth = 8 * kind.itemsize
            values = self.samples.astype(np.float32) / (2**depth - 1)
        else:
            raise _Refused(f"samples must be 8 or 16 bit integers or floats, got {kind}")
        planes = torch.from_numpy(_upright(values, self.orientation).copy()).permute(2, 0, 1).contiguous()
        if len(planes) not in (1, 2, 3, 4):
            raise _Refused(f"must be grey or RGB with or without alpha, got {len(planes)} channels")
        colours = 1 if len(planes) < 3 else 3
        alpha = planes[colours:] if len(planes) > colours else None
        return Picture(colour=planes[:colours], alpha=alpha, depth=depth, icc=self.icc)


def _check_floats(values: NDArray[np.float32]) -> None:
    if not np.isfinite(values).all():
        raise _Refused(f"{int((~np.isfinite(values)).sum())} samples are NaN or infinite; replace them first")
    low, high = float(values.min()), float(values.max())
    if low < FLOAT_RANGE[0] or high > FLOAT_RANGE[1]:
        raise _Refused(f"float samples must be in units of [0, 1], got {low:g}..{high:g}; rescale them first")


def _upright(values: NDArray[Any], orientation: int) -> NDArray[Any]:
    # EXIF 2.32, tag 274: 5 to 8 are transposed, then flipped as 1, 4 (for 8), 2 (for 6), 3 (for 7)
    if orientation in (5, 6, 7, 8):
        values = values.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        values = values[:, ::-1]
    if orientation in (3, 4, 7, 8):
        values = values[::-1]
    return values


@contextmanager
def _unlimited_pillow() -> Iterator[None]:
    # the limit is ours: Pillow's own would warn below what --max-megapixels allows
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def _check_size(width: int, height: int, max_megapixels: float) -> None:
    if width * height > max_megapixels * 1e6:
        raise _Refused(
            f"{width} x {height} is {width * height / 1e6:.1f} megapixels, more than the {max_megapixels:g} of --max-megapixels"
        )


def _check_single(images: int) -> None:
    if images > 1:
        raise _Refused(f"holds {images} images; extract one first")


def _decode(data: bytes, max_megapixels: float) -> _Stored:
    if data.startswith(TIFF_MAGIC):
        return _decode_tiff(data, max_megapixels)
    with Image.open(io.BytesIO(data), formats=READABLE) as image:
        _check_size(*image.size, max_megapixels)
        _check_single(1 if image.format == "MPO" else getattr(image, "n_frames", 1))
        samples = decode_png16(data) if is_png16(data) else _pillow_samples(image)
        return _Stored(samples=samples, orientation=image.getexif().get(ORIENTATION, 1), icc=_profile(image))


def _decode_tiff(data: bytes, max_megapixels: float) -> _Stored:
    with tifffile.TiffFile(io.BytesIO(data)) as tiff:
        page = tiff.pages.first
        _check_size(page.imagewidth, page.imagelength, max_megapixels)
        _check_single(sum(isinstance(p, tifffile.TiffPage) and not p.is_reduced for p in tiff.pages))
        if page.dtype in (np.uint8, np.bool_):
            with Image.open(io.BytesIO(data), formats=("TIFF",)) as image:
                # Pillow turns a TIFF upright by itself
                return _Stored(samples=_pillow_samples(image), orientation=1, icc=_profile(image))
        orientation, icc = (page.tags.valueof(tag) for tag in (ORIENTATION, ICC))
        return _Stored(samples=_tiff_samples(data, page), orientation=int(orientation or 1), icc=icc)


def _tiff_samples(data: bytes, page: tifffile.TiffPage) -> NDArray[Any]:
    if page.photometric not in (tifffile.PHOTOMETRIC.MINISBLACK, tifffile.PHOTOMETRIC.RGB):
        raise _Refused(f"TIFF must be grey (black is zero) or RGB, got photometric {page.photometric}")
    if tifffile.EXTRASAMPLE.ASSOCALPHA in page.extrasamples:
        raise _Refused("TIFF has premultiplied alpha; save it with straight alpha")
    try:
        samples = page.asarray()
    except ValueError as error:
        together = page.planarconfig == tifffile.PLANARCONFIG.CONTIG and page.samplesperpixel in (1, 3, 4)
        if "imagecodecs" not in str(error) or page.dtype != np.uint16 or not together:
            raise
        return decode_tiff16(data, page.samplesperpixel)  # a compression that tifffile leaves to others, LZW above all
    if samples.ndim == 3 and page.planarconfig == tifffile.PLANARCONFIG.SEPARATE:
        samples = samples.transpose(1, 2, 0)
    return samples[..., None] if samples.ndim == 2 else samples


def _pillow_samples(image: Image.Image) -> NDArray[Any]:
    grey = image.mode in {"1", "L", "LA", "La"}
    mode = ("LA" if grey else "RGBA") if image.has_transparency_data else ("L" if grey else "RGB")
    samples = np.array(image.convert(mode))
    return samples[..., None] if samples.ndim == 2 else samples


def _profile(image: Image.Image) -> bytes | None:
    return image.info.get("icc_profile") if image.mode in SAME_COLOURS else None


def check_format(path: Path, picture: Picture | None = None) -> None:
    """Raise ``ValueError`` unless ``path`` names a format that can be written (and that can hold ``picture``)."""
    if path.suffix.lower() not in FORMATS:
        raise ValueError(f"{path}: the suffix must be one of {', '.join(FORMATS)}, got {path.suffix or 'none'!r}")
    if picture is not None and picture.alpha is not None and FORMATS[path.suffix.lower()] == "JPEG":
        raise ValueError(f"{path}: JPEG has no transparency and the image has; write .png, .tif or .webp")


def encode(picture: Picture, suffix: str) -> bytes:
    """The bytes of an image file. PNG keeps up to 16 bits (float becomes 16), TIFF everything, JPEG and WebP 8."""
    form = FORMATS[suffix.lower()]
    if form == "TIFF":
        return _encode_tiff(picture)
    if form == "PNG" and picture.depth > 8:
        return encode_png16(picture.samples(16), picture.icc)
    return encode8(picture.samples(8), suffix, picture.icc)


def encode8(samples: NDArray[np.uint8], suffix: str, icc: bytes | None = None) -> bytes:
    """The bytes of a PNG, JPEG or WebP file of ``samples`` (H, W, C), alpha last where C is 2 or 4."""
    form = FORMATS[suffix.lower()]
    options: dict[str, Any] = {"icc_profile": icc} if icc else {}
    if form == "JPEG":
        options |= {"quality": 95, "subsampling": 0}
    if form == "WebP":
        options |= {"quality": 95}
    buffer = io.BytesIO()
    Image.fromarray(samples[..., 0] if samples.shape[-1] == 1 else samples).save(buffer, form, **options)
    return buffer.getvalue()


def _encode_tiff(picture: Picture) -> bytes:
    samples = picture.samples(picture.depth)
    buffer = io.BytesIO()
    tifffile.imwrite(
        buffer,
        samples[..., 0] if samples.shape[-1] == 1 else samples,
        photometric="minisblack" if len(picture.colour) == 1 else "rgb",
        planarconfig=None if samples.shape[-1] == 1 else "contig",
        extrasamples=None if picture.alpha is None else ["unassalpha"],
        compression="zlib",
        iccprofile=picture.icc,
        metadata=None,
    )
    return buffer.getvalue()


def write_atomically(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path`` completely or not at all."""
    with atomically(path) as file:
        file.write(data)


@contextmanager
def atomically(path: Path) -> Iterator[IO[bytes]]:
    """A file that is ``path`` once the block ends, and nothing at all where it fails: beside it until then."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    try:
        os.close(handle)
        with open(name, "w+b") as file:
            yield file
        os.chmod(name, 0o666 & ~_umask())  # mkstemp makes the file private
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
