"""Grey levels as files hold them."""

from __future__ import annotations

from torch import Tensor

__all__ = ["to_8_bits"]


def to_8_bits(x: Tensor) -> Tensor:
    """``x``, clipped to [0, 1], in whole 255ths; ties go to the even level."""
    return (255 * x).round().clamp(0, 255) / 255
