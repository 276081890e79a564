"""Where samplers get their noise: chosen apart from the work, the same on every device."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["MemberNoise", "NoiseSource"]


class NoiseSource:
    """Standard normal noise in the shape of whatever it is called with, from one seed.

    Every member of a batch gets the same noise, so that an image's result does not depend on its neighbours: a batch
    equals its members. Drawn on the CPU: a seed means the same noise on every device. The stream is its own: it shares
    nothing with a measurement's noise drawn from a generator of the same seed.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._generator = torch.Generator().manual_seed((seed + 1) * 0x9E3779B97F4A7C15 % 2**63)

    def __call__(self, like: Tensor) -> Tensor:
        """Normal noise of the shape, dtype and device of ``like``, (B, ...), equal over B."""
        noise = torch.randn((1, *like.shape[1:]), generator=self._generator, dtype=torch.float32)
        return noise.to(like.device, like.dtype).expand_as(like)


class MemberNoise:
    """Standard Gaussian noise from one CPU generator a batch member, seeded ``seed + i``.

    The noise of a member does not depend on the batch around it, nor on the device. Each call draws the next.
    """

    def __init__(self, seed: int, count: int) -> None:
        self.generators = [torch.Generator().manual_seed(seed + i) for i in range(count)]

    def __call__(self, like: Tensor) -> Tensor:
        """Noise of the shape, dtype and device of ``like`` (B, ...); drawn in float32."""
        if len(like) != len(self.generators):
            raise ValueError(f"like must have {len(self.generators)} members, one a generator, got {len(like)}")
        draws = [torch.randn((1, *like.shape[1:]), generator=g) for g in self.generators]
        return torch.cat(draws).to(like)
