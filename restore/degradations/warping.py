"""Photographs seen from elsewhere: perspective, affine map and lens in one interpolation, for more diverse training images.

The kinds of warp are those of LaMa (Suvorov et al. 2022), with the ranges of ResShift (Yue et al. 2023).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from restore.degradations.draws import check_probabilities, check_range, happens, uniform, uniforms

__all__ = ["Warp", "WarpRanges"]

CORNERS = ((-1, -1), (1, -1), (1, 1), (-1, 1))  # (x, y), clockwise from the upper left


@dataclass(frozen=True, kw_only=True)
class Warp:
    """Where the pixels of a warped image come from; the default moves nothing.

    With c the place of a pixel from the middle, in halves of the longer side, the image is read at

        p = P(A^{-1} (1 + k |c|^2) c),   A = s R(rotation) [[1, shear], [0, 1]],

    P being the homography that takes the corners of the image to the ``corners``. It is mirrored beyond its edge.

    Attributes
    ----------
    corners: by how much of the width and the height each corner is moved inwards, (x, y), clockwise from the upper left.
    scale, rotation, shear: s; the angle, clockwise, in radians; and how many columns a row is moved, one row further down.
    distortion: k, of the lens.
    """

    corners: tuple[tuple[float, float], ...] = ((0.0, 0.0),) * 4
    scale: float = 1.0
    rotation: float = 0.0
    shear: float = 0.0
    distortion: float = 0.0

    def __post_init__(self) -> None:
        if len(self.corners) != 4 or any(len(c) != 2 or not 0 <= min(c) <= max(c) < 0.5 for c in self.corners):
            raise ValueError(f"corners must be four pairs of shares within 0..0.5, got {self.corners}")
        if not self.scale > 0:
            raise ValueError(f"scale must be positive, got {self.scale}")

    def apply(self, x: Tensor) -> Tensor:
        """An image (C, H, W) in [0, 1] warped, of the same size, by cubic convolution; itself where nothing moves."""
        if x.ndim != 3:
            raise ValueError(f"x must be one image (C, H, W), got {tuple(x.shape)}")
        if self == Warp():
            return x
        H, W = x.shape[-2:]
        grid = self.places(H, W).to(x)[None]
        return F.grid_sample(x[None], grid, mode="bicubic", padding_mode="reflection", align_corners=False)[0].clamp(0, 1)

    def places(self, height: int, width: int) -> Tensor:
        """p for every pixel, (H, W, 2) as (x, y), float64; -1 and 1 are the edges of the image."""
        half = max(height, width) / 2
        y, x = ((torch.arange(n, dtype=torch.float64) + 0.5 - n / 2) / half for n in (height, width))
        c = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)
        c = c * (1 + self.distortion * c.square().sum(-1, keepdim=True))
        cos, sin = self.scale * math.cos(self.rotation), self.scale * math.sin(self.rotation)
        affine = torch.tensor([[cos, self.shear * cos - sin], [sin, self.shear * sin + cos]], dtype=torch.float64)
        edge = c @ torch.linalg.inv(affine).mT * torch.tensor([2 * half / width, 2 * half / height], dtype=torch.float64)
        p = torch.cat([edge, torch.ones_like(edge[..., :1])], -1) @ self._homography().mT
        return p[..., :2] / p[..., 2:]

    def _homography(self) -> Tensor:
        """P, (3, 3), between places whose -1 and 1 are the edges: 8 equations ``u (g x + h y + 1) = a x + b y + c``, and v."""
        rows, right = [], []
        for (x, y), (dx, dy) in zip(CORNERS, self.corners, strict=True):
            u, v = x * (1 - 2 * dx), y * (1 - 2 * dy)
            rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
            right += [u, v]
        solved = torch.linalg.solve(torch.tensor(rows, dtype=torch.float64), torch.tensor(right, dtype=torch.float64))
        return torch.cat([solved, solved.new_ones(1)]).view(3, 3)


@dataclass(frozen=True, kw_only=True)
class WarpRanges:
    """What warps are drawn from; perspective, affine map and lens each with the same probability.

    Attributes
    ----------
    corners: each share of :class:`Warp` is U[low, high].
    scale: (low, high), of U.
    rotation, shear, distortion: bounds b of U[-b, b], the rotation in degrees.
    probability: of each of the three.
    """

    corners: tuple[float, float] = (0.0, 0.06)
    scale: tuple[float, float] = (0.7, 1.3)
    rotation: float = 40.0
    shear: float = 0.1
    distortion: float = 0.05
    probability: float = 0.5

    def __post_init__(self) -> None:
        check_range("corners", self.corners, 0, 0.49)
        check_range("scale", self.scale, 0.1, 10)
        check_probabilities("probability", self.probability)
        for name in ("rotation", "shear", "distortion"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must be a bound from 0 on, got {getattr(self, name)}")

    def draw(self, generator: torch.Generator) -> Warp:
        """The warp of one image."""
        drawn = Warp()
        corners, scale, rotation, shear, distortion = drawn.corners, drawn.scale, drawn.rotation, drawn.shear, drawn.distortion
        if happens(generator, self.probability):
            shares = uniforms(generator, 8, *self.corners).tolist()
            corners = tuple(zip(shares[::2], shares[1::2], strict=True))
        if happens(generator, self.probability):
            angle = math.radians(self.rotation)
            scale, rotation = uniform(generator, *self.scale), uniform(generator, -angle, angle)
            shear = uniform(generator, -self.shear, self.shear)
        if happens(generator, self.probability):
            distortion = uniform(generator, -self.distortion, self.distortion)
        return Warp(corners=corners, scale=scale, rotation=rotation, shear=shear, distortion=distortion)
