"""JPEG compression of a batch at a quality of every image, as the networks of Real-ESRGAN were trained with it.

The tables are scaled without rounding them, chroma is averaged over 2 x 2 pixels and repeated on the way back. As in the
differentiable JPEG that Real-ESRGAN uses, the luminance table is the transpose of the standard's: it belongs to (horizontal,
vertical) frequencies there and is read as (vertical, horizontal). The rounding of the coefficients is hard.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from inverse.operators.jpeg import TABLES, cosines
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
    luma = _coded(luma - 128, factor * TABLES[0].T.to(z)) + 128
    chroma = _coded(F.avg_pool2d(chroma, 2), factor * TABLES[1].to(z))
    ycc = torch.cat([luma, F.interpolate(chroma, scale_factor=2, mode="nearest")], 1)
    rgb = torch.einsum("ck,bkhw->bchw", _TO_RGB.to(z), ycc)[..., :H, :W]
    return (rgb / 255).clamp(0, 1)


def _coded(plane: Tensor, table: Tensor) -> Tensor:
    """``plane`` (B, P, H, W), centred on zero, with its 8 x 8 cosine coefficients rounded to multiples of ``table``."""
    D = cosines().to(plane)
    B, P, H, W = plane.shape
    blocks = plane.view(B, P, H // 8, 8, W // 8, 8).transpose(3, 4)
    coefficients = D @ blocks @ D.mT
    rounded = torch.where(table > 0, torch.round(coefficients / table) * table, coefficients)
    return (D.mT @ rounded @ D).transpose(3, 4).reshape(B, P, H, W)


# ITU-T T.871; chroma is centred on zero
_TO_YCC = torch.tensor([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]], dtype=torch.float64)
_TO_RGB = torch.tensor([[1, 0, 1.402], [1, -0.344136, -0.714136], [1, 1.772, 0]], dtype=torch.float64)
