"""How close a volume is to the truth in its three planes, and how well it fits its measurement."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from inverse.metrics import psnr, ssim
from inverse.reconstruction import Reconstruction

__all__ = ["PLANES", "Fit", "Scores", "fit", "scores"]

PLANES = {"axial": (0, 1, 2), "coronal": (1, 0, 2), "sagittal": (2, 0, 1)}
"""Planes of a volume (D, H, W) in canonical axes, as the order of axes that makes slices of them."""

WINDOW = 11  # pixels that SSIM needs


@dataclass(frozen=True, kw_only=True)
class Scores:
    """PSNR in dB and SSIM by plane, means over the slices of the plane; None where no slice has them."""

    psnr: dict[str, float | None]
    ssim: dict[str, float | None]


@dataclass(frozen=True, eq=False, kw_only=True)
class Fit:
    """What is left of the measurement, ``r = y - A x``.

    Attributes
    ----------
    relative: ``|r| / |y|``.
    chi_square: mean of ``(r / std)^2`` over the numbers measured, near 1 where the fit is as good as the noise allows;
        None without noise.
    numbers: how many were measured; real and imaginary part count apart.
    standardised: ``r / std``, or without noise ``r / max |y|``, in the shape of y.
    """

    relative: float
    chi_square: float | None
    numbers: int
    standardised: Tensor

    @property
    def expected(self) -> float:
        """Standard deviation of ``chi_square`` for noise alone: ``sqrt(2 / numbers)``."""
        return math.sqrt(2 / max(1, self.numbers))


def scores(volume: Tensor, truth: Tensor) -> Scores:
    """Of volumes (D, H, W) in canonical axes; the data range is 1, nothing is clipped, and slices that agree are left out."""
    found_psnr: dict[str, float | None] = {}
    found_ssim: dict[str, float | None] = {}
    for plane, order in PLANES.items():
        a, b = (t.permute(order)[:, None].contiguous() for t in (volume, truth))
        values = psnr(a, b)
        values = values[values.isfinite()]
        found_psnr[plane] = float(values.mean()) if len(values) else None
        found_ssim[plane] = float(ssim(a, b).mean()) if min(a.shape[-2:]) >= WINDOW else None
    return Scores(psnr=found_psnr, ssim=found_ssim)


def fit(out: Reconstruction) -> Fit:
    """Of the estimate. What k-space holds as exact zeros was not measured and does not count."""
    y, r = out.measurement.cpu(), out.residual.cpu()
    std = out.operator.noise.std(out.measurement).cpu()
    measured = y != 0 if y.is_complex() else torch.ones_like(y, dtype=torch.bool)
    numbers = int(measured.sum()) * (2 if y.is_complex() else 1)
    relative = float(r.norm() / y.norm().clamp(min=torch.finfo(y.real.dtype).tiny))
    if not bool((std > 0).all()):
        largest = float(y.abs().max()) or 1.0
        return Fit(relative=relative, chi_square=None, numbers=numbers, standardised=r / largest)
    standardised = torch.where(measured, r / std, 0)
    total = float(standardised.abs().square().sum(dtype=torch.float64))
    return Fit(relative=relative, chi_square=total / max(1, numbers), numbers=numbers, standardised=standardised)
