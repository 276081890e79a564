"""Blurring a batch, every image by its own kernel, the image mirrored beyond its edge."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from restore.degradations.precision import without_autocast

__all__ = ["blur", "mirrored", "separable_blur"]


def mirrored(x: Tensor, padding: int, dim: int) -> Tensor:
    """``x`` with ``padding`` more samples at both ends of ``dim``: abc goes on as |ba, back and forth at any length."""
    n = x.shape[dim]
    period = max(2 * n - 2, 1)
    position = torch.arange(-padding, n + padding, device=x.device) % period
    return x.index_select(dim, torch.where(position < n, position, period - position))


def blur(x: Tensor, kernel: Tensor) -> Tensor:
    """The correlation ``y_p = sum_q k_q x_{p+q}`` of images with kernels, as large as before.

    Parameters
    ----------
    x: images (B, C, H, W).
    kernel: one kernel an image (B, k, k), or one for all (k, k); k odd, the middle being q = 0.
    """
    if x.ndim != 4:
        raise ValueError(f"x must be a batch of images (B, C, H, W), got {tuple(x.shape)}")
    B, C, H, W = x.shape
    k = kernel.shape[-1]
    if tuple(kernel.shape) not in {(k, k), (B, k, k)} or k % 2 == 0:
        raise ValueError(f"kernel must be (k, k) or ({B}, k, k) with odd k, one kernel an image, got {tuple(kernel.shape)}")
    padded = mirrored(mirrored(x, k // 2, -2), k // 2, -1)
    weight = kernel.to(x).expand(B, k, k)[:, None].repeat_interleave(C, 0)
    with without_autocast(x):
        return F.conv2d(padded.reshape(1, B * C, *padded.shape[-2:]), weight, groups=B * C).view(B, C, H, W)


def separable_blur(x: Tensor, taps: Tensor) -> Tensor:
    """``blur`` by the kernel ``taps taps^T``; taps (k,) with odd k."""
    if taps.ndim != 1 or len(taps) % 2 == 0:
        raise ValueError(f"taps must be a vector of odd length, got shape {tuple(taps.shape)}")
    k, weight = len(taps), taps.to(x)
    y = mirrored(mirrored(x, k // 2, -2), k // 2, -1).flatten(0, 1)[:, None]
    with without_autocast(x):
        return F.conv2d(F.conv2d(y, weight.view(1, 1, k, 1)), weight.view(1, 1, 1, k)).view(x.shape)
