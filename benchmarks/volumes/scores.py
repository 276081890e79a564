"""How close a volume is to the truth, in its slices along every axis."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.volumes.data import occupied
from inverse.metrics import psnr, ssim

__all__ = ["PLANES", "Scores", "quality", "scores"]

PLANES = {"axial": (0, 1, 2, 3), "coronal": (2, 1, 0, 3), "sagittal": (3, 1, 0, 2)}
"""Orders of the axes of (D, 1, H, W) that make slices along z, y and x the batch."""

WINDOW = 11  # pixels a side that SSIM needs


@dataclass(frozen=True)
class Scores:
    """PSNR in dB and SSIM, means over the slices along each axis; data range 1, nothing is clipped.

    Slices in which the truth shows nothing (mean value below 0.01) do not count: their PSNR says how black black is. An axis
    along which slices are smaller than SSIM's window has none.
    """

    psnr: dict[str, float]
    ssim: dict[str, float | None]


def scores(estimate: Tensor, truth: Tensor) -> Scores:
    """Of slices (D, 1, H, W); of complex ones the magnitudes are compared."""
    a, b = (x.abs() if x.is_complex() else x for x in (estimate, truth))
    peaks: dict[str, float] = {}
    structure: dict[str, float | None] = {}
    for plane, order in PLANES.items():
        found, wanted = a.permute(order), b.permute(order)
        shown = occupied(wanted)
        found, wanted = found[shown], wanted[shown]
        if min(wanted.shape[-2:]) < WINDOW and plane != "axial":
            continue
        peaks[plane] = float(psnr(found, wanted).mean())
        structure[plane] = None if min(wanted.shape[-2:]) < WINDOW else float(ssim(found, wanted).mean())
    return Scores(peaks, structure)


def quality(estimate: Tensor, truth: Tensor) -> float:
    """What settings are tuned on: the mean PSNR of the axial slices."""
    a, b = (x.abs() if x.is_complex() else x for x in (estimate, truth))
    shown = occupied(b)
    return float(torch.nan_to_num(psnr(a[shown], b[shown]).mean(), nan=-torch.inf))
