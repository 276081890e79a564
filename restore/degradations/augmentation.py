"""More images out of few, before they are spoilt: warps and recolourings drawn together."""

from __future__ import annotations

from dataclasses import dataclass

from restore.degradations.recolouring import RecolouringRanges
from restore.degradations.warping import WarpRanges

__all__ = ["LAMA", "Augmentation"]


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """What is done to an image on either side of its crop.

    Attributes
    ----------
    warp: before; what lies beyond the edge of the image is its mirror image.
    recolouring: after.
    """

    warp: WarpRanges
    recolouring: RecolouringRanges


LAMA = Augmentation(warp=WarpRanges(), recolouring=RecolouringRanges())
"""For inpainting of photographs: corners moved by up to 6 %, scale 0.7 to 1.3, rotation within 40 degrees, shear within 0.1,
contrast and brightness within 0.2, hue, saturation and value within 5 of 180, 30 and 5 of 255; a lens and local contrast.

What is published leaves open the strength of the lens, here 0.05, the limit of the local contrast, here 1 to 4 in 8 x 8
tiles, and the probabilities, here 1/2 for each. All warps are one interpolation here.
"""
