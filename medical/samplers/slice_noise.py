"""Noise of a volume, slice by slice: what a slice gets depends on nothing but the seed, the step and its number."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["SliceNoise"]


@dataclass(frozen=True)
class SliceNoise:
    """Standard normal noise without a memory: the same for any chunks and processes, and after a resume.

    For complex images real and imaginary part are standard normal each. Drawn on the CPU in float32.
    """

    seed: int

    def __call__(self, like: Tensor, step: int, draw: int, part: slice) -> Tensor:
        """The ``draw``-th noise of a step for the slices ``part``: shape, dtype and device of ``like`` (n, C, H, W)."""
        shape = (*like.shape[1:], 2) if like.is_complex() else like.shape[1:]
        slices = []
        for index in range(part.start, part.start + len(like)):
            generator = torch.Generator().manual_seed(_mixed(self.seed, step, draw, index))
            slices.append(torch.randn(shape, generator=generator))
        noise = torch.stack(slices).to(like.device, like.real.dtype)
        return torch.view_as_complex(noise) if like.is_complex() else noise

    def number(self, step: int, draw: int) -> float:
        """A number of a step, uniform in [0, 1), for choices that concern the volume as a whole."""
        generator = torch.Generator().manual_seed(_mixed(self.seed, step, draw))
        return float(torch.rand((), generator=generator, dtype=torch.float64))


def _mixed(*numbers: int) -> int:
    """One seed of 63 bits from several numbers."""
    digest = hashlib.blake2b(",".join(map(str, numbers)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1
