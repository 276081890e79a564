"""Between the values of a scan and images around [0, 1], which priors are trained on."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

__all__ = ["HounsfieldWindow", "peak"]

PEAK = 0.999  # quantile that counts as white in MR


@dataclass(frozen=True, kw_only=True)
class HounsfieldWindow:
    """CT numbers in HU as images: ``image = (HU - low) / (high - low)``, air below ``low`` clipped to it, bone not clipped.

    With ``low`` = -1000 HU images are proportional to attenuation, ``mu = image (high - low) / 1000 mu_water``: projections
    of images and of attenuation differ by a factor. The shipped prior ``ct-slices`` was trained in the default window.
    """

    low: float = -1000.0
    high: float = 1500.0

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise ValueError(f"low must be less than high, got {self.low:g} and {self.high:g} HU")

    def to_image(self, hounsfield: Tensor) -> Tensor:
        """From HU."""
        return (hounsfield.clamp(min=self.low) - self.low) / (self.high - self.low)

    def to_hounsfield(self, image: Tensor) -> Tensor:
        """Back to HU."""
        return image * (self.high - self.low) + self.low


def peak(volume: Tensor) -> float:
    """The value that counts as white: the 99.9 % quantile of the magnitudes above zero, 1 where there are none.

    MR has no unit, and its brightest voxel may be a vessel; the shipped prior ``mr-slices`` was trained on magnitudes over
    this value.
    """
    bright = volume.abs().flatten()
    bright = bright[bright > 0]
    if not len(bright):
        return 1.0
    return float(bright.kthvalue(max(1, round(PEAK * len(bright)))).values)
