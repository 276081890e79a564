"""A plain function as a prior."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from prior.denoiser import Denoiser, Head, ImageHead, NoiseHead, ScoreHead
from prior.schedules import EDM, Schedule

__all__ = ["Called", "from_callable"]

KINDS: dict[str, Head] = {"image": ImageHead(), "noise": NoiseHead(), "score": ScoreHead()}


class Called(nn.Module):
    """A function of (x, t) as a module; the parameters of a module that is called so stay visible."""

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.function(x, t)


def from_callable(
    function: Callable[[Tensor, Tensor], Tensor],
    *,
    returns: str = "image",
    schedule: Schedule | None = None,
    data_range: tuple[float, float] = (0.0, 1.0),
) -> Denoiser:
    """``function(x, sigma)`` as a prior, such as any plug-and-play denoiser: DRUNet, SwinIR at a level, BM3D on tensors.

    Parameters
    ----------
    function: called with x (B, C, H, W) in ``data_range`` plus noise, and t (B,): the noise's standard deviation in the
        same units, or, with another ``schedule``, the time that its networks read.
    returns: what it returns: the clean "image", the "noise" (of unit variance) or the "score".
    schedule: how x was noised; by default x = image + sigma noise.
    """
    if not callable(function):
        raise TypeError(f"function must be callable as function(x, t), got {type(function).__name__}")
    if returns not in KINDS:
        raise ValueError(f"returns must be one of {', '.join(KINDS)}, got {returns!r}")
    low, high = data_range
    edm = EDM(sigma_min=0.002 * (high - low) / 2, sigma_max=80 * (high - low) / 2)
    return Denoiser(Called(function), schedule or edm, KINDS[returns], data_range=data_range)
