"""JPEG compression of a batch at a quality of every image, as the networks of Real-ESRGAN were trained with it.

The tables are scaled without rounding them, chroma is averaged over 2 x 2 pixels and repeated on the way back. As in the
differentiable JPEG that Real-ESRGAN uses, the luminance table is the transpose of the standard's: it belongs to (horizontal,
vertical) frequencies there and is read as (vertical, horizontal). The rounding of the coefficients is hard.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from restore.degradations.precision import without_autocast

__all__ = ["jpeg_compress", "table_factor"]


def table_factor(quality: Tensor) -> Tensor:
    """What the tables are multiplied by at ``quality`` in [1, 100]: 50 / q below 50, else 2 - q / 50."""
    return torch.where(quality < 50, 50 / quality, 2 - quality / 50)


def jpeg_compress(x: Tensor, quality: Tensor | float) -> Tensor:
    """Images (B, 3, H, W) in [0, 1] after JPEG with 4:2:0 chroma, clipped to [0, 1], not rounded to 8 bits.

    Parameters
    ----------
    x: RGB images; sides that are no multiples of 16 are filled up with black and cropped again.
    quality: one number in [1, 100], or one an image (B,); at 100 no coefficient is rounded.
    """
    if x.ndim != 4 or x.shape[1] != 3:
        raise ValueError(f"x must be a batch of RGB images (B, 3, H, W), got {tuple(x.shape)}")
    q = torch.as_tensor(quality, dtype=torch.float32).expand(len(x))
    if not bool(((q >= 1) & (q <= 100)).all()):
        raise ValueError(f"quality must lie in [1, 100], got {q.min().item():g}..{q.max().item():g}")
    with without_autocast(x):
        return _coded_image(x.float(), table_factor(q).to(x.device).view(-1, 1, 1, 1, 1, 1)).to(x.dtype)


def _coded_image(x: Tensor, factor: Tensor) -> Tensor:
    H, W = x.shape[-2:]
    z = F.pad(x, (0, -W % 16, 0, -H % 16))
    luma, chroma = torch.einsum("kc,bchw->bkhw", _TO_YCC.to(z), 255 * z).split((1, 2), 1)
    luma = _coded(luma - 128, factor * _LUMINANCE.to(z)) + 128
    chroma = _coded(F.avg_pool2d(chroma, 2), factor * _CHROMINANCE.to(z))
    ycc = torch.cat([luma, F.interpolate(chroma, scale_factor=2, mode="nearest")], 1)
    rgb = torch.einsum("ck,bkhw->bchw", _TO_RGB.to(z), ycc)[..., :H, :W]
    return (rgb / 255).clamp(0, 1)


def _coded(plane: Tensor, table: Tensor) -> Tensor:
    """``plane`` (B, P, H, W), centred on zero, with its 8 x 8 cosine coefficients rounded to multiples of ``table``."""
    D = _cosines().to(plane)
    B, P, H, W = plane.shape
    blocks = plane.view(B, P, H // 8, 8, W // 8, 8).transpose(3, 4)
    coefficients = D @ blocks @ D.mT
    rounded = torch.where(table > 0, torch.round(coefficients / table) * table, coefficients)
    return (D.mT @ rounded @ D).transpose(3, 4).reshape(B, P, H, W)


@lru_cache(maxsize=1)
@torch.inference_mode(False)  # it outlives the mode it was made in
def _cosines() -> Tensor:
    """The orthonormal cosine transform (DCT-II) of 8 samples as a matrix, float64."""
    k, i = torch.arange(8, dtype=torch.float64)[:, None], torch.arange(8, dtype=torch.float64)
    D = torch.cos(math.pi * k * (2 * i + 1) / 16) / 2
    D[0] /= math.sqrt(2)
    return D


# ITU-T T.871; chroma is centred on zero
_TO_YCC = torch.tensor([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]], dtype=torch.float64)
_TO_RGB = torch.tensor([[1, 0, 1.402], [1, -0.344136, -0.714136], [1, 1.772, 0]], dtype=torch.float64)

# ITU-T T.81, tables K.1 and K.2
_LUMINANCE = torch.tensor(
    [
        [16, 11, 10, 16, 24, 40, 51, 61], [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56], [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77], [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101], [72, 92, 95, 98, 112, 100, 103, 99],
    ]
).T  # fmt: skip
_CHROMINANCE = torch.full((8, 8), 99)
_CHROMINANCE[:4, :4] = torch.tensor([[17, 18, 24, 47], [18, 21, 26, 66], [24, 26, 56, 99], [47, 66, 99, 99]])
