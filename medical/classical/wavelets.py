"""Orthogonal wavelets on pictures and volumes that continue periodically, real and complex; PyWavelets gives the filters."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import EllipsisType

import torch
from torch import Tensor

__all__ = ["Wavelet"]


@dataclass(frozen=True)
class Wavelet:
    """The wavelet transform W of the last ``dims`` axes, orthogonal: ``W^H W = W W^H = 1``, ``inverse`` is the adjoint.

    Coefficients have the shape of the image, in the usual order: the approximation in the corner of low indices, of size
    ``n / 2^levels``, and around it the details, level by level. Equal to ``pywt.wavedec2(mode="periodization")``.
    Sides have to be multiples of ``2^levels``; ``padded_shape`` gives the next larger ones. Mallat 1989; Daubechies 1988.

    Parameters
    ----------
    name: an orthogonal wavelet of PyWavelets, such as "haar", "db4" or "sym8".
    levels: how often the approximation is split again.
    dims: 2 or 3.
    """

    name: str = "db4"
    levels: int = 4
    dims: int = 2

    def __post_init__(self) -> None:
        if self.levels < 1 or self.dims not in (2, 3):
            raise ValueError(f"levels must be at least 1 and dims 2 or 3, got {self.levels} and {self.dims}")
        filters(self.name)

    def padded_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """The smallest sides that are multiples of ``2^levels`` and at least those of ``shape``."""
        unit = 2**self.levels
        return tuple(math.ceil(n / unit) * unit for n in shape)

    def approximation(self, shape: Sequence[int]) -> tuple[EllipsisType | slice, ...]:
        """The index of the approximation in an array of ``shape``."""
        return self._corner(shape, self.levels)

    def forward(self, x: Tensor) -> Tensor:
        """``W x``, (..., H, W) or (..., D, H, W)."""
        self._check(x)
        low, high = filters(self.name)
        c = x.clone()
        for level in range(self.levels):
            part = c[self._corner(x.shape, level)]
            for axis in range(-self.dims, 0):
                part.copy_(analyse(part, low, high, axis))
        return c

    def inverse(self, c: Tensor) -> Tensor:
        """``W^H c = W^-1 c``."""
        self._check(c)
        low, high = filters(self.name)
        x = c.clone()
        for level in reversed(range(self.levels)):
            part = x[self._corner(c.shape, level)]
            for axis in range(-self.dims, 0):
                part.copy_(synthesise(part, low, high, axis))
        return x

    def _corner(self, shape: Sequence[int], level: int) -> tuple[EllipsisType | slice, ...]:
        return (..., *(slice(0, n >> level) for n in tuple(shape)[-self.dims :]))

    def _check(self, x: Tensor) -> None:
        sides = tuple(x.shape[-self.dims :])
        if x.ndim < self.dims or any(n % 2**self.levels for n in sides):
            raise ValueError(
                f"{self!r} takes sides that are multiples of {2**self.levels}, got {sides}; pad to {self.padded_shape(sides)}"
            )


@lru_cache
def filters(name: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Low- and high-pass analysis filters; ``ValueError`` unless ``name`` is an orthogonal wavelet."""
    import pywt

    if name not in pywt.wavelist(kind="discrete") or not pywt.Wavelet(name).orthogonal or name == "dmey":
        raise ValueError(f'name must be an orthogonal wavelet such as "haar", "db4", "sym8" or "coif2", got {name!r}')
    wavelet = pywt.Wavelet(name)
    return tuple(wavelet.dec_lo), tuple(wavelet.dec_hi)


def analyse(x: Tensor, low: Sequence[float], high: Sequence[float], axis: int) -> Tensor:
    """``a[k] = sum_j low[j] x[2 k + L / 2 - j]`` and ``d`` alike with ``high``, indices modulo n, one behind the other."""
    half, L = x.shape[axis] // 2, len(low)
    even, odd = _phases(x, axis)
    out = torch.zeros_like(x, memory_format=torch.contiguous_format)
    a, d = out.narrow(axis, 0, half), out.narrow(axis, half, half)
    for j in range(L):
        shift, parity = divmod(L // 2 - j, 2)
        tap = torch.roll(odd if parity else even, -shift, axis)
        a.add_(tap, alpha=low[j])
        d.add_(tap, alpha=high[j])
    return out


def synthesise(c: Tensor, low: Sequence[float], high: Sequence[float], axis: int) -> Tensor:
    """The adjoint of ``analyse``, which is its inverse."""
    half, L = c.shape[axis] // 2, len(low)
    a, d = c.narrow(axis, 0, half), c.narrow(axis, half, half)
    out = torch.zeros_like(c, memory_format=torch.contiguous_format)
    even, odd = _phases(out, axis)
    for j in range(L):
        shift, parity = divmod(L // 2 - j, 2)
        (odd if parity else even).add_(torch.roll(low[j] * a + high[j] * d, shift, axis))
    return out


def _phases(x: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """Views of the even and of the odd samples."""
    axis = axis % x.ndim
    index = (slice(None),) * axis
    return x[(*index, slice(0, None, 2))], x[(*index, slice(1, None, 2))]
