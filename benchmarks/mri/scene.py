"""Synthetic coils and a head, for what needs a known truth."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from medical.geometry import Volume
from medical.phantoms import Ellipses

__all__ = ["birdcage", "head"]


def birdcage(coils: int, shape: tuple[int, int], *, distance: float = 1.5) -> Tensor:
    """Maps (C, H, W), complex128, of coils around the image, sum of squares 1: each falls off as 1 / r about its place.

    Coil c lies at the angle ``2 pi c / C``, at ``distance`` half sides from the middle; its phase is the angle at which a
    pixel sees it, and that of its place.
    """
    rows, columns = (torch.linspace(-1, 1, n, dtype=torch.float64) for n in shape)
    turns = 2 * math.pi * torch.arange(coils, dtype=torch.float64)[:, None, None] / coils
    dx, dy = columns - distance * turns.cos(), rows[:, None] - distance * turns.sin()
    maps = torch.polar(1 / torch.hypot(dx, dy), torch.atan2(-dx, dy) - turns)
    return maps / torch.linalg.vector_norm(maps, dim=0)


def head(shape: tuple[int, int]) -> Tensor:
    """The Shepp-Logan head, area averages (H, W), complex128 with a smooth phase."""
    volume = Volume(shape, (2 / shape[0], 2 / shape[1]))
    image = Ellipses.shepp_logan(1.9).rasterise(volume, oversampling=4)
    rows, columns = (torch.linspace(-1, 1, n, dtype=torch.float64) for n in shape)
    return torch.polar(image, 0.8 * columns + 0.5 * rows[:, None] ** 2)
