"""What samplers share that walk down the levels of a variance-exploding process, predictor and corrector at each."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from medical.samplers.data_step import Position
from medical.samplers.levels import Level, geometric_levels
from medical.samplers.slice_prior import SlicePrior
from medical.samplers.volume_sampler import VolumeProblem, VolumeSampler

__all__ = ["LangevinSampler"]


@dataclass(frozen=True, kw_only=True)
class LangevinSampler(VolumeSampler):
    """Noise levels and step lengths of Song et al. 2021; subclasses write ``step``.

    Attributes
    ----------
    steps: noise levels, geometric from ``sigma_max`` to ``sigma_min``, as far as the prior knows them.
    sigma_min, sigma_max: in units of images.
    snr: signal-to-noise ratio of the corrector.
    whole_chunks: norms are taken over a chunk, as the official codes do, and not over each slice by itself.
    truncated: take times and levels as the official code does, which rounds some of 2000 levels to their neighbours.
    """

    steps: int = 2000
    sigma_min: float = 0.01
    sigma_max: float = 378.0
    snr: float = 0.16
    whole_chunks: bool = False
    truncated: bool = False

    calls_per_step = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps < 2:
            raise ValueError(f"steps must be at least 2, got {self.steps}")
        if not 0 < self.sigma_min < self.sigma_max < math.inf:
            raise ValueError(f"0 < sigma_min < sigma_max must hold, got {self.sigma_min} and {self.sigma_max}")
        if not self.snr > 0:
            raise ValueError(f"snr must be positive, got {self.snr}")

    @property
    def chunks_matter(self) -> bool:  # type: ignore[override]
        return self.whole_chunks

    def levels(self, prior: SlicePrior) -> tuple[Level, ...]:
        """The noise levels, from high to low, within what the prior knows."""
        low, high = max(self.sigma_min, prior.lowest), min(self.sigma_max, prior.highest)
        return geometric_levels(self.steps, low, high, truncated=self.truncated)

    def start(self, problem: VolumeProblem) -> Position:
        return Position.at(self.levels(problem.prior)[0].label * problem.normal(0, 0))

    def length(self, z: Tensor, score: Tensor, parts: Iterable[slice]) -> Tensor:
        """``e = 2 (snr |z| / |score|)^2`` of the corrector, (n, 1, 1, 1), of each slice or of the chunks ``parts``."""
        norms = torch.stack([torch.linalg.vector_norm(v.flatten(1), dim=1) for v in (z, score)])
        if self.whole_chunks:
            norms = torch.cat([norms[:, part].mean(1, keepdim=True).expand_as(norms[:, part]) for part in parts], 1)
        return (2 * (self.snr * norms[0] / norms[1]) ** 2).view(-1, *[1] * (z.ndim - 1))
