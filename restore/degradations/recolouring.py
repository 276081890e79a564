"""Photographs in another light: local and global contrast, brightness, hue and saturation, for more diverse training images.

The kinds of change are those of LaMa (Suvorov et al. 2022), with the ranges of ResShift (Yue et al. 2023).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from restore.degradations.draws import check_probabilities, check_range, happens, uniform
from restore.degradations.equalisation import equalised

__all__ = ["Recolouring", "RecolouringRanges", "from_hsv", "to_hsv"]

LUMA = (0.299, 0.587, 0.114)


def to_hsv(x: Tensor) -> Tensor:
    """Hue in 0..6, saturation and value in [0, 1] of RGB images (..., 3, H, W) in [0, 1] (Smith 1978); greys have hue 0.

    ``v = max``, ``s = (max - min) / max``, and the hue counts sixths of the circle from red over green to blue.
    """
    r, g, b = x.unbind(-3)
    v, chroma = x.amax(-3), x.amax(-3) - x.amin(-3)
    c = torch.where(chroma > 0, chroma, 1)
    sixth = torch.where(v == r, ((g - b) / c) % 6, torch.where(v == g, (b - r) / c + 2, (r - g) / c + 4))
    hue = torch.where(chroma > 0, sixth, 0)
    return torch.stack([hue, chroma / torch.where(v > 0, v, 1), v], -3)


def from_hsv(x: Tensor) -> Tensor:
    """RGB of :func:`to_hsv`; the hue may be any number: ``v - v s clamp(min(k, 4 - k), 0, 1)`` with ``k = (n + hue) mod 6``.

    n is 5 for red, 3 for green and 1 for blue.
    """
    hue, s, v = x.unbind(-3)
    k = [(n + hue) % 6 for n in (5, 3, 1)]
    return torch.stack([v - v * s * torch.minimum(q, 4 - q).clamp(0, 1) for q in k], -3)


@dataclass(frozen=True, kw_only=True)
class Recolouring:
    """A change of contrast, light and colour; the default changes nothing.

    Attributes
    ----------
    clip: of :func:`~restore.degradations.equalised`, of the luminance; None leaves it.
    contrast, brightness: ``(1 + contrast) x + brightness``.
    hue: a turn in degrees; saturation, value: what is added to them. Greys, whose hue is 0, take on red with saturation.
    """

    clip: float | None = None
    contrast: float = 0.0
    brightness: float = 0.0
    hue: float = 0.0
    saturation: float = 0.0
    value: float = 0.0

    def apply(self, x: Tensor) -> Tensor:
        """One image (3, H, W) in [0, 1] changed, in the order of the attributes, and clamped after each."""
        if x.ndim != 3 or x.shape[0] != 3:
            raise ValueError(f"x must be one RGB image (3, H, W), got {tuple(x.shape)}")
        if self.clip is not None:
            luma = (x * x.new_tensor(LUMA).view(3, 1, 1)).sum(0)
            x = (x + equalised(luma, self.clip) - luma).clamp(0, 1)
        if self.contrast or self.brightness:
            x = ((1 + self.contrast) * x + self.brightness).clamp(0, 1)
        if self.hue or self.saturation or self.value:
            hue, s, v = to_hsv(x).unbind(-3)
            shifted = [hue + self.hue / 60, (s + self.saturation).clamp(0, 1), (v + self.value).clamp(0, 1)]
            x = from_hsv(torch.stack(shifted, -3))
        return x


@dataclass(frozen=True, kw_only=True)
class RecolouringRanges:
    """What recolourings are drawn from: equalisation, contrast with brightness, and colour, each with the same probability.

    Attributes
    ----------
    clip: (low, high), of U.
    contrast, brightness, hue, saturation, value: bounds b of U[-b, b], the hue in degrees.
    probability: of each of the three.
    """

    clip: tuple[float, float] = (1.0, 4.0)
    contrast: float = 0.2
    brightness: float = 0.2
    hue: float = 10.0
    saturation: float = 30 / 255
    value: float = 5 / 255
    probability: float = 0.5

    def __post_init__(self) -> None:
        check_range("clip", self.clip, 1, 256)
        check_probabilities("probability", self.probability)
        for name in ("contrast", "brightness", "hue", "saturation", "value"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must be a bound from 0 on, got {getattr(self, name)}")

    def draw(self, generator: torch.Generator) -> Recolouring:
        """The recolouring of one image."""
        clip = uniform(generator, *self.clip) if happens(generator, self.probability) else None
        light = self._within(generator, self.contrast, self.brightness)
        colour = self._within(generator, self.hue, self.saturation, self.value)
        return Recolouring(
            clip=clip, contrast=light[0], brightness=light[1], hue=colour[0], saturation=colour[1], value=colour[2]
        )

    def _within(self, generator: torch.Generator, *bounds: float) -> list[float]:
        """A number of U[-b, b] for each bound b, or zeros."""
        if not happens(generator, self.probability):
            return [0.0] * len(bounds)
        return [uniform(generator, -bound, bound) for bound in bounds]
