"""ESPIRiT, ours and sigpy's: seconds, and how well the maps line up with the true ones."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.mri.measured import OURS, Measured, installed, take_turns
from benchmarks.mri.scene import birdcage, head
from medical.coils import espirit
from medical.operators import centred_fft

__all__ = ["alignment", "coil_maps"]

NOISE = 1e-3  # standard deviation of real and imaginary part in k-space, times the largest value of the image


def coil_maps(size: int = 256, coils: int = 8, *, budget: float = 1.5) -> list[Measured]:
    """A head seen by coils, with noise; the error is one minus the mean alignment with the true maps, within the head."""
    S, x = birdcage(coils, (size, size)), head((size, size))
    noise = torch.randn(S.shape, dtype=torch.complex128, generator=torch.Generator().manual_seed(0)) * 2**0.5
    kspace = (centred_fft(S * x) + NOISE * float(x.abs().max()) * noise).to(torch.complex64)
    calls: dict[str, Callable[[], Tensor]] = {OURS: lambda: espirit(kspace, calibration=24, kernel=6, crop=0.8).maps[0]}
    if "sigpy" in installed():
        from sigpy.mri.app import EspiritCalib

        samples = kspace.numpy()
        settings = {"calib_width": 24, "thresh": 0.02, "kernel_width": 6, "crop": 0.8, "show_pbar": False}
        calls["sigpy"] = lambda: torch.from_numpy(EspiritCalib(samples, **settings).run())
    seconds = take_turns(calls, budget)
    inside = x.abs() > 0.05
    rows = []
    for name, call in calls.items():
        a = alignment(call().to(torch.complex128), S)[inside]
        missed = "faster than sigpy" if name == OURS and seconds[name] > min(seconds.values()) else ""
        rows.append(Measured(f"{coils} x {size} x {size}", "ESPIRiT", name, seconds[name], float(1 - a.mean()), missed))
    return rows


def alignment(a: Tensor, b: Tensor) -> Tensor:
    """``|<a, b>| / (|a| |b|)`` over the coils of maps (C, H, W): 1 where they differ by a factor, 0 where one is zero."""
    norms = torch.linalg.vector_norm(a, dim=0) * torch.linalg.vector_norm(b, dim=0)
    return torch.where(norms > 0, (a.conj() * b).sum(0).abs() / norms.clamp(min=1e-12), 0)
