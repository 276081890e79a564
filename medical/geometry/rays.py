"""The rays of a beam: all that a projector needs to know of it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Rays"]


@dataclass(frozen=True, eq=False)
class Rays:
    """One line for each view, row and column, in the world frame (x, y, z), float64::

        origin[view, column] + v[row] origin_step[view] + s (direction[view, column] + v[row] direction_step[view])

    Rays of a parallel beam move with the row and keep their direction; those of a cone start at the source and turn.

    Attributes
    ----------
    origin, direction: (views, columns, 3), directions of any length.
    origin_step, direction_step: (views, 3), a change per unit of v.
    v: (rows,), coordinates of the detector's rows, zero for a detector of one line.
    """

    origin: Tensor
    direction: Tensor
    origin_step: Tensor
    direction_step: Tensor
    v: Tensor

    @property
    def shape(self) -> tuple[int, int, int]:
        """(views, rows, columns)."""
        views, columns = self.origin.shape[:2]
        return views, len(self.v), columns

    def lines(self) -> tuple[Tensor, Tensor]:
        """``(points, directions)``, (views, rows, columns, 3) each, directions of length one: every ray written out."""
        v = self.v.view(1, -1, 1, 1)
        points = self.origin[:, None] + v * self.origin_step[:, None, None]
        directions = self.direction[:, None] + v * self.direction_step[:, None, None]
        return points, directions / torch.linalg.vector_norm(directions, dim=-1, keepdim=True)
