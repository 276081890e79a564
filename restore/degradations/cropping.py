"""Squares cut from photographs for training and benchmarks, and the eight ways to turn and mirror them."""

from __future__ import annotations

import torch
from torch import Tensor

from restore.degradations.draws import choose, happens
from restore.degradations.filtering import mirrored
from restore.degradations.resizing import area_resize

__all__ = ["benchmark_crop", "eightfold", "paired_crop", "training_crop"]


def training_crop(image: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Of one image (C, H, W), the random square as wide as its shorter side, reduced to (C, size, size), perhaps mirrored.

    An image smaller than ``size`` is continued by mirroring.
    """
    _check(image, size)
    image = image.flip(-1) if happens(generator, 0.5) else image
    side = max(min(image.shape[-2:]), size)
    image = _at_least(image, side)
    top, left = (choose(generator, [1.0] * (n - side + 1)) for n in image.shape[-2:])
    return area_resize(image[..., top : top + side, left : left + side], (size, size))


def benchmark_crop(image: Tensor, size: int) -> Tensor:
    """Of one image (C, H, W), reduced or enlarged so that its shorter side is ``size``, the middle (C, size, size)."""
    _check(image, size)
    H, W = image.shape[-2:]
    height, width = (max(size, round(n * size / min(H, W))) for n in (H, W))
    top, left = (height - size) // 2, (width - size) // 2
    return area_resize(image, (height, width))[..., top : top + size, left : left + size]


def paired_crop(truth: Tensor, degraded: Tensor, size: int, *, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """The same random square of two batches, ``size`` pixels of ``degraded`` (B, C, h, w) and as much of ``truth``.

    ``truth`` must be larger than ``degraded`` by a whole factor.
    """
    (H, W), (h, w) = truth.shape[-2:], degraded.shape[-2:]
    factor = H // h
    if (factor * h, factor * w) != (H, W) or not 1 <= size <= min(h, w):
        raise ValueError(
            f"truth must be larger than degraded by a whole factor and size within 1..{min(h, w)}, "
            f"got {H} x {W}, {h} x {w} and size={size}"
        )
    top, left = (choose(generator, [1.0] * (n - size + 1)) for n in (h, w))
    small = degraded[..., top : top + size, left : left + size]
    top, left, size = factor * top, factor * left, factor * size
    return truth[..., top : top + size, left : left + size], small


def eightfold(x: Tensor, mode: int) -> Tensor:
    """``x`` (..., H, W) after ``mode // 2`` quarter turns to the left and, for an odd ``mode``, mirrored upside down."""
    if mode not in range(8):
        raise ValueError(f"mode must be one of 0..7, got {mode}")
    turned = x.rot90(mode // 2, (-2, -1))
    return turned.flip(-2) if mode % 2 else turned


def _at_least(image: Tensor, side: int) -> Tensor:
    """``image`` continued to the right and to the bottom where it is smaller than ``side``."""
    for dim in (-2, -1):
        n = image.shape[dim]
        missing = max(0, side - n)
        image = mirrored(image, missing, dim).narrow(dim, missing, n + missing)
    return image


def _check(image: Tensor, size: int) -> None:
    if image.ndim != 3 or size < 1:
        raise ValueError(f"image must be (C, H, W) and size at least 1, got {tuple(image.shape)} and size={size}")
