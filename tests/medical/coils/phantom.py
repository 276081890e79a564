"""Coils whose maps are trigonometric polynomials, so that the signal space of ESPIRiT is exact."""

from __future__ import annotations

import torch
from torch import Tensor

from medical.operators.centred import centred_fft


def smooth_maps(coils: int, shape: tuple[int, ...], *, seed: int) -> Tensor:
    """Maps (C, *shape), complex128, with frequencies -1, 0 and 1 along each axis."""
    generator = torch.Generator().manual_seed(seed)
    maps = torch.randn(coils, *[3] * len(shape), dtype=torch.complex128, generator=generator)
    for n in shape:
        waves = torch.exp(2j * torch.pi / n * torch.outer(torch.arange(n).double() - n // 2, torch.arange(-1, 2)))
        maps = torch.tensordot(maps, waves, dims=([1], [1]))  # the axis done goes last, the next one comes first
    return maps


def unit(maps: Tensor) -> Tensor:
    """Maps (C, ...) with a sum of squares of one at each pixel."""
    return maps / torch.linalg.vector_norm(maps, dim=0)


def textured(shape: tuple[int, ...], *, seed: int) -> Tensor:
    return torch.randn(shape, dtype=torch.complex128, generator=torch.Generator().manual_seed(seed))


def kspace_of(maps: Tensor, image: Tensor) -> Tensor:
    return centred_fft(maps * image, image.ndim)


def alignment(a: Tensor, b: Tensor) -> Tensor:
    """``|<a, b>| / (|a| |b|)`` over the coils (C, ...), pixel by pixel; NaN where one is zero."""
    return (a.conj() * b).sum(0).abs() / (torch.linalg.vector_norm(a, dim=0) * torch.linalg.vector_norm(b, dim=0))
