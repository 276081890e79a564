"""Blur: every point of the image becomes a copy of the kernel.

Computed by Fourier transform of the padded image, or, for a circular blur, of the image itself, which diagonalises it.
A kernel of rank one (a Gaussian, a box) is a filter down the rows and one along the columns, and has their SVD.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from inverse.operators import kernels
from inverse.operators.base import SVD, LinearOperator, Shape
from inverse.operators.boundary import VALID, check_boundary, fold, pad
from inverse.operators.convolution import by_parts, convolve, fast_length, hartley
from inverse.operators.filters import Filter
from inverse.operators.noise import Noise
from inverse.operators.separable import filter_svd

__all__ = ["Blur"]


@dataclass(frozen=True)
class _Layout:
    """Where the kernel is not zero, how far it reaches, (before, after) on each axis, and its two filters at rank one."""

    rows: slice
    columns: slice
    margins: tuple[tuple[int, int], tuple[int, int]]
    filters: tuple[Filter, Filter] | None

    @property
    def size(self) -> tuple[int, int]:
        return self.rows.stop - self.rows.start, self.columns.stop - self.columns.start


class Blur(LinearOperator):
    r"""``y_i = sum_j k_j x_{i - j}`` on every channel; x and y (B, C, H, W) of any size.

    Parameters
    ----------
    kernel: k, (h, w), real, of any size, larger than the image too: what a bright point becomes. Its origin is the pixel
        (h // 2, w // 2), the middle for odd sizes.
    boundary: what the image is beyond its edge, one of ``boundary.BOUNDARIES``; or ``"valid"``: nothing is known there,
        y is smaller by the reach of the kernel and holds the pixels that the edge does not touch. To deblur a photo of
        unknown surroundings, as Almeida & Figueiredo 2013; ``A.input_shape(y.shape[1:])`` is the shape of the larger image.
    """

    rank = 3
    kernel: Tensor

    def __init__(
        self, kernel: Tensor, boundary: str = "reflect", *, shape: Shape | None = None, noise: Noise | None = None
    ) -> None:
        super().__init__(shape, noise)
        check_boundary(boundary)
        if kernel.ndim != 2 or kernel.is_complex():
            raise ValueError(f"kernel must be real, of shape (h, w), got {tuple(kernel.shape)} of {kernel.dtype}")
        if not bool(kernel.isfinite().all()) or not bool(kernel.any()):
            raise ValueError("kernel must be finite and not all zero")
        self.boundary = boundary
        self.register_buffer("kernel", kernel.to(torch.get_default_dtype()))
        self._refresh()
        if self.domain is not None:
            self.output_shape(self.domain)

    def _refresh(self) -> None:
        self._layout = _layout(self.kernel, self.boundary)
        self._transfers: dict[tuple[Any, ...], Tensor] = {}

    def _kept(self, key: tuple[Any, ...], make: Callable[[], Tensor]) -> Tensor:
        """The kernel's transform for images like the last ones, computed once."""
        version = 0 if self.kernel.is_inference() else self.kernel._version
        key = (*key, self.kernel.dtype, version)
        if key not in self._transfers:
            with torch.inference_mode(False):  # what was made inside would be of no use outside
                self._transfers = {key: make()}
        return self._transfers[key]

    def _transfer(self, like: Tensor) -> Tensor:
        """``rfft2`` of the circular blur of a point, for images of the size, dtype and device of ``like``."""
        key = (*like.shape[-2:], like.dtype, like.device)
        return self._kept(key, lambda: torch.fft.rfft2(self._point(like)))

    @classmethod
    def gaussian(
        cls, sigma: float, boundary: str = "reflect", *, shape: Shape | None = None, noise: Noise | None = None
    ) -> Self:
        """A Gaussian of ``sigma`` pixels, cut off at four sigma."""
        return cls(kernels.gaussian_kernel(sigma), boundary, shape=shape, noise=noise)

    @classmethod
    def line(
        cls,
        length: float,
        angle: float = 0.0,
        *,
        boundary: str = "reflect",
        shape: Shape | None = None,
        noise: Noise | None = None,
    ) -> Self:
        """A straight motion over ``length`` pixels at ``angle`` degrees."""
        return cls(kernels.line_kernel(length, angle), boundary, shape=shape, noise=noise)

    @classmethod
    def motion(
        cls,
        size: int = 61,
        intensity: float = 0.5,
        *,
        seed: int = 0,
        boundary: str = "reflect",
        shape: Shape | None = None,
        noise: Noise | None = None,
    ) -> Self:
        """A shaking hand: a random smooth path within ``size`` pixels, from a line (``intensity`` 0) to a scribble (1)."""
        return cls(kernels.motion_kernel(size, intensity, seed=seed), boundary, shape=shape, noise=noise)

    def _apply_operator(self, x: Tensor) -> Tensor:
        return by_parts(self._blur, x)

    def _adjoint(self, y: Tensor) -> Tensor:
        return by_parts(self._blur_adjoint, y)

    def _blur(self, x: Tensor) -> Tensor:
        if self.boundary == "circular":
            return convolve(x, self._transfer(x))
        for dim, (before, after) in zip((-2, -1), self._layout.margins, strict=True):
            x = pad(x, dim, before, after, self.boundary)
        kernel, grid = self._spectrum(x)
        h, w = self._layout.size
        return convolve(x, kernel, grid)[..., h - 1 : x.shape[-2], w - 1 : x.shape[-1]]

    def _blur_adjoint(self, y: Tensor) -> Tensor:
        if self.boundary == "circular":
            return convolve(y, self._transfer(y).conj())
        h, w = self._layout.size
        y = torch.nn.functional.pad(y, (w - 1, 0, h - 1, 0))
        kernel, grid = self._spectrum(y)
        x = convolve(y, kernel.conj(), grid)[..., : y.shape[-2], : y.shape[-1]]
        for dim, (before, after) in zip((-2, -1), self._layout.margins, strict=True):
            x = fold(x, dim, before, after, self.boundary)
        return x

    def _spectrum(self, padded: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """The kernel's transform on a grid that holds the ``padded`` image, and the grid."""
        grid = (fast_length(padded.shape[-2]), fast_length(padded.shape[-1]))
        key = (*grid, padded.dtype, padded.device)
        return self._kept(key, lambda: torch.fft.rfft2(self._taps(padded), s=grid)), grid

    def _pinv(self, y: Tensor, tolerance: float, iterations: int) -> Tensor:
        if self.boundary != "circular":
            return super()._pinv(y, tolerance, iterations)
        return by_parts(lambda part: self._wiener(part, None, tolerance), y)

    def _prox(self, x: Tensor, y: Tensor, rho: Tensor, tolerance: float, iterations: int) -> Tensor:
        if self.boundary != "circular":
            return super()._prox(x, y, rho, tolerance, iterations)
        if x.is_complex() or y.is_complex():
            return x + by_parts(lambda part: self._wiener(part, rho, tolerance), y - self._apply_operator(x))
        k = self._transfer(x)
        R = torch.fft.rfft2(y) - k * torch.fft.rfft2(x)
        power = k.real.square() + k.imag.square()
        return x + torch.fft.irfft2(R * (k.conj() / (power + rho)), s=x.shape[-2:])

    def _wiener(self, r: Tensor, rho: Tensor | None, tolerance: float) -> Tensor:
        """``(A^H A + rho)^-1 A^H r`` for a circular blur; ``A^+ r`` without rho, frequencies below ``tolerance`` left out."""
        k = self._transfer(r)
        power = k.real.square() + k.imag.square()
        if rho is not None:
            return convolve(r, k.conj() / (power + rho))
        kept = power > tolerance**2 * power.max()
        return convolve(r, torch.where(kept, k.conj() / torch.where(kept, power, 1), 0))

    def _taps(self, like: Tensor) -> Tensor:
        """The kernel without its margin of zeros; at rank one the product of its filters, so that the SVD is exact."""
        if self._layout.filters is None:
            return self.kernel[self._layout.rows, self._layout.columns].to(like.dtype)
        rows, columns = (torch.tensor(f.taps[::-1], dtype=like.dtype, device=like.device) for f in self._layout.filters)
        return torch.outer(rows, columns)

    def _point(self, like: Tensor) -> Tensor:
        """What the circular blur makes of a point at pixel (0, 0) of an image of the size and dtype of ``like``."""
        H, W = like.shape[-2:]
        taps = self._taps(like)
        row, column = (
            torch.arange(n, device=like.device) - after for n, (_, after) in zip(taps.shape, self._layout.margins, strict=True)
        )
        wrapped = taps.new_zeros(H, taps.shape[1]).index_add(0, row % H, taps)
        return wrapped.new_zeros(H, W).index_add(1, column % W, wrapped)

    def output_shape(self, shape: Shape) -> Shape:
        if self.boundary != VALID:
            return shape
        h, w = self._layout.size
        C, H, W = shape
        if h > H or w > W:
            raise ValueError(f"{self!r} takes images of at least {h} x {w} pixels, got {H} x {W}; pad them")
        return (C, H - h + 1, W - w + 1)

    def input_shape(self, shape: Shape) -> Shape:
        if self.boundary != VALID:
            return shape
        h, w = self._layout.size
        return (shape[0], shape[1] + h - 1, shape[2] + w - 1)

    def check_input(self, x: Tensor) -> None:
        super().check_input(x)
        self.output_shape(tuple(x.shape[1:]))

    def svd(self, shape: Shape | None = None) -> SVD | None:
        """In closed form for a circular blur, and for a kernel of rank one on images of at most 2048 pixels a side."""
        shape = self.known_shape(shape, "svd")
        if self.boundary == "circular":
            return self._circular_svd(shape)
        return None if self._layout.filters is None else filter_svd(self._layout.filters, shape)

    def _circular_svd(self, shape: Shape) -> SVD:
        """``V`` is the Hartley transform, real and its own inverse; ``U`` is V with each frequency shifted in phase."""
        C, H, W = shape
        point = self._point(torch.empty(H, W, dtype=torch.float64, device=self.kernel.device))
        s = torch.fft.fft2(point).abs()
        transfer = torch.fft.rfft2(point)
        seen = transfer.abs() > 1e-12 * s.max()
        phase = torch.where(seen, transfer / transfer.abs().clamp(min=1e-300), 1)

        def shifted(x: Tensor, phase: Tensor) -> Tensor:
            return by_parts(lambda part: convolve(part, phase.to(part.dtype.to_complex())), x)

        def image(c: Tensor) -> Tensor:
            return by_parts(hartley, c.view(-1, C, H, W))

        def coefficients(x: Tensor) -> Tensor:
            return by_parts(hartley, x).flatten(1)

        return SVD(
            s.repeat(C, 1, 1).flatten(),
            lambda c: shifted(image(c), phase),
            lambda y: coefficients(shifted(y, phase.conj())),
            image,
            coefficients,
        )

    def extra_repr(self) -> str:
        return ", ".join(filter(None, [f"kernel={tuple(self.kernel.shape)}, boundary={self.boundary!r}", super().extra_repr()]))


def _layout(kernel: Tensor, boundary: str) -> _Layout:
    kernel = kernel.detach().cpu()
    spans, margins = [], []
    for n, used in zip(kernel.shape, (kernel.any(1), kernel.any(0)), strict=True):
        index = torch.cat([used.nonzero().flatten(), torch.tensor([n // 2])])  # the origin stays inside
        first, last = int(index.min()), int(index.max())
        spans.append(slice(first, last + 1))
        margins.append((last - n // 2, n // 2 - first))
    rows, columns = spans
    U, s, Vh = torch.linalg.svd(kernel[rows, columns].double())
    filters = None
    if s[1:].sum() <= 10 * torch.finfo(kernel.dtype).eps * s[0]:
        taps = (U[:, 0] * s[0].sqrt(), Vh[0] * s[0].sqrt())
        vertical, horizontal = (
            Filter(tuple(t.flip(0).tolist()), before, boundary) for t, (before, _) in zip(taps, margins, strict=True)
        )
        filters = (vertical, horizontal)
    return _Layout(rows, columns, (margins[0], margins[1]), filters)
