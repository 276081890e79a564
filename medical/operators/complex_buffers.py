"""Complex buffers that stay complex where a module is cast to another real type."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from inverse.operators.precision import lengthened

__all__ = ["kept_complex"]


def kept_complex(fn: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """``fn`` which moves or casts, with complex tensors cast to the real type of their parts, not to a real tensor."""

    def move(t: Tensor) -> Tensor:
        if not t.is_complex():
            return fn(t)
        parts = fn(torch.view_as_real(t.resolve_conj()))
        return fn(t) if parts.is_complex() else torch.view_as_complex(lengthened(parts).contiguous())

    return move
