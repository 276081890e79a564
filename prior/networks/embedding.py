"""Sinusoidal time embeddings."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["sinusoidal_embedding"]


def sinusoidal_embedding(t: Tensor, width: int, max_period: float = 10000.0) -> Tensor:
    """``[cos(t f_k), sin(t f_k)]`` with ``f_k = max_period^(-k / half)``, k = 0..half-1; a zero pads an odd width.

    t (B,), any real; returns (B, width) float32, cosines first (Dhariwal & Nichol 2021, official order).
    """
    half = width // 2
    frequencies = torch.exp(-math.log(max_period) * torch.arange(half, dtype=torch.float32, device=t.device) / half)
    angles = t.float()[:, None] * frequencies
    embedding = torch.cat([angles.cos(), angles.sin()], dim=-1)
    return torch.nn.functional.pad(embedding, (0, width % 2))
