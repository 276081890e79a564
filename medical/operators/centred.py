r"""The centred Fourier transform of MRI, unitary, and the phases that do away with its shifts.

Position and frequency zero lie at index ``c = n // 2`` of every axis, as in fastMRI, BART and sigpy, and

    X[j] = (n_1 ... n_d)^(-1/2) sum_r x[r] prod_a exp(-2 pi i (j_a - c_a) (r_a - c_a) / n_a),

that is ``X = fftshift(fftn(ifftshift(x), norm='ortho'))``. Multiplying out the exponent, the shifts become phases on both
sides of the plain transform: exp(2 pi i c r / n) before it and exp(2 pi i c (j - c) / n) behind it, for even and odd n
alike. For even n they are the checkerboards of +1 and -1. An operator that multiplies by maps before the transform and by
a mask behind it pays nothing for them.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from inverse.operators.base import Shape

__all__ = ["centred_fft", "centred_ifft", "centring_phases", "legacy_fft", "legacy_ifft"]


def centred_fft(x: Tensor, dims: int = 2) -> Tensor:
    """``F x`` over the last ``dims`` axes, 2 or 3, of images (..., H, W) or (..., D, H, W), real or complex.

    F is unitary: ``|F x| = |x|``, and its adjoint is its inverse, ``centred_ifft``.
    """
    axes = _axes(x, dims)
    return torch.fft.fftshift(torch.fft.fftn(torch.fft.ifftshift(x, axes), dim=axes, norm="ortho"), axes)


def centred_ifft(k: Tensor, dims: int = 2) -> Tensor:
    """``F^-1 k = F^H k`` over the last ``dims`` axes, 2 or 3, of k-space (..., H, W) or (..., D, H, W)."""
    axes = _axes(k, dims)
    return torch.fft.fftshift(torch.fft.ifftn(torch.fft.ifftshift(k, axes), dim=axes, norm="ortho"), axes)


def legacy_fft(x: Tensor, dims: int = 2) -> Tensor:
    """``fftshift(fftn(x))``, the transform of Chung et al. 2023 (DiffusionMBIR): position zero at index 0, unscaled.

    It equals ``sqrt(N) F x``, N the number of pixels, up to a phase at each frequency; so masks mean the same to both,
    and its adjoint is N times ``legacy_ifft``.
    """
    axes = _axes(x, dims)
    return torch.fft.fftshift(torch.fft.fftn(x, dim=axes), axes)


def legacy_ifft(k: Tensor, dims: int = 2) -> Tensor:
    """``ifftn(ifftshift(k))``, the inverse of ``legacy_fft``."""
    axes = _axes(k, dims)
    return torch.fft.ifftn(torch.fft.ifftshift(k, axes), dim=axes)


def centring_phases(shape: Shape, *, legacy: bool = False) -> tuple[Tensor, Tensor]:
    """``before`` and ``after``, complex128 of ``shape``, with ``F x = after * fftn(before * x)``, the scale included.

    Then ``F^H k = conj(before) * N ifftn(conj(after) * k)``, N the number of pixels. With ``legacy`` the same of
    ``legacy_fft``, whose ``after`` is one.
    """
    before, after = torch.ones(shape, dtype=torch.complex128), torch.ones(shape, dtype=torch.complex128)
    for axis, n in enumerate(shape):
        c, index = n // 2, torch.arange(n)
        along = (n, *[1] * (len(shape) - axis - 1))
        before = before * _phase(c * index, n).view(along)
        if not legacy:
            after = after * _phase(c * (index - c), n).view(along)
    return before, after if legacy else after / math.sqrt(math.prod(shape))


def _phase(turns: Tensor, n: int) -> Tensor:
    """``exp(2 pi i turns / n)`` for whole ``turns``, exact at half and whole turns."""
    turns = turns % n
    angle = 2 * math.pi * turns.double() / n
    exact = torch.where(turns == 0, 1.0, -1.0).to(torch.complex128)
    return torch.where(2 * turns % n == 0, exact, torch.polar(torch.ones_like(angle), angle))


def _axes(x: Tensor, dims: int) -> tuple[int, ...]:
    if dims not in (2, 3):
        raise ValueError(f"dims must be 2, for (..., H, W), or 3, for (..., D, H, W), got {dims!r}")
    if x.ndim < dims:
        raise ValueError(f"an image to transform over {dims} axes must have as many at least, got shape {tuple(x.shape)}")
    return tuple(range(-dims, 0))
