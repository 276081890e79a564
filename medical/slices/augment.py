"""Random changes that make few training slices more: turned, scaled and mirrored; in MR also contrast and phase."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["Augment", "smooth_phase"]


@dataclass(frozen=True, kw_only=True)
class Augment:
    """Of one slice (H, W) around [0, 1], a random square (1, size, size).

    Attributes
    ----------
    size: side of the result in pixels.
    turn: greatest rotation, in degrees; zoom: least and greatest magnification; shift: greatest shift, as a share of size.
        Half of the slices stay on their grid and are only moved by whole pixels.
    dihedral: any of the eight mirrorings and quarter turns, for data of unknown orientation; else left and right only.
    gamma: greatest exponent of a change of contrast, 1 for none; its inverse is the least.
    phase: strength in radians of a random smooth phase, of which the real part is taken: MR images are complex, and real and
        imaginary part are alike. None leaves the image as it is.
    """

    size: int
    turn: float = 10.0
    zoom: tuple[float, float] = (0.85, 1.2)
    shift: float = 0.05
    dihedral: bool = False
    gamma: float = 1.0
    phase: float | None = None

    def __call__(self, image: Tensor) -> Tensor:
        """The changes are drawn from torch's global generator."""
        out = self._moved(image) if torch.rand(()) < 0.5 else self._resampled(image)
        if torch.rand(()) < 0.5:
            out = out.flip(-1)
        if self.dihedral:
            out = out.rot90(int(torch.randint(4, ())), (-2, -1))
        if self.gamma > 1:
            out = out.clamp(min=0) ** (self.gamma ** float(2 * torch.rand(()) - 1))
        if self.phase is not None:
            out = out * smooth_phase(self.size, self.phase).cos()
        return out[None].contiguous()

    def _moved(self, image: Tensor) -> Tensor:
        height, width = image.shape
        top, left = (_offset(side, self.size, self.shift) for side in (height, width))
        return F.pad(image, (-left, left + self.size - width, -top, top + self.size - height))

    def _resampled(self, image: Tensor) -> Tensor:
        angle = math.radians(self.turn) * float(2 * torch.rand(()) - 1)
        low, high = self.zoom
        scale = low * (high / low) ** float(torch.rand(()))
        cos, sin = math.cos(angle) / scale, math.sin(angle) / scale
        height, width = image.shape
        dy, dx = ((self.shift * (2 * torch.rand(2) - 1)) * 2).tolist()
        theta = torch.tensor(
            [
                [cos * self.size / width, sin * self.size / width, dx],
                [-sin * self.size / height, cos * self.size / height, dy],
            ]
        )  # rows: x then y, in units of the half image
        grid = F.affine_grid(theta[None], [1, 1, self.size, self.size], align_corners=False)
        return F.grid_sample(image[None, None], grid, mode="bicubic", align_corners=False)[0, 0].clamp(min=0)


def smooth_phase(size: int, strength: float) -> Tensor:
    """A random phase (size, size) in radians: any constant, a ramp, and a smooth field of up to about ``strength``."""
    field = F.interpolate(torch.randn(1, 1, 4, 4), size=(size, size), mode="bicubic", align_corners=True)[0, 0]
    axis = torch.linspace(-1, 1, size)
    ramp = strength * (torch.randn(()) * axis[:, None] + torch.randn(()) * axis)
    return 2 * math.pi * torch.rand(()) + ramp + strength * torch.rand(()) * field


def _offset(side: int, size: int, shift: float) -> int:
    """Where the square begins: about the middle, or anywhere where the image is larger."""
    room = abs(side - size) / 2 if side > size else shift * size
    return round((side - size) / 2 + float(2 * torch.rand(()) - 1) * room)
