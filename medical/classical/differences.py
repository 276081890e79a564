"""Forward differences along every axis of an image, and their adjoint, written into buffers that are used again."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from inverse.operators.base import LinearOperator

__all__ = ["Spacing", "divergence", "gradient", "gradient_bound", "magnitude", "scales", "spacing_of", "stacked_size"]

Spacing = tuple[float, ...]


def scales(spacing: Sequence[float] | None, dims: int) -> Spacing:
    """``min(h) / h_d`` of every axis: what differences are multiplied with, so that slopes count in one unit of length.

    1 for cubic voxels, whatever their size, and for ``spacing`` None.
    """
    if spacing is None:
        return (1.0,) * dims
    if len(spacing) != dims or not all(0 < h < float("inf") for h in spacing):
        raise ValueError(f"spacing must hold {dims} positive lengths, one an axis of the image, got {tuple(spacing)}")
    return tuple(min(spacing) / h for h in spacing)


def spacing_of(A: LinearOperator) -> Spacing | None:
    """The sides of the voxels of ``A``, where it or what it is made of has a ``volume``; else None."""
    volumes = (getattr(module, "volume", None) for module in A.modules())
    return next((tuple(v.spacing) for v in volumes if v is not None), None)


def gradient_bound(scale: Spacing) -> float:
    """Of the squared norm of the differences: ``4 sum_d scale_d^2``, 8 for pictures and 12 for cubic voxels."""
    return 4 * sum(s * s for s in scale)


def gradient(x: Tensor, scale: Spacing, out: Tensor | None = None) -> Tensor:
    """``scale_d (x[i + 1] - x[i])`` along the axes after the first two, zero at the far edges; to (d, B, C, ...)."""
    g = x.new_zeros(len(scale), *x.shape) if out is None else out
    for d, s in enumerate(scale):
        axis, n = d + 2, x.shape[d + 2]
        torch.sub(x.narrow(axis, 1, n - 1), x.narrow(axis, 0, n - 1), out=g[d].narrow(axis, 0, n - 1))
        if s != 1:
            g[d].mul_(s)
    return g


def divergence(g: Tensor, scale: Spacing, out: Tensor | None = None) -> Tensor:
    """The adjoint of ``gradient``, which is minus the divergence; (d, B, C, ...) to (B, C, ...). The far edges are not read."""
    x = g.new_zeros(g.shape[1:]) if out is None else out.zero_()
    for d, s in enumerate(scale):
        axis, n = d + 2, x.shape[d + 2]
        inside = g[d].narrow(axis, 0, n - 1)
        x.narrow(axis, 1, n - 1).add_(inside, alpha=s)
        x.narrow(axis, 0, n - 1).sub_(inside, alpha=s)
    return x


def magnitude(g: Tensor) -> Tensor:
    """``sqrt(sum_d,c |g_d,c|^2)`` at every pixel, axes and channels together: real (d, B, C, ...) to (B, 1, ...)."""
    m = g[0].square()
    for part in g[1:]:
        m.addcmul_(part, part)
    return (m.sum(1, keepdim=True) if m.shape[1] > 1 else m).sqrt_()


def stacked_size(g: Tensor) -> Tensor:
    """``|g|`` of each batch member, (d, B, C, ...) to (B,)."""
    return torch.linalg.vector_norm(g.movedim(1, 0).flatten(1), dim=1)
