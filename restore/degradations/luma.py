"""Luma as MATLAB computes it, and PSNR and SSIM as papers on super-resolution report them: of 8-bit images."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from restore.degradations.quantisation import to_8_bits

__all__ = ["psnr", "psnr_y", "ssim", "ssim_y", "to_luma", "to_ycbcr"]

# ITU-R BT.601, studio range: of R, G, B in [0, 1], in 255ths
_LUMA = (65.481, 128.553, 24.966)
_BLUE = (-37.797, -74.203, 112.0)
_RED = (112.0, -93.786, -18.214)


def to_luma(x: Tensor) -> Tensor:
    """``Y = (16 + 65.481 R + 128.553 G + 24.966 B) / 255`` of images (..., 3, H, W) in [0, 1]; (..., 1, H, W).

    From 16 to 235 in 255ths; not rounded, in the dtype of ``x``.
    """
    return _weighted(x, _LUMA, 16)


def to_ycbcr(x: Tensor) -> Tensor:
    """Y, Cb and Cr of images (..., 3, H, W) in [0, 1], MATLAB's ``rgb2ycbcr``; chroma lies around 128 / 255."""
    return torch.cat([_weighted(x, _LUMA, 16), _weighted(x, _BLUE, 128), _weighted(x, _RED, 128)], -3)


def psnr_y(estimate: Tensor, truth: Tensor, *, border: int = 0) -> Tensor:
    """PSNR in dB on luma of images (B, 3, H, W) in [0, 1], as ``psnr``; images and luma are rounded to 8 bits."""
    return psnr(_luma_of_8_bits(estimate), _luma_of_8_bits(truth), border=border)


def ssim_y(estimate: Tensor, truth: Tensor, *, border: int = 0) -> Tensor:
    """SSIM on luma of images (B, 3, H, W) in [0, 1], as ``ssim``; images and luma are rounded to 8 bits."""
    return ssim(_luma_of_8_bits(estimate), _luma_of_8_bits(truth), border=border)


def psnr(estimate: Tensor, truth: Tensor, *, border: int = 0) -> Tensor:
    """``10 log10(255^2 / mean squared error)`` in dB, of images (B, C, H, W) in [0, 1] rounded to 8 bits; (B,), float64.

    ``border`` pixels are left out on every side; papers leave out as many as the factor of the enlargement. Equal images
    have an infinite PSNR.
    """
    a, b = _levels(estimate, truth, border)
    return 10 * torch.log10(255**2 / (a - b).square().flatten(1).mean(1))


def ssim(estimate: Tensor, truth: Tensor, *, border: int = 0) -> Tensor:
    """Structural similarity of Wang et al. 2004 of images (B, C, H, W) in [0, 1] rounded to 8 bits; (B,), float64.

    Mean over the channels and over the positions where the 11 x 11 Gaussian window, of standard deviation 1.5, lies inside;
    ``C1 = (0.01 255)^2`` and ``C2 = (0.03 255)^2``. ``border`` as in ``psnr``.
    """
    a, b = _levels(estimate, truth, border)
    if min(a.shape[-2:]) < 11:
        raise ValueError(f"estimate must keep 11 x 11 pixels within the border of {border}, got {tuple(estimate.shape)}")
    mu_a, mu_b = _windowed(a), _windowed(b)
    var_a, var_b = _windowed(a * a) - mu_a**2, _windowed(b * b) - mu_b**2
    covariance = _windowed(a * b) - mu_a * mu_b
    C1, C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    similarity = (2 * mu_a * mu_b + C1) * (2 * covariance + C2) / ((mu_a**2 + mu_b**2 + C1) * (var_a + var_b + C2))
    return similarity.flatten(1).mean(1)


def _weighted(x: Tensor, weights: tuple[float, float, float], offset: float) -> Tensor:
    """The sum from left to right: its last bit decides where 8-bit colours fall on half a level."""
    if x.ndim < 3 or x.shape[-3] != 3:
        raise ValueError(f"x must be RGB images (..., 3, H, W), got {tuple(x.shape)}")
    R, G, B = x.split(1, -3)
    return (weights[0] * R + weights[1] * G + weights[2] * B + offset) / 255


def _luma_of_8_bits(x: Tensor) -> Tensor:
    return to_8_bits(to_luma(to_8_bits(x.double())))


def _levels(estimate: Tensor, truth: Tensor, border: int) -> tuple[Tensor, Tensor]:
    """Both in levels 0..255, float64, without their borders."""
    if estimate.shape != truth.shape or truth.ndim != 4:
        raise ValueError(
            "estimate and truth must be batches of one shape (B, C, H, W), "
            f"got {tuple(estimate.shape)} and {tuple(truth.shape)}"
        )
    H, W = truth.shape[-2:]
    if not 0 <= 2 * border < min(H, W):
        raise ValueError(f"border must leave a pixel of {H} x {W} and not be negative, got {border}")
    inside = (..., slice(border, H - border), slice(border, W - border))
    a, b = ((255 * to_8_bits(x.double())).round()[inside] for x in (estimate, truth))
    return a, b


def _windowed(x: Tensor) -> Tensor:
    """Gaussian means over windows of 11 x 11 pixels that lie inside."""
    i = torch.arange(11, dtype=x.dtype, device=x.device) - 5
    taps = torch.exp(-0.5 * (i / 1.5) ** 2)
    taps = taps / taps.sum()
    planes = F.conv2d(x.flatten(0, 1)[:, None], taps.view(1, 1, -1, 1))
    return F.conv2d(planes, taps.view(1, 1, 1, -1)).unflatten(0, x.shape[:2]).squeeze(2)
