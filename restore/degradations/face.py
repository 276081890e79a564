"""The degradation for blind face restoration: blur, reduction, noise and JPEG of unknown strength, at the size it came in.

Source: Wang et al. 2021 (GFPGAN), with the settings of ResShift (Yue et al. 2023). Sizes and kernels differ from image to
image; a batch is degraded one image after the other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from restore.degradations.draws import Fields, GeneratorFields, check_probabilities, check_range, happens, uniform
from restore.degradations.filtering import blur
from restore.degradations.jpeg import jpeg_compress
from restore.degradations.noise import gaussian_noise
from restore.degradations.quantisation import to_8_bits
from restore.degradations.random_kernels import KernelRanges
from restore.degradations.resizing import resize_to

__all__ = ["FACE_TEST", "FACE_TRAINING", "FaceDegradation", "FaceRanges"]


@dataclass(frozen=True, eq=False)
class FaceDegradation:
    """All that is drawn for one image but its noise field.

    Attributes
    ----------
    kernel: (k, k).
    reduction: by how much the image is made smaller and then larger again, linearly.
    sigma: standard deviation of the noise, in 255ths.
    quality: of JPEG.
    grey: whether the image, and its truth with it, are without colour.
    """

    kernel: Tensor
    reduction: float
    sigma: float
    quality: float
    grey: bool = False

    def apply(self, x: Tensor, fields: Fields) -> Tensor:
        """One image (3, H, W) in [0, 1] degraded, of the same size, in whole 255ths."""
        H, W = x.shape[-2:]
        small = max(1, int(H / self.reduction)), max(1, int(W / self.reduction))
        y = resize_to(blur(x[None], self.kernel), small, "bilinear")
        y = gaussian_noise(y, torch.tensor([self.sigma]), torch.tensor([False]), fields=fields)
        y = resize_to(jpeg_compress(y, self.quality), (H, W), "bilinear")
        return to_8_bits(_without_colour(y) if self.grey else y)[0]


@dataclass(frozen=True, kw_only=True)
class FaceRanges:
    """What the degradations of faces are drawn from.

    Attributes
    ----------
    kernel: the blur.
    reduction, sigma, quality: (low, high), of :class:`FaceDegradation`.
    grey: probability of an image without colour.
    """

    kernel: KernelRanges
    reduction: tuple[float, float]
    sigma: tuple[float, float]
    quality: tuple[float, float]
    grey: float = 0.0

    def __post_init__(self) -> None:
        check_range("reduction", self.reduction, 0.1, 1e3)
        check_range("sigma", self.sigma, 0, 255)
        check_range("quality", self.quality, 1, 100)
        check_probabilities("grey", self.grey)

    def draw(self, generator: torch.Generator) -> FaceDegradation:
        """The degradation of one image."""
        return FaceDegradation(
            self.kernel.draw(generator).float(),
            uniform(generator, *self.reduction),
            uniform(generator, *self.sigma),
            uniform(generator, *self.quality),
            happens(generator, self.grey),
        )

    def __call__(self, x: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """``(truth, degraded)`` of images (B, 3, H, W) in [0, 1]; the truth of an image made grey is grey too."""
        if x.ndim != 4 or x.shape[1] != 3:
            raise ValueError(f"x must be a batch of RGB images (B, 3, H, W), got {tuple(x.shape)}")
        fields, truths, degraded = GeneratorFields(generator), [], []
        for image in x:
            drawn = self.draw(generator)
            degraded.append(drawn.apply(image, fields))
            truths.append(_without_colour(image) if drawn.grey else image)
        return torch.stack(truths), torch.stack(degraded)


def _without_colour(x: Tensor) -> Tensor:
    """The luminance of ITU-R BT.601 in all three channels of ``x`` (..., 3, H, W)."""
    return (x * x.new_tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(-3, keepdim=True).expand_as(x)


_FACE_KERNEL = KernelRanges(sizes=(41, 41), padded=41, lowpass=0.0, families=(0.5, 0.5, 0, 0, 0, 0), sigma=(0.1, 15.0))

FACE_TRAINING = FaceRanges(kernel=_FACE_KERNEL, reduction=(0.8, 32.0), sigma=(0.0, 20.0), quality=(30.0, 100.0), grey=0.01)
"""What ResShift's network for faces is trained with."""

FACE_TEST = FaceRanges(
    kernel=KernelRanges(
        sizes=(41, 41), padded=41, lowpass=0.0, families=(0, 1, 0, 0, 0, 0), sigma=(4.0, 16.0), rotation=(0.0, math.pi)
    ),
    reduction=(1.0, 32.0),
    sigma=(1.0, 20.0),
    quality=(30.0, 70.0),
)
"""What ResShift's test set of faces is made with."""
