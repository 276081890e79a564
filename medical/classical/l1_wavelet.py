"""Compressed sensing: an image sparse in wavelets."""

from __future__ import annotations

from dataclasses import dataclass
from types import EllipsisType

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
    """``argmin_x |A x - y|^2 / 2 + weight |W x|_1``, the approximation free, by FISTA with restart; Lustig et al. 2007.

    Coefficients of complex images are shrunk in modulus. Sides that are no multiples of ``2^levels`` are made so by pixels
    that A does not see and the penalty fills in; the estimate is without them.

    Parameters
    ----------
    weight: None is 0.5 times the noise in ``A^H y``; ``1e-3 max |A^H y|`` where the operator has no noise.
    iterations: at most so many; tolerance: stops where an iteration changes the image relatively by less.
    wavelet: an orthogonal one, such as "haar", "db4" or "sym8"; levels: how often it splits.
    shifts: in so many wavelet bases, W moved by random numbers of pixels (always the same), the coefficients are shrunk, and
        the images averaged (cycle spinning, Coifman & Donoho 1995), which leaves fewer traces of the wavelets' grid. The
        average is the proximal map of another convex function (Bauschke et al. 2008), so that FISTA converges as before, to
        nearly the least mean of the penalties (Yu 2013), which is the objective on record; 1 is the plain method.
    """

    weight: float | None = None
    iterations: int = 200
    tolerance: float = 5e-4
    wavelet: str = "db4"
    levels: int = 4
    shifts: int = 4

    def __post_init__(self) -> None:
        check_weight(self.weight)
        check_positive(iterations=self.iterations, tolerance=self.tolerance, shifts=self.shifts)
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
        moves = _moves(W, self.shifts)

        def prox(x: Tensor, step: Tensor) -> Tensor:
            shrunk = [_back(W.inverse(_shrunk(W.forward(_moved(x, by)), W, step * weight)), by) for by in moves]
            return torch.stack(shrunk).mean(0) if len(shrunk) > 1 else shrunk[0]

        def penalty(x: Tensor) -> Tensor:
            total = torch.stack([_details(W.forward(_moved(x, by)), W) for by in moves]).mean(0)
            return weight.flatten() * total

        L = spectral_norm(A, inputs.x).square()
        x = fista(_Framed(data_term(inputs), frame), prox, penalty, frame.pad(inputs.x), L, course)
        return course.result(frame.crop(x), weight=as_setting(weight))

    def _weight(self, inputs: Inputs) -> Tensor:
        if self.weight is not None:
            return inputs.x.real.new_full((1,) * inputs.x.ndim, self.weight)
        return default_weight(inputs.A, inputs.y, inputs.b, strength=STRENGTH, share=SHARE)


def _shrunk(c: Tensor, W: Wavelet, threshold: Tensor) -> Tensor:
    """``c (1 - threshold / |c|)_+``, the approximation as it is."""
    free = W.approximation(c.shape)
    kept = c[free].clone()
    size = c.abs()
    c = c.mul_((size - threshold).clamp_(min=0).div_(size.clamp_(min=torch.finfo(size.dtype).tiny)))
    c[free] = kept
    return c


def _details(c: Tensor, W: Wavelet) -> Tensor:
    """The sum of the moduli of the details, (B,)."""
    size = c.abs()
    size[W.approximation(c.shape)] = 0
    return size.flatten(1).sum(1)


def _moves(W: Wavelet, shifts: int) -> list[tuple[int, ...]]:
    """By how many pixels along every axis, the first by none, within the period of the coarsest wavelets."""
    drawn = torch.randint(2**W.levels, (shifts, W.dims), generator=torch.Generator().manual_seed(0))
    drawn[0] = 0
    return [tuple(by) for by in drawn.tolist()]


def _moved(x: Tensor, by: tuple[int, ...]) -> Tensor:
    return torch.roll(x, by, tuple(range(-len(by), 0))) if any(by) else x


def _back(x: Tensor, by: tuple[int, ...]) -> Tensor:
    return _moved(x, tuple(-n for n in by))


class _Frame:
    """Images with and without the pixels behind the last ones that wavelets need."""

    def __init__(self, x: Tensor, W: Wavelet) -> None:
        sides = tuple(x.shape[-W.dims :])
        wanted = W.padded_shape(sides)
        self.inside: tuple[EllipsisType | slice, ...] = (..., *(slice(0, n) for n in sides))
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
