"""X-rays through matter: attenuation and CT numbers, photon counts, and line integrals with their statistics."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from inverse.operators.base import LinearOperator, Operator, Shape
from inverse.operators.noise import Gaussian, Noise, Poisson

__all__ = [
    "WATER",
    "BeerLambert",
    "LineIntegrals",
    "LogPoisson",
    "Transmission",
    "Weighted",
    "attenuation",
    "hounsfield",
    "line_integrals",
    "log_weights",
]

WATER = 0.0193
"""Attenuation of water in 1/mm (0.193 1/cm) at 70 keV, about the mean energy of a 120 kV scan.

NISTIR 5632 (Hubbell and Seltzer), table 4, liquid water: 0.2059 cm^2/g at 60 keV and 0.1837 at 80 keV, in between
0.1937 on logarithmic axes, times 0.998 g/cm^3 at 20 degrees.
"""


def attenuation(ct_number: Tensor, water: float = WATER) -> Tensor:
    """``mu = mu_water (1 + HU / 1000)``, in the unit of ``water``, 1/mm by default; nothing is clipped."""
    return _known_water(water) * (1 + ct_number / 1000)


def hounsfield(mu: Tensor, water: float = WATER) -> Tensor:
    """``HU = 1000 (mu / mu_water - 1)``: water is 0, vacuum -1000; ``mu`` in the unit of ``water``, 1/mm by default."""
    return 1000 * (mu / _known_water(water) - 1)


def _known_water(water: float) -> float:
    if not 0 < water < math.inf:
        raise ValueError(f"water must be positive and finite, its attenuation per unit of length, got {water}")
    return water


class LineIntegrals(NamedTuple):
    """``values``: the projections p. ``clamped``: how many readings lay below the floor and were raised to it."""

    values: Tensor
    clamped: int


def line_integrals(counts: Tensor, flat: Tensor | float, dark: Tensor | float = 0.0, *, minimum: float = 1.0) -> LineIntegrals:
    """``p = -log((counts - dark) / (flat - dark))``, both differences at least ``minimum`` counts.

    ``flat`` is what the open beam gives and ``dark`` what no beam gives, means over their frames, in shapes that
    broadcast to ``counts``. Readings at or below ``dark`` have no logarithm: they are raised to ``minimum`` and counted.
    """
    if not 0 < minimum < math.inf:
        raise ValueError(f"minimum must be positive and finite, in counts, got {minimum}")
    signal = _real(counts) - dark
    open_beam = torch.as_tensor(_real(flat) - dark, dtype=signal.dtype, device=signal.device)
    low = (signal < minimum) | (open_beam < minimum)
    return LineIntegrals((open_beam.clamp(min=minimum) / signal.clamp(min=minimum)).log(), int(low.sum()))


def log_weights(counts: Tensor, dark: Tensor | float = 0.0, *, readout: float = 0.0) -> Tensor:
    """Inverse variance of the line integrals: ``N^2 / (counts + readout^2)`` with ``N = counts - dark``, 0 where N is.

    For photons alone it is N itself; the dark signal is taken to be Poisson's too. First order in 1 / N.
    """
    if not 0 <= readout < math.inf:
        raise ValueError(f"readout must be finite and not negative, in counts, got {readout}")
    counts = _real(counts)
    signal = (counts - dark).clamp(min=0)
    variance = counts.clamp(min=0) + readout**2
    return torch.where(signal > 0, signal.square() / variance.clamp(min=torch.finfo(signal.dtype).tiny), 0)


def _real(counts: Any) -> Any:
    """``counts`` in floating point: differences of a detector's unsigned numbers wrap around."""
    return counts.to(torch.get_default_dtype()) if isinstance(counts, Tensor) and not counts.is_floating_point() else counts


@dataclass(frozen=True, eq=False)
class Transmission:
    """Counts behind an object: ``Poisson(I0 exp(-p) + dark) + readout z``, z standard normal.

    Parameters
    ----------
    photons: I0, what the open beam adds to the dark signal; a number, or a flat field that broadcasts to p.
    dark: mean counts without a beam, likewise.
    readout: standard deviation of the electronic noise, in counts.
    """

    photons: float | Tensor
    dark: float | Tensor = 0.0
    readout: float = 0.0

    def __post_init__(self) -> None:
        photons, dark = torch.as_tensor(self.photons), torch.as_tensor(self.dark)
        if not bool((photons > 0).all() and photons.isfinite().all()):
            raise ValueError(f"photons must be positive and finite, got {float(photons.min())} to {float(photons.max())}")
        if not bool((dark >= 0).all() and dark.isfinite().all()):
            raise ValueError(f"dark must be finite and not negative, got {float(dark.min())} to {float(dark.max())}")
        if not 0 <= self.readout < math.inf:
            raise ValueError(f"readout must be finite and not negative, in counts, got {self.readout}")

    @property
    def noise(self) -> Noise:
        """Of the counts."""
        return Poisson(1.0) + Gaussian(self.readout) if self.readout else Poisson(1.0)

    def expected(self, p: Tensor) -> Tensor:
        """Mean counts behind the line integrals ``p``, by the law of Beer and Lambert: ``I0 exp(-p) + dark``."""
        return self.photons * torch.exp(-p) + self.dark

    def sample(self, p: Tensor, *, seed: int = 0) -> Tensor:
        """Counts with their noise, the same for the same seed; drawn on the CPU."""
        return self.noise.sample(self.expected(p), torch.Generator().manual_seed(seed))

    def line_integrals(self, counts: Tensor, *, minimum: float = 1.0) -> LineIntegrals:
        """``p`` back from ``counts``, as :func:`line_integrals` with this flat field and dark signal."""
        return line_integrals(counts, self.photons + self.dark, self.dark, minimum=minimum)

    def weights(self, counts: Tensor) -> Tensor:
        """Inverse variance of these line integrals, as :func:`log_weights`."""
        return log_weights(counts, self.dark, readout=self.readout)


