"""Unsharp masking, which Real-ESRGAN may apply to its training targets."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from restore.degradations.filtering import separable_blur

__all__ = ["UnsharpMask"]


@dataclass(frozen=True, kw_only=True)
class UnsharpMask:
    """``y = m s + (1 - m) x`` with ``s = clip(x + weight r, 0, 1)``, ``r = x - G x`` and ``m = G [255 |r| > threshold]``.

    G is a Gaussian blur: only where there is detail the image is sharpened, and the change is gradual.

    Attributes
    ----------
    radius: side in pixels of the Gaussian, made odd by adding one; its sigma follows as ``0.3 ((k - 1) / 2 - 1) + 0.8``.
    weight: strength of the sharpening.
    threshold: least detail that is sharpened, in 255ths.
    """

    radius: int = 50
    weight: float = 0.5
    threshold: float = 10.0

    def __post_init__(self) -> None:
        if self.radius < 3:
            raise ValueError(f"radius must be at least 3 pixels, got {self.radius}")

    @property
    def taps(self) -> Tensor:
        """The Gaussian along one axis (k,), float64."""
        k = self.radius + 1 - self.radius % 2
        sigma = 0.3 * ((k - 1) / 2 - 1) + 0.8
        x = torch.arange(k, dtype=torch.float64) - k // 2
        taps = torch.exp(-0.5 * (x / sigma) ** 2)
        return taps / taps.sum()

    def __call__(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W) in [0, 1], sharpened."""
        taps = self.taps
        residual = x - separable_blur(x, taps)
        mask = separable_blur((255 * residual.abs() > self.threshold).to(x), taps)
        sharp = (x + self.weight * residual).clamp(0, 1)
        return mask * sharp + (1 - mask) * x
