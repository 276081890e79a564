"""Blur that changes across the image: every pixel has its own mixture of a few kernels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from inverse.operators import kernels as shapes
from inverse.operators.base import LinearOperator, Shape
from inverse.operators.boundary import BOUNDARIES, fold, pad
from inverse.operators.convolution import by_parts, convolve, fast_length
from inverse.operators.noise import Noise

__all__ = ["VaryingBlur", "bilinear_weights", "variance_weights"]

WEIGHTED = ("output", "input")


@dataclass(frozen=True)
class _Span:
    """One axis of one term: ``target`` of the measurement is what the convolution of ``source`` holds from ``start`` on."""

    source: slice  # of the padded image
    target: slice
    start: int
    length: int  # of a transform in which nothing that is used wraps around

    @property
    def taken(self) -> slice:
        return slice(self.start, self.start + self.target.stop - self.target.start)


class VaryingBlur(LinearOperator):
    """``y = sum_k w_k (h_k * x)``, or ``sum_k h_k * (w_k x)``, on every channel; x and y (B, C, H, W).

    Weights of the output blur pixel i with the kernel ``sum_k w_k(i) h_k`` (Nagy & O'Leary 1998), which keeps the mean
    of an even area; weights of the input make ``sum_k w_k(j) h_k`` of a bright point at j (Escande & Weiss 2017), as
    an optical system does. Each term is computed only around where its weights are not zero.

    Parameters
    ----------
    kernels: h, (K, h, w), real, smaller or larger than the image; their origin is the pixel (h // 2, w // 2).
    weights: w, (K, H, W), real; they sum to one where brightness is to be kept.
    boundary: what the image is beyond its edge, one of ``boundary.BOUNDARIES``.
    weighted: ``"output"`` or ``"input"``.
    """

    rank = 3
    kernels: Tensor
    weights: Tensor

    def __init__(
        self,
        kernels: Tensor,
        weights: Tensor,
        boundary: str = "reflect",
        *,
        weighted: str = "output",
        shape: Shape | None = None,
        noise: Noise | None = None,
    ) -> None:
        _check(kernels, weights, boundary, weighted)
        super().__init__(shape, noise)
        self.boundary, self.weighted = boundary, weighted
        self.register_buffer("kernels", kernels.to(torch.get_default_dtype()))
        self.register_buffer("weights", weights.to(torch.get_default_dtype()))
        if self.domain is not None:
            self._check_size(self.domain, "shape")
        self._refresh()

    def _refresh(self) -> None:
        used = self._term_weights(self.weights) != 0
        sizes = zip(self.weights.shape[1:], self.kernels.shape[1:], strict=True)
        axes = [
            [_span(support, n, reach, self.weighted) for support in used.any(other)]
            for other, (n, reach) in zip((2, 1), sizes, strict=True)
        ]
        self._terms = list(zip(*axes, strict=True))

    @classmethod
    def grid(
        cls,
        kernels: Tensor,
        shape: Shape,
        boundary: str = "reflect",
        *,
        weighted: str = "output",
        noise: Noise | None = None,
    ) -> Self:
        """``kernels`` (g, f, h, w) at g x f points spread evenly over images of ``shape`` (C, H, W), bilinear between."""
        if kernels.ndim != 4 or len(shape) != 3:
            raise ValueError(f"kernels must be (g, f, h, w) and shape (C, H, W), got {tuple(kernels.shape)} and {tuple(shape)}")
        weights = bilinear_weights((kernels.shape[0], kernels.shape[1]), (shape[1], shape[2]))
        return cls(kernels.flatten(0, 1), weights, boundary, weighted=weighted, shape=shape, noise=noise)

    @classmethod
    def gaussian(
        cls,
        sigma: Tensor,
        boundary: str = "reflect",
        *,
        levels: int = 8,
        weighted: str = "output",
        shape: Shape | None = None,
        noise: Noise | None = None,
    ) -> Self:
        """Gaussians of ``sigma`` (H, W) pixels, one a pixel: a depth of field.

        Mixtures of ``levels`` Gaussians from the least to the greatest sigma, each pixel of the two next to its own, in the
        shares that give it the variance sigma^2.
        """
        if sigma.ndim != 2 or not bool(((sigma > 0) & sigma.isfinite()).all()):
            raise ValueError(f"sigma must be positive and finite, of shape (H, W), got {tuple(sigma.shape)}")
        if levels < 2:
            raise ValueError(f"levels must be at least 2, got {levels}")
        least, greatest = float(sigma.min()), float(sigma.max())
        nodes = torch.linspace(least, greatest, levels if greatest > least else 1, dtype=torch.float64)
        bank = [shapes.gaussian_kernel(s, truncate=4 * greatest / s) for s in nodes.tolist()]  # of one size
        weights = variance_weights(sigma, nodes)
        return cls(torch.stack(bank), weights, boundary, weighted=weighted, shape=shape, noise=noise)

    @property
    def _margins(self) -> list[tuple[int, int]]:
        return [(n - 1 - n // 2, n // 2) for n in self.kernels.shape[1:]]

    def _padded(self, x: Tensor) -> Tensor:
        for dim, (before, after) in zip((-2, -1), self._margins, strict=True):
            x = pad(x, dim, before, after, self.boundary)
        return x

    def _folded(self, y: Tensor) -> Tensor:
        for dim, (before, after) in zip((-2, -1), self._margins, strict=True):
            y = fold(y, dim, before, after, self.boundary)
        return y

    def _term_weights(self, weights: Tensor) -> Tensor:
        """The weights where they are applied: on the measurement, or on the padded image."""
        return weights if self.weighted == "output" else self._padded(weights)

    def _apply_operator(self, x: Tensor) -> Tensor:
        return by_parts(self._blur, x)

    def _adjoint(self, y: Tensor) -> Tensor:
        return by_parts(self._blur_adjoint, y)

    def _blur(self, x: Tensor) -> Tensor:
        padded, y = self._padded(x), torch.zeros_like(x)
        weights = self._term_weights(self.weights.to(x.dtype))
        for kernel, weight, (rows, columns) in zip(self.kernels.to(x.dtype), weights, self._terms, strict=True):
            source, target = (..., rows.source, columns.source), (..., rows.target, columns.target)
            grid = (rows.length, columns.length)
            part = padded[source] if self.weighted == "output" else weight[source] * padded[source]
            part = convolve(part, torch.fft.rfft2(kernel, s=grid), grid)[..., rows.taken, columns.taken]
            y[target] += weight[target] * part if self.weighted == "output" else part
        return y

    def _blur_adjoint(self, y: Tensor) -> Tensor:
        total = self._padded(torch.zeros_like(y))
        weights = self._term_weights(self.weights.to(y.dtype))
        for kernel, weight, (rows, columns) in zip(self.kernels.to(y.dtype), weights, self._terms, strict=True):
            source, target = (..., rows.source, columns.source), (..., rows.target, columns.target)
            grid = (rows.length, columns.length)
            part = weight[target] * y[target] if self.weighted == "output" else y[target]
            part = torch.nn.functional.pad(part, (columns.start, 0, rows.start, 0))
            part = convolve(part, torch.fft.rfft2(kernel, s=grid).conj(), grid)
            part = part[..., : rows.source.stop - rows.source.start, : columns.source.stop - columns.source.start]
            total[source] += part if self.weighted == "output" else weight[source] * part
        return self._folded(total)

    def check_input(self, x: Tensor) -> None:
        super().check_input(x)
        self._check_size(tuple(x.shape[1:]), "x")

    def check_output(self, y: Tensor) -> None:
        super().check_output(y)
        self._check_size(tuple(y.shape[1:]), "y")

    def _check_size(self, shape: Shape, name: str) -> None:
        if shape[1:] != self.weights.shape[1:]:
            raise ValueError(f"{self!r}: {name} must be an image of the size of the weights, got {tuple(shape)}")

    def extra_repr(self) -> str:
        own = f"kernels={tuple(self.kernels.shape)}, weights={tuple(self.weights.shape)}, boundary={self.boundary!r}"
        return ", ".join(filter(None, [f"{own}, weighted={self.weighted!r}", super().extra_repr()]))


def _check(kernels: Tensor, weights: Tensor, boundary: str, weighted: str) -> None:
    if boundary not in BOUNDARIES:
        raise ValueError(f"boundary must be one of {', '.join(BOUNDARIES)}, got {boundary!r}")
    if weighted not in WEIGHTED:
        raise ValueError(f"weighted must be one of {', '.join(WEIGHTED)}, got {weighted!r}")
    if kernels.ndim != 3 or not kernels.is_floating_point():
        raise ValueError(f"kernels must be real, of shape (K, h, w), got {tuple(kernels.shape)} of {kernels.dtype}")
    if weights.ndim != 3 or not weights.is_floating_point() or len(weights) != len(kernels):
        raise ValueError(
            f"weights must be real, of shape ({len(kernels)}, H, W), one a kernel, "
            f"got {tuple(weights.shape)} of {weights.dtype}"
        )


def _span(support: Tensor, n: int, reach: int, weighted: str) -> _Span:
    """The span of a term with weights where ``support`` says, on an axis of ``n`` pixels with ``reach`` taps."""
    where = support.nonzero().flatten().tolist() or [0]
    first, stop = where[0], where[-1] + 1
    if weighted == "output":
        source, target = slice(first, stop + reach - 1), slice(first, stop)
    else:
        source, target = slice(first, stop), slice(max(0, first - reach + 1), min(n, stop))
    start = target.start + reach - 1 - source.start
    width = source.stop - source.start
    length = max(width + reach - 1 - start, start + target.stop - target.start, width)
    return _Span(source, target, start, fast_length(length))


def bilinear_weights(grid: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """Weights (g f, H, W), float64, that interpolate ``grid`` (g, f) points from corner to corner of ``size`` (H, W)."""
    if min(*grid, *size) < 1:
        raise ValueError(f"grid and size must be positive, got {grid} and {size}")
    rows, columns = (_hats(g, n) for g, n in zip(grid, size, strict=True))
    return torch.einsum("gh,fw->gfhw", rows, columns).flatten(0, 1)


def _hats(points: int, n: int) -> Tensor:
    at = torch.linspace(0, points - 1, n, dtype=torch.float64)
    return (1 - (at - torch.arange(points)[:, None]).abs()).clamp(min=0)


def variance_weights(sigma: Tensor, nodes: Tensor) -> Tensor:
    """Weights (K, H, W), float64: the shares of the Gaussians ``nodes`` (K,), rising, whose mixture has variance sigma^2."""
    if len(nodes) == 1:
        return torch.ones(1, *sigma.shape, dtype=torch.float64)
    variance, levels = sigma.double() ** 2, nodes.double() ** 2
    above = torch.searchsorted(levels, variance).clamp(1, len(levels) - 1)
    low, high = levels[above - 1], levels[above]
    share = ((variance - low) / (high - low)).clamp(0, 1)
    weights = torch.zeros(len(nodes), *sigma.shape, dtype=torch.float64)
    weights.scatter_(0, above[None] - 1, (1 - share)[None])
    return weights.scatter_(0, above[None], share[None])