@dataclass(frozen=True)
class LogPoisson(Noise):
    """Noise of line integrals: ``y = -log(max(N, 1) / I0) / mu`` with ``N = Poisson(I0 exp(-mu A(x))) + readout z``.

    Its standard deviation is about ``sqrt(N + readout^2) / (mu N)`` at ``N = I0 exp(-mu y)``.

    Parameters
    ----------
    photons: I0, photons of a ray that meets nothing.
    readout: standard deviation of the electronic noise, in counts.
    attenuation: mu, what a value of 1 in the image attenuates in a unit of length; 1 where images hold attenuation.
    """

    photons: float
    readout: float = 0.0
    attenuation: float = 1.0

    def __post_init__(self) -> None:
        for name, value, low in (("photons", self.photons, 1.0), ("attenuation", self.attenuation, 0.0)):
            if not low < value < math.inf:
                raise ValueError(f"{name} must be finite and larger than {low:g}, got {value}")
        if not 0 <= self.readout < math.inf:
            raise ValueError(f"readout must be finite and not negative, in counts, got {self.readout}")

    def sample(self, clean: Tensor, generator: torch.Generator | None = None) -> Tensor:
        counts = torch.poisson(self._counts(clean.double().cpu()), generator=generator)
        if self.readout:
            counts = counts + self.readout * torch.randn(counts.shape, dtype=counts.dtype, generator=generator)
        return (-(counts.clamp(min=1) / self.photons).log() / self.attenuation).to(clean)

    def std(self, y: Tensor) -> Tensor:
        counts = self._counts(y).clamp(min=1)  # one photon at least, as in sample
        return (counts + self.readout**2).sqrt() / (counts * self.attenuation)

    def _counts(self, p: Tensor) -> Tensor:
        return self.photons * torch.exp(-self.attenuation * p)


class BeerLambert(Operator):
    """``A(x) = I0 exp(-P x) + dark``: counts instead of line integrals, differentiable, not linear.

    Parameters
    ----------
    projector: P, whose line integrals are without unit: image in 1/mm, lengths in mm.
    beam: I0, dark and read-out noise, which becomes the noise of the operator.
    """

    photons: Tensor
    dark: Tensor

    def __init__(self, projector: LinearOperator, beam: Transmission) -> None:
        super().__init__(projector.domain, beam.noise)
        self.projector = projector
        self.register_buffer("photons", torch.as_tensor(beam.photons))
        self.register_buffer("dark", torch.as_tensor(beam.dark))

    def output_shape(self, shape: Shape) -> Shape:
        return self.projector.output_shape(shape)

    def _apply_operator(self, x: Tensor) -> Tensor:
        return self.photons.to(x) * torch.exp(-self.projector(x)) + self.dark.to(x)

    def pinv(self, y: Tensor) -> Tensor:
        """The projector's ``pinv`` of the line integrals."""
        return self.projector.pinv(line_integrals(y, (self.photons + self.dark).to(y), self.dark.to(y)).values)


class Weighted(LinearOperator):
    """``W^(1/2) A``, for weighted least squares: ``|A x - y|^2_W = |W^(1/2) A x - measurement(y)|^2``.

    With ``weights`` the inverse variance of y its noise is white, of standard deviation 1.

    Parameters
    ----------
    A: any linear operator.
    weights: not negative, in a shape that broadcasts to the measurements (B, ...) of A.
    """

    root: Tensor

    def __init__(self, A: LinearOperator, weights: Tensor) -> None:
        super().__init__(A.domain, Gaussian(1.0))
        if not bool((weights >= 0).all() and weights.isfinite().all()):
            raise ValueError(f"weights must be finite and not negative, got {float(weights.min())} to {float(weights.max())}")
        wanted = A.codomain
        pairs = zip(reversed(weights.shape), reversed(wanted or ()), strict=False)
        if wanted is not None and (weights.ndim > len(wanted) + 1 or any(w not in (1, n) for w, n in pairs)):
            raise ValueError(f"weights must broadcast to the measurements (B, {wanted}), got shape {tuple(weights.shape)}")
        self.A = A
        self.register_buffer("root", weights.sqrt())

    def measurement(self, y: Tensor) -> Tensor:
        """``W^(1/2) y``: the measurement that goes with this operator, of ``y`` that goes with A."""
        return self.root.to(y) * y

    def output_shape(self, shape: Shape) -> Shape:
        return self.A.output_shape(shape)

    def input_shape(self, shape: Shape) -> Shape:
        return self.A.input_shape(shape)

    def check_input(self, x: Tensor) -> None:
        """As A does."""
        self.A.check_input(x)

    def check_output(self, y: Tensor) -> None:
        """As A does."""
        self.A.check_output(y)

    def _apply_operator(self, x: Tensor) -> Tensor:
        return self.measurement(self.A._apply_operator(x))

    def _adjoint(self, y: Tensor) -> Tensor:
        return self.A._adjoint(self.measurement(y))
