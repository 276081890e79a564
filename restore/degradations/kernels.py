"""The blur kernels of Real-ESRGAN: Gaussian families of six kinds and the circular low-pass; (size, size), float64, sum one.

Sources: Zhang et al. 2021 (BSRGAN), Wang et al. 2021 (Real-ESRGAN), sections 3.2 and 3.4.
"""

from __future__ import annotations

import math

import scipy.special
import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["bivariate_kernel", "delta_kernel", "lowpass_kernel", "padded_kernel", "plateau_kernel"]


def bivariate_kernel(size: int, sigma: tuple[float, float], *, rotation: float = 0.0, beta: float = 1.0) -> Tensor:
    r"""The generalised Gaussian ``exp(-q^beta / 2)`` with the Mahalanobis distance

        q = (x cos + y sin)^2 / sigma_x^2 + (y cos - x sin)^2 / sigma_y^2.

    Parameters
    ----------
    size: side in pixels, odd.
    sigma: standard deviations in pixels along the turned x and y axes; equal ones make the kernel isotropic.
    rotation: angle in radians, from the x axis towards the y axis, downwards.
    beta: exponent of the shape; 1 is the Gaussian, less has a sharper peak and longer tails.
    """
    return _normalised(torch.exp(-0.5 * _distance(size, sigma, rotation) ** _positive("beta", beta)))


def plateau_kernel(size: int, sigma: tuple[float, float], *, rotation: float = 0.0, beta: float = 1.0) -> Tensor:
    """``1 / (1 + q^beta)`` with the distance q of ``bivariate_kernel``: flat on top, the flatter the greater ``beta``."""
    return _normalised(1 / (1 + _distance(size, sigma, rotation) ** _positive("beta", beta)))


def lowpass_kernel(size: int, cutoff: float) -> Tensor:
    """The ideal circular low-pass ``omega J_1(omega r) / (2 pi r)``, cut off at a square of ``size`` pixels: it rings.

    ``cutoff`` is omega, in radians per pixel, in (0, pi]. At r = 0 the limit is ``omega^2 / (4 pi)``.
    """
    if not 0 < cutoff <= math.pi:
        raise ValueError(f"cutoff must lie in (0, pi] radians per pixel, got {cutoff}")
    x, y = _grid(size)
    r = torch.sqrt(x**2 + y**2)
    bessel = torch.from_numpy(scipy.special.j1((cutoff * r).numpy()))  # torch.special.bessel_j1 is exact to 5e-7 only
    centre = torch.full_like(r, cutoff**2 / (4 * math.pi))
    ring = cutoff * bessel / (2 * math.pi * r.clamp(min=1))  # r is 0, or 1 and more
    return _normalised(torch.where(r == 0, centre, ring))


def delta_kernel(size: int) -> Tensor:
    """The kernel that changes nothing: one in the middle."""
    x, y = _grid(size)
    return ((x == 0) & (y == 0)).double()


def padded_kernel(kernel: Tensor, size: int) -> Tensor:
    """``kernel`` (k, k) in the middle of zeros (size, size); both odd."""
    k = kernel.shape[-1]
    if size < k or (size - k) % 2:
        raise ValueError(f"size must be {k}, the kernel's side, or greater by an even number, got {size}")
    return F.pad(kernel, [(size - k) // 2] * 4)


def _grid(size: int) -> tuple[Tensor, Tensor]:
    """x and y of the pixels, (size, size), zero in the middle."""
    if size < 1 or size % 2 == 0:
        raise ValueError(f"size must be odd and positive, got {size}")
    axis = torch.arange(size, dtype=torch.float64) - size // 2
    return axis[None, :].expand(size, size), axis[:, None].expand(size, size)


def _distance(size: int, sigma: tuple[float, float], rotation: float) -> Tensor:
    sigma_x, sigma_y = (_positive("sigma", s) for s in sigma)
    x, y = _grid(size)
    cos, sin = math.cos(rotation), math.sin(rotation)
    return ((x * cos + y * sin) / sigma_x) ** 2 + ((y * cos - x * sin) / sigma_y) ** 2


def _normalised(kernel: Tensor) -> Tensor:
    return kernel / kernel.sum()


def _positive(name: str, value: float) -> float:
    if not 0 < value < math.inf:
        raise ValueError(f"{name} must be positive and finite, got {value}")
    return value
