"""Compressed sensing: an image sparse in wavelets."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from inverse.operators.base import LinearOperator
from medical.classical.course import Course, Progress
from medical.classical.data_term import DataTerm, data_term
from medical.classical.fista import fista
from medical.classical.inputs import Inputs, check_positive, check_weight
from medical.classical.result import Classical
from medical.classical.spectral_norm import spectral_norm
from medical.classical.wavelets import Wavelet
from medical.classical.weights import as_setting, default_weight

__all__ = ["L1Wavelet"]

STRENGTH = 0.5  # times the noise in the gradient
SHARE = 1e-3  # of the largest value of A^H y, for measurements without noise


@dataclass(frozen=True, kw_only=True)
class L1Wavelet:
    """``argmin_x |A x - y|^2 / 2 + weight |W x|_1``, the approximation free, by FISTA with adaptive restart; Lustig et al. 2007.

    Coefficients of complex images are shrunk in modulus. Sides that are no multiples of ``2^levels`` are made so by pixels
    that A does not see and the penalty fills in; the estimate is without them.

    Parameters
    ----------
    weight: None is 0.5 times the noise in ``A^H y``; ``1e-3 max |A^H y|`` where the operator has no noise.
    iterations: at most so many; tolerance: stops where an iteration changes the image relatively by less.
    wavelet: an orthogonal one, such as "haar", "db4" or "sym8"; levels: how often it splits.
    shifts: shrink in a wavelet basis moved by a random number of pixels at every iteration (cycle spinning, Coifman & Donoho
        1995; Figueiredo & Nowak 2003), which leaves no traces of the grid of wavelets; the objective is then not quite
        minimised, but its mean over the shifts is reduced. The same shifts every time.
    """

    weight: float | None = None
    iterations: int = 200
    tolerance: float = 1e-3
    wavelet: str = "db4"
    levels: int = 4
    shifts: bool = True

    def __post_init__(self) -> None:
        check_weight(self.weight)
        check_positive(iterations=self.iterations, tolerance=self.tolerance)
        Wavelet(self.wavelet, self.levels)

    @torch.no_grad()
    def reconstruct(
        self, A: LinearOperator, y: Tensor, *, start: Tensor | None = None, progress: Progress | None = None
    ) -> Classical:
        """Of ``y`` (B, ...), from the image ``start``."""
        inputs = Inputs.checked(A, y, start)
        W = Wavelet(self.wavelet, self.levels, dims=inputs.x.ndim - 2)
        course = Course(self, inputs, progress=progress)
        weight = self._weight(inputs)
        frame = _Frame(inputs.x, W)
        moves = _moves(W, self.iterations) if self.shifts else None

        def prox(x: Tensor, step: Tensor) -> Tensor:
            shift = (0,) * W.dims if moves is None else tuple(moves[course.done].tolist())
            axes = tuple(range(-W.dims, 0))
            c = W.forward(torch.roll(x, shift, axes))
            return torch.roll(W.inverse(_shrunk(c, W, step * weight)), tuple(-s for s in shift), axes)

        def penalty(x: Tensor) -> Tensor:
            return weight.flatten() * _details(W.forward(x), W)

        L = spectral_norm(A, inputs.x).square()
        x = fista(_Framed(data_term(inputs), frame), prox, penalty, frame.pad(inputs.x), L, course)
        return course.result(frame.crop(x), weight=as_setting(weight))

    def _weight(self, inputs: Inputs) -> Tensor:
        if self.weight is not None:
            return inputs.x.real.new_full((1,) * inputs.x.ndim, self.weight)
        return default_weight(inputs.A, inputs.y, inputs.b, strength=STRENGTH, share=SHARE)


def _shrunk(c: Tensor, W: Wavelet, threshold: Tensor) -> Tensor:
    """``c (1 - threshold / |c|)_+``, the approximation as it is."""
    free = (..., *W.approximation(c.shape))
    kept = c[free].clone()
    size = c.abs()
    c = c.mul_((size - threshold).clamp_(min=0).div_(size.clamp_(min=torch.finfo(size.dtype).tiny)))
    c[free] = kept
    return c


def _details(c: Tensor, W: Wavelet) -> Tensor:
    """The sum of the moduli of the details, (B,)."""
    size = c.abs()
    size[(..., *W.approximation(c.shape))] = 0
    return size.flatten(1).sum(1)


def _moves(W: Wavelet, iterations: int) -> Tensor:
    """The shifts of all iterations, (iterations, dims), within the period of the coarsest wavelets."""
    return torch.randint(2**W.levels, (iterations, W.dims), generator=torch.Generator().manual_seed(0))


class _Frame:
    """Images with and without the pixels behind the last ones that wavelets need."""

    def __init__(self, x: Tensor, W: Wavelet) -> None:
        sides = tuple(x.shape[-W.dims :])
        wanted = W.padded_shape(sides)
        self.inside = (..., *(slice(0, n) for n in sides))
        self.padding = [p for n, m in zip(reversed(sides), reversed(wanted), strict=True) for p in (0, m - n)]

    def pad(self, x: Tensor) -> Tensor:
        return torch.nn.functional.pad(x, self.padding) if any(self.padding) else x

    def crop(self, x: Tensor) -> Tensor:
        return x[self.inside]


class _Framed:
    """A data term on images with additional pixels, which it does not see."""

    def __init__(self, f: DataTerm, frame: _Frame) -> None:
        self.f, self.frame = f, frame

    def image(self, x: Tensor) -> Tensor:
        return self.f.image(self.frame.crop(x))

    def gradient(self, image: Tensor) -> Tensor:
        return self.frame.pad(self.f.gradient(image))

    def value(self, image: Tensor, x: Tensor) -> Tensor:
        return self.f.value(image, self.frame.crop(x))

    def curvature(self, image: Tensor, x: Tensor) -> Tensor:
        return self.f.curvature(image, self.frame.crop(x))

    def residual(self, image: Tensor) -> Tensor | None:
        return self.f.residual(image)
