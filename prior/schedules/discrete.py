"""Variance-preserving schedules over a whole number of steps: those that most released networks were trained with."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

import torch
from torch import Tensor

from prior.schedules.base import CountedSchedule, double

__all__ = ["Cosine", "DiscreteVP", "Linear", "Respaced", "ScaledLinear", "Tabulated"]


@dataclass(frozen=True, kw_only=True)
class DiscreteVP(CountedSchedule):
    """Variance-preserving schedule over ``T`` steps; ``abar_t = prod_{k<=t} (1 - beta_k)``, t = 0..T-1 (Ho et al. 2020).

    ``alpha^2 = abar`` and ``sigma^2 = 1 - abar``. Between integers ``log abar`` is linear; at ``t = -1`` the image is
    clean. Subclasses define ``betas``.
    """

    T: int = 1000

    def __post_init__(self) -> None:
        if self.T < 1:
            raise ValueError(f"T must be at least 1, got {self.T}")

    @property
    def betas(self) -> Tensor:
        """The T variances, float64."""
        raise NotImplementedError(f"{type(self).__name__} must define betas")

    @property
    def abar(self) -> Tensor:
        """``abar_t`` for t = 0..T-1, float64."""
        return _tables(self).abar

    @property
    def abar_prev(self) -> Tensor:
        """``abar_{t-1}``, with 1 before the first step."""
        return torch.cat([torch.ones(1, dtype=torch.float64), self.abar[:-1]])

    @property
    def posterior_variance(self) -> Tensor:
        """Variance of ``q(x_{t-1} | x_t, x_0)``: ``beta_t (1 - abar_{t-1}) / (1 - abar_t)`` (Ho et al. 2020, eq. 7)."""
        return self.betas * (1 - self.abar_prev) / (1 - self.abar)

    @property
    def posterior_log_variance(self) -> Tensor:
        """Log of the posterior variance, whose first entry (log 0) is replaced by the second."""
        variance = self.posterior_variance
        return torch.log(torch.cat([variance[1:2] if self.T > 1 else self.betas, variance[1:]]))

    @property
    def posterior_mean_coefficients(self) -> tuple[Tensor, Tensor]:
        """``(c1, c2)`` of the posterior mean ``c1 x_0 + c2 x_t`` (Ho et al. 2020, eq. 7)."""
        c1 = self.betas * self.abar_prev.sqrt() / (1 - self.abar)
        c2 = (1 - self.abar_prev) * (1 - self.betas).sqrt() / (1 - self.abar)
        return c1, c2

    def log_abar(self, t: float | Tensor) -> Tensor:
        """``log abar`` at any real t in [-1, T-1], linear between the steps."""
        t = double(t)
        if bool((t < -1).any()) or bool((t > self.T - 1).any()):
            raise ValueError(f"t must lie in [-1, {self.T - 1}], got {t.min().item():g}..{t.max().item():g}")
        table = _tables(self).log_abar.to(t.device)
        left = t.floor().clamp(-1, max(self.T - 2, -1))
        index = left.long() + 1
        return torch.lerp(table[index], table[index + 1], t - left)

    def alpha(self, t: float | Tensor) -> Tensor:
        return torch.exp(0.5 * self.log_abar(t))

    def sigma(self, t: float | Tensor) -> Tensor:
        return torch.sqrt(-torch.expm1(self.log_abar(t)))

    def time(self, level: float | Tensor) -> Tensor:
        wanted = -torch.log1p(double(level) ** 2)  # log abar of that level
        table = _tables(self).log_abar.to(wanted.device)
        right = torch.searchsorted(-table, -wanted).clamp(1, self.T)
        lower, upper = table[right - 1], table[right]
        return (right - 2 + (wanted - lower) / (upper - lower)).clamp(-1, self.T - 1)

    def _slope(self, t: float | Tensor) -> Tensor:
        t = double(t)
        table = _tables(self).log_abar.to(t.device)
        index = t.ceil().clamp(0, self.T - 1).long()
        return table[index + 1] - table[index]

    def drift(self, t: float | Tensor) -> Tensor:
        return 0.5 * self._slope(t)

    def diffusion(self, t: float | Tensor) -> Tensor:
        return torch.sqrt(-self._slope(t))

    def respace(self, steps: str | int) -> Respaced:
        """The same process through fewer steps: ``"ddim25"``, ``"250"``, ``250`` or counts per section, ``"10,15,20"``.

        Nichol & Dhariwal 2021, section 4, with the rounding of the official implementation.
        """
        return Respaced(base=self, kept=tuple(_respaced_steps(self.T, str(steps))))


@dataclass(frozen=True, eq=False)
class _Tables:
    betas: Tensor

    @cached_property
    def abar(self) -> Tensor:
        return torch.cumprod(1 - self.betas, 0)

    @cached_property
    def log_abar(self) -> Tensor:
        return torch.cat([torch.zeros(1, dtype=torch.float64), torch.log(self.abar)])  # entry i is t = i - 1


@lru_cache(maxsize=64)
def _tables(schedule: DiscreteVP) -> _Tables:
    return _Tables(schedule.betas)


@dataclass(frozen=True, kw_only=True)
class Linear(DiscreteVP):
    """Linear betas, by default 1e-4 to 2e-2 over 1000 steps (Ho et al. 2020); the ends scale as 1000 / T."""

    beta_min: float = 1e-4
    beta_max: float = 2e-2

    @property
    def betas(self) -> Tensor:
        scale = 1000 / self.T
        return torch.linspace(scale * self.beta_min, scale * self.beta_max, self.T, dtype=torch.float64)


@dataclass(frozen=True, kw_only=True)
class ScaledLinear(DiscreteVP):
    """Betas linear in their square root, the schedule of latent diffusion (Rombach et al. 2022)."""

    beta_min: float = 0.00085
    beta_max: float = 0.012

    @property
    def betas(self) -> Tensor:
        ends = math.sqrt(self.beta_min), math.sqrt(self.beta_max)
        return torch.linspace(*ends, self.T, dtype=torch.float64) ** 2


@dataclass(frozen=True, kw_only=True)
class Cosine(DiscreteVP):
    """``abar(u) = cos^2((u + s) / (1 + s) pi / 2)``, betas at most ``beta_max`` (Nichol & Dhariwal 2021, eq. 17)."""

    s: float = 0.008
    beta_max: float = 0.999

    @property
    def betas(self) -> Tensor:
        u = torch.arange(self.T + 1, dtype=torch.float64) / self.T
        abar = torch.cos((u + self.s) / (1 + self.s) * (math.pi / 2)) ** 2
        return (1 - abar[1:] / abar[:-1]).clamp(max=self.beta_max)


@dataclass(frozen=True, kw_only=True)
class Tabulated(DiscreteVP):
    """Betas given one by one, for a schedule that has no name here."""

    table: tuple[float, ...]
    T: int = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not self.table or not all(0 < beta < 1 for beta in self.table):
            raise ValueError("table must hold variances strictly between 0 and 1")
        object.__setattr__(self, "T", len(self.table))

    @property
    def betas(self) -> Tensor:
        return torch.tensor(self.table, dtype=torch.float64)


@dataclass(frozen=True, kw_only=True)
class Respaced(DiscreteVP):
    """The steps ``kept`` of ``base``, as a process of its own; networks still read the times of ``base``."""

    base: DiscreteVP
    kept: tuple[int, ...]
    T: int = field(init=False, repr=False)

    def __post_init__(self) -> None:
        kept = tuple(int(k) for k in self.kept)
        if not kept or list(kept) != sorted(set(kept)) or not 0 <= kept[0] <= kept[-1] < self.base.T:
            raise ValueError(f"kept must be increasing steps within 0..{self.base.T - 1}, got {self.kept}")
        object.__setattr__(self, "kept", kept)
        object.__setattr__(self, "T", len(kept))

    @property
    def betas(self) -> Tensor:
        abar = self.base.abar[list(self.kept)]
        return 1 - abar / torch.cat([torch.ones(1, dtype=torch.float64), abar[:-1]])

    def network_time(self, t: float | Tensor) -> Tensor:
        t = double(t)
        kept = torch.tensor(self.kept, dtype=torch.float64, device=t.device)
        left = t.floor().clamp(0, self.T - 1).long()
        right = (left + 1).clamp(max=self.T - 1)
        return torch.lerp(kept[left], kept[right], t - left)


def _respaced_steps(T: int, spec: str) -> list[int]:
    if spec.startswith("ddim"):
        wanted = int(spec.removeprefix("ddim"))
        for skip in range(1, T + 1):
            if len(range(0, T, skip)) == wanted:
                return list(range(0, T, skip))
        raise ValueError(f"steps={spec!r}: no integer stride takes {wanted} steps out of {T}")
    counts = [int(count) for count in spec.split(",")]
    kept: list[int] = []
    start = 0
    for section, count in enumerate(counts):
        size = T // len(counts) + (section < T % len(counts))
        if not 1 <= count <= size:
            raise ValueError(f"steps={spec!r}: section {section} has {size} steps, so its count must be 1..{size}, got {count}")
        stride = (size - 1) / (count - 1) if count > 1 else 1.0
        position = 0.0
        for _ in range(count):
            kept.append(start + round(position))
            position += stride
        start += size
    return kept
