"""Noise models that ride along with an operator; images and measurements in units of [0, 1]."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Gaussian", "Mixed", "Noise", "Noiseless", "Poisson"]


class Noise:
    """How a clean measurement becomes a noisy one, and how unsure that leaves us of it."""

    def sample(self, clean: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """A noisy measurement of the shape of ``clean``; drawn on the CPU, so that a seed means the same everywhere."""
        raise NotImplementedError(f"{type(self).__name__} must define sample")

    def std(self, y: Tensor) -> Tensor:
        """Standard deviation of the noise in the measurement ``y``, estimated from it where it depends on the signal."""
        raise NotImplementedError(f"{type(self).__name__} must define std")

    def __add__(self, other: Noise) -> Mixed:
        return Mixed((self, other))


@dataclass(frozen=True)
class Noiseless(Noise):
    """The measurement is exact."""

    def sample(self, clean: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return clean

    def std(self, y: Tensor) -> Tensor:
        return torch.zeros((), dtype=y.real.dtype, device=y.device)


@dataclass(frozen=True)
class Gaussian(Noise):
    """``y = A(x) + sigma z`` with z standard normal; for complex data, real and imaginary part each carry ``sigma``."""

    sigma: float

    def __post_init__(self) -> None:
        if not 0 <= self.sigma < float("inf"):
            raise ValueError(f"sigma must be finite and not negative, got {self.sigma}")

    def sample(self, clean: Tensor, generator: torch.Generator | None = None) -> Tensor:
        scale = self.sigma * (2**0.5 if clean.is_complex() else 1.0)
        return clean + scale * torch.randn(clean.shape, dtype=clean.dtype, generator=generator).to(clean.device)

    def std(self, y: Tensor) -> Tensor:
        return torch.full((), self.sigma, dtype=y.real.dtype, device=y.device)


@dataclass(frozen=True)
class Poisson(Noise):
    """Photon counts: ``y = Poisson(peak clip(A(x), 0)) / peak``, where white (1.0) collects ``peak`` photons."""

    peak: float

    def __post_init__(self) -> None:
        if not 0 < self.peak < float("inf"):
            raise ValueError(f"peak must be positive and finite, got {self.peak}")

    def photons(self, clean: Tensor) -> Tensor:
        """The mean count at every pixel."""
        return self.peak * clean.clamp(min=0)

    def sample(self, clean: Tensor, generator: torch.Generator | None = None) -> Tensor:
        counts = torch.poisson(self.photons(clean).cpu(), generator=generator)
        return counts.to(clean.device) / self.peak

    def std(self, y: Tensor) -> Tensor:
        # one photon at least: an empty pixel is not an exact one
        return torch.sqrt((y * self.peak).clamp(min=1)) / self.peak


@dataclass(frozen=True)
class Mixed(Noise):
    """Independent noises together: ``y = A(x) + sum_k n_k``, each ``n_k`` drawn for the clean signal.

    ``Poisson(1000) + Gaussian(0.01)`` is a camera, photons and read-out. The parts are drawn in their order from one
    generator; the variances add up.
    """

    parts: tuple[Noise, ...]

    def __post_init__(self) -> None:
        wrong = [part for part in self.parts if not isinstance(part, Noise)]
        if wrong or not self.parts:
            raise TypeError(f"parts must be noises, at least one, got {wrong[0] if wrong else self.parts!r}")
        flat = [inner for part in self.parts for inner in (part.parts if isinstance(part, Mixed) else (part,))]
        object.__setattr__(self, "parts", tuple(flat))

    def sample(self, clean: Tensor, generator: torch.Generator | None = None) -> Tensor:
        first, *others = self.parts
        y = first.sample(clean, generator)
        for part in others:
            y = y + (part.sample(clean, generator) - clean)
        return y

    def std(self, y: Tensor) -> Tensor:
        variance = torch.zeros((), dtype=y.real.dtype, device=y.device)
        for part in self.parts:
            variance = variance + part.std(y).square()
        return variance.sqrt()
