r"""The non-uniform Fourier transform by gridding with a Kaiser-Bessel kernel, in torch, on any device.

    C(u) = I_0(beta sqrt(1 - (2 u / w)^2)) for |u| <= w / 2,   beta = pi sqrt((w / s)^2 (s - 1/2)^2 - 0.8)

on a grid oversampled s = 2 times, with kernels w grid points wide (Beatty, Nishimura & Pauly 2005). The image is divided by
the Fourier transform of the kernel, ``w sinh(a) / a`` with ``a = sqrt(beta^2 - (pi w nu)^2)``, before the FFT.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor

from inverse.operators.base import Shape

__all__ = ["OVERSAMPLING", "WIDTH", "KaiserBessel"]

OVERSAMPLING = 2
WIDTH = {torch.float32: 7, torch.float64: 14}
"""Grid points under the kernel: relative errors of 8e-7 and 1e-13 (6 points: 7e-6, 12: 1e-11)."""

_CHUNK = {True: 2**20, False: 2**24}  # grid values gathered at a time: on the CPU no more than its cache holds


class KaiserBessel:
    """``y_j = sum_r x[r] exp(-i k_j . r)`` with ``r_d = index - N_d // 2``, and its exact adjoint.

    Parameters
    ----------
    trajectory: k, float64 (K, d) on the CPU, rad/pixel.
    shape: the image, d sides N_d.
    dtype: float32 or float64, of the interpolation; it sets the width of the kernel.
    device: where the transform runs. Sums on CUDA devices come in no fixed order and differ in the last digit.
    width: w, grid points under the kernel, by default ``WIDTH[dtype]``.
    beta: the shape of the kernel, by default the formula above.
    """

    def __init__(
        self,
        trajectory: Tensor,
        shape: Shape,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        width: int | None = None,
        beta: float | None = None,
    ) -> None:
        w, s = width or WIDTH[dtype], OVERSAMPLING
        self.shape, self.width, self.points = shape, w, len(trajectory)
        self.grid = tuple(s * n for n in shape)
        self.beta = beta or math.pi * math.sqrt((w / s) ** 2 * (s - 0.5) ** 2 - 0.8)
        u = trajectory * torch.tensor(self.grid) / (2 * math.pi)
        first = (u - w / 2).ceil()
        near = first[..., None] + torch.arange(w)  # (K, d, w), the grid points under the kernel
        self._weights = self.kernel(u[..., None] - near).to(device, dtype)
        self._near = (near.long() % torch.tensor(self.grid)[:, None]).to(device)
        r = [torch.arange(n, dtype=torch.float64) - n // 2 for n in shape]
        transforms = [self.transform(axis / size).to(device, dtype) for axis, size in zip(r, self.grid, strict=True)]
        self._apodisation = _outer(transforms)

    @property
    def mass(self) -> float:
        """The integral of the kernel along one axis, in grid points."""
        return self.width * math.sinh(self.beta) / self.beta

    def kernel(self, u: Tensor) -> Tensor:
        """``C(u)``, u in grid points."""
        inside = (1 - (2 * u / self.width) ** 2).clamp(min=0)
        return torch.where(2 * u.abs() <= self.width, torch.special.i0(self.beta * inside.sqrt()), 0)

    def transform(self, nu: Tensor) -> Tensor:
        """The Fourier transform of ``C`` at ``nu`` cycles a grid point, |nu| <= 1/4: there its root is real."""
        a = (self.beta**2 - (math.pi * self.width * nu) ** 2).sqrt()
        return self.width * a.sinh() / a

    def forward(self, x: Tensor) -> Tensor:
        """The sums y, complex (T, K), of T images (T, ...)."""
        axes = tuple(range(1, x.ndim))
        padded = x.new_zeros(len(x), *self.grid)
        padded[(slice(None), *(slice(n) for n in self.shape))] = x / self._apodisation
        padded = padded.roll([-(n // 2) for n in self.shape], axes)
        return _paired(self.interpolate(_split(torch.fft.fftn(padded, dim=axes).flatten(1))))

    def adjoint(self, y: Tensor) -> Tensor:
        """The images ``sum_j y_j exp(i k_j . r)``, complex (T, ...), of T samplings (T, K)."""
        axes = tuple(range(1, len(self.grid) + 1))
        grid = _paired(self.spread(_split(y))).view(len(y), *self.grid)
        image = torch.fft.ifftn(grid, dim=axes, norm="forward").roll([n // 2 for n in self.shape], axes)
        return image[(slice(None), *(slice(n) for n in self.shape))] / self._apodisation

    def interpolate(self, grid: Tensor) -> Tensor:
        """``G``: real values on the grid, (T, grid points), to values at the K points, (T, K)."""
        out = grid.new_empty(len(grid), self.points)
        for points, index, weights in self._chunks(len(grid)):
            near = grid.index_select(1, index.flatten()).view(len(grid), *index.shape)
            out[:, points] = torch.einsum("tkn,kn->tk", near, weights)
        return out

    def spread(self, values: Tensor) -> Tensor:
        """``G^T``: real values at the K points, (T, K), added to the grid, (T, grid points)."""
        out = values.new_zeros(len(values), math.prod(self.grid))
        for points, index, weights in self._chunks(1):
            flat = index.flatten()
            for row, value in zip(out, values[:, points], strict=True):
                row.index_add_(0, flat, (value[:, None] * weights).flatten())
        return out

    def _chunks(self, rows: int) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """Some points at a time: which, the flat indices of the grid points near them, and the weights, (points, w^d)."""
        step = max(1, _CHUNK[self._near.is_cpu] // (rows * self.width ** len(self.grid)))
        edges = [*range(0, self.points, step), self.points]
        for begin, end in pairwise(edges):
            points = slice(begin, end)
            index, weights = self._near[points, 0], self._weights[points, 0]
            for d, size in enumerate(self.grid[1:], start=1):
                index = (index[:, :, None] * size + self._near[points, None, d]).flatten(1)
                weights = (weights[:, :, None] * self._weights[points, None, d]).flatten(1)
            yield points, index, weights


def _outer(factors: list[Tensor]) -> Tensor:
    """``f_0[i] f_1[j] ...`` as one tensor of as many axes."""
    product = factors[0]
    for factor in factors[1:]:
        product = product[..., None] * factor
    return product


def _split(values: Tensor) -> Tensor:
    """Complex (T, n) as real (2 T, n)."""
    return torch.cat([values.real, values.imag])


def _paired(values: Tensor) -> Tensor:
    """Real (2 T, n) as complex (T, n)."""
    real, imag = values.chunk(2)
    return torch.complex(real, imag)
