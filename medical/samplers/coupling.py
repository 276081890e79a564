r"""What ties neighbouring slices together: differences along an axis, their adjoint, and the shrinkage of TV.

``D x[n] = x[n + 1] - x[n]`` of slices (D, C, H, W). Where the volume ends the difference is zero, or with ``periodic`` it
goes on at the other end: ``D x[n] = x[(n + 1) mod D] - x[n]``, as in the official code of DiffusionMBIR.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Coupling", "difference", "difference_adjoint", "shrink"]

AXES = {"z": (0,), "zyx": (0, 2, 3)}


def difference(x: Tensor, axis: int, *, periodic: bool = False) -> Tensor:
    """``D x`` along ``axis``, of the shape of x."""
    d = torch.roll(x, -1, axis) - x
    if not periodic:
        d.narrow(axis, x.shape[axis] - 1, 1).zero_()
    return d


def difference_adjoint(v: Tensor, axis: int, *, periodic: bool = False) -> Tensor:
    """``D^T v[n] = v[n - 1] - v[n]``: the exact adjoint, which does not read the difference beyond the end."""
    if not periodic:
        v = v.clone()
        v.narrow(axis, v.shape[axis] - 1, 1).zero_()
    return torch.roll(v, 1, axis) - v


def shrink(v: Tensor, a: float) -> Tensor:
    """``S_a(v) = sign(v) max(|v| - a, 0)``, the proximal map of ``a |v|_1``; complex values keep their phase."""
    if not v.is_complex():
        return v.sign() * (v.abs() - a).clamp(min=0)
    size = v.abs()
    return v * ((size - a).clamp(min=0) / size.clamp(min=torch.finfo(size.dtype).tiny))


@dataclass(frozen=True, kw_only=True)
class Coupling:
    """Differences of slices (D, C, H, W) along the axes that TV penalises: ``"z"`` alone, or ``"zyx"``.

    Attributes
    ----------
    axes: a name of :data:`AXES`.
    periodic: whether the last slice neighbours the first, as in the official code.
    isotropic: whether the penalty is the length of the slopes, ``sum sqrt(sum_d |D_d x|^2)``, and not the sum of their parts.
    """

    axes: str = "z"
    periodic: bool = False
    isotropic: bool = False

    def __post_init__(self) -> None:
        if self.axes not in AXES:
            raise ValueError(f"axes must be one of {', '.join(AXES)}, got {self.axes!r}")

    def __call__(self, x: Tensor) -> Tensor:
        """``D x``, one block an axis: (d, D, C, H, W)."""
        return torch.stack([difference(x, axis, periodic=self.periodic) for axis in AXES[self.axes]])

    def adjoint(self, v: Tensor) -> Tensor:
        """``D^T v``, (D, C, H, W)."""
        total = difference_adjoint(v[0], AXES[self.axes][0], periodic=self.periodic)
        for part, axis in zip(v[1:], AXES[self.axes][1:], strict=True):
            total += difference_adjoint(part, axis, periodic=self.periodic)
        return total

    def shrink(self, v: Tensor, a: float) -> Tensor:
        """The proximal map of ``a`` times the penalty, of differences v (d, D, C, H, W)."""
        if not self.isotropic:
            return shrink(v, a)
        length = torch.linalg.vector_norm(v, dim=0)
        return v * (1 - a / length.clamp(min=torch.finfo(length.dtype).tiny)).clamp(min=0)
