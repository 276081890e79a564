"""Simulated receive coils: loops around the object, for measurements of pictures that were never measured."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from inverse.operators.base import Shape

__all__ = ["simulated_maps"]

DISTANCE = 2.0  # of the loops from the middle, in half sides of the image, beyond its corners
RADIUS = 1.0  # of a loop, likewise
STEP = 0.5  # in height between the first and last loops and the middle of a volume


def simulated_maps(shape: Shape, coils: int) -> Tensor:
    """Maps (1, C, H, W), or (1, C, D, H, W) for a volume, complex64, smooth, with ``sum_c |S_c|^2 = 1`` at every pixel.

    With the image's sides scaled to [-1, 1], coil c is a loop of radius a = 1 in the plane of the slice at ``r_c``, 2 from
    the middle at the angle ``2 pi c / C`` from the column axis towards the rows. At the distance d of r_c its strength is
    that on the axis of a loop, and its phase the direction towards it::

        S_c = (a^2 / (a^2 + d^2))^(3/2) exp(i angle(r_c - r)),    then divided by the root of the sum of squares

    In a volume the loops climb from -0.5 to 0.5 in the order of the golden section, so that neighbours differ in height.
    A single coil has modulus one.

    Raises ``ValueError`` for another shape and fewer coils than one.
    """
    if len(shape) not in (2, 3) or min(shape) < 1:
        raise ValueError(f"shape must be (H, W) or (D, H, W), got {tuple(shape)}")
    if isinstance(coils, bool) or not isinstance(coils, int) or coils < 1:
        raise ValueError(f"coils must be a whole number, at least 1, got {coils!r}")
    z, y, x = torch.meshgrid(*(_axis(n) for n in (1, *shape)[-3:]), indexing="ij")
    maps = []
    for c in range(coils):
        angle = 2 * math.pi * c / coils
        right, down = DISTANCE * math.cos(angle) - x, DISTANCE * math.sin(angle) - y
        high = (_height(c, coils) if len(shape) == 3 else 0.0) - z
        strength = (1 + (right.square() + down.square() + high.square()) / RADIUS**2) ** -1.5
        maps.append(torch.polar(strength, torch.atan2(down, right)))
    S = torch.stack(maps).reshape(coils, *shape)
    return (S / torch.linalg.vector_norm(S, dim=0))[None].to(torch.complex64)


def _axis(n: int) -> Tensor:
    """Middles of n pixels that fill [-1, 1], float64."""
    return ((torch.arange(n, dtype=torch.float64) + 0.5) / n - 0.5) * 2


def _height(c: int, coils: int) -> float:
    share = (c * (math.sqrt(5) - 1) / 2) % 1 if coils > 1 else 0.5
    return STEP * (2 * share - 1)
