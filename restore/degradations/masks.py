"""Random masks for training inpainting, 1 where the image is unknown, (1, H, W), float32: strokes, boxes, outpainting.

The generators of LaMa (Suvorov et al. 2022) with the settings of ResShift (Yue et al. 2023), drawn from NumPy's legacy
generator, so that a seed means the mask that it means there. Boxes and outpainting agree exactly. Strokes are drawn here as
exact bands with round ends, in the widths of OpenCV's lines; the rasters differ in a few pixels of ten thousand, at edges.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

__all__ = ["INPAINTING", "Boxes", "MaskGenerator", "MaskMixture", "Outpainting", "Strokes"]

Size = tuple[int, int]


class MaskGenerator(Protocol):
    """Anything that makes a mask of (height, width) from a seed, or from a generator that has been used before."""

    def draw(self, size: Size, rng: np.random.RandomState) -> Tensor:
        """A mask (1, H, W)."""


class _Seeded:
    def __call__(self: MaskGenerator, size: Size, *, seed: int) -> Tensor:
        """The mask (1, H, W) of ``size`` = (H, W) that ``seed`` means."""
        if len(size) != 2 or min(size) < 1:
            raise ValueError(f"size must be (height, width), each at least 1, got {size}")
        return self.draw(size, np.random.RandomState(seed))


@dataclass(frozen=True, kw_only=True)
class Strokes(_Seeded):
    """Bent strokes of a round brush; every second one turns the other way.

    Attributes
    ----------
    times: least and greatest number of strokes, each of 1 to 5 straight pieces.
    angle: pieces head in ``0.01 + k`` radians from downwards, k below ``angle``.
    length: pieces are 10 to ``length`` + 9 pixels long.
    width: and 5 to ``width`` + 4 pixels wide.
    """

    times: tuple[int, int] = (1, 6)
    angle: int = 4
    length: int = 200
    width: int = 100

    def __post_init__(self) -> None:
        _check_times(self.times)
        if min(self.angle, self.length, self.width) < 1:
            raise ValueError(f"angle, length and width must be at least 1, got {self.angle}, {self.length}, {self.width}")

    def draw(self, size: Size, rng: np.random.RandomState) -> Tensor:
        mask = torch.zeros(size, dtype=torch.bool)
        for stroke in range(_count(rng, self.times)):
            self._brush(mask, rng, mirrored=stroke % 2 == 0)
        return mask[None].float()

    def _brush(self, mask: Tensor, rng: np.random.RandomState, *, mirrored: bool) -> None:
        H, W = mask.shape
        start = rng.randint(W), rng.randint(H)
        for _ in range(1 + rng.randint(5)):
            angle = 0.01 + rng.randint(self.angle)
            angle = 2 * 3.1415926 - angle if mirrored else angle  # the digits of LaMa, before positions are cut to pixels
            length, width = 10 + rng.randint(self.length), 5 + rng.randint(self.width)
            x, y = int(start[0] + length * math.sin(angle)), int(start[1] + length * math.cos(angle))
            end = min(max(x, 0), W), min(max(y, 0), H)
            mask |= _band((H, W), (start, end), width)
            start = end


@dataclass(frozen=True, kw_only=True)
class Boxes(_Seeded):
    """Boxes at least ``margin`` pixels from the edge.

    Attributes
    ----------
    times: least and greatest number of boxes.
    side: least height and width, and the first that is too great; in small images the room within the margins counts.
    margin: pixels.
    """

    times: tuple[int, int] = (1, 4)
    side: tuple[int, int] = (30, 150)
    margin: int = 10

    def __post_init__(self) -> None:
        _check_times(self.times)
        if not 1 <= self.side[0] < self.side[1] or self.margin < 0:
            raise ValueError(
                f"side must be (low, high) with 1 <= low < high, and margin not negative, got {self.side} and {self.margin}"
            )

    def draw(self, size: Size, rng: np.random.RandomState) -> Tensor:
        H, W = size
        low, high = self.side[0], min(self.side[1], min(size) - 2 * self.margin)
        if low >= high:
            raise ValueError(f"size must have room for boxes of {low} pixels within margins of {self.margin}, got {H} x {W}")
        mask = torch.zeros(1, H, W)
        for _ in range(_count(rng, self.times)):
            width, height = rng.randint(low, high), rng.randint(low, high)
            left = rng.randint(self.margin, W - self.margin - width + 1)
            top = rng.randint(self.margin, H - self.margin - height + 1)
            mask[:, top : top + height, left : left + width] = 1
        return mask


@dataclass(frozen=True, kw_only=True)
class Outpainting(_Seeded):
    """Strips along some sides of the image, along one of them at least.

    Attributes
    ----------
    probability: of the strip along each side.
    share: least and greatest share of the image's height or width that a strip takes.
    """

    probability: float = 0.5
    share: tuple[float, float] = (0.04, 0.25)

    def __post_init__(self) -> None:
        if not 0 <= self.probability <= 1 or not 0 < self.share[0] < self.share[1] < 0.5:
            raise ValueError(
                "probability must lie in [0, 1] and share be (low, high) with 0 < low < high < 1/2, "
                f"got {self.probability} and {self.share}"
            )

    def draw(self, size: Size, rng: np.random.RandomState) -> Tensor:
        H, W = size
        if any(int(self.share[0] * n) == int(self.share[1] * n) for n in size):
            raise ValueError(f"size must leave a choice of strips between {self.share} of it, got {H} x {W}")
        left, top, right, bottom = (rng.randint(int(self.share[0] * n), int(self.share[1] * n)) for n in (W, H, W, H))
        strips = ((..., slice(left)), (..., slice(top), slice(None)), (..., slice(W - right, W)),
                  (..., slice(H - bottom, H), slice(None)))  # fmt: skip
        taken = [rng.random_sample() < self.probability for _ in strips]
        if not any(taken):
            taken[rng.choice(4, p=(0.25,) * 4)] = True
        mask = torch.zeros(1, H, W)
        for strip, take in zip(strips, taken, strict=True):
            if take:
                mask[strip] = 1
        return mask


@dataclass(frozen=True, kw_only=True)
class MaskMixture(_Seeded):
    """One of several generators, each as likely."""

    generators: tuple[MaskGenerator, ...]

    def __post_init__(self) -> None:
        if not self.generators:
            raise ValueError("generators must hold one generator at least, got none")

    def draw(self, size: Size, rng: np.random.RandomState) -> Tensor:
        return self.generators[rng.choice(len(self.generators))].draw(size, rng)


def _band(size: Size, ends: tuple[tuple[int, int], tuple[int, int]], width: int) -> Tensor:
    """The pixels (H, W) of a line between two points (x, y), as OpenCV's thick lines without smoothing.

    With r half the width, rounded up: within r + 1/2 of the segment sideways, or within r of one of its ends.
    """
    y, x = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in size), indexing="ij")
    (x0, y0), (x1, y1) = ends
    r = (width + 1) // 2
    discs = ((x - x0) ** 2 + (y - y0) ** 2 <= r**2) | ((x - x1) ** 2 + (y - y1) ** 2 <= r**2)
    length = math.hypot(x1 - x0, y1 - y0)
    if length == 0:
        return discs
    along = ((x - x0) * (x1 - x0) + (y - y0) * (y1 - y0)) / length
    across = ((y - y0) * (x1 - x0) - (x - x0) * (y1 - y0)) / length
    return discs | ((across.abs() <= r + 0.5) & (along >= 0) & (along <= length))


def _count(rng: np.random.RandomState, times: tuple[int, int]) -> int:
    return rng.randint(times[0], times[1] + 1)


def _check_times(times: tuple[int, int]) -> None:
    if len(times) != 2 or not 1 <= times[0] <= times[1]:
        raise ValueError(f"times must be (least, greatest) with 1 <= least <= greatest, got {times}")


INPAINTING = MaskMixture(generators=(Strokes(), Boxes(), Outpainting()))
"""What ResShift's networks for inpainting are trained with."""
