"""The best weight of a method, found on images like those that are to be reconstructed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from inverse.golden_section import golden_section
from inverse.operators.base import LinearOperator

__all__ = ["tune"]

M = TypeVar("M")


def tune(
    method: M, A: LinearOperator, images: Sequence[Tensor], bounds: tuple[float, float], *, evaluations: int = 10, seed: int = 0
) -> M:
    """``method`` with the ``weight`` that gives the best mean PSNR over ``images``, each measured by ``A`` with its noise.

    By golden section in the logarithm of the weight, which finds the best one where there is a single best one. The peak of an
    image is its largest modulus. A weight close to one of the ``bounds`` asks for wider ones.

    Parameters
    ----------
    images: batches (B, C, H, W) or (B, C, D, H, W) of the domain of A, real or complex.
    bounds: (low, high) of the weight.
    evaluations: weights tried, at least 2.
    """
    _check(method, images, bounds, evaluations)
    measured = [A.measure(image, seed=seed + i) for i, image in enumerate(images)]

    def quality(log_weight: float) -> float:
        trial: Any = replace(method, weight=math.exp(log_weight))  # type: ignore[type-var]
        return sum(_psnr(trial.reconstruct(A, y).estimate, x) for y, x in zip(measured, images, strict=True))

    best = golden_section(quality, math.log(bounds[0]), math.log(bounds[1]), evaluations=evaluations)
    return replace(method, weight=math.exp(best))  # type: ignore[type-var]


def _psnr(estimate: Tensor, truth: Tensor) -> float:
    """Mean over the batch, in dB."""
    error = (estimate - truth).abs().double().square().flatten(1).mean(1)
    peak = truth.abs().double().flatten(1).amax(1)
    return float((20 * torch.log10(peak) - 10 * torch.log10(error)).mean())


def _check(method: object, images: Sequence[Tensor], bounds: tuple[float, float], evaluations: int) -> None:
    if not any(f.name == "weight" for f in fields(method)):  # type: ignore[arg-type]
        raise TypeError(f"method must have a weight to tune, got {method!r}")
    if not (len(bounds) == 2 and 0 < bounds[0] < bounds[1] < math.inf):
        raise ValueError(f"bounds must be 0 < low < high, got {bounds}")
    if not images or evaluations < 2:
        raise ValueError(f"images must hold at least one and evaluations be at least 2, got {len(images)} and {evaluations}")
