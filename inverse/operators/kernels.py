"""Blur kernels: the image that a single bright point becomes, (h, w), summing to one."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["gaussian_kernel", "line_kernel", "motion_kernel"]


def gaussian_kernel(sigma: float, *, truncate: float = 4.0) -> Tensor:
    """A Gaussian of ``sigma`` pixels, cut off at ``truncate`` sigma, rounded to a pixel, as SciPy's filter does; float64."""
    if not 0 < sigma < math.inf:
        raise ValueError(f"sigma must be positive and finite, got {sigma}")
    radius = int(truncate * sigma + 0.5)
    x = torch.arange(-radius, radius + 1, dtype=torch.float64)
    taps = torch.exp(-0.5 * (x / sigma) ** 2)
    taps = taps / taps.sum()
    return torch.outer(taps, taps)


def line_kernel(length: float, angle: float = 0.0) -> Tensor:
    """A straight motion over ``length`` pixels at ``angle`` degrees, from the x axis towards the top; float64.

    The value of a pixel is the share of the way that lies in it.
    """
    if not 1 <= length < math.inf:
        raise ValueError(f"length must be at least one pixel, got {length}")
    if not math.isfinite(angle):
        raise ValueError(f"angle must be finite, got {angle}")
    steps = 256 * math.ceil(length)
    along = ((torch.arange(steps, dtype=torch.float64) + 0.5) / steps - 0.5) * length
    radians = math.radians(angle)
    reach = math.ceil(length / 2 - 0.5)
    row, column = ((direction * along).round().long() + reach for direction in (-math.sin(radians), math.cos(radians)))
    size = 2 * reach + 1
    return torch.bincount(row * size + column, minlength=size * size).view(size, size).double() / steps


def motion_kernel(size: int = 61, intensity: float = 0.5, *, seed: int = 0) -> Tensor:
    """The trace (size, size) of a shaking hand, float64: smooth, random, the same for the same ``seed``.

    The direction of travel is a smoothed random walk, so that ``intensity`` 0 is a straight line, 0.5 a hook or an arc
    and 1 a scribble. The trace is as large as fits with a margin, and its centre of mass is the middle pixel.
    """
    if size < 3 or size % 2 == 0:
        raise ValueError(f"size must be odd and at least 3, got {size}")
    if not 0 <= intensity <= 1:
        raise ValueError(f"intensity must be in [0, 1], got {intensity}")
    steps = 32 * size
    generator = torch.Generator().manual_seed(seed)
    start = 2 * math.pi * torch.rand((), generator=generator, dtype=torch.float64)
    turns = torch.randn(steps, generator=generator, dtype=torch.float64)
    window = torch.hann_window(4 * size + 1, periodic=False, dtype=torch.float64)
    turns = torch.nn.functional.conv1d(turns.view(1, 1, -1), (window / window.norm()).view(1, 1, -1), padding="same").flatten()
    heading = start + 8 * intensity * turns.cumsum(0) / math.sqrt(steps * len(window))
    path = torch.stack([heading.sin(), heading.cos()], 1).cumsum(0)
    path = path - path.mean(0)
    return _trace(path * ((size - 3) / 2 / path.abs().max()), size)


def _trace(path: Tensor, size: int) -> Tensor:
    """The kernel of equal time at every point of ``path`` (P, 2), rows and columns from the middle pixel, bilinearly."""
    at = path + size // 2
    low = at.floor().long().clamp(0, max(size - 2, 0))
    share = at - low
    kernel = torch.zeros(size * size, dtype=torch.float64)
    for down, right in ((0, 0), (0, 1), (1, 0), (1, 1)):
        row = share[:, 0] if down else 1 - share[:, 0]
        column = share[:, 1] if right else 1 - share[:, 1]
        index = ((low[:, 0] + down) * size + low[:, 1] + right).clamp(max=size * size - 1)
        kernel.index_add_(0, index, row * column)
    kernel = kernel.clamp(min=0)
    return (kernel / kernel.sum()).view(size, size)
