"""How close an estimate is to the truth: PSNR and SSIM of every image of a batch."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["psnr", "ssim"]


def psnr(estimate: Tensor, truth: Tensor, *, data_range: float = 1.0) -> Tensor:
    """Peak signal-to-noise ratio in dB, ``10 log10(data_range^2 / mean squared error)``; (B, C, H, W) to (B,), float64.

    Nothing is clipped. Equal images have an infinite PSNR.
    """
    _check(estimate, truth, data_range)
    error = (estimate.double() - truth.double()).square().flatten(1).mean(1)
    return 10 * torch.log10(data_range**2 / error)


def ssim(estimate: Tensor, truth: Tensor, *, data_range: float = 1.0) -> Tensor:
    """Structural similarity of Wang et al. 2004, mean over pixels and channels; (B, C, H, W) to (B,), float64.

    As in the paper: a Gaussian window of standard deviation 1.5 cut to 11 x 11, population covariances, K = (0.01, 0.03).
    """
    from skimage.metrics import structural_similarity

    _check(estimate, truth, data_range)
    if min(truth.shape[-2:]) < 11:
        raise ValueError(f"truth must be at least 11 x 11 pixels, the window of SSIM, got {tuple(truth.shape)}")
    values = [
        structural_similarity(
            a.double().cpu().numpy(), b.double().cpu().numpy(), data_range=data_range, channel_axis=0,
            gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
        )
        for a, b in zip(estimate, truth, strict=True)
    ]  # fmt: skip
    return torch.tensor(values, dtype=torch.float64)


def _check(estimate: Tensor, truth: Tensor, data_range: float) -> None:
    if estimate.shape != truth.shape or truth.ndim != 4:
        raise ValueError(
            "estimate and truth must be batches of one shape (B, C, H, W), "
            f"got {tuple(estimate.shape)} and {tuple(truth.shape)}"
        )
    if not data_range > 0:
        raise ValueError(f"data_range must be positive, got {data_range}")
