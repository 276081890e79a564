"""Which rays pass a pixel: the table by which the transpose of Joseph's method gathers, instead of scattering."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from medical.operators.lines import Lines

__all__ = ["RayFinder", "find_rays"]

BINS = 4  # for each ray of the largest group
EXACT = 1e-6  # pixels by which a group's rays may leave the pattern that they share


@dataclass(frozen=True, eq=False)
class RayFinder:
    """The rays of a view in the order in which they meet any plane, and steps between the first and the last of them.

    Rays of one direction, or through one point, meet all planes in the same pattern, but for its place and its scale
    (which may be negative). So one table for a view answers where, on any plane, the rays about a pixel are.

    Attributes
    ----------
    order: (n,), the rays' numbers, view by view.
    ends: (views, 2), places in ``order`` of each view's first and last ray.
    bins: (views, bins + 1), the place in ``order`` of the first ray at or beyond each of equal steps between those two; the
        last entry is one beyond the last ray.
    """

    order: Tensor
    ends: Tensor
    bins: Tensor


def find_rays(each: Lines, planes: int, columns: int) -> RayFinder | None:
    """The finder of ``each`` line that meets the grid, of a detector with so many ``columns``.

    None where there is no such line, or the rays of a view share neither a direction nor a point.
    """
    meets = torch.from_numpy(each.first < each.last).nonzero().flatten()
    if not len(meets):
        return None
    intercept, slope, index = (torch.from_numpy(t)[meets] for t in (each.intercept, each.slope, each.index))
    view, counts = torch.unique_consecutive(index // columns, return_inverse=True, return_counts=True)[1:]
    sides = torch.stack([intercept, intercept + slope * (planes - 1)])  # where the rays meet the outermost planes
    wide = _spread(sides[0], view, len(counts)) >= _spread(sides[1], view, len(counts))
    at = torch.where(wide[view], sides[0], sides[1])
    order = at.argsort()
    order = order[view[order].argsort(stable=True)]
    tail = counts.cumsum(0) - 1
    head = tail - counts + 1
    at, sides, view = at[order], sides[:, order], view[order]
    length = (at[tail] - at[head])[view]
    share = (at - at[head][view]) / torch.where(length == 0, 1.0, length)
    pattern = sides[:, head][:, view] + share * (sides[:, tail] - sides[:, head])[:, view]
    if float((sides - pattern).abs().max()) > EXACT:
        return None
    steps = BINS * int(counts.max())
    rows = 2.0 * torch.arange(len(counts), dtype=torch.float64)
    edges = rows[:, None] + torch.arange(steps, dtype=torch.float64) / steps
    bins = torch.cat([torch.searchsorted(2.0 * view + share, edges), tail[:, None] + 1], 1)
    return RayFinder(meets[order], torch.stack([head, tail], 1), bins)


def _spread(values: Tensor, group: Tensor, groups: int) -> Tensor:
    most = values.new_full((groups,), -torch.inf).scatter_reduce(0, group, values, "amax")
    least = values.new_full((groups,), torch.inf).scatter_reduce(0, group, values, "amin")
    return most - least
