"""Operators compute in float32 at least, in whatever precision the network beside them runs."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

import torch
from torch import Tensor

__all__ = ["SHORT", "full_precision", "lengthened"]

SHORT = (torch.float16, torch.bfloat16)

P = ParamSpec("P")


def lengthened(x: Tensor) -> Tensor:
    """``x`` in float32 where it has 16 bits, else as it is."""
    return x.float() if x.dtype in SHORT else x


def full_precision(f: Callable[P, Tensor]) -> Callable[P, Tensor]:
    """``f`` without autocast and with 16-bit tensors in float32; a real answer to a real tensor has its type.

    Fourier transforms exist in no 16 bits on the CPU, and a matrix in bfloat16 is wrong by half a percent.
    """

    @wraps(f)
    def call(*args: P.args, **options: P.kwargs) -> Tensor:
        first = next(a for a in (*args, *options.values()) if isinstance(a, Tensor))
        device = first.device.type
        if first.dtype not in SHORT and not _autocast(device):
            return f(*args, **options)
        longer = [_argument(a) for a in args]
        with torch.autocast(device, enabled=False):
            out = f(*longer, **{name: _argument(a) for name, a in options.items()})  # type: ignore[arg-type]
        return out if out.is_complex() or first.is_complex() else out.to(first.dtype)

    return call


def _argument(a: object) -> object:
    return lengthened(a) if isinstance(a, Tensor) else a


def _autocast(device: str) -> bool:
    return torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
