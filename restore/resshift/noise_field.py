"""One field of noise under a whole picture, drawn window by window."""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from restore.resshift.tiles import Tile

__all__ = ["NoiseField"]


class NoiseField:
    """Standard Gaussian noise on a plane without end, of which any window is drawn alone, always the same.

    Cells of 64 x 64 come each from a generator of their own, so that what two tiles share has the same noise in both, and no
    more than the cells of one window are held. Member i of a batch has the noise of ``seed + i``.
    """

    CELL = 64

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def crop(self, like: Tensor, draw: int, top: int, left: int) -> Tensor:
        """Draw number ``draw`` in a window at (top, left), of the shape, dtype and device of ``like`` (B, C, h, w)."""
        members = [self._window(self.seed + i, draw, (top, left), tuple(like.shape[1:])) for i in range(len(like))]
        return torch.stack(members).to(like)

    def _window(self, seed: int, draw: int, corner: tuple[int, int], shape: tuple[int, ...]) -> Tensor:
        channels, height, width = shape
        rows, columns = (
            range(start // self.CELL, (start + length - 1) // self.CELL + 1)
            for start, length in zip(corner, (height, width), strict=True)
        )
        cells = [torch.cat([self._cell(seed, draw, r, c, channels) for c in columns], -1) for r in rows]
        top, left = corner[0] - rows[0] * self.CELL, corner[1] - columns[0] * self.CELL
        return torch.cat(cells, -2)[:, top : top + height, left : left + width]

    def _cell(self, seed: int, draw: int, row: int, column: int, channels: int) -> Tensor:
        digest = hashlib.blake2b(repr((seed, draw, row, column)).encode(), digest_size=8).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest, "little"))
        return torch.randn((channels, self.CELL, self.CELL), generator=generator)

    def under(self, tiles: Sequence[Tile]) -> Callable[[Tensor], Tensor]:
        """The source of noise for a walk over ``tiles``, one after the other along the batch; each call is the next draw.

        The walk's own grid may be coarser or finer than that of the tiles, by whole pixels: x is (tiles B, C, h, w).
        """
        draws = itertools.count()

        def noise(x: Tensor) -> Tensor:
            draw = next(draws)
            parts = x.chunk(len(tiles))
            return torch.cat([self.crop(p, draw, *_corner(t, p)) for t, p in zip(tiles, parts, strict=True)])

        return noise


def _corner(tile: Tile, x: Tensor) -> tuple[int, int]:
    """Where ``x`` (..., h, w), the tile's latents, begins on the grid of the whole picture's latents."""
    (top, over), (left, aside) = (
        divmod(start * length, side)
        for start, length, side in ((tile.top, x.shape[-2], tile.height), (tile.left, x.shape[-1], tile.width))
    )
    if over or aside:
        step = tile.height // math.gcd(tile.height, x.shape[-2])
        raise ValueError(f"stride must be a multiple of {step}, so that tiles begin on whole latents, got a tile at {tile}")
    return top, left
