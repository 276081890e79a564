"""How much each ray counts: the part of the turn that a view stands for, and rays that are measured twice."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["angular_weights", "gaps", "half_fan", "helix_window", "is_open", "parker", "short_arc"]

OPEN = 2.0
"""A gap more than this many times as large as the next one is no gap between views but the end of the scan."""

SAME = 1e-9
"""Of a period: views closer than this are at the same angle."""


def gaps(angles: Sequence[float], period: float) -> tuple[Tensor, Tensor]:
    """``(order, gap)``: the views sorted by ``angles`` modulo ``period``, and how far each is from the next one around."""
    theta = torch.tensor(angles, dtype=torch.float64).remainder(period)
    theta, order = torch.sort(theta, stable=True)
    return order, torch.cat([theta.diff(), theta[:1] + period - theta[-1:]])


def is_open(angles: Sequence[float], period: float) -> bool:
    """Whether one gap sticks out, so that the views leave a part of the ``period`` out."""
    gap = gaps(angles, period)[1].sort(descending=True).values
    return len(gap) > 1 and float(gap[0]) > OPEN * float(gap[1]) * (1 + 1e-6)


def angular_weights(angles: Sequence[float], period: float, *, limited: bool = False) -> Tensor:
    """Half the gap to both neighbours modulo ``period``, radians, (views,), float64; they sum to the period.

    Views at the same angle share what it stands for.

    ``limited`` takes the largest gap for the end of the scan: the views beside it stand for as much as their other
    neighbour leaves them, and nothing makes up for what was not measured.
    """
    order, gap = gaps(angles, period)
    before, after = gap.roll(1), gap
    if limited and len(gap) > 1:
        last = int(gap.argmax())
        first = (last + 1) % len(gap)
        before, after = before.clone(), after.clone()
        after[last], before[first] = before[last], after[first]
    weights = torch.empty_like(gap)
    weights[order] = _shared((before + after) / 2, gap > SAME * period)
    return weights


def _shared(weights: Tensor, apart: Tensor) -> Tensor:
    """The means of ``weights`` over neighbours in a circle that are not ``apart`` from the next one."""
    group = torch.cat([torch.zeros(1, dtype=torch.long), apart[:-1].long().cumsum(0)])
    if not bool(apart[-1]):
        group[group == group[-1]] = 0
    count = torch.bincount(group).clamp_min(1)
    return (torch.zeros_like(count, dtype=weights.dtype).index_add_(0, group, weights) / count)[group]


def short_arc(angles: Sequence[float]) -> tuple[Tensor, float]:
    """``(beta, span)`` of a scan of less than a turn: the angle of each view from the scan's beginning, and its length.

    Views stand in the middle of what they stand for, so that beta runs from half a step to half a step less than the span.
    """
    order, gap = gaps(angles, 2 * math.pi)
    theta = torch.tensor(angles, dtype=torch.float64)
    widths = angular_weights(angles, 2 * math.pi, limited=True)
    first = int(order[(int(gap.argmax()) + 1) % len(gap)])
    beta = (theta - theta[first]).remainder(2 * math.pi)
    beta[first] = 0.0
    return beta + widths[first] / 2, float(widths.sum())


def parker(beta: Tensor, gamma: Tensor, span: float) -> Tensor:
    """Weights of a short scan, in which some rays are measured twice: those of the two sum to one. (views, columns).

    With ``span = pi + 2 D`` and the ray at the fan angle g (towards larger u) of the view at b, measured again at
    ``b + pi - 2 g`` and -g::

        sin^2(pi/4 b / (D + g))             for b <= 2 (D + g)
        sin^2(pi/4 (span - b) / (D - g))    for b >= pi + 2 g
        1                                   in between

    Parker 1982, with the longer scans of Silver 2000 by D above the detector's own fan angle.
    """
    b, g, D = beta[:, None], gamma[None], (span - math.pi) / 2
    tiny = torch.finfo(torch.float64).tiny
    start = torch.sin(math.pi / 4 * (b / (D + g).clamp_min(tiny)).clamp(0, 2)).square()
    end = torch.sin(math.pi / 4 * ((span - b) / (D - g).clamp_min(tiny)).clamp(0, 2)).square()
    return start * end


def half_fan(u: Tensor, reach: tuple[float, float]) -> Tensor:
    """Weights of a full turn with the detector off the middle: those of the rays at u and -u sum to two. (columns,).

    ``reach`` is how far the detector goes towards smaller and larger u. Where only one side reaches, its rays count
    twice. Over an overlap of half width T the weight is ``1 + sin(pi/2 u / T)`` (Wang 2002), smooth at u = 0: a bend there
    would leave a dot on the axis of rotation. Where one side reaches further by less than T / 2 the weight stays one, which
    is best against noise, but for as much at the ends of the overlap, where it changes as ``10 d^3 - 15 d^4 + 6 d^5``.
    """
    short, far = min(reach), max(reach)
    if far - short <= 1e-9 * far:
        return torch.ones_like(u)
    outwards = u if reach[1] > reach[0] else -u
    if short <= 0:
        return torch.where(outwards > -short, 2.0, 0.0).to(u)
    feather = far - short
    if feather >= short / 2:
        return 1 + torch.sin(math.pi / 2 * (outwards / short).clamp(-1, 1))
    depth = ((outwards.abs() - (short - feather)) / feather).clamp(0, 1)
    return 1 + outwards.sign() * depth**3 * (10 - 15 * depth + 6 * depth**2)


def helix_window(z: Tensor, heights: Tensor, pitch: float, *, overlap: float) -> Tensor:
    """How much a view at a source height counts for the slice at z, (views, slices); over the turns it sums to one.

    A function of ``x = |z - height| / pitch``: 1 up to ``(1 - overlap) / 2``, 0 from ``(1 + overlap) / 2`` on, and a
    squared cosine between; ``overlap`` in (0, 1].
    """
    x = (z[None] - heights[:, None]).abs() / abs(pitch)
    edge = ((x - (1 - overlap) / 2) / overlap).clamp(0, 1)
    return torch.cos(math.pi / 2 * edge).square()
