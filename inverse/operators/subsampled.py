"""Compressed sensing of the whole image: a few coefficients of an orthonormal transform."""

from __future__ import annotations

import torch
from torch import Tensor

from inverse.operators.base import SVD, LinearOperator, Shape
from inverse.operators.noise import Noise

__all__ = ["Subsampled"]


class Subsampled(LinearOperator):
    """``y = (T x)[kept]`` for an orthonormal real T of each channel; x (B, C, H, W), y (B, k, C).

    Subclasses write ``transform`` and ``inverse``. Row j of y holds coefficient ``kept[j]`` of every channel, as DDNM orders
    the entries.

    Parameters
    ----------
    kept: distinct numbers (k,) of coefficients of an image, from 0 to H W - 1.
    shape: (C, H, W).
    """

    rank = 3
    isometry = 1.0
    kept: Tensor
    domain: Shape

    def __init__(self, kept: Tensor, shape: Shape, *, noise: Noise | None = None) -> None:
        super().__init__(shape, noise)
        if len(self.domain) != 3 or min(self.domain) < 1:
            raise ValueError(f"shape must be (C, H, W), got {tuple(shape)}")
        if kept.ndim != 1 or kept.is_floating_point() or len(kept) == 0:
            raise ValueError(f"kept must be a list of at least one whole number, got shape {tuple(kept.shape)} of {kept.dtype}")
        if len(kept.unique()) < len(kept) or int(kept.min()) < 0 or int(kept.max()) >= self.size:
            raise ValueError(f"kept must be distinct numbers from 0 to {self.size - 1}, got {kept.min()} to {kept.max()}")
        self.register_buffer("kept", kept.long())

    @property
    def size(self) -> int:
        """Coefficients, and pixels, of a channel."""
        return self.domain[1] * self.domain[2]

    def transform(self, x: Tensor) -> Tensor:
        """``T x``: the coefficients (B, C, H W) of images (B, C, H, W)."""
        raise NotImplementedError(f"{type(self).__name__} must define transform(x)")

    def inverse(self, c: Tensor) -> Tensor:
        """``T^T c``: the images (B, C, H, W) of coefficients (B, C, H W)."""
        raise NotImplementedError(f"{type(self).__name__} must define inverse(c)")

    def _apply_operator(self, x: Tensor) -> Tensor:
        return self.transform(x)[..., self.kept].mT.contiguous()

    def _adjoint(self, y: Tensor) -> Tensor:
        return self.inverse(self._spread(y))

    def _spread(self, y: Tensor) -> Tensor:
        """All coefficients (B, C, H W), those not measured zero."""
        zeros = y.new_zeros(y.shape[0], self.domain[0], self.size)
        return zeros.index_copy(2, self.kept, y.mT)

    def output_shape(self, shape: Shape) -> Shape:
        return (len(self.kept), shape[0])

    def svd(self, shape: Shape | None = None) -> SVD:
        C, k = self.domain[0], len(self.kept)
        s = torch.zeros(C, self.size, dtype=torch.float64)
        s[:, self.kept.cpu()] = 1
        thin = SVD(
            torch.ones(C * k, dtype=torch.float64),
            lambda c: c.view(-1, C, k).mT,
            lambda y: y.mT.flatten(1),
            lambda c: self._adjoint(c.view(-1, C, k).mT),
            lambda x: self.transform(x)[..., self.kept].flatten(1),
        )
        return SVD(
            s.flatten(),
            lambda c: c.view(-1, C, self.size)[..., self.kept].mT,
            lambda y: self._spread(y).flatten(1),
            lambda c: self.inverse(c.view(-1, C, self.size)),
            lambda x: self.transform(x).flatten(1),
            thin,
        )

    def extra_repr(self) -> str:
        return f"kept={len(self.kept)} of {self.size}, {super().extra_repr()}"
