"""The weight of a penalty where none is given: from the noise, as it arrives in the gradient of the data term."""

from __future__ import annotations

import torch
from torch import Tensor

from inverse.operators.base import LinearOperator

__all__ = ["as_setting", "default_weight", "noise_in_gradient"]


@torch.no_grad()
def noise_in_gradient(A: LinearOperator, y: Tensor, *, seed: int = 0) -> Tensor:
    """Standard deviation of ``A^H n`` over the image, ``n`` the noise of ``A`` for ``y``, (B,); 0 without noise.

    From one draw of ``n``. A penalty competes with this: for ``A`` the identity it is the standard deviation itself, for the
    rays of CT it grows with the root of their number. For complex data it is the modulus, sqrt(2) times one part's.
    """
    std = A.noise.std(y)
    z = torch.randn(y.shape[1:], dtype=y.dtype, generator=torch.Generator().manual_seed(seed)).to(y.device)
    scale = 2**0.5 if y.is_complex() else 1.0  # torch gives complex numbers a modulus of 1
    return A.adjoint(scale * std * z.expand_as(y)).abs().square().flatten(1).mean(1).sqrt()


def default_weight(A: LinearOperator, y: Tensor, b: Tensor, *, strength: float, share: float) -> Tensor:
    """``strength`` times :func:`noise_in_gradient`, or, without noise, ``share`` times ``max |A^H y|``; (B, 1, ..., 1).

    Both follow y and A when they are scaled, as a weight has to. ``b`` is ``A^H y``.
    """
    weight = strength * noise_in_gradient(A, y)
    weight = torch.where(weight > 0, weight, share * b.abs().flatten(1).amax(1))
    return weight.view(-1, *[1] * (b.ndim - 1))


def as_setting(weight: Tensor) -> float | tuple[float, ...]:
    """For the record: a number or, where members of a batch have their own, a tuple."""
    values = weight.flatten().tolist()
    return values[0] if len(values) == 1 else tuple(values)
