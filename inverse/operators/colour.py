"""Colourisation: of a colour image only its brightness is seen."""

from __future__ import annotations

import torch
from torch import Tensor

from inverse.operators.base import SVD, LinearOperator, Shape
from inverse.operators.noise import Noise

__all__ = ["Grayscale"]


class Grayscale(LinearOperator):
    """``y = sum_c w_c x_c``: x (B, C, H, W), y (B, 1, H, W).

    Parameters
    ----------
    weights: w, one a channel; by default those of DDRM (Kawar et al. 2022).
    """

    rank = 3
    weights: Tensor

    def __init__(
        self,
        weights: tuple[float, ...] = (0.3333, 0.3334, 0.3333),
        *,
        shape: Shape | None = None,
        noise: Noise | None = None,
    ) -> None:
        super().__init__(shape, noise)
        if not any(weights):
            raise ValueError(f"weights must not all be zero, got {weights}")
        self.register_buffer("weights", torch.tensor(weights))
        if self.domain is not None and self.domain[0] != len(weights):
            raise ValueError(f"shape must have {len(weights)} channels, one a weight, got {self.domain}")

    @property
    def isometry(self) -> float:  # type: ignore[override]
        return float(self.weights.double().square().sum())

    def _w(self, like: Tensor) -> Tensor:
        return self.weights.to(like.dtype).view(-1, 1, 1)

    def _apply_operator(self, x: Tensor) -> Tensor:
        return (x * self._w(x)).sum(1, keepdim=True)

    def _adjoint(self, y: Tensor) -> Tensor:
        return y * self._w(y)

    def output_shape(self, shape: Shape) -> Shape:
        return (1, *shape[1:])

    def input_shape(self, shape: Shape) -> Shape:
        return (len(self.weights), *shape[1:])

    def check_input(self, x: Tensor) -> None:
        super().check_input(x)
        if x.shape[1] != len(self.weights):
            raise ValueError(f"{self!r}: x must have {len(self.weights)} channels, got shape {tuple(x.shape)}")

    def check_output(self, y: Tensor) -> None:
        super().check_output(y)
        if y.shape[1] != 1:
            raise ValueError(f"{self!r}: y must have one channel, got shape {tuple(y.shape)}")

    def svd(self, shape: Shape | None = None) -> SVD:
        shape = self.known_shape(shape, "svd")
        w = self.weights.double()
        basis = torch.linalg.svd(w[None])  # w = U s Vh: the first row of Vh is the direction of w
        s = torch.zeros(shape, dtype=torch.float64)
        s[0] = basis.S.item()
        sign = basis.U.item()

        def Vh(x: Tensor) -> Tensor:
            return torch.einsum("kc,bchw->bkhw", basis.Vh.to(x), x).flatten(1)

        def V(c: Tensor) -> Tensor:
            return torch.einsum("kc,bkhw->bchw", basis.Vh.to(c), c.view(-1, *shape))

        def Uh(y: Tensor) -> Tensor:
            return torch.cat([sign * y, y.new_zeros(y.shape[0], shape[0] - 1, *y.shape[2:])], 1).flatten(1)

        def U(c: Tensor) -> Tensor:
            return sign * c.view(-1, *shape)[:, :1]

        return SVD(s.flatten(), U, Uh, V, Vh)

    def extra_repr(self) -> str:
        return f"weights={tuple(round(w, 6) for w in self.weights.tolist())}"
