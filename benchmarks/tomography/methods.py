"""The classical methods on a chest CT that was measured sparsely and with few photons: quality against the truth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from medical.classical import ADMMTV, CGLS, FBP, FISTATV, OSSART, SIRT, tune
from medical.files import read_nifti
from medical.geometry import Detector, FanBeam, Volume
from medical.operators import Projector
from medical.transmission import LogPoisson, attenuation, hounsfield

__all__ = ["Scored", "compare_methods", "scan"]

POSITIVE = (0.0, float("inf"))
TV_BOUNDS = (0.02, 2.0)
VIEWS, PHOTONS = 60, 1e5


@dataclass(frozen=True)
class Scored:
    """One method on the test slice; RMSE in HU within the body, PSNR over 2000 HU."""

    method: str
    psnr: float
    rmse: float
    seconds: float
    iterations: int
    settings: str
    image: Tensor


def scan(size: int, voxel: float) -> Projector:
    """A clinical fan, 60 views of a full turn, a curved detector of 736 columns, 10^5 photons a ray."""
    detector = Detector(736, 1.2858, curved=True)
    beam = FanBeam.uniform(VIEWS, detector, 595.0, 490.6)
    return Projector(Volume((size, size), voxel), beam, noise=LogPoisson(PHOTONS), truncated=True)


def slice_of(path: Path, share: float) -> tuple[Tensor, float]:
    """Attenuation (1, 1, H, W) of the slice at this share of a scan's height, in 1/mm, and the side of its pixels in mm."""
    ct = read_nifti(path)
    hu = ct.data[int(share * len(ct.data))].clamp(-1000, 2000)
    return attenuation(hu)[None, None], float(ct.spacing[-1])


def compare_methods(data: Path, progress: Callable[[str], None]) -> tuple[Tensor, list[Scored]]:
    """``(truth, methods)``: tuned on one patient's scan, tried on another's; iterations start at the smooth FBP."""
    folder = data / "ct_test"
    other, voxel = slice_of(folder / "lungfcp_01_0001.nii.gz", 0.5)
    B = scan(other.shape[-1], voxel)
    truth, voxel = slice_of(folder / "lidc_idri_0001.nii.gz", 0.5)
    A = scan(truth.shape[-1], voxel)
    y = A.measure(truth, seed=0)
    start = A.fbp(y, window="hann").clamp(min=0)
    progress("weight of total variation")
    rows = []
    for name, method in _methods(_tuned_weight(B, other)):
        progress(name)
        out = method.reconstruct(A, y, start=None if isinstance(method, FBP) else start)
        rows.append(_scored(name, out, truth, method))
    return truth, rows


def _methods(weight: float) -> list[tuple[str, Any]]:
    return [
        ("FBP, ram-lak", FBP()),
        ("FBP, hann", FBP(window="hann")),
        ("CGLS", CGLS()),
        ("SIRT", SIRT(bounds=POSITIVE)),
        ("OS-SART", OSSART(bounds=POSITIVE)),
        ("FISTA-TV", FISTATV(weight=weight, bounds=POSITIVE)),
        ("ADMM-TV", ADMMTV(weight=weight, bounds=POSITIVE, iterations=100)),
    ]


def _tuned_weight(A: Projector, image: Tensor) -> float:
    """Of total variation, both methods having the same objective."""
    return tune(FISTATV(bounds=POSITIVE, iterations=150), A, [image], TV_BOUNDS, evaluations=7, seed=1).weight or 0.0


def _scored(name: str, out: Any, truth: Tensor, method: Any) -> Scored:
    x = out.estimate
    error = hounsfield(x) - hounsfield(truth)
    body = hounsfield(truth) > -900
    psnr = float(10 * torch.log10(2000.0**2 / error.square().mean()))
    weight = getattr(method, "weight", None)
    settings = "" if weight is None else f"weight {weight:.3g}"
    return Scored(name, psnr, float(error[body].square().mean().sqrt()), out.seconds, out.iterations, settings, x)
