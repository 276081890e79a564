"""Where an optimisation begins: the smoothest image that explains the measurement."""

from __future__ import annotations

import torch
from torch import Tensor

from inverse.operators.base import LinearOperator
from inverse.operators.solve import conjugate_gradient

__all__ = ["smooth_start"]

GRADIENT_STD = 0.1  # of neighbouring pixels of a photograph in [0, 1]
LEAST_NOISE = 0.02  # below it the holes of a mask would hardly pull, and conjugate gradients stop before they are filled


def smooth_start(A: LinearOperator, y: Tensor, noise: float, *, iterations: int = 200) -> Tensor:
    """``argmin_x |A x - y|^2 / (2 noise^2) + |grad x|^2 / (2 s^2)``, the Wiener estimate for a 1 / f^2 spectrum; s = 0.1.

    y (B, ...), images (B, C, H, W) in [0, 1]; ``noise`` is the standard deviation in y, taken as 0.02 at least. By conjugate
    gradients from mid-grey; ``iterations`` bounds them, since a start need not be exact.
    """
    weight = (max(noise, LEAST_NOISE) / GRADIENT_STD) ** 2
    b = A.adjoint(y)
    grey = torch.full_like(b.real, 0.5)
    return conjugate_gradient(lambda x: A.normal(x) + weight * _laplacian(x), b, grey, iterations=iterations, tolerance=1e-5)


def _laplacian(x: Tensor) -> Tensor:
    """``grad^T grad x`` with reflecting edges: positive semidefinite, zero on constants."""
    out = torch.zeros_like(x)
    for dim in (-2, -1):
        d = x.diff(dim=dim)
        zero = torch.zeros_like(x.narrow(dim, 0, 1))
        out = out - torch.cat([d, zero], dim) + torch.cat([zero, d], dim)
    return out
