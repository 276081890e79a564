"""Contrast-limited adaptive equalisation of histograms (Zuiderveld 1994)."""

from __future__ import annotations

import torch
from torch import Tensor

from restore.degradations.filtering import mirrored

__all__ = ["equalised"]

LEVELS = 256


def equalised(x: Tensor, clip: float, *, tiles: int = 8) -> Tensor:
    """A picture ``x`` (H, W) in [0, 1], the histogram of each of ``tiles`` x ``tiles`` parts spread over all levels.

    A value v becomes the share of pixels of its tile that are not above v, after all counts above ``clip`` times their mean
    are cut off and given to all 256 levels alike; no contrast grows more than (clip + 1)-fold. Between the middles of tiles
    their results are interpolated linearly.
    """
    if x.ndim != 2 or min(x.shape) < 1 or tiles < 1 or not clip >= 1:
        raise ValueError(f"x must be (H, W), clip and tiles at least 1, got {tuple(x.shape)}, {clip} and {tiles}")
    H, W = x.shape
    level = (x.clamp(0, 1) * (LEVELS - 1)).round().long()
    share = _shares(level, clip, tiles)
    (top, bottom, down), (left, right, across) = (_neighbours(n, tiles, x) for n in (H, W))
    rows = ((top[:, None], 1 - down[:, None]), (bottom[:, None], down[:, None]))
    columns = ((left, 1 - across), (right, across))
    return torch.stack([wr * wc * share[r, c, level] for r, wr in rows for c, wc in columns]).sum(0).to(x.dtype)


def _shares(level: Tensor, clip: float, tiles: int) -> Tensor:
    """Of each tile and level, the share of pixels that are not above it, of the clipped histogram: (tiles, tiles, 256)."""
    for dim in (0, 1):
        n = level.shape[dim]
        extra = -n % tiles
        level = mirrored(level, extra, dim).narrow(dim, extra, n + extra)
    height, width = (n // tiles for n in level.shape)
    parts = level.view(tiles, height, tiles, width).transpose(1, 2).reshape(tiles**2, -1)
    counts = torch.zeros(tiles**2, LEVELS, device=level.device).scatter_add(1, parts, torch.ones_like(parts, dtype=torch.float))
    most = clip * height * width / LEVELS
    excess = (counts - most).clamp(min=0).sum(1, keepdim=True)
    counts = counts.clamp(max=most) + excess / LEVELS
    return (counts.cumsum(1) / (height * width)).view(tiles, tiles, LEVELS)


def _neighbours(n: int, tiles: int, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of each of ``n`` samples, the tiles whose middles are before and after it, and the weight of the latter."""
    size = -(-n // tiles)
    place = ((torch.arange(n, device=like.device, dtype=torch.float) + 0.5) / size - 0.5).clamp(0, tiles - 1)
    before = place.floor().long()
    return before, (before + 1).clamp(max=tiles - 1), place - before
