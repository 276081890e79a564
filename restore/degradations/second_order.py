"""The degradation of Real-ESRGAN: blur, resizing, noise and JPEG, then perhaps all of it again, then ringing.

What is random is drawn first, as a value (``draw``), and applied then (``apply``), so that a degradation can be repeated,
stored or written by hand. Source: Wang et al. 2021, with the settings of ResShift (Yue et al. 2023).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from restore.degradations.draws import Fields, GeneratorFields, check_probabilities, check_range, happens, uniforms
from restore.degradations.filtering import blur
from restore.degradations.jpeg import jpeg_compress
from restore.degradations.noise import Noise, NoiseRanges
from restore.degradations.quantisation import to_8_bits
from restore.degradations.random_kernels import KernelRanges, SincRanges
from restore.degradations.resizing import ResizeRanges, Resizing, draw_mode, rescale, resize_to

__all__ = ["IMAGENET_TEST", "TRAINING", "Degradation", "Ending", "Pass", "SecondOrder"]


@dataclass(frozen=True, eq=False)
class Pass:
    """Blur, resizing and noise, once.

    Attributes
    ----------
    kernel: (B, k, k), one an image; None leaves out the blur.
    resizing: scale and mode, of the whole batch; of the second pass the scale is relative to the final size.
    noise: kind, strength and grey.
    """

    kernel: Tensor | None
    resizing: Resizing
    noise: Noise


@dataclass(frozen=True, eq=False)
class Ending:
    """Resizing to the final size, the ringing filter and the last JPEG.

    Attributes
    ----------
    kernel: (B, k, k), the low-pass or delta of every image.
    mode: of the last resizing.
    quality: (B,), of the last JPEG.
    jpeg_last: whether JPEG follows resizing and filter; else it precedes them.
    """

    kernel: Tensor
    mode: str
    quality: Tensor
    jpeg_last: bool


@dataclass(frozen=True, eq=False)
class Degradation:
    """All that is drawn for one batch but its noise fields: first pass and its JPEG quality (B,), second pass, ending."""

    first: Pass
    quality: Tensor
    second: Pass | None
    ending: Ending


@dataclass(frozen=True, kw_only=True)
class SecondOrder:
    """What degradations are drawn from, and how a drawn one is applied.

    Attributes
    ----------
    factor: how many times smaller the result is.
    kernel, resize, noise, jpeg: of the first pass; jpeg is the range of qualities.
    second: probability of the second pass; second_blur: of its blur.
    kernel2, resize2, noise2: of the second pass.
    sinc, jpeg2: of the ending, whose JPEG comes last with probability 1/2.
    """

    factor: int = 4
    kernel: KernelRanges
    resize: ResizeRanges
    noise: NoiseRanges
    jpeg: tuple[float, float]
    second: float
    second_blur: float
    kernel2: KernelRanges
    resize2: ResizeRanges
    noise2: NoiseRanges
    sinc: SincRanges
    jpeg2: tuple[float, float]

    def __post_init__(self) -> None:
        if self.factor < 1:
            raise ValueError(f"factor must be at least 1, got {self.factor}")
        check_probabilities("second and second_blur", self.second, self.second_blur)
        for name, qualities in (("jpeg", self.jpeg), ("jpeg2", self.jpeg2)):
            check_range(name, qualities, 1, 100)

    def draw(self, batch: int, generator: torch.Generator) -> Degradation:
        """The degradation of ``batch`` images: kernels, noise strengths and qualities differ, sizes are shared."""
        first = Pass(self.kernel.draw_batch(batch, generator), self.resize.draw(generator), self.noise.draw(batch, generator))
        quality = uniforms(generator, batch, *self.jpeg).float()
        second = self._draw_second(batch, generator) if happens(generator, self.second) else None
        ending = Ending(
            self.sinc.draw_batch(batch, generator),
            draw_mode(generator),
            uniforms(generator, batch, *self.jpeg2).float(),
            happens(generator, 0.5),
        )
        return Degradation(first, quality, second, ending)

    def _draw_second(self, batch: int, generator: torch.Generator) -> Pass:
        kernel = self.kernel2.draw_batch(batch, generator) if happens(generator, self.second_blur) else None
        return Pass(kernel, self.resize2.draw(generator), self.noise2.draw(batch, generator))

    def apply(self, x: Tensor, degradation: Degradation, fields: Fields) -> Tensor:
        """The images (B, 3, H, W) in [0, 1] degraded, (B, 3, H // factor, W // factor), in whole 255ths.

        ``fields`` gives the noise; it is asked in the order of the passes.
        """
        height, width = self._final_size(x)
        first, second = degradation.first, degradation.second
        y = x if first.kernel is None else blur(x, first.kernel)
        y = rescale(y, first.resizing.scale, first.resizing.mode)
        y = jpeg_compress(first.noise.apply(y, fields), degradation.quality)
        if second is not None:
            y = y if second.kernel is None else blur(y, second.kernel)
            rows, columns = (max(1, int(n / self.factor * second.resizing.scale)) for n in x.shape[-2:])
            y = second.noise.apply(resize_to(y, (rows, columns), second.resizing.mode), fields)
        return to_8_bits(_ended(y, degradation.ending, (height, width)))

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """The images (B, 3, H, W) in [0, 1], degraded by what ``generator`` draws; sizes as of ``apply``."""
        return self.apply(x, self.draw(len(x), generator), GeneratorFields(generator))

    def _final_size(self, x: Tensor) -> tuple[int, int]:
        if x.ndim != 4 or x.shape[1] != 3:
            raise ValueError(f"x must be a batch of RGB images (B, 3, H, W), got {tuple(x.shape)}")
        height, width = (n // self.factor for n in x.shape[-2:])
        if min(height, width) < 1:
            raise ValueError(f"x must be at least {self.factor} pixels high and wide, got {tuple(x.shape)}")
        return height, width


def _ended(y: Tensor, ending: Ending, size: tuple[int, int]) -> Tensor:
    if ending.jpeg_last:
        y = blur(resize_to(y, size, ending.mode), ending.kernel)
        return jpeg_compress(y.clamp(0, 1), ending.quality)
    y = jpeg_compress(y.clamp(0, 1), ending.quality)
    return blur(resize_to(y, size, ending.mode), ending.kernel)


TRAINING = SecondOrder(
    kernel=KernelRanges(),
    resize=ResizeRanges(),
    noise=NoiseRanges(),
    jpeg=(30.0, 95.0),
    second=0.5,
    second_blur=0.8,
    kernel2=KernelRanges(sizes=(3, 13), padded=15, sigma=(0.2, 1.5)),
    resize2=ResizeRanges(probabilities=(0.3, 0.4, 0.3), scales=(0.3, 1.2)),
    noise2=NoiseRanges(sigma=(1.0, 25.0), scale=(0.05, 2.5)),
    sinc=SincRanges(),
    jpeg2=(30.0, 95.0),
)
"""What ResShift's networks for real photographs are trained with; ``replace(TRAINING, factor=2)`` reduces by two."""

_MILD = (0.6, 0.4, 0.0, 0.0, 0.0, 0.0)

IMAGENET_TEST = SecondOrder(
    kernel=KernelRanges(sizes=(3, 11), padded=13, families=_MILD, sigma=(0.2, 0.8), beta=(1.0, 1.5), beta_plateau=(1.0, 1.2)),
    resize=ResizeRanges(scales=(0.5, 1.5)),
    noise=NoiseRanges(sigma=(1.0, 15.0), scale=(0.05, 0.3)),
    jpeg=(70.0, 95.0),
    second=0.0,
    second_blur=0.2,
    kernel2=KernelRanges(sizes=(3, 5), padded=7, lowpass=0.0, families=_MILD, sigma=(0.2, 0.5), beta=(0.5, 0.8)),
    resize2=ResizeRanges(probabilities=(0.3, 0.4, 0.3), scales=(0.8, 1.2)),
    noise2=NoiseRanges(sigma=(1.0, 25.0), scale=(0.05, 2.5)),
    sinc=SincRanges(probability=0.2, sizes=(3, 5), padded=7),
    jpeg2=(80.0, 100.0),
)
"""What ResShift's benchmark ImageNet-Test is made with; there is no second pass."""
