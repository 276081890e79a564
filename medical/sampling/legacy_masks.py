"""The k-space masks of DiffusionMBIR (Chung et al. 2023, official code), the same points for the same seed of NumPy.

Their rates are nominal: lines and points are drawn with replacement, so that fewer are measured than 1 / acceleration says
(240 columns at 2: 0.42). :mod:`medical.sampling.masks` has masks whose rates are exact.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

__all__ = ["LEGACY_KINDS", "legacy_mask"]

Draw = Callable[[np.random.RandomState, int, float, int], np.ndarray]


def _uniform_lines(random: np.random.RandomState, W: int, acceleration: float, centre: int) -> np.ndarray:
    return random.choice(W, int(W // acceleration) - centre)


def _gaussian_lines(random: np.random.RandomState, W: int, acceleration: float, centre: int) -> np.ndarray:
    return _pixels(random.normal(W // 2, 15 * W / 128, int(1.2 * W // acceleration)), W)


def _uniform_points(random: np.random.RandomState, W: int, acceleration: float, centre: int) -> np.ndarray:
    return random.choice(W * W, int(W * W // acceleration))


def _gaussian_points(random: np.random.RandomState, W: int, acceleration: float, centre: int) -> np.ndarray:
    rows, columns = _pixels(random.normal(W // 2, W * math.sqrt(1.5 / 128), (int(W * W // acceleration), 2)), W).T
    return rows * W + columns


def _pixels(position: np.ndarray, W: int) -> np.ndarray:
    return np.clip(position, 0, W - 1).astype(int)


LINES: dict[str, Draw] = {"uniform1d": _uniform_lines, "gaussian1d": _gaussian_lines}
POINTS: dict[str, Draw] = {"uniformrandom2d": _uniform_points, "gaussian2d": _gaussian_points}

LEGACY_KINDS = (*LINES, *POINTS)
"""Their official names."""


def legacy_mask(kind: str, size: int, acceleration: float, *, centre_fraction: float = 0.15, seed: int = 0) -> Tensor:
    """A mask for images of ``size`` W pixels a side, bool, frequency zero at W // 2: columns (1, W) or points (W, W).

    - uniform1d: ``W // acceleration - n`` columns, drawn uniformly, and the n central ones;
    - gaussian1d: ``1.2 W // acceleration`` columns, normal around W // 2 with deviation 15 W / 128, and the n central ones;
    - uniformrandom2d: ``W^2 // acceleration`` points, drawn uniformly;
    - gaussian2d: as many, normal around the centre with deviation ``W sqrt(1.5 / 128)``.

    Draws are made with replacement, those beyond an edge count for it. n is ``int(W centre_fraction)``, from W // 2 - n // 2
    on; points have no centre.

    Parameters
    ----------
    kind: one of :data:`LEGACY_KINDS`.
    acceleration: nominal, at least 1.
    seed: of ``numpy.random.RandomState``, the legacy generator that ``numpy.random.seed`` seeds.
    """
    if kind not in LEGACY_KINDS:
        raise ValueError(f"kind must be one of {', '.join(LEGACY_KINDS)}, got {kind!r}")
    if size < 1:
        raise ValueError(f"size must be the pixels along a side of the image, got {size}")
    if not 1 <= acceleration < math.inf:
        raise ValueError(f"acceleration must be a finite number, at least 1, got {acceleration}")
    if not 0 <= centre_fraction <= 1:
        raise ValueError(f"centre_fraction must be a share of the columns, from 0 to 1, got {centre_fraction}")
    centre = int(size * centre_fraction)
    if kind == "uniform1d" and centre > size // acceleration:
        raise ValueError(
            f"centre_fraction must be at most {1 / acceleration:.3g}, got {centre_fraction}: its {centre} lines are more than "
            f"the {int(size // acceleration)} of {size} that acceleration {acceleration:g} measures"
        )
    random = np.random.RandomState(seed)
    if kind in POINTS:
        points = torch.zeros(size * size, dtype=torch.bool)
        points[torch.from_numpy(POINTS[kind](random, size, acceleration, centre))] = True
        return points.view(size, size)
    lines = torch.zeros(1, size, dtype=torch.bool)
    lines[0, torch.from_numpy(LINES[kind](random, size, acceleration, centre))] = True
    first = size // 2 - centre // 2
    lines[0, first : first + centre] = True
    return lines
