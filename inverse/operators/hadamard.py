"""The single-pixel camera: subsampled Walsh-Hadamard coefficients."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Self

import torch
from torch import Tensor

from inverse.operators.base import Shape
from inverse.operators.compressed import count
from inverse.operators.noise import Noise
from inverse.operators.subsampled import Subsampled

__all__ = ["Hadamard", "sequency", "walsh_hadamard"]


class Hadamard(Subsampled):
    """A single-pixel camera: coefficients of the Walsh-Hadamard transform, in the natural order, of the flattened channels.

    ``H W`` must be a power of two. Row k of the transform holds ``(-1)^popcount(k & i) / sqrt(H W)`` at pixel i.
    """

    def __init__(self, kept: Tensor, shape: Shape, *, noise: Noise | None = None) -> None:
        super().__init__(kept, shape, noise=noise)
        if self.size & (self.size - 1):
            raise ValueError(f"shape must have a power of two of pixels, got {shape[1]} x {shape[2]}; crop or pad the images")

    @classmethod
    def random(cls, shape: Shape, ratio: float = 0.25, *, seed: int = 0, noise: Noise | None = None) -> Self:
        """``int(ratio H W)`` coefficients drawn at random, the same of every channel."""
        order = torch.randperm(math.prod(shape[1:]), generator=torch.Generator().manual_seed(seed))
        return cls(order[: count(ratio, len(order))], shape, noise=noise)

    @classmethod
    def lowest(cls, shape: Shape, ratio: float = 0.25, *, noise: Noise | None = None) -> Self:
        """The ``int(ratio H W)`` coefficients whose patterns change sign least often, across and down together."""
        if len(shape) != 3:
            raise ValueError(f"shape must be (C, H, W), got {tuple(shape)}")
        H, W = shape[1:]
        changes = sequency(H)[:, None] / H + sequency(W) / W
        order = changes.flatten().argsort(stable=True)
        return cls(order[: count(ratio, len(order))], shape, noise=noise)

    def transform(self, x: Tensor) -> Tensor:
        return walsh_hadamard(x.flatten(2))

    def inverse(self, c: Tensor) -> Tensor:
        return walsh_hadamard(c).view(-1, *self.domain)


def walsh_hadamard(x: Tensor) -> Tensor:
    """The orthonormal transform along the last axis, a power of two long: the Kronecker product of small matrices."""
    n = x.shape[-1]
    y = x
    for power in _factors(n.bit_length() - 1):
        H = _hadamard_matrix(power, x.dtype, x.device)
        y = y.view(*x.shape[:-1], len(H), -1).mT @ H  # the axis transformed becomes the last
        y = y.reshape(x.shape)
    return y / math.sqrt(n)


def _factors(power: int) -> list[int]:
    """``power`` as a sum of numbers up to four, as even as they can be."""
    parts = max(1, math.ceil(power / 4))
    return [power // parts + (i < power % parts) for i in range(parts)]


@lru_cache(maxsize=32)
@torch.inference_mode(False)  # it outlives the mode it was made in
def _hadamard_matrix(power: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    H = torch.ones(1, 1, dtype=dtype, device=device)
    for _ in range(power):
        H = torch.cat([torch.cat([H, H], 1), torch.cat([H, -H], 1)])
    return H


def sequency(n: int) -> Tensor:
    """How often each row of the Hadamard matrix of ``n``, in its natural order, changes sign: a permutation of 0..n-1."""
    if n & (n - 1):
        raise ValueError(f"shape must have sides that are powers of two, got {n}")
    index, gray = torch.arange(n), torch.zeros(n, dtype=torch.long)
    for bit in range(n.bit_length() - 1):
        gray = 2 * gray + (index >> bit & 1)
    for shift in (1, 2, 4, 8, 16):
        gray = gray ^ gray >> shift
    return gray
