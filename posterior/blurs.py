"""The blur that the options of ``posterior deblur`` describe."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from inverse.operators import Blur
from inverse.operators.noise import Noise
from posterior.images import read

__all__ = ["chosen", "read_kernel"]

DEFAULT_SIGMA = 3.0


def chosen(*, sigma: float | None, kernel: Path | None, motion: str | None, noise: Noise | None) -> Blur:
    """The one blur given: Gaussian of ``sigma`` pixels (the default), the image ``kernel`` or "LENGTH,ANGLE" of a motion."""
    given = [name for name, value in (("--sigma", sigma), ("--kernel", kernel), ("--motion", motion)) if value is not None]
    if len(given) > 1:
        raise ValueError(f"give one of --sigma, --kernel and --motion, got {' and '.join(given)}")
    if kernel is not None:
        return Blur(read_kernel(kernel), noise=noise)
    if motion is not None:
        return Blur.line(*_length_angle(motion), noise=noise)
    return Blur.gaussian(DEFAULT_SIGMA if sigma is None else sigma, noise=noise)


def read_kernel(path: Path) -> Tensor:
    """The blur kernel (h, w) in an image: its brightness, made to sum to one."""
    kernel = read(path, max_megapixels=1.0).colour.mean(0)
    if bool((kernel < 0).any()) or not bool(kernel.sum() > 0):
        raise ValueError(f"--kernel {path}: must not be negative or all black")
    return kernel / kernel.sum()


def _length_angle(text: str) -> tuple[float, float]:
    try:
        length, angle = map(float, text.split(","))
    except ValueError:
        raise ValueError(f"--motion must be LENGTH,ANGLE, as in 15,30; got {text!r}") from None
    if not (1 <= length <= 1000 and -360 <= angle <= 360):
        raise ValueError(f"--motion must have a length of 1 to 1000 pixels and an angle of -360 to 360 degrees, got {text!r}")
    return length, angle
