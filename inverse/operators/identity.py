"""Denoising: the operator that changes nothing."""

from __future__ import annotations

import torch
from torch import Tensor

from inverse.operators.base import SVD, LinearOperator, Shape

__all__ = ["Identity"]


class Identity(LinearOperator):
    """``y = x``: with a noise model, denoising. Images of any shape."""

    isometry = 1.0

    def _apply_operator(self, x: Tensor) -> Tensor:
        return x.clone()

    def _adjoint(self, y: Tensor) -> Tensor:
        return y.clone()

    def _prox(self, x: Tensor, y: Tensor, rho: Tensor, tolerance: float, iterations: int) -> Tensor:
        return torch.lerp(x, y, (1 / (1 + rho)).expand_as(x))

    def svd(self, shape: Shape | None = None) -> SVD:
        shape = self.known_shape(shape, "svd")

        def flat(x: Tensor) -> Tensor:
            return x.flatten(1)

        def image(c: Tensor) -> Tensor:
            return c.view(-1, *shape)

        return SVD(torch.ones(torch.Size(shape).numel(), dtype=torch.float64), image, flat, image, flat)
