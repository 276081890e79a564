"""Nonlinear measurements of images in [0, 1]: overexposure, coarse grey levels, phase retrieval.

Rounding has no slope. Where a measurement rounds, its derivative here is that of the same measurement without rounding
(straight through), so that a sampler's data term is not dead.
"""

from __future__ import annotations

import math
from typing import Protocol, Self

import torch
from torch import Tensor

from inverse.operators.base import Operator, Shape
from inverse.operators.noise import Noise
from inverse.operators.precision import full_precision

__all__ = ["Overexpose", "PhaseRetrieval", "PhaseSolver", "Quantize", "straight_through"]


class Overexpose(Operator):
    """``y = clip(gain (x - 1/2) + 1/2, 0, 1)``: contrast beyond the range of the film; high dynamic range restores it.

    With the gain 2 it is the ``clip(2 x, -1, 1)`` of RED-Diff and DAPS, whose images are in [-1, 1].
    """

    def __init__(self, gain: float = 2.0, *, shape: Shape | None = None, noise: Noise | None = None) -> None:
        super().__init__(shape, noise)
        if not 0 < gain < math.inf:
            raise ValueError(f"gain must be positive and finite, got {gain}")
        self.gain = gain

    def _apply_operator(self, x: Tensor) -> Tensor:
        return (self.gain * (x - 0.5) + 0.5).clamp(0, 1)

    def pinv(self, y: Tensor) -> Tensor:
        """The image if nothing had been clipped."""
        return (y - 0.5) / self.gain + 0.5

    def project(self, x: Tensor, y: Tensor) -> Tensor:
        """The image nearest to ``x`` that is measured as ``y`` without noise: known where it was not clipped."""
        known = self.pinv(y)
        return torch.where(y >= 1, x.maximum(known), torch.where(y <= 0, x.minimum(known), known))

    def extra_repr(self) -> str:
        return f"gain={self.gain}"


class Quantize(Operator):
    """``2^bits`` grey levels: ``y = floor((2^bits - 1) x + 1/2) / (2^bits - 1)``; the derivative is one."""

    def __init__(self, bits: int, *, shape: Shape | None = None, noise: Noise | None = None) -> None:
        super().__init__(shape, noise)
        if not isinstance(bits, int) or not 1 <= bits <= 16:
            raise ValueError(f"bits must be a whole number in 1..16, got {bits!r}")
        self.bits = bits

    def _apply_operator(self, x: Tensor) -> Tensor:
        steps = 2**self.bits - 1
        return straight_through(x, torch.floor(steps * x + 0.5) / steps)

    def pinv(self, y: Tensor) -> Tensor:
        """The measurement itself."""
        return y

    def project(self, x: Tensor, y: Tensor) -> Tensor:
        """The image nearest to ``x`` within half a grey level of ``y``."""
        half = (0.5 - 1e-5) / (2**self.bits - 1)  # exactly half would round up to the next
        return x.maximum(y - half).minimum(y + half)

    def extra_repr(self) -> str:
        return f"bits={self.bits}"


class PhaseSolver(Protocol):
    """A method that finds an image from the magnitude of its Fourier transform."""

    def solve(self, A: PhaseRetrieval, y: Tensor) -> Tensor:
        """An image (B, C, H, W) whose measurement by ``A`` is near ``y``."""


class PhaseRetrieval(Operator):
    """``y = |F x|``: the magnitude of the centred, orthonormal Fourier transform of the image within a border of zeros.

    x (B, C, H, W), y (B, C, H + 2 padding, W + 2 padding). As in DAPS (Zhang et al. 2024) x is in [0, 1].

    Parameters
    ----------
    padding: pixels of border on each side, a number or (rows, columns).
    solver: finds the start that ``pinv`` offers, as :class:`~inverse.phase.HybridInputOutput`.
    """

    rank = 3

    def __init__(
        self,
        padding: int | tuple[int, int],
        *,
        solver: PhaseSolver | None = None,
        shape: Shape | None = None,
        noise: Noise | None = None,
    ) -> None:
        super().__init__(shape, noise)
        rows, columns = padding if isinstance(padding, tuple) else (padding, padding)
        if not all(isinstance(n, int) and n >= 0 for n in (rows, columns)):
            raise ValueError(f"padding must be a whole number or two (rows, columns), not negative, got {padding!r}")
        self.padding, self.solver = (rows, columns), solver

    @classmethod
    def oversampled(
        cls, shape: Shape, factor: float = 1.5, *, solver: PhaseSolver | None = None, noise: Noise | None = None
    ) -> Self:
        """Images of ``shape`` (C, H, W) in a frame ``factor`` times as high and wide, to the nearest pixel a side.

        The default, a border of 2/8 of the side on each side, is that of DPS (Chung et al. 2023); with 2, the measurement
        tells the whole autocorrelation of the image.
        """
        if not 1 <= factor < math.inf:
            raise ValueError(f"factor must be at least 1 and finite, got {factor}")
        rows, columns = (math.floor((factor - 1) / 2 * n + 0.5) for n in shape[-2:])
        return cls((rows, columns), solver=solver, shape=shape, noise=noise)

    def padded(self, x: Tensor) -> Tensor:
        """``x`` within its border of zeros."""
        rows, columns = self.padding
        return torch.nn.functional.pad(x, (columns, columns, rows, rows))

    def cropped(self, x: Tensor) -> Tensor:
        """``x`` without its border."""
        rows, columns = (slice(p, n - p) for p, n in zip(self.padding, x.shape[-2:], strict=True))
        return x[..., rows, columns]

    def _apply_operator(self, x: Tensor) -> Tensor:
        return torch.fft.fftshift(torch.fft.fft2(self.padded(x), norm="ortho"), dim=(-2, -1)).abs()

    def output_shape(self, shape: Shape) -> Shape:
        rows, columns = self.padding
        return (*shape[:-2], shape[-2] + 2 * rows, shape[-1] + 2 * columns)

    @full_precision
    def pinv(self, y: Tensor) -> Tensor:
        """What the solver finds; without one, the magnitude of the inverse transform as if all phases were zero.

        A start, not an inverse.
        """
        if self.solver is not None:
            return self.solver.solve(self, y)
        image = torch.fft.ifft2(torch.fft.ifftshift(y, dim=(-2, -1)), norm="ortho")
        return self.cropped(torch.fft.fftshift(image, dim=(-2, -1)).abs())

    def extra_repr(self) -> str:
        return f"padding={self.padding}" + ("" if self.solver is None else f", solver={self.solver!r}")


def straight_through(x: Tensor, value: Tensor) -> Tensor:
    """``value``, with the derivative of ``x``."""
    return value.detach() + (x - x.detach())
