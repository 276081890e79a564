"""Noise levels of a walk down a variance-exploding process, in units of images."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

__all__ = ["Level", "geometric_levels", "times"]

END = 1e-10  # last time in the official code


@dataclass(frozen=True)
class Level:
    """One level: what the network is told (``label``), sigma_k of the table, and sigma_(k-1), 0 below the last."""

    label: float
    sigma: float
    previous: float


def times(steps: int, *, end: float = END) -> tuple[Tensor, Tensor]:
    """The official times ``linspace(1, end, steps)`` and the indices k that they are rounded to, in float32.

    Truncating ``t (steps - 1)`` takes 137 of 2000 indices one too low.
    """
    t = torch.linspace(1, end, steps)
    return t, (t * (steps - 1)).long()


@lru_cache(maxsize=16)
def geometric_levels(steps: int, low: float, high: float, *, truncated: bool = False) -> tuple[Level, ...]:
    """``steps`` levels from ``high`` to ``low``: ``sigma_k = low (high / low)^(k / (steps - 1))``, k from steps - 1 to 0.

    With ``truncated`` the indices of :func:`times`, and labels of the unrounded times. Kept, since every step asks for them.
    """
    ratio = math.log(high / low)
    if not truncated:
        sigma = [low * math.exp(ratio * k / (steps - 1)) for k in range(steps)]
        return tuple(Level(sigma[k], sigma[k], sigma[k - 1] if k else 0.0) for k in reversed(range(steps)))
    table = torch.exp(torch.linspace(math.log(low), math.log(high), steps)).tolist()
    t, index = times(steps)
    return tuple(
        Level(low * (high / low) ** moment, table[k], table[k - 1] if k else 0.0)
        for moment, k in zip(t.tolist(), index.tolist(), strict=True)
    )
