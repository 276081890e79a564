"""Convolution by Fourier transform, and the real Fourier transforms: what blurs and Fourier measurements share."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["by_parts", "convolve", "fast_length", "hartley"]


def by_parts(f: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """``f`` of a complex image, for a real linear ``f``, from its real and imaginary part."""
    return torch.complex(f(x.real), f(x.imag)) if x.is_complex() else f(x)


def convolve(x: Tensor, transfer: Tensor, grid: tuple[int, int] | None = None) -> Tensor:
    """The circular convolution of real images with a kernel of the given ``rfft2``, on a ``grid`` at least as large."""
    grid = grid or (x.shape[-2], x.shape[-1])
    return torch.fft.irfft2(torch.fft.rfft2(x, s=grid) * transfer, s=grid)


def hartley(x: Tensor) -> Tensor:
    """The Hartley transform of real images: real, orthonormal, its own inverse."""
    X = torch.fft.fft2(x, norm="ortho")
    return X.real - X.imag


def fast_length(n: int) -> int:
    """The smallest length from ``n`` on without prime factors above 5."""
    while True:
        rest = n
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return n
        n += 1
