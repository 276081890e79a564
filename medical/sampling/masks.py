"""Which points of Cartesian k-space are measured: masks, bool, frequency zero at index n // 2 of both axes.

A mask has lines or points. Lines run along one axis and are chosen along the other, the phase encoding ``axis``: (1, W)
for ``axis=1`` (columns are chosen, as in fastMRI), (H, 1) for ``axis=0``; both spread over (H, W). Points, ``axis=None``,
are chosen in the plane (H, W) of the two phase encodings of a volume. All masks contain the ``acs`` central lines (the
central rectangle of points) from which coils are calibrated, starting at n // 2 - acs // 2.

The acceleration is the total one, the ACS included: ``round(n / acceleration)`` of the n lines or points are measured,
exactly. Only ``equispaced(..., whole=True)`` differs.
"""

from __future__ import annotations

import math
from numbers import Integral

import numpy as np
import torch
from torch import Tensor

from inverse.operators.base import Shape

__all__ = ["equispaced", "gaussian", "poisson_disc", "uniform", "variable_density"]

Size = int | tuple[int, int]

HALVINGS = 12  # of the interval of scales; the number of points of a Poisson disc is then nearly settled


def equispaced(
    shape: Shape, acceleration: float, *, acs: int = 24, offset: int = 0, axis: int = 1, whole: bool = False
) -> Tensor:
    """Lines at equal distances, the first one ``offset`` lines from the edge, 0 <= offset < acceleration.

    Of the lines outside the ACS, numbered through, every s-th is measured, ``offset + floor(i s)``, where s is the fraction
    that makes the total acceleration exact. With ``whole`` instead every ``acceleration``-th line of all, a whole number,
    as for GRAPPA (Griswold et al. 2002); what the ACS adds lowers the total acceleration.
    """
    if axis is None:
        raise ValueError("axis must be 0 to choose rows or 1 to choose columns, got None; only the random masks have points")
    n, total, centre = _budget(shape, acceleration, acs, axis)
    if not isinstance(offset, Integral) or not 0 <= offset < acceleration:
        raise ValueError(f"offset must be a whole number in [0, {acceleration:g}), below the acceleration, got {offset}")
    mask = centre.flatten().clone()
    if whole:
        if acceleration != int(acceleration):
            raise ValueError(f"acceleration must be a whole number with whole=True, got {acceleration:g}")
        mask[offset :: int(acceleration)] = True
        return mask.view(centre.shape)
    outer = (~mask).nonzero().flatten()
    count = total - (n - len(outer))
    if count:
        step = torch.arange(count) * len(outer) // count
        mask[outer[(offset + step) % len(outer)]] = True
    return mask.view(centre.shape)


def uniform(shape: Shape, acceleration: float, *, acs: Size = 24, axis: int | None = 1, seed: int = 0) -> Tensor:
    """Lines, or with ``axis=None`` points, drawn uniformly without replacement."""
    _, total, centre = _budget(shape, acceleration, acs, axis)
    return _drawn(torch.zeros(centre.shape, dtype=torch.float64), centre, total, seed)


def gaussian(
    shape: Shape, acceleration: float, *, acs: Size = 24, width: float = 0.2, axis: int | None = 1, seed: int = 0
) -> Tensor:
    """Lines, or with ``axis=None`` points, drawn without replacement with a Gaussian weight around frequency zero.

    ``width`` is the standard deviation as a share of each side.
    """
    if not 0 < width < math.inf:
        raise ValueError(f"width must be a positive share of the sides, got {width}")
    _, total, centre = _budget(shape, acceleration, acs, axis)
    return _drawn(-_radius(centre.shape).square() / (8 * width**2), centre, total, seed)


def variable_density(
    shape: Shape, acceleration: float, *, acs: Size = 24, decay: float = 3.0, axis: int | None = None, seed: int = 0
) -> Tensor:
    """Points, or lines, drawn without replacement with the weight ``(1 - |k|)^decay``, |k| 0 at zero and 1 in the corners.

    Lustig et al. 2007; a ``decay`` of 0 is uniform.
    """
    if not 0 <= decay < math.inf:
        raise ValueError(f"decay must be finite and not negative, got {decay}")
    _, total, centre = _budget(shape, acceleration, acs, axis)
    radius = _radius(centre.shape)
    # a little beyond the corners, which keep a chance
    return _drawn(decay * torch.log1p(-radius / (1.01 * radius.max().clamp(min=1e-9))), centre, total, seed)


def poisson_disc(
    shape: Shape, acceleration: float, *, acs: Size = 24, decay: float = 1.0, axis: int | None = None, seed: int = 0
) -> Tensor:
    """Points, or lines, that keep their distance: random, without clusters and without holes.

    Darts are thrown at the grid in random order; one sticks unless it is nearer to an earlier one, q, than ``r(q) =
    s (1 + decay |q|)``, with |q| 1 at the edges: so two points are never nearer than the smaller of their two radii. The
    scale s is found by bisection, and a few darts at a slightly smaller one make the acceleration exact. The density falls
    as ``(1 + decay |k|)^-2``, that of lines as ``(1 + decay |k|)^-1``; a ``decay`` of 0 is uniform. After Cook 1986.
    """
    if not 0 <= decay < math.inf:
        raise ValueError(f"decay must be finite and not negative, got {decay}")
    _, total, centre = _budget(shape, acceleration, acs, axis)
    order = torch.randperm(centre.numel(), generator=torch.Generator().manual_seed(seed))
    darts = _Darts(centre, 1 + decay * _radius(centre.shape), order)
    low, high = 0.0, 2.0
    while high <= sum(centre.shape) and int(darts.thrown(high, total).sum()) >= total and int(centre.sum()) < total:
        low, high = high, 2 * high  # beyond the sides, a single dart closes all of k-space
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if int(darts.thrown(middle, total).sum()) >= total else (low, middle)
    # the sparser pattern has no holes; closer darts fill it up to the number
    filled = darts.thrown(low, total, start=darts.thrown(high))
    exact = filled if int(filled.sum()) == total else darts.thrown(low, total)
    return torch.from_numpy(exact)


