"""A reconstructed volume in portions that fit into memory, and the split into measured and filled in, one by one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from inverse.operators.base import LinearOperator
from inverse.reconstruction import PRIOR_STD, Reconstruction

__all__ = ["Portion", "portions", "split_by_chunks"]

LEAST_RATIO = 1e-3  # of noise to the spread of images: what a noiseless measurement counts as having


@dataclass(frozen=True, eq=False)
class Portion:
    """Some slices of a reconstruction: where they are, their operator, estimate and measurement."""

    where: slice
    operator: LinearOperator
    estimate: Tensor
    measurement: Tensor


def portions(reconstruction: Reconstruction, chunk: int = 16) -> Iterator[Portion]:
    """At most ``chunk`` slices each; the whole volume where the operator takes volumes, (1, C, D, H, W).

    An operator that differs from slice to slice has ``part(slices)``. Raises ``TypeError`` for one that is not linear, and
    ``ValueError`` for a chunk below 1.
    """
    A, x, y = reconstruction.operator, reconstruction.estimate, reconstruction.measurement
    if not isinstance(A, LinearOperator):
        raise TypeError(f"the reconstruction must come from a linear operator, got {A!r}; others have no such split")
    if chunk < 1:
        raise ValueError(f"chunk must be at least 1 slice, got {chunk}")
    of = getattr(A, "part", None)
    for first in range(0, len(x), chunk):
        where = slice(first, min(first + chunk, len(x)))
        yield Portion(where, A if of is None else of(where), x[where], y[where])


@torch.no_grad()
def split_by_chunks(reconstruction: Reconstruction, *, chunk: int = 16) -> tuple[Tensor, Tensor]:
    """``(measured, filled)`` as ``Reconstruction.split``, in its shape, with the memory of ``chunk`` slices at a time.

    ``measured = (A^H A + rho)^-1 A^H A estimate`` by conjugate gradients, of which each iteration holds several copies of
    images and of their measurement. The numbers are the same, real or complex. An operator of volumes has one portion, the
    volume.
    """
    y = reconstruction.measurement
    noise = float(reconstruction.operator.noise.std(y).square().mean().sqrt())
    rho = max(noise / PRIOR_STD, LEAST_RATIO) ** 2
    measured = torch.empty_like(reconstruction.estimate)
    for p in portions(reconstruction, chunk):
        measured[p.where] = p.operator.prox(torch.zeros_like(p.estimate), p.operator(p.estimate), rho)
    return measured, reconstruction.estimate - measured
