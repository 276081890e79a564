"""Inpainting: some pixels are seen, the others are not."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from inverse.operators.base import SVD, LinearOperator, Shape
from inverse.operators.masks import box_mask, freeform_mask, random_mask, read_masks
from inverse.operators.noise import Noise

__all__ = ["Inpaint", "Sample"]


def _checked(mask: Tensor) -> Tensor:
    if mask.ndim != 3:
        raise ValueError(f"mask must have shape (C, H, W), got {tuple(mask.shape)}")
    if not bool(((mask == 0) | (mask == 1)).all()):
        raise ValueError(
            f"mask must hold 0 (missing) and 1 (seen) only, got values in {mask.min().item():g}..{mask.max().item():g}"
        )
    if not bool(mask.any()):
        raise ValueError("mask must leave at least one pixel to be seen, got zeros only")
    return mask.bool()


class Inpaint(LinearOperator):
    """``y = m x``: the missing pixels of the measurement are zero; x and y (B, C, H, W).

    Parameters
    ----------
    mask: m, 1 where a pixel is seen and 0 where it is missing; (C, H, W), or (1, H, W) for any number of channels.
    """

    rank = 3
    isometry = 1.0
    mask: Tensor
    _factor: Tensor

    def __init__(self, mask: Tensor, *, shape: Shape | None = None, noise: Noise | None = None) -> None:
        mask = _checked(mask)
        super().__init__(tuple(mask.shape) if shape is None and mask.shape[0] > 1 else shape, noise)
        self.register_buffer("mask", mask)
        if self.domain is not None:
            self._check_shape(self.domain, "shape")
        self._refresh()

    def _refresh(self) -> None:
        factor = self.mask.to(torch.get_default_dtype())  # multiplies faster than a mask of bits
        self.register_buffer("_factor", factor.expand(self.domain or factor.shape).contiguous(), persistent=False)

    @classmethod
    def random(cls, shape: Shape, missing: float = 0.5, *, seed: int = 0, noise: Noise | None = None) -> Self:
        """``int(missing H W)`` pixels, drawn at random, are missing from all channels of images of ``shape`` (C, H, W)."""
        return cls(random_mask(shape, missing, seed=seed), shape=shape, noise=noise)

    @classmethod
    def box(cls, shape: Shape, box: tuple[int, int, int, int] | None = None, *, noise: Noise | None = None) -> Self:
        """The rectangle ``box`` = (top, left, height, width) is missing; by default the middle, half as high and wide."""
        return cls(box_mask(shape, box), shape=shape, noise=noise)

    @classmethod
    def freeform(
        cls, shape: Shape, holes: tuple[float, float] = (0.2, 0.3), *, seed: int = 0, noise: Noise | None = None
    ) -> Self:
        """A share within ``holes`` of the pixels is missing under strokes of a brush, from all channels of ``shape``."""
        return cls(freeform_mask(shape, holes, seed=seed), shape=shape, noise=noise)

    @classmethod
    def load(cls, path: str | Path, shape: Shape, index: int = 0, *, noise: Noise | None = None) -> Self:
        """The mask of image ``index`` of a data set in a mask file, for images of ``shape`` (C, H, W)."""
        masks, n = read_masks(path), math.prod(shape)
        if masks.ndim != 2 or masks.shape[1] != n:
            raise ValueError(f"path: {path} must hold masks of {n} entries for {tuple(shape)}, got {tuple(masks.shape)}")
        return cls(masks[index % len(masks)].view(shape), shape=shape, noise=noise)

    def _apply_operator(self, x: Tensor) -> Tensor:
        return x * self._factor.to(x.real.dtype)

    def _adjoint(self, y: Tensor) -> Tensor:
        return y * self._factor.to(y.real.dtype)

    def _prox(self, x: Tensor, y: Tensor, rho: Tensor, tolerance: float, iterations: int) -> Tensor:
        return torch.addcmul(x, y - x, self._factor.to(rho.dtype) / (1 + rho))

    def check_input(self, x: Tensor) -> None:
        super().check_input(x)
        if self.domain is None:
            self._check_shape(tuple(x.shape[1:]), "x")

    def check_output(self, y: Tensor) -> None:
        if y.shape[1:] != self.domain:
            super().check_output(y)
            self._check_shape(tuple(y.shape[1:]), "y")

    def _check_shape(self, shape: Shape, name: str) -> None:
        channels, *pixels = self.mask.shape
        if list(shape[1:]) != pixels or channels not in (1, shape[0]):
            raise ValueError(f"{name} must be an image that the mask {tuple(self.mask.shape)} fits, got {tuple(shape)}")

    def svd(self, shape: Shape | None = None) -> SVD:
        shape = self.known_shape(shape, "svd")

        def flat(x: Tensor) -> Tensor:
            return x.flatten(1)

        def image(c: Tensor) -> Tensor:
            return c.view(-1, *shape)

        s = self.mask.expand(shape).flatten().double()
        return SVD(s, lambda c: image(c) * self.mask, lambda y: flat(y * self.mask), image, flat)

    def extra_repr(self) -> str:
        return f"mask={tuple(self.mask.shape)}, seen={self.mask.double().mean().item():.3g}"


class Sample(LinearOperator):
    """The seen pixels only, ``y = x[m]`` of shape (B, m), in channel-major order; x (B, C, H, W).

    Parameters
    ----------
    mask: m, (C, H, W) of 0 and 1, 1 where a pixel is seen.
    """

    rank = 3
    isometry = 1.0
    mask: Tensor

    def __init__(self, mask: Tensor, *, noise: Noise | None = None) -> None:
        mask = _checked(mask)
        super().__init__(tuple(mask.shape), noise)
        self.register_buffer("mask", mask)

    def output_shape(self, shape: Shape) -> Shape:
        return (int(self.mask.sum()),)

    def _apply_operator(self, x: Tensor) -> Tensor:
        return x.flatten(1)[:, self.mask.flatten()]

    def _adjoint(self, y: Tensor) -> Tensor:
        x = y.new_zeros(y.shape[0], self.mask.numel())
        x[:, self.mask.flatten()] = y
        return x.view(-1, *self.mask.shape)

    def svd(self, shape: Shape | None = None) -> SVD:
        def flat(x: Tensor) -> Tensor:
            return x.flatten(1)

        def image(c: Tensor) -> Tensor:
            return c.view(-1, *self.mask.shape)

        return SVD(
            self.mask.flatten().double(),
            lambda c: self._apply_operator(image(c)),
            lambda y: flat(self._adjoint(y)),
            image,
            flat,
        )

    def extra_repr(self) -> str:
        return f"mask={tuple(self.mask.shape)}, seen={self.mask.double().mean().item():.3g}"
