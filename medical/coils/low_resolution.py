"""Coil maps from the windowed centre of k-space, and the choice between them and ESPIRiT."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from medical.coils.calibration import calibration_region, check_kspace, sampled_centre
from medical.coils.combination import root_sum_of_squares
from medical.coils.eigenmaps import espirit
from medical.operators.centred import centred_ifft

__all__ = ["estimate", "low_resolution_maps"]


@torch.no_grad()
def low_resolution_maps(kspace: Tensor, *, lines: int | None = 24, support: float = 0.0) -> Tensor:
    """Maps (1, C, H, W) or (1, C, D, H, W): the coil images of the central ``lines`` over their root sum of squares.

    k-space is multiplied along each axis by the Hann window ``sin^2(pi (j + 1) / (lines + 1))``, j = 0 ... lines - 1, which
    is nowhere zero, on the lines from N // 2 - lines // 2 on. ``None`` takes the fully sampled centre.

    Parameters
    ----------
    kspace: (C, H, W) or (C, D, H, W), centred, zero where it was not sampled.
    lines: width of the window, 16 to 24 as a rule; an axis shorter than that is taken whole.
    support: maps are zero where the root sum of squares is below this fraction of its maximum.
    """
    if not 0 <= support < 1:
        raise ValueError(f"support must lie in [0, 1), got {support}; 0.05 leaves out most of the air")
    region = calibration_region(kspace, lines)
    window = torch.ones((), dtype=torch.float64, device=kspace.device)
    padding: list[int] = []
    for width, n in zip(region.shape[1:], kspace.shape[1:], strict=True):
        hann = torch.hann_window(width + 2, periodic=False, dtype=torch.float64, device=kspace.device)[1:-1]
        window = window[..., None] * hann
        before = n // 2 - width // 2
        padding = [before, n - width - before, *padding]
    images = centred_ifft(torch.nn.functional.pad(region * window, padding), kspace.ndim - 1)
    total = root_sum_of_squares(images, 0)
    seen = (total > 0) & (total >= support * total.max())
    return torch.where(seen, images / torch.where(seen, total, 1), 0)[None].to(kspace.dtype)


def estimate(kspace: Tensor, *, kernel: int = 6, crop: float = 0.8, maps: int = 1) -> Tensor:
    """Maps (M, C, H, W) or (M, C, D, H, W) by the best method that the fully sampled centre of ``kspace`` allows.

    ESPIRiT with its ``kernel``, ``crop`` and ``maps`` where that centre is at least two kernels wide along each axis; else
    ``low_resolution_maps`` of it, with a ``UserWarning`` that says so. The latter gives one map, so that several ``maps``
    raise ``ValueError`` there.
    """
    check_kspace(kspace)
    widths = sampled_centre(kspace)
    if min(widths) >= 2 * kernel:
        return espirit(kspace, calibration=None, kernel=kernel, crop=crop, maps=maps).maps
    reason = f"the fully sampled centre of k-space has {widths} lines and ESPIRiT needs {2 * kernel} a side (twice the kernel)"
    if maps != 1:
        raise ValueError(f"{reason}, so that only one map can be estimated, got maps={maps}. Ask for one, or a smaller kernel.")
    warnings.warn(f"low-resolution coil maps instead of ESPIRiT: {reason}", stacklevel=2)
    return low_resolution_maps(kspace, lines=None, support=0.05)
