"""Numbers from an explicit generator, and where a degradation gets its noise fields from.

Everything is drawn on the device of the generator: a CPU generator means the same numbers on every device, one of the GPU
saves the transfer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

__all__ = ["Fields", "GeneratorFields", "check_probabilities", "check_range", "choose", "happens", "uniform", "uniforms"]


class Fields(Protocol):
    """A source of noise fields, asked in the order of the stages; stored fields may stand in for drawn ones."""

    def normal(self, shape: Sequence[int]) -> Tensor:
        """Standard normal noise of ``shape``."""

    def counts(self, rate: Tensor) -> Tensor:
        """Poisson counts of the expectation ``rate``, in its shape."""


class GeneratorFields:
    """Noise fields drawn from ``generator``, in float32."""

    def __init__(self, generator: torch.Generator) -> None:
        self.generator = generator

    def normal(self, shape: Sequence[int]) -> Tensor:
        return torch.randn(tuple(shape), generator=self.generator, device=self.generator.device)

    def counts(self, rate: Tensor) -> Tensor:
        return torch.poisson(rate.to(self.generator.device, torch.float32), generator=self.generator)


def uniforms(generator: torch.Generator, count: int, low: float = 0.0, high: float = 1.0) -> Tensor:
    """``count`` numbers of U[low, high), float64; where ``high < low`` they lie in (high, low]."""
    return low + (high - low) * torch.rand(count, generator=generator, device=generator.device, dtype=torch.float64)


def uniform(generator: torch.Generator, low: float = 0.0, high: float = 1.0) -> float:
    """One number of U[low, high)."""
    return float(uniforms(generator, 1, low, high))


def happens(generator: torch.Generator, probability: float) -> bool:
    """True with ``probability``."""
    return uniform(generator) < probability


def choose(generator: torch.Generator, weights: Sequence[float]) -> int:
    """An index, drawn in proportion to ``weights``; none of weight zero is ever drawn."""
    total = torch.tensor(weights, dtype=torch.float64).cumsum(0)
    index = int(torch.searchsorted(total, uniform(generator) * float(total[-1]), right=True))
    return min(index, max(i for i, weight in enumerate(weights) if weight > 0))


def check_range(name: str, values: tuple[float, float], least: float, most: float) -> None:
    """Raise ``ValueError`` unless ``values`` are (low, high) with ``least <= low <= high <= most``."""
    if len(values) != 2 or not least <= values[0] <= values[1] <= most:
        raise ValueError(f"{name} must be (low, high) with {least:g} <= low <= high <= {most:g}, got {values}")


def check_probabilities(name: str, *values: float) -> None:
    """Raise ``ValueError`` unless every value lies in [0, 1]."""
    if not all(0 <= value <= 1 for value in values):
        raise ValueError(f"{name} must lie in [0, 1], got {', '.join(map(str, values))}")
