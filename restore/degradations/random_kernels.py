"""Random blur kernels of Real-ESRGAN: ranges to draw from, and the draw."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from restore.degradations.draws import check_probabilities, check_range, choose, happens, uniform
from restore.degradations.kernels import bivariate_kernel, delta_kernel, lowpass_kernel, padded_kernel, plateau_kernel

__all__ = ["FAMILIES", "KernelRanges", "SincRanges"]

FAMILIES = (
    "isotropic",
    "anisotropic",
    "generalised isotropic",
    "generalised anisotropic",
    "plateau isotropic",
    "plateau anisotropic",
)
"""The families of Gaussian kernels, in the order of ``KernelRanges.families``."""

WIDE = 13  # from this size on a low-pass may cut off more


@dataclass(frozen=True, kw_only=True)
class KernelRanges:
    """What the kernels of one blur are drawn from.

    Attributes
    ----------
    sizes: least and greatest side in pixels, odd; every odd number between is as likely.
    padded: side of the zero-padded kernels, odd.
    lowpass: probability of a circular low-pass, cut off at U[pi/3, pi], from 13 pixels on at U[pi/5, pi].
    families: probabilities of ``FAMILIES``; they need not sum to one.
    sigma: standard deviations in pixels, drawn for x and y apart in the anisotropic families.
    rotation: angles in radians of the anisotropic families.
    beta: exponents of the generalised Gaussian; with probability 1/2 from [low, 1], else from [1, high].
    beta_plateau: the same of the plateau.
    """

    sizes: tuple[int, int] = (3, 19)
    padded: int = 21
    lowpass: float = 0.1
    families: tuple[float, float, float, float, float, float] = (0.45, 0.25, 0.12, 0.03, 0.12, 0.03)
    sigma: tuple[float, float] = (0.2, 3.0)
    rotation: tuple[float, float] = (-math.pi, math.pi)
    beta: tuple[float, float] = (0.5, 4.0)
    beta_plateau: tuple[float, float] = (1.0, 2.0)

    def __post_init__(self) -> None:
        _check_sizes(self.sizes, self.padded)
        check_probabilities("lowpass", self.lowpass)
        if len(self.families) != len(FAMILIES) or min(self.families) < 0 or sum(self.families) <= 0:
            raise ValueError(f"families must be {len(FAMILIES)} weights, not negative and not all zero, got {self.families}")
        check_range("sigma", self.sigma, 1e-6, math.inf)
        check_range("rotation", self.rotation, -math.inf, math.inf)
        for name, beta in (("beta", self.beta), ("beta_plateau", self.beta_plateau)):
            check_range(name, beta, 1e-6, math.inf)

    def draw(self, generator: torch.Generator) -> Tensor:
        """One kernel (padded, padded), float64."""
        size = _odd(generator, self.sizes)
        if happens(generator, self.lowpass):
            least = math.pi / 3 if size < WIDE else math.pi / 5
            return padded_kernel(lowpass_kernel(size, uniform(generator, least, math.pi)), self.padded)
        family = choose(generator, self.families)
        sigma_x = uniform(generator, *self.sigma)
        sigma, rotation = (sigma_x, sigma_x), 0.0
        if family % 2:
            sigma, rotation = (sigma_x, uniform(generator, *self.sigma)), uniform(generator, *self.rotation)
        if family < 2:
            kernel = bivariate_kernel(size, sigma, rotation=rotation)
        elif family < 4:
            kernel = bivariate_kernel(size, sigma, rotation=rotation, beta=_exponent(generator, self.beta))
        else:
            kernel = plateau_kernel(size, sigma, rotation=rotation, beta=_exponent(generator, self.beta_plateau))
        return padded_kernel(kernel, self.padded)

    def draw_batch(self, batch: int, generator: torch.Generator) -> Tensor:
        """Kernels (batch, padded, padded), float32, one an image."""
        return torch.stack([self.draw(generator) for _ in range(batch)]).float()


@dataclass(frozen=True, kw_only=True)
class SincRanges:
    """The last low-pass of the pipeline, which rings as sharpening and resampling do.

    Attributes
    ----------
    probability: of a low-pass, cut off at U[pi/3, pi]; else the kernel changes nothing.
    sizes, padded: as of ``KernelRanges``.
    """

    probability: float = 0.8
    sizes: tuple[int, int] = (3, 13)
    padded: int = 15

    def __post_init__(self) -> None:
        _check_sizes(self.sizes, self.padded)
        check_probabilities("probability", self.probability)

    def draw(self, generator: torch.Generator) -> Tensor:
        """One kernel (padded, padded), float64."""
        if not happens(generator, self.probability):
            return delta_kernel(self.padded)
        size = _odd(generator, self.sizes)
        return padded_kernel(lowpass_kernel(size, uniform(generator, math.pi / 3, math.pi)), self.padded)

    def draw_batch(self, batch: int, generator: torch.Generator) -> Tensor:
        """Kernels (batch, padded, padded), float32, one an image."""
        return torch.stack([self.draw(generator) for _ in range(batch)]).float()


def _odd(generator: torch.Generator, sizes: tuple[int, int]) -> int:
    low, high = sizes
    return low + 2 * choose(generator, [1.0] * ((high - low) // 2 + 1))


def _exponent(generator: torch.Generator, beta: tuple[float, float]) -> float:
    low, high = beta
    return uniform(generator, low, 1) if happens(generator, 0.5) else uniform(generator, 1, high)


def _check_sizes(sizes: tuple[int, int], padded: int) -> None:
    if len(sizes) != 2 or not all(n % 2 for n in (*sizes, padded)) or not 1 <= sizes[0] <= sizes[1] <= padded:
        raise ValueError(f"sizes must be odd (low, high) with 1 <= low <= high <= padded, odd, got {sizes} and padded={padded}")
