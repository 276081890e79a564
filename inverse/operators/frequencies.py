"""Which frequencies are measured: masks (H, W), bool, in the order of ``torch.fft.fft2``, frequency zero at [0, 0].

All hold -f wherever they hold f, since a real image says the same of both.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from inverse.operators.base import Shape

__all__ = ["cartesian_lines", "low_frequencies", "mirrored", "radial_lines", "random_frequencies"]


def mirrored(mask: Tensor) -> Tensor:
    """The mask (H, W) at -f."""
    return mask.flip(0, 1).roll((1, 1), (0, 1))


def distance(shape: Shape) -> Tensor:
    """How far each frequency is from zero, (H, W), in steps of the discrete transform, float64."""
    rows, columns = (torch.fft.fftfreq(n, 1 / n, dtype=torch.float64) for n in _two(shape))
    return torch.hypot(rows[:, None], columns)


def low_frequencies(shape: Shape, radius: float) -> Tensor:
    """The frequencies nearer to zero than ``radius``, and zero itself if that is positive."""
    if not 0 <= radius < math.inf:
        raise ValueError(f"radius must be finite and not negative, got {radius}")
    return distance(shape) < radius


def random_frequencies(shape: Shape, ratio: float, *, decay: float = 0.0, radius: float = 0.0, seed: int = 0) -> Tensor:
    """``ratio H W`` frequencies, or one less: all nearer to zero than ``radius``, the others drawn at random.

    They are drawn without replacement, f and -f together, with a weight of ``(1 - |f| / max |f|)^decay`` (Lustig et al.
    2007): 0 is uniform, 2 to 4 follow the spectrum of photographs and organs.
    """
    if not 0 < ratio <= 1:
        raise ValueError(f"ratio must be a share of the frequencies in (0, 1], got {ratio}")
    if not 0 <= decay < math.inf:
        raise ValueError(f"decay must be finite and not negative, got {decay}")
    r, always = distance(shape), low_frequencies(shape, radius)
    if int(always.sum()) > int(ratio * r.numel()):
        raise ValueError(f"radius {radius} alone keeps {int(always.sum())} of {r.numel()} frequencies, more than ratio {ratio}")
    weight = (1 - r / (r.max() + 1)).pow(decay)
    draw = torch.rand(r.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    # Efraimidis & Spirakis 2006: the largest of u^(1 / w), here as log(u) / w
    key = torch.where(always, 1.0, draw.clamp(min=1e-300).log() / weight)
    index = torch.arange(r.numel()).view(r.shape)
    partner = mirrored(index)
    first = index <= partner
    order = key[first].argsort(descending=True, stable=True)
    chosen, other = index[first][order], partner[first][order]
    total = (1 + (chosen != other).long()).cumsum(0)
    kept = total <= max(int(total[0]), int(ratio * r.numel()))
    mask = torch.zeros(r.numel(), dtype=torch.bool)
    mask[chosen[kept]] = True
    mask[other[kept]] = True
    return mask.view(r.shape)


def cartesian_lines(shape: Shape, ratio: float, *, decay: float = 0.0, radius: float = 0.0, seed: int = 0) -> Tensor:
    """Whole rows of frequencies, the phase encodings of MRI, drawn as ``random_frequencies`` draws points."""
    H, W = _two(shape)
    return random_frequencies((H, 1), ratio, decay=decay, radius=radius, seed=seed).repeat(1, W)


def radial_lines(shape: Shape, lines: int) -> Tensor:
    """``lines`` lines through zero at equal angles, the first along the rows, from edge to edge of the frequencies."""
    H, W = _two(shape)
    if not isinstance(lines, int) or lines < 1:
        raise ValueError(f"lines must be a whole number, at least 1, got {lines!r}")
    angle = math.pi * torch.arange(lines, dtype=torch.float64) / lines
    reach = math.ceil(math.hypot(H, W) / 2)
    along = torch.arange(-reach, reach + 0.5, 0.5, dtype=torch.float64)
    row, column = ((torch.outer(f, along) + 1e-9).round().long() for f in (angle.sin(), angle.cos()))
    inside = (row.abs() <= H // 2) & (column.abs() <= W // 2)
    mask = torch.zeros(H, W, dtype=torch.bool)
    mask[row[inside] % H, column[inside] % W] = True
    return mask | mirrored(mask)


def _two(shape: Shape) -> Shape:
    if len(shape) != 2 or min(shape) < 1:
        raise ValueError(f"shape must be (H, W), got {tuple(shape)}")
    return shape
