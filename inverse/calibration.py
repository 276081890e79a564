"""Whether an uncertainty can be trusted: coverage, reliability, and the conformal correction that makes intervals hold."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from scipy import stats
from torch import Tensor

if TYPE_CHECKING:
    from inverse.reconstruction import Reconstruction

__all__ = ["LEVELS", "Calibration", "conformal_factor", "coverage", "half_width", "reliability", "scores"]

LEVELS = (0.68, 0.95)
FLOOR = 1e-3
"""Added to every standard deviation: a quarter of a grey level, so that samples that agree do not claim certainty."""


def half_width(level: float, samples: int) -> float:
    """Half the width, in standard deviations of ``samples`` draws, of an interval that holds a Gaussian's ``level``.

    Student's t with ``samples - 1`` degrees of freedom, since the deviation is itself estimated.
    """
    if not 0 < level < 1:
        raise ValueError(f"level must lie strictly between 0 and 1, got {level}")
    if samples < 2:
        raise ValueError(f"samples must be at least 2 to have a spread, got {samples}")
    return float(stats.t.ppf((1 + level) / 2, samples - 1))


def scores(reconstruction: Reconstruction, truth: Tensor) -> Tensor:
    """``|truth - estimate| / (std + 1e-3)`` of every value, (B, C, H, W): how many deviations off it is."""
    std = reconstruction.std
    if std is None:
        raise ValueError("reconstruction must hold at least two samples; ask its sampler for some")
    if truth.shape != reconstruction.estimate.shape:
        raise ValueError(
            f"truth must have the shape of the estimate, {tuple(reconstruction.estimate.shape)}, got {tuple(truth.shape)}"
        )
    return (truth.to(std) - reconstruction.estimate).abs() / (std + FLOOR)


def coverage(scores: Tensor, factor: float) -> float:
    """Share of the values that lie within ``factor`` deviations."""
    return float((scores <= factor).double().mean())


def reliability(images: Sequence[Tensor], samples: int, count: int = 19) -> tuple[list[float], list[float]]:
    """Nominal and observed coverage at ``count`` levels, the scores of each of the ``images`` weighing alike.

    A diagonal is a calibrated Gaussian; below it the samples spread too little.
    """
    nominal = [(k + 1) / (count + 1) for k in range(count)]
    observed = [sum(coverage(s, half_width(p, samples)) for s in images) / len(images) for p in nominal]
    return nominal, observed


def conformal_factor(images: Sequence[Tensor], level: float) -> float:
    """The least factor whose interval, for a further image like these, is expected to hold ``level`` of its values.

    Conformal risk control (Angelopoulos et al. 2024, theorem 1) of the share of values outside: with n images whose mean
    share is R, ``(n R + 1) / (n + 1) <= 1 - level``. It needs no model of the errors, only that the further image is
    exchangeable with these: same kind of picture, same operator, same sampler. Raises ``ValueError`` for fewer images
    than the level needs, 19 for 95 %.
    """
    n, alpha = len(images), 1 - level
    allowed = (alpha * (n + 1) - 1) / n if n else -1.0
    if allowed < -1e-12:
        raise ValueError(f"images must be at least {math.ceil(level / alpha - 1e-9)} for the level {level}, got {n}")
    values = torch.cat([s.flatten().double() for s in images])
    weights = torch.cat([torch.full((s.numel(),), 1 / (n * s.numel()), dtype=torch.float64) for s in images])
    order = values.argsort()
    inside = weights[order].cumsum(0)
    index = int(torch.searchsorted(inside, 1 - max(allowed, 0.0) - 1e-12).clamp(max=len(values) - 1))
    return float(values[order][index])


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Conformal factors of one task and sampler.

    Attributes
    ----------
    task, sampler: what it was measured on; the factors hold for nothing else.
    images: photographs that the factors come from.
    samples: draws behind each standard deviation.
    levels, factors: the wanted coverages and the half-widths that reach them, in ``std + 1e-3``.
    """

    task: str
    sampler: str
    images: int
    samples: int
    levels: tuple[float, ...]
    factors: tuple[float, ...]

    @classmethod
    def fit(
        cls, images: Sequence[Tensor], *, task: str, sampler: str, samples: int, levels: Sequence[float] = LEVELS
    ) -> Calibration:
        """From the :func:`scores` of held-out images."""
        factors = tuple(conformal_factor(images, level) for level in levels)
        return cls(task=task, sampler=sampler, images=len(images), samples=samples, levels=tuple(levels), factors=factors)

    def interval(self, reconstruction: Reconstruction, level: float = 0.95) -> tuple[Tensor, Tensor]:
        """Lower and upper end, (B, C, H, W) in [0, 1], between which ``level`` of the true values lie."""
        if level not in self.levels:
            raise ValueError(f"level must be one of {', '.join(map(str, self.levels))}, got {level}")
        if reconstruction.std is None or len(reconstruction.samples) != self.samples:
            raise ValueError(f"reconstruction must hold {self.samples} samples, got {len(reconstruction.samples)}")
        reach = self.factors[self.levels.index(level)] * (reconstruction.std + FLOOR)
        return reconstruction.estimate - reach, reconstruction.estimate + reach
