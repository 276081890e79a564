"""One image from many coils: root sum of squares, or the least-squares combination by sensitivity maps."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["combine", "root_sum_of_squares"]

SMALLEST_WEIGHT = 1e-6  # of the largest eigenvalue of S^H S at a pixel; what is seen with less counts as unseen


def root_sum_of_squares(images: Tensor, dim: int = 1) -> Tensor:
    """``(sum_c |x_c|^2)^(1/2)`` along the coil axis ``dim``, real: (B, C, H, W) to (B, H, W).

    Needs no maps, keeps no phase, and biases dark pixels upwards by the noise. Roemer et al. 1990.
    """
    return torch.linalg.vector_norm(images, dim=dim)


def combine(images: Tensor, maps: Tensor) -> Tensor:
    """The complex image (B, M, H, W) that explains the coil ``images`` (B, C, H, W) best: least squares pixel by pixel.

        x = (S^H S)^+ S^H y,    for one map  x = sum_c conj(S_c) y_c / sum_c |S_c|^2

    ``maps`` (M, C, H, W); volumes (B, C, D, H, W) with (M, C, D, H, W) likewise. Zero where all maps are zero. Roemer et al.,
    Magnetic Resonance in Medicine 16 (1990), 192-225.
    """
    if not images.is_complex() or not maps.is_complex():
        raise TypeError(f"images and maps must be complex, got {images.dtype} and {maps.dtype}")
    if images.ndim not in (4, 5) or images.shape[1:] != maps.shape[1:]:
        raise ValueError(
            f"images must have shape (B, C, H, W) or (B, C, D, H, W) and maps (M, C, ...) with the same coils and pixels, "
            f"got {tuple(images.shape)} and {tuple(maps.shape)}"
        )
    maps = maps.to(images)
    seen = torch.einsum("mc...,bc...->bm...", maps.conj(), images)
    if len(maps) == 1:
        weight = maps.abs().square().sum(1)
        return torch.where(weight > 0, seen / torch.where(weight > 0, weight, 1), 0)
    gram = torch.einsum("mc...,nc...->...mn", maps.conj(), maps)
    inverse = torch.linalg.pinv(gram, rtol=SMALLEST_WEIGHT, hermitian=True)
    return torch.einsum("...mn,bn...->bm...", inverse, seen)
