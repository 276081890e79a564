"""What an image is beyond its edge: padding along one axis, and its exact adjoint."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["BOUNDARIES", "VALID", "check_boundary", "fold", "pad", "source"]

BOUNDARIES = ("reflect", "symmetric", "replicate", "circular", "zero")
"""``abcd`` goes on as: reflect ``|cba``, symmetric ``|dcba``, replicate ``|dddd``, circular ``|abcd``, zero ``|0000``."""

VALID = "valid"
"""No boundary: nothing is known beyond the edge, and only what lies inside is computed; nothing is padded."""


def check_boundary(boundary: str) -> None:
    """Raise ``ValueError`` unless ``boundary`` is ``VALID`` or one of ``BOUNDARIES``."""
    if boundary not in (*BOUNDARIES, VALID):
        raise ValueError(f"boundary must be one of {', '.join((*BOUNDARIES, VALID))}, got {boundary!r}")


def source(position: Tensor, n: int, boundary: str) -> Tensor:
    """The sample within 0..n-1 that each integer ``position`` repeats, however far outside; -1 where it is zero."""
    if boundary == "replicate":
        return position.clamp(0, n - 1)
    if boundary == "circular":
        return position % n
    if boundary == "zero":
        return torch.where((position >= 0) & (position < n), position, -1)
    edge = 1 if boundary == "symmetric" else 0  # whether the mirror repeats the edge sample
    period = max(2 * n - 2 + 2 * edge, 1)
    folded = position % period
    return torch.where(folded < n, folded, period - edge - folded)


def _borders(n: int, before: int, after: int, boundary: str, device: torch.device) -> tuple[Tensor, Tensor]:
    left = torch.arange(-before, 0, device=device)
    right = torch.arange(n, n + after, device=device)
    return source(left, n, boundary), source(right, n, boundary)


def pad(x: Tensor, dim: int, before: int, after: int, boundary: str) -> Tensor:
    """``x`` with ``before`` and ``after`` samples more along ``dim``; as it is at a ``VALID`` boundary."""
    if boundary == VALID:
        return x
    n = x.shape[dim]
    if boundary == "zero":
        sizes = [list(x.shape), list(x.shape)]
        sizes[0][dim], sizes[1][dim] = before, after
        return torch.cat([x.new_zeros(sizes[0]), x, x.new_zeros(sizes[1])], dim)
    left, right = _borders(n, before, after, boundary, x.device)
    return torch.cat([x.index_select(dim, left), x, x.index_select(dim, right)], dim)


def fold(y: Tensor, dim: int, before: int, after: int, boundary: str) -> Tensor:
    """The adjoint of ``pad``: what lies outside is added to the samples it was copied from."""
    if boundary == VALID:
        return y
    n = y.shape[dim] - before - after
    inside = y.narrow(dim, before, n)
    if boundary == "zero":
        return inside
    left, right = _borders(n, before, after, boundary, y.device)
    inside = inside.index_add(dim, left, y.narrow(dim, 0, before))
    return inside.index_add(dim, right, y.narrow(dim, before + n, after))
