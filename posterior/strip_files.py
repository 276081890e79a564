"""Large image files written from the top, strip by strip: PNG and TIFF straight to disk, JPEG and WebP from 8 bits."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from posterior.images import FORMATS, encode8
from posterior.sixteen import COLOUR_TYPES, SIGNATURE, chunk

__all__ = ["Layout", "PngRows", "write_strips"]

LIMITS = {"JPEG": 65535, "WebP": 16383}  # pixels a side
TIFF_STRIP = 256  # rows that are compressed together

Rows = NDArray[Any]  # (h, W, C), alpha last where C is 2 or 4


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What a file says before its pixels.

    Attributes
    ----------
    height, width: in pixels.
    channels: with alpha.
    depth: bits a channel, as :class:`~posterior.images.Picture` has it; :meth:`within` gives what a format can hold.
    icc: ICC profile, or None.
    """

    height: int
    width: int
    channels: int
    depth: int = 8
    icc: bytes | None = None

    @staticmethod
    def within(suffix: str, depth: int) -> int:
        """The bits a channel that a file with this suffix keeps of ``depth``."""
        form = FORMATS[suffix.lower()]
        return depth if form == "TIFF" else min(depth, 16 if form == "PNG" else 8)

    def check(self, path: Path) -> None:
        """Raise ``ValueError`` where the format of ``path`` has no room for sides that long."""
        form = FORMATS[path.suffix.lower()]
        if max(self.height, self.width) > LIMITS.get(form, 2**31 - 1):
            size = f"{self.width} x {self.height}"
            raise ValueError(
                f"{path}: {form} holds up to {LIMITS[form]} pixels a side, the result is {size}; write .png or .tif"
            )


def write_strips(file: IO[bytes], suffix: str, layout: Layout, strips: Iterable[Rows]) -> None:
    """An image file of ``strips`` from the top, of the dtype that the depth asks for: uint8, uint16 or float32.

    ``depth`` must be what :meth:`Layout.within` gives. Of PNG and TIFF one strip is held at a time, of JPEG and WebP the
    picture in 8 bits.
    """
    {"PNG": _write_png, "TIFF": _write_tiff}.get(FORMATS[suffix.lower()], _write_whole(suffix))(file, layout, strips)


class PngRows:
    """A PNG file (ISO/IEC 15948) that grows by rows; 8 or 16 bits a channel. Every row is filtered by the one above."""

    def __init__(self, file: IO[bytes], layout: Layout) -> None:
        self.file, self.layout = file, layout
        self.above = np.zeros((1, layout.width * layout.channels * layout.depth // 8), np.uint8)
        self.packer = zlib.compressobj(6)
        colour = COLOUR_TYPES[layout.channels]
        file.write(SIGNATURE)
        file.write(chunk(b"IHDR", struct.pack(">IIBBBBB", layout.width, layout.height, layout.depth, colour, 0, 0, 0)))
        if layout.icc:
            file.write(chunk(b"iCCP", b"icc\0\0" + zlib.compress(layout.icc)))

    def write(self, rows: Rows) -> None:
        """The next rows (h, W, C)."""
        lines = rows.astype(f">u{self.layout.depth // 8}", order="C").view(np.uint8).reshape(len(rows), -1)
        difference = lines - np.concatenate([self.above, lines[:-1]])  # the filter "Up", modulo 256
        self.above = lines[-1:].copy()
        up = np.full((len(lines), 1), 2, np.uint8)
        self._data(self.packer.compress(np.concatenate([up, difference], axis=1).tobytes()))

    def close(self) -> None:
        """The end of the file, after the last row."""
        self._data(self.packer.flush())
        self.file.write(chunk(b"IEND", b""))

    def _data(self, packed: bytes) -> None:
        if packed:
            self.file.write(chunk(b"IDAT", packed))


def _write_png(file: IO[bytes], layout: Layout, strips: Iterable[Rows]) -> None:
    png = PngRows(file, layout)
    for rows in strips:
        png.write(rows)
    png.close()


def _write_tiff(file: IO[bytes], layout: Layout, strips: Iterable[Rows]) -> None:
    alone = layout.channels == 1
    tifffile.imwrite(
        file,
        (zlib.compress(rows.tobytes()) for rows in _regular(strips, TIFF_STRIP)),
        shape=(layout.height, layout.width, layout.channels)[: 2 if alone else 3],
        dtype={8: np.uint8, 16: np.uint16, 32: np.float32}[layout.depth],
        photometric="minisblack" if layout.channels < 3 else "rgb",
        planarconfig=None if alone else "contig",
        extrasamples=["unassalpha"] if layout.channels in (2, 4) else None,
        rowsperstrip=TIFF_STRIP,
        compression="zlib",
        iccprofile=layout.icc,
        metadata=None,
    )


def _regular(strips: Iterable[Rows], height: int) -> Iterator[Rows]:
    """The same rows in strips of ``height``, the last one excepted."""
    held: list[Rows] = []
    for rows in strips:
        held = [np.concatenate([*held, rows])]
        while len(held[0]) > height:
            yield np.ascontiguousarray(held[0][:height])
            held = [held[0][height:]]
    yield from (np.ascontiguousarray(rows) for rows in held)


def _write_whole(suffix: str) -> Callable[[IO[bytes], Layout, Iterable[Rows]], None]:
    def write(file: IO[bytes], layout: Layout, strips: Iterable[Rows]) -> None:
        whole, top = np.empty((layout.height, layout.width, layout.channels), np.uint8), 0
        for rows in strips:
            whole[top : top + len(rows)] = rows
            top += len(rows)
        file.write(encode8(whole, suffix, layout.icc))

    return write
