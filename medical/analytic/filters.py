"""The ramp filter of filtered backprojection, sampled in space so that it has no bias at frequency zero, and its windows."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["WINDOWS", "check_window", "equiangular_ramp", "filter_columns", "ramp"]

WINDOWS: dict[str, Callable[[Tensor], Tensor]] = {
    "ram-lak": torch.ones_like,
    "shepp-logan": lambda f: torch.sinc(f / 2),
    "cosine": lambda f: torch.cos(math.pi * f / 2),
    "hamming": lambda f: 0.54 + 0.46 * torch.cos(math.pi * f),
    "hann": lambda f: 0.5 + 0.5 * torch.cos(math.pi * f),
}
"""What the ramp is multiplied by at the frequency f, 1 at Nyquist's. Noise falls from the first to the last, and sharpness."""


def ramp(lags: Tensor, spacing: float) -> Tensor:
    """``h[0] = 1 / (4 tau^2)``, ``h[n] = -1 / (pi n tau)^2`` for odd n, 0 for other even n, float64; tau is ``spacing``."""
    n = lags.to(torch.float64)
    odd = lags.remainder(2) == 1
    h = torch.where(odd, -1 / (math.pi * n * spacing).square(), torch.zeros_like(n))
    return torch.where(lags == 0, torch.full_like(n, 1 / (4 * spacing**2)), h)


def equiangular_ramp(lags: Tensor, spacing: float) -> Tensor:
    """The ramp of a curved detector, ``h[n] (n dg / sin(n dg))^2``; ``spacing`` is dg in radians. Zero from half a turn on."""
    angle = lags.to(torch.float64) * spacing
    within = angle.abs() < math.pi
    return torch.where(within, ramp(lags, spacing) / torch.sinc(angle / math.pi).square(), torch.zeros_like(angle))


def check_window(window: str, cutoff: float) -> None:
    """Raises ``ValueError`` for an unknown window and a cut-off outside (0, 1]."""
    if window not in WINDOWS:
        raise ValueError(f"window must be one of {', '.join(WINDOWS)}, got {window!r}")
    if not 0 < cutoff <= 1:
        raise ValueError(f"cutoff must lie in (0, 1], a fraction of the Nyquist frequency, got {cutoff}")


def filter_columns(
    p: Tensor,
    kernel: Callable[[Tensor], Tensor],
    *,
    window: str = "ram-lak",
    cutoff: float = 1.0,
    beyond: tuple[int, int] = (0, 0),
) -> Tensor:
    """``q = h * p`` along the last axis, linear; ``kernel(lags)`` gives h at whole numbers of columns.

    The result runs on ``beyond`` columns to either side, where p is taken as zero but q is not. A window is stretched to
    the ``cutoff``, a fraction of Nyquist's frequency, beyond which nothing passes.
    """
    check_window(window, cutoff)
    n, (low, high) = p.shape[-1], beyond
    length = _fast_length(2 * (n + max(low, high)))
    lags = torch.arange(length)
    lags = torch.where(lags < length // 2, lags, lags - length)
    response = torch.fft.rfft(kernel(lags)).real
    f = torch.arange(len(response), dtype=torch.float64) / (length / 2 * cutoff)
    response = response * WINDOWS[window](f) * (f <= 1 + 1e-9)
    spectrum = torch.fft.rfft(p, length)
    q = torch.fft.irfft(spectrum * response.to(device=p.device, dtype=p.dtype), length)
    return torch.cat([q[..., length - low :], q[..., : n + high]], -1) if low else q[..., : n + high]


def _fast_length(n: int) -> int:
    """The next even length from ``n`` on without prime factors above 5."""
    n += n % 2
    while True:
        rest = n
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return n
        n += 2
