"""Linear combinations of coils: the one product that compression and whitening share."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["mix_coils"]


def mix_coils(matrix: Tensor, x: Tensor, dim: int = -3) -> Tensor:
    """``matrix @ x`` along the coil axis ``dim`` of x: out[n] = sum_c matrix[n, c] x[c], in the dtype of x.

    ``matrix`` (n, C). The coil axis is -3 for k-space (..., C, H, W), coil images and maps (M, C, H, W) of slices, -4 for
    volumes and -2 for samples (..., C, K).
    """
    if matrix.ndim != 2:
        raise ValueError(f"matrix must have shape (n, C), got {tuple(matrix.shape)}")
    if not -x.ndim <= dim < x.ndim or x.shape[dim] != matrix.shape[1]:
        raise ValueError(
            f"x must have the {matrix.shape[1]} coils of the matrix along axis {dim}, got shape {tuple(x.shape)}. "
            "Name the coil axis by dim: -3 for slices, -4 for volumes, -2 for samples along a trajectory."
        )
    if not x.is_complex():
        raise TypeError(f"x must be complex, got {x.dtype}; coils mix with complex weights")
    return torch.tensordot(matrix.to(x), x, dims=([1], [dim])).movedim(0, dim)
