"""The pictures that a reconstruction makes of itself, each with the values that are black and white in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from inverse.operators.base import LinearOperator

if TYPE_CHECKING:
    from inverse.reconstruction import Reconstruction

__all__ = ["Panel", "panels", "picture"]

BRIGHTEST = 0.995  # quantile of a standard deviation that is white
STRONGEST = 0.98  # quantile of a difference that is black or white: edges of the field of view may be far beyond
ORDER = ("measurement", "estimate", "std", "measured", "filled")
SIGNED = 0.1  # share of negative values beyond which an image is one of differences


@dataclass(frozen=True, eq=False, kw_only=True)
class Panel:
    """One picture.

    Attributes
    ----------
    name: "measurement", "estimate", "std", "measured" or "filled".
    values: (C, H, W), float32 on the CPU, C 1 or 3.
    black, white: the values shown so.
    """

    name: str
    values: Tensor
    black: float = 0.0
    white: float = 1.0

    @property
    def signed(self) -> bool:
        """Whether mid-grey stands for zero."""
        return self.black < 0

    def pixels(self) -> NDArray[Any]:
        """(H, W) or (H, W, 3), uint8, clipped."""
        scaled = ((self.values - self.black) / (self.white - self.black)).clamp(0, 1)
        array = np.rint(scaled.permute(1, 2, 0).numpy() * 255).astype(np.uint8)
        return array[..., 0] if array.shape[-1] == 1 else array


def picture(values: Tensor) -> Tensor | None:
    """``values`` without the batch as (C, H, W) with one or three channels, or None where they are no picture.

    Of complex values the magnitude is shown, and of two channels or more than three their mean.
    """
    if values.ndim != 3:
        return None
    values = (values.abs() if values.is_complex() else values).detach().float().cpu()
    return values if len(values) in (1, 3) else values.mean(0, keepdim=True)


def panels(reconstruction: Reconstruction) -> list[list[Panel]]:
    """The pictures of every batch member: measurement, estimate, standard deviation, measured and filled-in part.

    Left out is what there is not: a measurement that is no picture, the deviation without samples, the split of a
    nonlinear operator. The deviation is the root mean square over channels. The filled-in part, where it adds to the
    measured part and takes away from it, is shown around mid-grey.
    """
    images = {"measurement": reconstruction.measurement, "estimate": reconstruction.estimate}
    if isinstance(reconstruction.operator, LinearOperator):
        images["measured"], images["filled"] = reconstruction.split()
    return [_of_member(images, reconstruction.std, member) for member in range(len(reconstruction.estimate))]


def _of_member(images: dict[str, Tensor], std: Tensor | None, member: int) -> list[Panel]:
    shown = {name: picture(values[member]) for name, values in images.items()}
    found = [_image(name, values) for name, values in shown.items() if values is not None]
    if std is not None and std.ndim == 4:
        spread = std[member].detach().float().cpu().square().mean(0, keepdim=True).sqrt()
        found.append(Panel(name="std", values=spread, white=_quantile(spread, BRIGHTEST)))
    return sorted(found, key=lambda panel: ORDER.index(panel.name))


def _image(name: str, values: Tensor) -> Panel:
    if name != "filled" or float((values < -1e-3).double().mean()) < SIGNED:
        return Panel(name=name, values=values)
    reach = _quantile(values.abs(), STRONGEST)
    return Panel(name=name, values=values, black=-reach, white=reach)


def _quantile(values: Tensor, q: float) -> float:
    # torch.quantile takes 16 million values at most
    return max(float(np.quantile(values.numpy(), q)), 1e-6)
