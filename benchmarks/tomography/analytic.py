"""Filtered back-projection of the exact Shepp-Logan sinogram: quality and time, beside scikit-image's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.timing import side_by_side
from medical.geometry import ParallelBeam, Volume
from medical.operators import Projector
from medical.phantoms import Ellipses

__all__ = ["Reconstructed", "filtered"]

SIZES = ((256, 180, 363), (512, 720, 725))
AIM = {256: 32.3}
"""Decibels we mean to reach with the plain ramp."""


@dataclass(frozen=True)
class Reconstructed:
    """PSNR over the full square against the area-averaged phantom, in decibels of its range, and seconds."""

    size: int
    views: int
    library: str
    window: str
    psnr: float
    seconds: float


def filtered(
    budget: float, windows: tuple[str, ...] = ("ram-lak", "shepp-logan", "cosine", "hamming", "hann")
) -> list[Reconstructed]:
    """Every window at both sizes."""
    rows = []
    for n, views, columns in SIZES:
        head, volume = Ellipses.shepp_logan(float(n)), Volume((n, n))
        A = Projector(volume, ParallelBeam.uniform(views, columns))
        truth = head.rasterise(volume)
        y = head.project(A.beam).float()[None, None]
        calls: dict[tuple[str, str], Callable[[], Any]] = {("posterior", w): partial(A.fbp, y, window=w) for w in windows}
        calls |= _skimage(n, A)
        times = side_by_side(list(calls.values()), budget=budget, most=5)
        for ((library, window), call), seconds in zip(calls.items(), times, strict=True):
            rows.append(Reconstructed(n, views, library, window, psnr(torch.as_tensor(call()).view(n, n), truth), seconds))
    return rows


def psnr(x: Tensor, truth: Tensor) -> float:
    """``10 log10(range(truth)^2 / mse)`` over the full square."""
    mse = (x.double() - truth).square().mean()
    return float(10 * torch.log10((truth.max() - truth.min()) ** 2 / mse))


def _skimage(n: int, A: Projector) -> dict[tuple[str, str], Callable[[], Any]]:
    """scikit-image's, on data made by its own ``radon`` from the same phantom, since its centre is pixel n // 2."""
    try:
        from skimage.transform import iradon, radon
    except ImportError:
        return {}
    image = Ellipses.shepp_logan(float(n)).rasterise(A.volume).numpy()
    degrees = torch.rad2deg(torch.tensor(A.beam.angles, dtype=torch.float64)).numpy()
    sinogram = radon(image, degrees, circle=True)
    return {("scikit-image", "ramp"): lambda: iradon(sinogram, degrees, filter_name="ramp", circle=True)}
