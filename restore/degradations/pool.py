"""Batches mixed over time: what one batch shares, such as the scale of a degradation, is spread over many steps."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["DiversityPool", "without_nan"]


class DiversityPool:
    """Holds the pairs of ``batches`` batches and gives back as many random ones as it takes in.

    While it fills, pairs come back as they are. Then every step shuffles the pool, gives its first pairs away and puts the
    new ones in their place. As in Real-ESRGAN (Wang et al. 2021).

    Parameters
    ----------
    batches: capacity, in batches of the size of the first one.
    generator: on the CPU; draws the order.
    """

    def __init__(self, batches: int = 10, *, generator: torch.Generator) -> None:
        if batches < 1:
            raise ValueError(f"batches must be at least 1, got {batches}")
        self.batches, self.generator = batches, generator
        self._stored: tuple[Tensor, Tensor] | None = None
        self._filled = 0

    def __len__(self) -> int:
        """Pairs in the pool."""
        return self._filled

    def exchange(self, truth: Tensor, degraded: Tensor) -> tuple[Tensor, Tensor]:
        """Pairs (B, C, H, W) and (B, C, h, w) for as many others; ``truth`` and ``degraded`` stay together."""
        B = len(truth)
        if B == 0:
            return truth, degraded
        if self._stored is None:
            capacity = self.batches * B
            self._stored = truth.new_empty((capacity, *truth.shape[1:])), degraded.new_empty((capacity, *degraded.shape[1:]))
        for name, new, old in zip(("truth", "degraded"), (truth, degraded), self._stored, strict=True):
            if len(new) != B or new.shape[1:] != old.shape[1:] or len(old) < B:
                raise ValueError(f"{name} must be ({B}, {', '.join(map(str, old.shape[1:]))}), got {tuple(new.shape)}")
        capacity = len(self._stored[0])
        if self._filled < capacity:
            return self._fill(truth, degraded, min(B, capacity - self._filled))
        chosen = torch.randperm(capacity, generator=self.generator)[:B]  # the places that a full shuffle would put first
        given = self._stored[0][chosen.to(truth.device)], self._stored[1][chosen.to(degraded.device)]
        self._put(chosen, truth, degraded)
        return given

    def _fill(self, truth: Tensor, degraded: Tensor, room: int) -> tuple[Tensor, Tensor]:
        self._put(torch.arange(self._filled, self._filled + room), truth[:room], degraded[:room])
        self._filled += room
        return truth, degraded

    def _put(self, places: Tensor, truth: Tensor, degraded: Tensor) -> None:
        for new, old in zip((truth, degraded), self._stored or (), strict=True):
            old[places.to(old.device)] = new.to(old)


def without_nan(truth: Tensor, degraded: Tensor) -> tuple[Tensor, Tensor]:
    """The pairs of a batch in which every value is a number; a strong degradation of a small image can lose one."""
    whole = ~(truth.isnan().flatten(1).any(1) | degraded.isnan().flatten(1).any(1))
    return truth[whole], degraded[whole]
