r"""The normal operator of non-Cartesian encoding as a convolution, with no gridding left in it.

    (A^H W A x)_m = sum_c conj(S_mc) (t * sum_l S_lc x_l),   t[r] = (N_1 N_2)^-1 sum_j w_j exp(i k_j . r)

for |r_d| < N_d: a circular convolution of at least 2 N_d - 1 pixels a side, zeros around the image. ``t[-r] = conj(t[r])``
for real weights, so that its spectrum is real (Fessler, Lee, Olafsson, Shi & Noll 2005).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product
from typing import TYPE_CHECKING, Self

import torch
from scipy.fft import next_fast_len
from torch import Tensor

from inverse.operators.base import LinearOperator
from medical.operators.complex_buffers import kept_complex

if TYPE_CHECKING:
    from medical.operators.nufft import NUFFT

__all__ = ["Toeplitz"]


class Toeplitz(LinearOperator):
    """``A^H W A`` of a ``NUFFT`` A with real weights, images (B, M, ...) to images; it is its own adjoint.

    The kernel is computed on the CPU in float64, and its spectrum kept: four values a pixel in two dimensions, eight in three.

    Parameters
    ----------
    A: the encoding; its maps are shared, not copied.
    weights: w, real (K,); 1 by default.
    device: where the operator runs, by default where the maps of ``A`` are, or the CPU.
    """

    maps: Tensor | None
    spectrum: Tensor

    def __init__(self, A: NUFFT, weights: Tensor | None = None, *, device: torch.device | None = None) -> None:
        super().__init__(A.domain)
        device = device or torch.device("cpu" if A.maps is None else A.maps.device)
        spectrum = _spectrum(A, _check_weights(weights, len(A.trajectory)))
        if device.type == "mps":  # which has no float64
            spectrum = spectrum.float()
        self.register_buffer("maps", None if A.maps is None else A.maps.to(device))
        self.register_buffer("spectrum", spectrum.to(device), persistent=False)

    def _apply_operator(self, x: Tensor) -> Tensor:
        x = x.to(x.dtype.to_complex())
        spectrum = self.spectrum.to(x.real.dtype)
        if len(x) == 0:
            return x
        if self.maps is None:
            return torch.stack([self._convolve(image, spectrum) for image in x])
        S = self.maps.to(x.dtype)
        out = torch.zeros_like(x)
        for image, total in zip(x, out, strict=True):
            for coil in S.unbind(1):
                total += coil.conj() * self._convolve((coil * image).sum(0), spectrum)
        return out

    def _adjoint(self, y: Tensor) -> Tensor:
        return self._apply_operator(y)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        return super()._apply(kept_complex(fn), recurse)

    def _convolve(self, x: Tensor, spectrum: Tensor) -> Tensor:
        """``t * x``; lines that hold only zeros, or are cut off afterwards, are left out of the transforms."""
        d = spectrum.ndim
        sides = x.shape[-d:]
        for axis in range(-1, -d - 1, -1):
            x = torch.fft.fft(x, n=spectrum.shape[axis], dim=axis)
        x = x * spectrum
        for axis in range(-d, 0):
            x = torch.fft.ifft(x, dim=axis).narrow(axis, 0, sides[axis])
        return x


def _spectrum(A: NUFFT, weights: Tensor) -> Tensor:
    """The Fourier transform of t, real: twice the real part of that of its half with r_d > 0, and half of r_d = 0, d the last.

    The half is computed in blocks of image size; a shift by s is a factor ``exp(i k . s)`` of the weights.
    """
    transform = A.transform(torch.device("cpu"), torch.float64)
    lengths = [next_fast_len(2 * n - 1) for n in A.shape]
    kernel = torch.zeros(lengths, dtype=torch.complex128)
    for negative in product(*[(False, True)] * (len(lengths) - 1), (False,)):
        # pixels r = 0 .. N - 1 along an axis, or r = -N .. -1 of which -N is left out
        shift = [n // 2 - n * minus for n, minus in zip(A.shape, negative, strict=True)]
        phase = A.trajectory @ torch.tensor(shift, dtype=torch.float64)
        block = transform.adjoint(torch.polar(weights, phase)[None])[0]
        taken = tuple(slice(1 if minus else 0, None) for minus in negative)
        placed = tuple(
            slice(length - n + 1, None) if minus else slice(n)
            for n, length, minus in zip(A.shape, lengths, negative, strict=True)
        )
        kernel[placed] = block[taken]
    kernel[..., 0] /= 2
    return 2 * torch.fft.fftn(kernel).real / math.prod(A.shape)


def _check_weights(weights: Tensor | None, points: int) -> Tensor:
    if weights is None:
        return torch.ones(points, dtype=torch.float64)
    if tuple(weights.shape) != (points,) or not weights.is_floating_point():
        raise ValueError(f"weights must be real, of shape ({points},), got {tuple(weights.shape)} of {weights.dtype}")
    if not bool(torch.isfinite(weights).all()):
        raise ValueError("weights must be finite, got nan or inf; set the samples to leave out to 0")
    return weights.detach().to("cpu", torch.float64)
