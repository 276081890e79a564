"""Large images in overlapping tiles, joined by a smooth window.

An image is cut along each side into tiles of equal size that overlap by at least ``overlap`` pixels. Between two
neighbours there is a cut, in the middle of what they share, and around it a ramp half as wide as ``overlap``. So a pixel
within ``overlap / 4`` of a tile's inner edge has no weight there: what is local with that reach is reproduced exactly.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

__all__ = ["Tiling", "Window"]


@dataclass(frozen=True)
class Window:
    """A rectangle of pixels: rows ``top`` to ``bottom`` and columns ``left`` to ``right``, ends excluded."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.bottom - self.top, self.right - self.left

    def crop(self, image: Tensor) -> Tensor:
        """The part of ``image`` (..., H, W) within the window."""
        return image[..., self.top : self.bottom, self.left : self.right]

    def __mul__(self, factor: int) -> Window:
        return Window(self.top * factor, self.bottom * factor, self.left * factor, self.right * factor)


@dataclass(frozen=True, kw_only=True)
class Tiling:
    """How large images are cut; sides in pixels of the restored image.

    Attributes
    ----------
    tile: side of a tile; 0 never cuts.
    overlap: what neighbours share, at least; at most half a tile.
    above: images of up to this many megapixels are not cut.
    """

    tile: int = 512
    overlap: int = 64
    above: float = 4.0

    def __post_init__(self) -> None:
        if self.tile < 0 or self.overlap < 0 or (self.tile and 2 * self.overlap > self.tile):
            raise ValueError(
                f"tile must be 0 or at least twice overlap, both >= 0, got tile={self.tile} and overlap={self.overlap}"
            )

    def reaching(self, pixels: int) -> Tiling:
        """The same, with an overlap and tiles that do for an operator that mixes pixels this far apart."""
        overlap = max(self.overlap, 4 * pixels)
        return replace(self, overlap=overlap, tile=max(self.tile, 2 * overlap) if self.tile else 0)

    def windows(self, size: tuple[int, int], *, scale: int = 1) -> list[Window]:
        """The tiles of a measurement of this ``size`` (H, W), row by row; its restored image is ``scale`` times larger."""
        height, width = size
        if not self.tile or height * width * scale**2 <= self.above * 1e6:
            return [Window(0, height, 0, width)]
        rows, columns = (_spans(length, self._tile(scale), self._overlap(scale)) for length in size)
        return [Window(*row, *column) for row in rows for column in columns]

    def map(self, f: Callable[[Window], Tensor], size: tuple[int, int], *, scale: int = 1) -> Tensor:
        """The results of ``f`` over the windows of ``size``, blended: (..., scale H, scale W).

        ``f`` gives (..., scale h, scale w) for a window of h x w. One tile and the sum are held at a time.
        """
        windows = self.windows(size, scale=scale)
        if len(windows) == 1:
            return f(windows[0])
        total: Tensor | None = None
        for window in windows:
            part = f(window)
            if total is None:
                total = part.new_zeros(*part.shape[:-2], size[0] * scale, size[1] * scale)
            (window * scale).crop(total).add_(part * self.weight(window, size, scale=scale).to(part))
        if total is None:
            raise ValueError(f"size must be positive, got {size}")
        return total

    def weight(self, window: Window, size: tuple[int, int], *, scale: int = 1) -> Tensor:
        """The blend weights (scale h, scale w) of a window, float64; over all windows of ``size`` they sum to one."""
        sides = zip(size, ((window.top, window.bottom), (window.left, window.right)), strict=True)
        tile, overlap = self._tile(scale), self._overlap(scale)
        row, column = (_profile(span, _spans(length, tile, overlap), overlap // 2, scale) for length, span in sides)
        return row[:, None] * column

    def _tile(self, scale: int) -> int:
        return max(self.tile // scale, 2 * self._overlap(scale), 1)

    def _overlap(self, scale: int) -> int:
        return math.ceil(self.overlap / scale)


def _spans(length: int, tile: int, overlap: int) -> list[tuple[int, int]]:
    if length <= tile:
        return [(0, length)]
    count = math.ceil((length - overlap) / (tile - overlap))
    starts = [round(i * (length - tile) / (count - 1)) for i in range(count)]
    return [(start, start + tile) for start in starts]


def _profile(span: tuple[int, int], spans: list[tuple[int, int]], ramp: int, scale: int) -> Tensor:
    # the difference of two neighbouring steps, so that all profiles of a side telescope to one
    index = spans.index(span)
    pixels = torch.arange(span[0] * scale, span[1] * scale, dtype=torch.float64) + 0.5
    rise, fall = torch.ones_like(pixels), torch.zeros_like(pixels)
    if index > 0:
        rise = _step(pixels, (spans[index - 1][1] + span[0]) / 2 * scale, ramp * scale)
    if index < len(spans) - 1:
        fall = _step(pixels, (span[1] + spans[index + 1][0]) / 2 * scale, ramp * scale)
    return rise - fall


def _step(pixels: Tensor, cut: float, ramp: int) -> Tensor:
    u = ((pixels - cut) / max(ramp, 1) + 0.5).clamp(0, 1)
    return torch.sin(u * (math.pi / 2)) ** 2
