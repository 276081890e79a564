"""Images of 16 bits a channel, of which Pillow keeps 8: read exactly all the same, and written as PNG.

Pillow undoes compression and filters but keeps one byte of each sample; which one is the choice of its unpacker. So two
passes give both. PNG (ISO/IEC 15948) has big-endian samples; its colour types are 0 grey, 2 RGB, 4 grey and alpha, 6 RGB
and alpha.
"""

from __future__ import annotations

import io
import struct
import sys
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["COLOUR_TYPES", "SIGNATURE", "chunk", "decode_png16", "decode_tiff16", "encode_png16", "is_png16"]

SIGNATURE = b"\x89PNG\r\n\x1a\n"
COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}  # by number of channels
CHANNELS = {colour: channels for channels, colour in COLOUR_TYPES.items()}


def is_png16(data: bytes) -> bool:
    """Whether ``data`` starts as a PNG of 16 bits a channel."""
    return data.startswith(SIGNATURE) and len(data) > 25 and data[24] == 16 and data[25] in CHANNELS


def decode_png16(data: bytes) -> NDArray[np.uint16]:
    """The samples (H, W, C) of a PNG of 16 bits a channel, exact."""
    channels = CHANNELS[data[25]]
    if channels == 1:
        return _unpacked(data, "I;16B")[..., None]
    if channels == 2:  # four bytes a pixel, like RGBA of 8 bits
        return _unpacked(data, "RGBA").view(">u2").astype(np.uint16)
    return _both_bytes(data, channels, high="B", low="L")


def decode_tiff16(data: bytes, channels: int) -> NDArray[np.uint16]:
    """The samples (H, W, C) of a compressed TIFF of 16 bits a channel, C of 1, 3 or 4, exact.

    libtiff gives native order. The samples of a pixel must be stored together.
    """
    if channels == 1:
        return _unpacked(data, "I;16N")[..., None]
    high, low = ("L", "B") if sys.byteorder == "little" else ("B", "L")
    return _both_bytes(data, channels, high=high, low=low)


def _both_bytes(data: bytes, channels: int, *, high: str, low: str) -> NDArray[np.uint16]:
    mode = "RGB" if channels == 3 else "RGBA"
    upper, lower = (_unpacked(data, f"{mode};16{order}").astype(np.uint16) for order in (high, low))
    return np.bitwise_or(upper << 8, lower, dtype=np.uint16)


def _unpacked(data: bytes, unpacker: str) -> NDArray[Any]:
    with Image.open(io.BytesIO(data)) as image:
        image.tile = [
            t._replace(args=unpacker if isinstance(t.args, str) else (unpacker, *(t.args or ())[1:])) for t in image.tile
        ]
        return np.array(image)


def encode_png16(samples: NDArray[np.uint16], icc: bytes | None = None) -> bytes:
    """A PNG file of ``samples`` (H, W, C), C of 1 to 4, with an ICC profile where one is given."""
    height, width, channels = samples.shape
    rows = samples.astype(">u2", order="C").view(np.uint8).reshape(height, -1)
    difference = rows.copy()
    difference[1:] -= rows[:-1]  # the filter "Up": each byte minus the one above, modulo 256
    lines = np.concatenate([np.full((height, 1), 2, np.uint8), difference], axis=1)
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, COLOUR_TYPES[channels], 0, 0, 0))]
    if icc:
        chunks.append((b"iCCP", b"icc\0\0" + zlib.compress(icc)))
    chunks += [(b"IDAT", zlib.compress(lines.tobytes(), 6)), (b"IEND", b"")]
    return SIGNATURE + b"".join(chunk(kind, body) for kind, body in chunks)


def chunk(kind: bytes, body: bytes) -> bytes:
    """One part of a PNG file: its length, its kind of four letters, its contents and their sum."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
