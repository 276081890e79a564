"""The classical degradation of super-resolution: a circular blur, of which every so manyth pixel is kept."""

from __future__ import annotations

import torch
from torch import Tensor

from inverse.operators.base import LinearOperator, Shape
from inverse.operators.blur import Blur
from inverse.operators.noise import Noise

__all__ = ["Decimate"]


class Decimate(LinearOperator):
    """``y_i = (k * x)_{factor i}``: x (B, C, H, W), y (B, C, H / factor, W / factor); factor 1 is a circular blur.

    The inverse of ``A A^H + rho`` is a division by the mean of ``|k|^2`` over the frequencies that fall together (Zhao et
    al. 2016), and ``x + A^H (A A^H + rho)^-1 (y - A x)`` is stable in float32 however small rho is.

    Parameters
    ----------
    kernel: k, (h, w), real, with its origin at (h // 2, w // 2).
    factor: every ``factor``-th row and column is kept, the first ones included.
    """

    rank = 3

    def __init__(self, kernel: Tensor, factor: int, *, shape: Shape | None = None, noise: Noise | None = None) -> None:
        super().__init__(shape, noise)
        if not isinstance(factor, int) or factor < 1:
            raise ValueError(f"factor must be a whole number, at least 1, got {factor!r}")
        self.blur = Blur(kernel, "circular")
        self.factor = factor
        if self.domain is not None:
            self.output_shape(self.domain)

    def _apply_operator(self, x: Tensor) -> Tensor:
        return self.blur._apply_operator(x)[..., :: self.factor, :: self.factor]

    def _adjoint(self, y: Tensor) -> Tensor:
        x = y.new_zeros(*y.shape[:-2], self.factor * y.shape[-2], self.factor * y.shape[-1])
        x[..., :: self.factor, :: self.factor] = y
        return self.blur._adjoint(x)

    def output_shape(self, shape: Shape) -> Shape:
        return self.divided(shape, self.factor)

    def input_shape(self, shape: Shape) -> Shape:
        C, h, w = shape
        return (C, h * self.factor, w * self.factor)

    def check_input(self, x: Tensor) -> None:
        super().check_input(x)
        self.output_shape(tuple(x.shape[1:]))

    def _pinv(self, y: Tensor, tolerance: float, iterations: int) -> Tensor:
        """``A^H (A A^H)^+ y``."""
        gram = self._gram(y)
        kept = gram > tolerance**2 * gram.max()
        return self.adjoint(_filtered(y, torch.where(kept, 1 / torch.where(kept, gram, 1), 0)))

    def _prox(self, x: Tensor, y: Tensor, rho: Tensor, tolerance: float, iterations: int) -> Tensor:
        return x + self.adjoint(_filtered(y - self(x), 1 / (self._gram(y) + rho)))

    def norm(self, shape: Shape | None = None, *, iterations: int = 100, seed: int = 0) -> float:
        _, h, w = self.output_shape(self.known_shape(shape, "norm"))
        return float(self._gram(torch.empty(h, w, device=self.blur.kernel.device)).max().sqrt())

    def _gram(self, y: Tensor) -> Tensor:
        """The eigenvalues of ``A A^H`` on measurements of the size of ``y``, by frequency, float64."""
        h, w = y.shape[-2:]
        like = torch.empty(self.factor * h, self.factor * w, dtype=torch.float64, device=y.device)
        power = torch.fft.fft2(self.blur._point(like)).abs().square()
        return power.view(self.factor, h, self.factor, w).mean((0, 2))

    def extra_repr(self) -> str:
        return ", ".join(filter(None, [f"factor={self.factor}", super().extra_repr()]))


def _filtered(y: Tensor, transfer: Tensor) -> Tensor:
    out = torch.fft.ifft2(torch.fft.fft2(y) * transfer.to(y.real.dtype))
    return out if y.is_complex() else out.real
