"""How good an enlarged photograph is: against its truth by the conventions of the papers, or by itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from restore.degradations import psnr_y, ssim_y, to_8_bits, to_luma

__all__ = ["Distance", "Scores", "blur", "gradient_energy", "scores", "spread_to_error"]

Distance = Callable[[Tensor, Tensor], Tensor]
"""Of two batches (B, 3, H, W) in [-1, 1], (B,), such as :class:`~restore.resshift.LPIPS`."""


@dataclass(frozen=True)
class Scores:
    """Against the truth.

    Attributes
    ----------
    psnr, ssim: in dB and in -1..1, of luma rounded to 8 bits, without the border.
    energy: sum of the squared gradient of that luma over the truth's: 1 is as sharp, less is blurred, more is overdone.
    lpips: of the whole colour images, None without the weights.
    """

    psnr: float
    ssim: float
    energy: float
    lpips: float | None = None


def scores(estimate: Tensor, truth: Tensor, *, border: int, lpips: Distance | None = None) -> Scores:
    """Of one image (1, 3, H, W) in [0, 1]; ``border`` pixels are left out at every side."""
    return Scores(
        psnr=float(psnr_y(estimate, truth, border=border)),
        ssim=float(ssim_y(estimate, truth, border=border)),
        energy=gradient_energy(estimate, border=border) / max(gradient_energy(truth, border=border), 1e-9),
        lpips=None if lpips is None else float(lpips(2 * estimate - 1, 2 * truth - 1)),
    )


def gradient_energy(x: Tensor, *, border: int = 0) -> float:
    """``sum (Y_{i+1,j} - Y_ij)^2 + sum (Y_{i,j+1} - Y_ij)^2`` of the luma Y of an image (1, 3, H, W), rounded to 8 bits."""
    Y = _luma(x)
    Y = Y[..., border : Y.shape[-2] - border, border : Y.shape[-1] - border]
    return float(Y.diff(dim=-2).square().sum() + Y.diff(dim=-1).square().sum())


def spread_to_error(samples: Tensor, truth: Tensor, *, border: int = 0) -> float:
    """``sqrt((1 + 1/S) mean var / mean (mean - truth)^2)`` of the luma of S >= 2 samples (S, 3, H, W), rounded to 8 bits.

    1 where the truth (1, 3, H, W) could be one of the samples, less where they differ by less than they are wrong
    (Fortin et al. 2014, "Why should ensemble spread match the RMSE of the ensemble mean?").
    """
    Y, y = _luma(samples), _luma(truth)
    inner = (..., slice(border, y.shape[-2] - border), slice(border, y.shape[-1] - border))
    variance = Y.var(dim=0)[inner].mean()
    error = (Y.mean(0) - y[0])[inner].square().mean()
    return float(((1 + 1 / len(samples)) * variance / error.clamp(min=1e-9)).sqrt())


def blur(x: Tensor) -> float:
    """The blur of an image (1, 3, H, W) by itself, 0 sharp to 1 blurred: how little its luma changes on being blurred again.

    Crété et al. 2007, "The blur effect". Noise and invented texture count as sharp.
    """
    from skimage.measure import blur_effect

    return float(blur_effect(_luma(x)[0, 0].cpu().numpy()))


def _luma(x: Tensor) -> Tensor:
    return torch.as_tensor(to_8_bits(to_luma(to_8_bits(x.double()))))