class _Darts:
    """Dart throwing on a grid: around each point of a pattern a disc of ``scale * radius`` is closed to later points."""

    def __init__(self, centre: Tensor, radius: Tensor, order: Tensor) -> None:
        self.centre, self.radius = centre.numpy(), radius.numpy()
        self.order = [divmod(p, centre.shape[1]) for p in order.tolist()]
        self.discs: dict[int, np.ndarray] = {}

    def thrown(self, scale: float, most: int | None = None, *, start: np.ndarray | None = None) -> np.ndarray:
        """The pattern grown from ``start``, by default the ACS alone, until no dart fits or there are ``most`` points."""
        mask = (self.centre if start is None else start).copy()
        reach = np.ceil((scale * self.radius) ** 2 - 1e-9).astype(int) - 1  # closed where d^2 < r^2, d^2 a whole number
        pad = math.isqrt(max(int(reach.max()), 0))
        height, width = mask.shape
        closed = np.zeros((height + 2 * pad, width + 2 * pad), dtype=bool)
        closed[pad : pad + height, pad : pad + width] = mask

        def close(i: int, j: int) -> None:
            disc = self._disc(int(reach[i, j]))
            r = len(disc) // 2
            closed[i + pad - r : i + pad + r + 1, j + pad - r : j + pad + r + 1] |= disc

        for i, j in np.argwhere(mask).tolist():
            close(i, j)
        count = int(mask.sum())
        for i, j in self.order:
            if count == most:
                break
            if not closed[i + pad, j + pad]:
                mask[i, j] = True
                count += 1
                close(i, j)
        return mask

    def _disc(self, reach: int) -> np.ndarray:
        """The grid points with d^2 <= reach, and the centre."""
        if reach not in self.discs:
            r = math.isqrt(max(reach, 0))
            d = np.arange(-r, r + 1) ** 2
            self.discs[reach] = d[:, None] + d <= max(reach, 0)
        return self.discs[reach]


def _drawn(log_weight: Tensor, centre: Tensor, total: int, seed: int) -> Tensor:
    """The ACS and the rest of ``total`` entries drawn without replacement, by weight (Efraimidis & Spirakis 2006)."""
    u = torch.rand(centre.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    # the largest of u^(1 / w), as -log(-log(u) / w), which no weight lets overflow
    key = log_weight - (-u.clamp(min=1e-300).log()).clamp(min=1e-300).log()
    chosen = torch.where(centre, math.inf, key).flatten().topk(total).indices
    mask = torch.zeros(centre.numel(), dtype=torch.bool)
    mask[chosen] = True
    return mask.view(centre.shape)


def _radius(shape: Shape) -> Tensor:
    """How far from frequency zero each entry is, float64, 1 at the middle of the edges."""
    rows, columns = ((torch.arange(n, dtype=torch.float64) - n // 2) / max(n / 2, 1) for n in shape)
    return torch.hypot(rows[:, None], columns)


def _budget(shape: Shape, acceleration: float, acs: Size, axis: int | None) -> tuple[int, int, Tensor]:
    """Lines or points there are, how many of them to measure, and the ACS in the shape of the mask."""
    if len(shape) != 2 or min(shape) < 1:
        raise ValueError(f"shape must be (H, W), got {tuple(shape)}")
    if axis not in (None, 0, 1):
        raise ValueError(f"axis must be 0 to choose rows or 1 to choose columns (None, where allowed: points), got {axis!r}")
    if not 1 <= acceleration < math.inf:
        raise ValueError(f"acceleration must be a finite number, at least 1 (everything is measured), got {acceleration}")
    height, width = shape if axis is None else (shape[0], 1) if axis == 0 else (1, shape[1])
    centre = _centre((height, width), acs, axis)
    n, kept = height * width, int(centre.sum())
    total = max(1, round(n / acceleration))
    if kept > total:
        raise ValueError(
            f"acs must fit into the {total} of {n} {'points' if axis is None else 'lines'} that acceleration {acceleration:g} "
            f"measures, got {acs}, {kept} of them; take a smaller acs, or an acceleration of at most {n / kept:.3g}"
        )
    return n, total, centre


def _centre(shape: Shape, acs: Size, axis: int | None) -> Tensor:
    """The ACS: the central lines or the central rectangle."""
    if isinstance(acs, Integral):
        acs = int(acs)
        sides = (acs, acs) if axis is None else (acs, 1) if axis == 0 else (1, acs)
    elif axis is None and isinstance(acs, tuple) and len(acs) == 2:
        sides = (acs[0], acs[1])
    else:
        raise ValueError(f"acs must be a number of lines, or for points a number or (rows, columns), got {acs!r}")
    if min(sides) < 0 or sides[0] > shape[0] or sides[1] > shape[1]:
        raise ValueError(f"acs must lie within the {shape[0]} x {shape[1]} points of k-space, got {acs}")
    mask = torch.zeros(shape, dtype=torch.bool)
    rows, columns = (slice(n // 2 - a // 2, n // 2 - a // 2 + a) for n, a in zip(shape, sides, strict=True))
    mask[rows, columns] = True
    return mask
