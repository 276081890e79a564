"""Compiled code inside torch's transforms: one call for a whole batch, also under ``torch.vmap``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

__all__ = ["batched"]


class _Batched(torch.autograd.Function):
    """``f(x)`` for x (N, ...), f linear, each member by itself; the backward pass is the business of the operator around it."""

    @staticmethod
    def forward(x: Tensor, f: Callable[[Tensor], Tensor]) -> Tensor:
        return f(x.contiguous())

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Callable[[Tensor], Tensor]], output: Tensor) -> None:
        ctx.f = inputs[1]

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, _: None) -> Tensor:  # type: ignore[override]
        return _Batched.apply(tangent, ctx.f)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, None], x: Tensor, f: Callable[[Tensor], Tensor]) -> tuple[Tensor, int]:
        x = x.movedim(in_dims[0] or 0, 0)
        return _Batched.apply(x.flatten(0, 1), f).unflatten(0, x.shape[:2]), 0


def batched(f: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """``f(x)``, where the linear ``f`` takes contiguous tensors (N, ...) and does what torch cannot see through."""
    return _Batched.apply(x, f)
