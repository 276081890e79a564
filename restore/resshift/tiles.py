"""Large pictures: padding to what a network takes, and overlapping tiles joined without seams."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["BLENDS", "Tile", "Tiling", "pad_to_multiple", "tile_starts"]

BLENDS = ("gaussian", "average")
"""How tiles are joined where they overlap."""

EDGE = 1e-3
"""What the outermost pixel of a tile weighs against its neighbour, at most about: below 1/255, so that no edge shows."""


def pad_to_multiple(image: Tensor, multiple: int) -> Tensor:
    """``image`` (..., H, W) continued to the right and below until both sides are multiples of ``multiple``.

    The picture is mirrored at its edge pixels as often as it takes, ``abc`` going on as ``abc|babcb``, so that any size can
    be padded; one pixel is repeated. Sides that fit already are not copied.
    """
    if multiple < 1:
        raise ValueError(f"multiple must be at least 1, got {multiple}")
    for dim in (-2, -1):
        length = image.shape[dim]
        wanted = -(-length // multiple) * multiple
        if length < 1:
            raise ValueError(f"image must have at least one pixel a side, got shape {tuple(image.shape)}")
        if wanted > length:
            period = max(2 * (length - 1), 1)
            index = torch.arange(wanted, device=image.device) % period
            image = image.index_select(dim, torch.minimum(index, period - index) if length > 1 else torch.zeros_like(index))
    return image


def tile_starts(length: int, tile: int, stride: int) -> list[int]:
    """Where tiles begin on a side: 0, stride, 2 stride, ..., each moved back where it would end past ``length``."""
    last = max(length - tile, 0)
    return list(dict.fromkeys(min(start, last) for start in range(0, length, stride)))


@dataclass(frozen=True)
class Tile:
    """A rectangle of pixels of the degraded picture."""

    top: int
    left: int
    height: int
    width: int

    def crop(self, image: Tensor) -> Tensor:
        """The part of ``image`` (..., H, W) within the tile."""
        return image[..., self.top : self.top + self.height, self.left : self.left + self.width]


@dataclass(frozen=True, kw_only=True)
class Tiling:
    """How pictures are cut; sides in pixels of the degraded picture.

    With ``average``, as published, all tiles weigh the same where they overlap, and their edges show. With ``gaussian`` a
    tile weighs ``exp(-d^2 / (2 s^2))`` at the distance d from its middle, divided by the sum over the tiles there; s follows
    from the overlap, so that at its edges a tile weighs a thousandth of its neighbour and no step remains.

    Attributes
    ----------
    tile: side of a tile; sides of the picture up to that are not cut.
    stride: from one tile to the next; what is left is the overlap.
    blend: a name in ``BLENDS``.
    batch: tiles of a row that are restored together.
    """

    tile: int = 512
    stride: int = 448
    blend: str = "gaussian"
    batch: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.stride <= self.tile:
            raise ValueError(f"stride must lie in 1..tile, so that tiles leave no gap, got {self.stride} for tile={self.tile}")
        if self.blend not in BLENDS:
            raise ValueError(f"blend must be one of {', '.join(BLENDS)}, got {self.blend!r}")
        if self.batch < 1:
            raise ValueError(f"batch must be at least 1, got {self.batch}")

    def grid(self, size: tuple[int, int]) -> list[list[Tile]]:
        """The tiles of a picture of this ``size`` (H, W), rows of them from the top, each from the left."""
        (height, width), (tops, lefts) = size, (tile_starts(length, self.tile, self.stride) for length in size)
        return [[Tile(y, x, min(self.tile, height), min(self.tile, width)) for x in lefts] for y in tops]

    def weights(self, length: int, *, factor: int = 1) -> Tensor:
        """The weights (n, factor tile) of the n tiles of a side, float64, for a result ``factor`` times larger.

        The weight of a pixel is that of its row times that of its column; over the tiles at a pixel they sum to one.
        """
        starts, size = tile_starts(length, self.tile, self.stride), min(self.tile, length)
        pixels = (torch.arange(length * factor, dtype=torch.float64) + 0.5) / factor
        distance = pixels - (torch.tensor(starts, dtype=torch.float64)[:, None] + size / 2)
        overlap = max(size - self.stride, 1)
        # one tile against the next at an edge: d = size/2 here and size/2 - overlap there
        sharpness = math.log(1 / EDGE) / max(overlap * (size - overlap), 1) if self.blend == "gaussian" else 0.0
        logits = (-sharpness * distance**2).masked_fill(distance.abs() > size / 2, -math.inf)
        shares = logits.softmax(0)
        return torch.stack([row[s * factor : (s + size) * factor] for row, s in zip(shares, starts, strict=True)])

    def strips(
        self, restore: Callable[[Sequence[Tile]], Tensor], size: tuple[int, int], *, factor: int = 1
    ) -> Iterator[Tensor]:
        """The joined result for a picture of ``size`` (H, W) from the top, as strips (B, C, h, factor W) as they get ready.

        ``restore(tiles)`` gives the results of up to ``batch`` tiles of a row, one after the other along the batch,
        (tiles B, C, factor tile, factor tile). What is held is one row of tiles.
        """
        rows, (down, across) = self.grid(size), (self.weights(length, factor=factor) for length in size)
        held: Tensor | None = None
        for i, row in enumerate(rows):
            height, width = row[0].height * factor, row[0].width * factor
            for j in range(0, len(row), self.batch):
                group = row[j : j + self.batch]
                for k, part in enumerate(restore(group).chunk(len(group))):
                    if held is None:
                        held = part.new_zeros(*part.shape[:-2], height, size[1] * factor)
                    left = group[k].left * factor
                    held[..., left : left + width] += part * (down[i][:, None] * across[j + k]).to(part)
            if held is None:
                raise ValueError(f"size must be positive, got {size}")
            done = (rows[i + 1][0].top - row[0].top) * factor if i + 1 < len(rows) else height
            yield held[..., :done, :]
            if i + 1 < len(rows):
                held = torch.cat([held[..., done:, :], torch.zeros_like(held[..., :done, :])], -2)
