"""Resizing: the plain interpolations of the degradations, exact area means, and the cubic convolution of MATLAB."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from inverse.operators.resize import resize
from restore.degradations.draws import check_range, choose, uniform
from restore.degradations.precision import without_autocast

__all__ = ["MODES", "ResizeRanges", "Resizing", "area_resize", "draw_mode", "matlab_bicubic", "rescale", "resize_to"]

MODES = ("area", "bilinear", "bicubic")
"""The interpolations that are drawn from; bilinear and bicubic (a = -0.75) have no antialiasing."""


@dataclass(frozen=True)
class Resizing:
    """One drawn resizing: by ``scale``, in ``mode``, one of ``MODES``."""

    scale: float
    mode: str


@dataclass(frozen=True, kw_only=True)
class ResizeRanges:
    """What a resizing is drawn from, for the whole batch.

    Attributes
    ----------
    probabilities: of enlarging, reducing and keeping the size.
    scales: (low, high), low <= 1 <= high: the scale is U[1, high] on enlarging and U[low, 1] on reducing.
    """

    probabilities: tuple[float, float, float] = (0.2, 0.7, 0.1)
    scales: tuple[float, float] = (0.15, 1.5)

    def __post_init__(self) -> None:
        if len(self.probabilities) != 3 or min(self.probabilities) < 0 or sum(self.probabilities) <= 0:
            raise ValueError(
                f"probabilities must be three weights, up, down, keep, not negative, not all zero, got {self.probabilities}"
            )
        check_range("scales", self.scales, 1e-3, 1e3)
        if not self.scales[0] <= 1 <= self.scales[1]:
            raise ValueError(f"scales must be (low, high) with low <= 1 <= high, got {self.scales}")

    def draw(self, generator: torch.Generator) -> Resizing:
        """A scale and a mode."""
        low, high = self.scales
        ranges = ((1, high), (low, 1), (1, 1))
        scale = uniform(generator, *ranges[choose(generator, self.probabilities)])
        return Resizing(scale, draw_mode(generator))


def draw_mode(generator: torch.Generator) -> str:
    """One of ``MODES``, each as likely."""
    return MODES[choose(generator, [1.0] * len(MODES))]


def rescale(x: Tensor, scale: float, mode: str) -> Tensor:
    """The images (B, C, H, W) at ``floor(scale H)`` x ``floor(scale W)``; pixel i samples at ``(i + 1/2) / scale - 1/2``.

    The given scale sets the grid, not the ratio of the sizes; what the rounding cuts off lies at the right and the bottom.
    Area means are of blocks of whole pixels that fill the image.
    """
    _check(x, mode)
    if min(math.floor(n * scale) for n in x.shape[-2:]) < 1:
        raise ValueError(f"scale {scale:g} leaves no pixel of images {x.shape[-2]} x {x.shape[-1]}; give larger images")
    return F.interpolate(x, scale_factor=scale, mode=mode)


def resize_to(x: Tensor, size: tuple[int, int], mode: str) -> Tensor:
    """The images (B, C, H, W) at ``size`` = (height, width); the ratio of the sizes sets the grid."""
    _check(x, mode)
    if min(size) < 1:
        raise ValueError(f"size must be (height, width), each at least 1, got {size}")
    return F.interpolate(x, size=tuple(size), mode=mode)


def area_resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    """The images (..., H, W) at ``size``, every pixel the mean over its footprint, edge pixels by the share that is covered.

    On reduction this is OpenCV's INTER_AREA.
    """
    if min(size) < 1:
        raise ValueError(f"size must be (height, width), each at least 1, got {size}")
    rows, columns = (_overlaps(n, m).to(x) for n, m in zip(x.shape[-2:], size, strict=True))
    with without_autocast(x):
        return rows @ x @ columns.mT


def _overlaps(n: int, m: int) -> Tensor:
    """Shares (m, n), float64: of each of ``m`` equal parts of an axis of ``n`` samples, how much lies in each sample."""
    left = torch.arange(m, dtype=torch.float64)[:, None] * n / m
    j = torch.arange(n, dtype=torch.float64)
    covered = torch.minimum(left + n / m, j + 1) - torch.maximum(left, j)
    return covered.clamp(min=0) * m / n


def matlab_bicubic(x: Tensor, scale: float) -> Tensor:
    """The images (..., H, W) at ``ceil(scale H)`` x ``ceil(scale W)`` as MATLAB's ``imresize``: x4 test sets are made so.

    Cubic convolution (a = -1/2), stretched by ``1 / scale`` on reduction against aliasing; beyond the edge the image is
    mirrored, the edge sample repeated. Values may leave [0, 1]; nothing is clipped or rounded. Images of whole numbers
    become what MATLAB writes by rounding and clipping.
    """
    with without_autocast(x):
        return resize(x, scale)


def _check(x: Tensor, mode: str) -> None:
    if mode not in MODES:
        raise ValueError(f"mode must be one of {', '.join(MODES)}, got {mode!r}")
    if x.ndim != 4:
        raise ValueError(f"x must be a batch of images (B, C, H, W), got {tuple(x.shape)}")
