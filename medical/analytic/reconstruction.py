"""What all analytic reconstructions share: weighting, filtering and backprojecting the views in blocks."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from medical.analytic.filters import equiangular_ramp, filter_columns, ramp
from medical.analytic.pixels import Pixels, at_axis, backproject, reach_columns
from medical.geometry.beam import Beam
from medical.geometry.cone import ConeBeam
from medical.geometry.fan import FanBeam
from medical.geometry.volume import Volume

__all__ = ["Filter", "check_measurement", "reconstruct"]

CHUNK = 2**24
"""Numbers filtered at a time."""


@dataclass(frozen=True)
class Filter:
    """A window on the ramp, and the fraction of the Nyquist frequency at which it ends."""

    window: str = "ram-lak"
    cutoff: float = 1.0


def reconstruct(y: Tensor, volume: Volume, beam: Beam, *, weights: Tensor, pixels: Pixels, ramp_filter: Filter) -> Tensor:
    """``f = sum over views of ratio^2 (h * (weights cosines y))``, (B, 1, *volume.shape); y (B, 1, *beam.shape).

    ``weights`` (views, columns) are those of the rays in radians; ``pixels`` says where the voxels are seen.
    """
    if not len(y):
        return y.reshape(0, 1, *volume.shape)
    views, columns = weights.shape
    data = y.reshape(len(y), views, beam.detector.rows, columns)
    low, high = reach_columns(volume, beam)
    step = pixels.columns[1]
    kernel: Callable[[Tensor], Tensor] = partial(equiangular_ramp if beam.detector.curved else ramp, spacing=step)
    seen = replace(pixels, columns=(pixels.columns[0] - low * step, step))
    factors = cosines(beam)
    count = max(1, CHUNK // (len(y) * data.shape[2] * (2 * columns + low + high)))
    total = None
    for first in range(0, views, count):
        k = slice(first, first + count)
        weighted = data[:, k] * (weights[k, None] * factors * step).to(y)
        q = filter_columns(weighted, kernel, window=ramp_filter.window, cutoff=ramp_filter.cutoff, beyond=(low, high))
        part = backproject(q.mT, seen[k])
        total = part if total is None else total + part
    if total is None:
        raise ValueError("beam must have views")
    return total.reshape(len(y), 1, *volume.shape)


def cosines(beam: Beam) -> Tensor:
    """The cosine of the angle between each ray and the central one, (rows, columns); a curved detector's over DSO.

    Flat: ``DSO / sqrt(DSO^2 + u^2 + w^2)``; curved: ``cos g / sqrt(DSO^2 + w^2)``; at the axis of rotation. One for a
    parallel beam.
    """
    u, w = at_axis(beam)
    if not isinstance(beam, (FanBeam, ConeBeam)):
        return torch.ones(len(w), len(u), dtype=torch.float64)
    D, w = beam.source_distance, w[:, None]
    if beam.detector.curved:
        return u.cos() / torch.sqrt(D**2 + w**2)
    return D / torch.sqrt(D**2 + u**2 + w**2)


def check_measurement(y: Tensor, beam: Beam) -> None:
    """Raises ``TypeError`` or ``ValueError`` where ``y`` is no real, finite measurement of ``beam``."""
    if not isinstance(y, Tensor) or y.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"y must be a float32 or float64 tensor, got {y.dtype if isinstance(y, Tensor) else type(y).__name__}")
    if y.ndim != len(beam.shape) + 2 or tuple(y.shape[1:]) != (1, *beam.shape):
        raise ValueError(f"y must have shape (B, 1, {', '.join(map(str, beam.shape))}) for this beam, got {tuple(y.shape)}")
    if not bool(y.isfinite().all()):
        bad = int((~y.isfinite()).sum())
        raise ValueError(
            f"y must be finite, got {bad} NaN or infinite values of {math.prod(y.shape)}; mend or leave out those rays"
        )
