"""The space of the patches that occur in k-space: the coils see one object, so that it has fewer dimensions than a patch."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

__all__ = ["signal_space"]


def signal_space(region: Tensor, kernel: int, threshold: float) -> Tensor:
    """An orthonormal basis (R, C, k, k) of the patches of ``region`` (C, h, w), all coils of a ``kernel`` wide box each.

    The patches are the columns of the calibration matrix B, (C k^2, P). Kept are the left singular vectors with

        sigma > threshold sigma_max

    found from the eigenvectors of B B^H, which is summed row by row, or of B^H B where that is the smaller; in double
    precision, so that singular values down to 1e-6 of the largest are exact to 1e-4. The same in three dimensions.
    Uecker et al. 2014, section "Calibration".
    """
    region = region.to(torch.complex128)
    windows = region
    for axis in range(1, region.ndim):
        windows = windows.unfold(axis, kernel, 1)
    positions = windows[0].numel() // kernel ** (region.ndim - 1)
    length = region.shape[0] * kernel ** (region.ndim - 1)
    if positions < length:
        B = torch.cat(list(_patches(windows)), 1)
        squares, V = torch.linalg.eigh(B.mH @ B)
        kept = squares > threshold**2 * squares[-1]
        U = B @ V[:, kept] / squares[kept].sqrt()
    else:
        gram = region.new_zeros(length, length)
        for patches in _patches(windows):
            gram.addmm_(patches, patches.mH)
        squares, U = torch.linalg.eigh(gram)
        U = U[:, squares > threshold**2 * squares[-1]]
    return U.mT.reshape(-1, region.shape[0], *[kernel] * (region.ndim - 1))


def _patches(windows: Tensor) -> Iterator[Tensor]:
    """Columns of B, (C k^2, .), those of one index of the first axis at a time; windows (C, p, q, k, k)."""
    axes = (windows.ndim - 1) // 2
    for row in windows.unbind(1):
        inside, positions = range(axes, 2 * axes), range(1, axes)
        yield row.permute(0, *inside, *positions).reshape(row.shape[0] * row.shape[-1] ** axes, -1)
