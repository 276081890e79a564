"""Gaussian and Poisson noise of a batch of images in [0, 1], in colour or in grey, clipped to [0, 1]."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from restore.degradations.draws import Fields, check_probabilities, check_range, happens, uniforms

__all__ = ["Noise", "NoiseRanges", "gaussian_noise", "poisson_noise", "poisson_rate"]

Kind = Literal["gaussian", "poisson"]


@dataclass(frozen=True, eq=False)
class Noise:
    """The noise of one batch, all but its fields.

    Attributes
    ----------
    kind: gaussian or poisson, for the whole batch.
    strength: (B,), the standard deviation in 255ths, or the factor by which the Poisson noise is multiplied.
    grey: (B,), bool, whether the noise of an image is the same in all channels.
    """

    kind: Kind
    strength: Tensor
    grey: Tensor

    def __post_init__(self) -> None:
        if self.kind not in ("gaussian", "poisson"):
            raise ValueError(f"kind must be gaussian or poisson, got {self.kind!r}")

    def apply(self, x: Tensor, fields: Fields) -> Tensor:
        """The images (B, C, H, W) with noise; where any image is grey, the grey field is drawn before the coloured one."""
        add = gaussian_noise if self.kind == "gaussian" else poisson_noise
        return add(x, self.strength, self.grey, fields=fields)


@dataclass(frozen=True, kw_only=True)
class NoiseRanges:
    """What the noise of one stage is drawn from.

    Attributes
    ----------
    gaussian: probability that it is Gaussian noise; else it is Poisson noise.
    sigma: standard deviations of Gaussian noise, in 255ths.
    scale: factors of Poisson noise.
    grey: probability that the noise of an image is grey.
    """

    gaussian: float = 0.5
    sigma: tuple[float, float] = (1.0, 30.0)
    scale: tuple[float, float] = (0.05, 3.0)
    grey: float = 0.4

    def __post_init__(self) -> None:
        check_probabilities("gaussian and grey", self.gaussian, self.grey)
        check_range("sigma", self.sigma, 0, 255)
        check_range("scale", self.scale, 0, 1e3)

    def draw(self, batch: int, generator: torch.Generator) -> Noise:
        """The noise of a batch of so many images."""
        kind: Kind = "gaussian" if happens(generator, self.gaussian) else "poisson"
        strength = uniforms(generator, batch, *(self.sigma if kind == "gaussian" else self.scale))
        return Noise(kind, strength.float(), uniforms(generator, batch) < self.grey)


def gaussian_noise(x: Tensor, sigma: Tensor, grey: Tensor, *, fields: Fields) -> Tensor:
    """``clip(x + sigma / 255 n)`` with standard normal n; x (B, C, H, W), sigma in 255ths and grey (B,)."""
    B, _, H, W = _checked(x, sigma, grey)
    grey_field = fields.normal((B, 1, H, W)).to(x) if bool(grey.any()) else None
    n = fields.normal(x.shape).to(x)
    if grey_field is not None:
        n = torch.where(_column(grey, x.device), grey_field, n)
    return (x + _column(sigma, x.device).to(x) / 255 * n).clamp(0, 1)


def poisson_noise(x: Tensor, scale: Tensor, grey: Tensor, *, fields: Fields) -> Tensor:
    """``clip(x + scale (counts / vals - q))`` with counts of the expectation ``vals q``; x (B, C, H, W), scale and grey (B,).

    q is x, rounded to 8 bits, or its luminance where the noise is grey; ``vals`` is the number of levels that occur in it,
    rounded up to a power of two.
    """
    _checked(x, scale, grey)
    grey_noise = _photon_noise(_luminance(x), fields) if bool(grey.any()) else None
    n = _photon_noise(x, fields)
    if grey_noise is not None:
        n = torch.where(_column(grey, x.device), grey_noise, n)
    return (x + _column(scale, x.device).to(x) * n).clamp(0, 1)


def poisson_rate(x: Tensor) -> tuple[Tensor, Tensor]:
    """``(vals q, vals)`` of ``poisson_noise``: expected counts (B, C, H, W), and vals (B, 1, 1, 1), a power of two to 256."""
    levels = (255 * x.float()).round().clamp(0, 255)
    occurs = torch.zeros(len(x), 256, dtype=torch.float64, device=x.device)
    count = occurs.scatter_(1, levels.long().flatten(1), 1.0).sum(1)
    vals = _column(2 ** torch.ceil(torch.log2(count)), x.device).float()
    return levels / 255 * vals, vals


def _photon_noise(x: Tensor, fields: Fields) -> Tensor:
    rate, vals = poisson_rate(x)
    return ((fields.counts(rate).to(rate) - rate) / vals).to(x.dtype)


def _luminance(x: Tensor) -> Tensor:
    """(B, 1, H, W), by the weights of ITU-R BT.601, to four digits."""
    if x.shape[1] == 1:
        return x
    return (x * x.new_tensor([0.2989, 0.587, 0.114]).view(3, 1, 1)).sum(1, keepdim=True)


def _column(values: Tensor, device: torch.device) -> Tensor:
    return values.to(device).view(-1, 1, 1, 1)


def _checked(x: Tensor, strength: Tensor, grey: Tensor) -> tuple[int, ...]:
    if x.ndim != 4 or x.shape[1] not in (1, 3):
        raise ValueError(f"x must be a batch of grey or RGB images (B, 1 or 3, H, W), got {tuple(x.shape)}")
    if not tuple(strength.shape) == tuple(grey.shape) == (len(x),):
        raise ValueError(
            f"strength and grey must be ({len(x)},), one value an image, got {tuple(strength.shape)} and {tuple(grey.shape)}"
        )
    return tuple(x.shape)
