"""JPEG as a measurement, and the transform and tables that every JPEG has."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

from inverse.operators.base import Operator, Shape
from inverse.operators.noise import Noise
from inverse.operators.nonlinear import straight_through

__all__ = ["JPEG", "TABLES", "cosines", "quantization_tables"]

# ITU-T T.871, with the digits that RED-Diff uses; chroma is centred on zero
_RGB_TO_YCC = torch.tensor([[0.299, 0.587, 0.114], [-0.1687, -0.3313, 0.5], [0.5, -0.4187, -0.0813]], dtype=torch.float64)
_YCC_TO_RGB = torch.linalg.inv(_RGB_TO_YCC)

# ITU-T T.81, tables K.1 and K.2
_LUMINANCE = """
16 11 10 16  24  40  51  61   12 12 14 19  26  58  60  55   14 13 16 24  40  57  69  56   14 17 22 29  51  87  80  62
18 22 37 56  68 109 103  77   24 35 55 64  81 104 113  92   49 64 78 87 103 121 120 101   72 92 95 98 112 100 103  99
"""
_CHROMINANCE = """
17 18 24 47 99 99 99 99   18 21 26 66 99 99 99 99   24 26 56 99 99 99 99 99   47 66 99 99 99 99 99 99
99 99 99 99 99 99 99 99   99 99 99 99 99 99 99 99   99 99 99 99 99 99 99 99   99 99 99 99 99 99 99 99
"""
TABLES = torch.tensor([[int(n) for n in table.split()] for table in (_LUMINANCE, _CHROMINANCE)]).view(2, 8, 8)
"""Luminance and chrominance (2, 8, 8) at quality 50, rows of vertical frequencies."""


class JPEG(Operator):
    """An image after JPEG at ``quality`` 1..100, 4:2:0, before it is clipped and rounded to 8 bits; x and y (B, 3, H, W).

    Colour transform, chroma of every other pixel, orthonormal 8 x 8 cosine transform, division by the tables of the
    Independent JPEG Group, rounding, and all of it backwards. H and W must be multiples of 16.
    """

    rank = 3
    tables: Tensor

    def __init__(self, quality: int, *, shape: Shape | None = None, noise: Noise | None = None) -> None:
        super().__init__(shape, noise)
        self.quality = quality
        self.register_buffer("tables", quantization_tables(quality).to(torch.get_default_dtype()), persistent=False)

    def output_shape(self, shape: Shape) -> Shape:
        C, H, W = shape
        if C != 3 or H % 16 or W % 16:
            raise ValueError(f"{self!r} takes colour images whose height and width are multiples of 16, got {tuple(shape)}")
        return shape

    def check_input(self, x: Tensor) -> None:
        super().check_input(x)
        self.output_shape(tuple(x.shape[1:]))

    def _apply_operator(self, x: Tensor) -> Tensor:
        colour, back = (m.to(x) for m in (_RGB_TO_YCC, _YCC_TO_RGB))
        Y, chroma = torch.einsum("kc,bchw->bkhw", colour, 255 * x).split((1, 2), 1)
        Y = self._coded(Y - 128, 0) + 128
        chroma = self._coded(chroma[..., ::2, ::2], 1)
        chroma = chroma.repeat_interleave(2, -1).repeat_interleave(2, -2)
        return torch.einsum("ck,bkhw->bchw", back, torch.cat([Y, chroma], 1)) / 255

    def _coded(self, plane: Tensor, table: int) -> Tensor:
        """``plane`` (B, P, H, W), centred on zero, after division and rounding of its 8 x 8 cosine coefficients."""
        D, table_ = cosines().to(plane), self.tables[table].to(plane.dtype)
        blocks = plane.unfold(-2, 8, 8).unfold(-2, 8, 8)  # (B, P, H / 8, W / 8, 8, 8)
        coefficients = D @ blocks @ D.mT / table_
        coefficients = straight_through(coefficients, coefficients.round()) * table_
        return (D.mT @ coefficients @ D).transpose(-3, -2).reshape(plane.shape)

    def pinv(self, y: Tensor) -> Tensor:
        """The measurement itself."""
        return y

    def extra_repr(self) -> str:
        return f"quality={self.quality}"


def quantization_tables(quality: int) -> Tensor:
    """The luminance and chrominance tables (2, 8, 8) of the Independent JPEG Group at ``quality``, whole numbers 1..255."""
    if not isinstance(quality, int) or not 1 <= quality <= 100:
        raise ValueError(f"quality must be a whole number in 1..100, got {quality!r}")
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    return ((TABLES * scale + 50) // 100).clamp(1, 255)


@lru_cache(maxsize=1)
@torch.inference_mode(False)  # it outlives the mode it was made in
def cosines() -> Tensor:
    """The orthonormal cosine transform (DCT-II) of 8 samples as a matrix, float64."""
    k, i = torch.arange(8, dtype=torch.float64)[:, None], torch.arange(8, dtype=torch.float64)
    D = torch.cos(math.pi * k * (2 * i + 1) / 16) / 2
    D[0] /= math.sqrt(2)
    return D
