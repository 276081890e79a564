"""Coil sensitivities as an operator keeps them."""

from __future__ import annotations

from torch import Tensor

from inverse.operators.base import Shape
from inverse.operators.precision import lengthened

__all__ = ["checked_maps"]


def checked_maps(maps: Tensor, dims: int, shape: Shape | None = None) -> Tensor:
    """Maps (C, ...) or (M, C, ...) of images of ``dims`` axes, of this ``shape`` where it is known, as (M, C, ...), complex.

    Real maps become complex, 16-bit ones of 32 bits. Raises ``ValueError`` for another shape, for integers, and for values
    that are not finite.
    """
    fits = maps.ndim in (dims + 1, dims + 2) and maps.numel() > 0
    if not fits or (shape is not None and tuple(maps.shape[-dims:]) != shape):
        sides = ", ".join("DHW"[-dims:] if shape is None else map(str, shape))
        given = f" with dims={dims}" if shape is None else ""
        raise ValueError(f"maps must have shape (C, {sides}) or (M, C, {sides}){given}, got {tuple(maps.shape)}; resize them")
    if not (maps.is_complex() or maps.is_floating_point()):
        raise ValueError(f"maps must be complex or floating point, got {maps.dtype}; convert them")
    if not bool(maps.isfinite().all()):
        raise ValueError("maps must be finite, got nan or inf; where no coil sees anything they are zero")
    maps = lengthened(maps).resolve_conj()
    maps = maps.to(maps.dtype.to_complex())
    return maps if maps.ndim == dims + 2 else maps[None]
