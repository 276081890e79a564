"""The operators of DDRM (Kawar et al. 2022), which RED-Diff and DDNM share, as their published code defines them.

Their blurs lose the last tap of an odd kernel and cut off small singular values. Ours, ``Blur`` and ``Downsample``, do
neither; these are for comparing figures. Images are square, (C, size, size).
"""

from __future__ import annotations

import torch
from torch import Tensor

from inverse.operators.base import Shape
from inverse.operators.filters import Filter
from inverse.operators.noise import Noise
from inverse.operators.resize import cubic
from inverse.operators.separable import Separable

__all__ = ["CUTOFF", "bicubic", "deblur", "gaussian_taps", "uniform_taps"]

CUTOFF = 0.03
"""Singular values of the one-dimensional matrices below this count as zero."""


def uniform_taps(width: int = 9) -> Tensor:
    """The box of ``deblur_uni``."""
    return torch.full((width,), 1 / width, dtype=torch.float64)


def gaussian_taps(sigma: float = 25.0, radius: int = 2) -> Tensor:
    """The Gaussian of ``deblur_gauss``: sigma 25 in RED-Diff, 10 in DDRM and DDNM, over 5 taps."""
    x = torch.arange(-radius, radius + 1, dtype=torch.float64)
    taps = torch.exp(-0.5 * (x / sigma) ** 2)
    return taps / taps.sum()


def deblur(taps: Tensor, shape: Shape, *, cutoff: float = CUTOFF, noise: Noise | None = None) -> Separable:
    """A blur with ``taps`` along both axes, zero beyond the edge, without the last tap of an odd number of them."""
    reach = len(taps) // 2
    kept = Filter(tuple(taps[: 2 * reach].tolist()), reach, "zero")
    return _square(kept, shape, cutoff, noise)


def bicubic(factor: int, shape: Shape, *, cutoff: float = CUTOFF, noise: Noise | None = None) -> Separable:
    """The reduction ``bicubicR``: 4 R cubic taps from 2 R before the pixel ``R / 2 + k R``, the edges mirrored."""
    offset = (torch.arange(4 * factor, dtype=torch.float64) + 0.5) / factor - 2
    taps = cubic(offset)
    kept = Filter(tuple((taps / taps.sum()).tolist()), 2 * factor - factor // 2, "symmetric", factor)
    return _square(kept, shape, cutoff, noise)


def _square(taps: Filter, shape: Shape, cutoff: float, noise: Noise | None) -> Separable:
    if len(shape) != 3 or shape[1] != shape[2] or shape[1] % taps.stride:
        raise ValueError(f"shape must be (C, size, size) with a size that {taps.stride} divides, got {tuple(shape)}")
    matrix = taps.matrix(shape[1])
    return Separable(matrix, matrix, cutoff=cutoff, shape=shape, noise=noise)
