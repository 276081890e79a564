"""Resizing by cubic convolution, antialiased on reduction, as MATLAB's ``imresize`` and the DPS paper's measurements."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from inverse.operators.boundary import source
from inverse.operators.filters import Filter

__all__ = ["area_filter", "bicubic_filter", "cubic", "resize", "resize_weights"]

ROUNDING = 1e-9  # what is closer than this to a whole number, or to zero, is one


def cubic(x: Tensor, a: float = -0.5) -> Tensor:
    """The interpolation kernel of Keys 1981: piecewise cubic, one at 0, zero at other integers and beyond 2."""
    x = x.abs()
    near = (a + 2) * x**3 - (a + 3) * x**2 + 1
    far = a * (x**3 - 5 * x**2 + 8 * x - 4)
    return torch.where(x <= 1, near, torch.where(x < 2, far, 0))


def resize_weights(n: int, scale: float) -> tuple[Tensor, Tensor]:
    """``(index, weight)``, each (ceil(n scale), taps): which of ``n`` samples each output mixes, and how much of each.

    Output i sits at ``(i + 1/2) / scale - 1/2``. On reduction the kernel is stretched by ``1 / scale``, so that it also
    removes what the coarser grid cannot hold. Beyond the edge the samples are mirrored, the edge sample repeated; the
    weights of an output, float64, sum to one. Taps that no output needs are left out.
    """
    stretch = max(1.0, 1 / scale)
    u = (torch.arange(math.ceil(n * scale - ROUNDING), dtype=torch.float64) + 0.5) / scale - 0.5
    first = torch.floor(u - 2 * stretch + 0.5).long()
    index = first[:, None] + torch.arange(math.ceil(4 * stretch) + 2)
    weight = cubic((u[:, None] - index) / stretch)
    weight = weight / weight.sum(1, keepdim=True)
    used = (weight.abs() > ROUNDING).any(0)
    return source(index[:, used], n, "symmetric"), weight[:, used]


def resize_matrix(n: int, scale: float) -> Tensor:
    """The resizing of ``n`` samples as a matrix (ceil(n scale), n), float64."""
    index, weight = resize_weights(n, scale)
    return torch.zeros(len(index), n, dtype=torch.float64).scatter_add(1, index, weight)


def resize(x: Tensor, scale: float) -> Tensor:
    """The image ``x`` (..., H, W) at ``scale`` times its height and width, rounded up; larger or smaller, any ratio."""
    if not 0 < scale < math.inf:
        raise ValueError(f"scale must be positive and finite, got {scale}")
    rows, columns = (resize_matrix(n, scale).to(x) for n in x.shape[-2:])
    return rows @ x @ columns.mT


def area_filter(factor: int) -> Filter:
    """The mean of ``factor`` samples, one output for every block."""
    return Filter((1 / factor,) * factor, 0, "symmetric", factor)


def bicubic_filter(factor: int) -> Filter:
    """``resize_weights`` at scale ``1 / factor`` where the size is divisible: the same taps for every output."""
    centre = (factor - 1) / 2  # of the block of samples 0..factor-1 that becomes output 0
    before = 2 * factor - 1 - math.floor(centre)
    j = torch.arange(-before, factor + before, dtype=torch.float64)
    taps = cubic((j - centre) / factor)
    return Filter(tuple((taps / taps.sum()).tolist()), before, "symmetric", factor)
