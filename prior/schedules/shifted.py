"""The chain of ResShift: noising that shifts the clean image towards the degraded one."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from prior.schedules.base import CountedSchedule, double

__all__ = ["RespacedShifted", "Shifted", "ShiftedChain"]


@dataclass(frozen=True, kw_only=True)
class ShiftedChain(CountedSchedule):
    r"""``x_t = x_0 + eta_t (y - x_0) + kappa sqrt(eta_t) eps``, y the degraded image, t = 0..T-1 (Yue et al. 2023).

    One step shifts by ``a_t = eta_t - eta_{t-1}`` of the residual, eta before the first being 0:
    ``q(x_t | x_{t-1}, x_0, y) = N(x_{t-1} + a_t (y - x_0), kappa^2 a_t)``. The chain ends near y, not at pure noise.

    ``u = x - y`` is noised like any other image, with ``alpha = 1 - eta`` and ``sigma = kappa sqrt(eta)``, so that samplers
    of the core read this schedule as they read any; sqrt(eta) is linear between whole times and 0 at the clean time, -1.
    Their ancestral steps are those of the chain in which y - x_0 is not held fixed; the marginals are the same.

    Subclasses give ``sqrt_eta``. Tables are float64, one entry a step.
    """

    T: int = 4
    kappa: float = 2.0

    @property
    def sqrt_eta(self) -> Tensor:
        """sqrt(eta) at t = 0..T-1, increasing, within (0, 1)."""
        raise NotImplementedError(f"{type(self).__name__} must define sqrt_eta")

    @property
    def eta(self) -> Tensor:
        """The share of the degraded image."""
        return self.sqrt_eta**2

    @property
    def eta_prev(self) -> Tensor:
        """``eta_{t-1}``, with 0 before the first step."""
        return torch.cat([torch.zeros(1, dtype=torch.float64), self.eta[:-1]])

    @property
    def increments(self) -> Tensor:
        """``a_t = eta_t - eta_{t-1}``, the alpha of the paper."""
        return self.eta - self.eta_prev

    @property
    def std(self) -> Tensor:
        """``kappa sqrt(eta_t)``, of x_t around its mean."""
        return self.kappa * self.sqrt_eta

    @property
    def posterior_variance(self) -> Tensor:
        """Of ``q(x_{t-1} | x_t, x_0, y)``: ``kappa^2 a_t eta_{t-1} / eta_t``; 0 at t = 0."""
        return self.kappa**2 * self.increments * self.eta_prev / self.eta

    @property
    def posterior_variance_clipped(self) -> Tensor:
        """The posterior variance with its first entry, 0, replaced by the second; ``kappa^2 eta_0`` where T is 1."""
        variance = self.posterior_variance
        return torch.cat([variance[1:2] if self.T > 1 else self.kappa**2 * self.eta, variance[1:]])

    @property
    def posterior_mean_coefficients(self) -> tuple[Tensor, Tensor]:
        """``(c1, c2)`` of the posterior mean ``c1 x_t + c2 x_0``, in which y has no part; ``c1 + c2 = 1``."""
        return self.eta_prev / self.eta, self.increments / self.eta

    @property
    def bound_weights(self) -> Tensor:
        """What the squared error of x_0 weighs in the variational bound: ``c2^2 / (2 variance)``, variance clipped."""
        return (self.increments / self.eta) ** 2 / (2 * self.posterior_variance_clipped)

    def at(self, table: Tensor, t: int | Tensor, like: Tensor) -> Tensor:
        """Entries ``t`` of one of the tables, ready to multiply ``like`` (B, ...).

        A whole number gives a float64 scalar, times (B,) of a whole dtype give (B, 1, ...) in the dtype and on the device of
        ``like``. Raises ``ValueError`` for times outside 0..T-1.
        """
        index = torch.as_tensor(t).cpu()
        if index.is_floating_point() or bool((index < 0).any()) or bool((index >= self.T).any()):
            raise ValueError(f"t must be whole, in 0..{self.T - 1}, got {index.tolist()}")
        return table[index].to(like).view(-1, *[1] * (like.ndim - 1)) if index.ndim else table[index]

    def noised(self, x0: Tensor, y: Tensor, eps: Tensor, t: int | Tensor) -> Tensor:
        """``x_t``, of the shape of x0, y and eps (B, ...)."""
        return x0 + self.at(self.eta, t, x0) * (y - x0) + self.at(self.std, t, x0) * eps

    def start(self, y: Tensor, eps: Tensor) -> Tensor:
        """``y + kappa sqrt(eta_{T-1}) eps``, where sampling starts: around y itself."""
        return y + self.std[-1] * eps

    def posterior_mean(self, x: Tensor, x0: Tensor, t: int | Tensor) -> Tensor:
        """Of ``q(x_{t-1} | x_t, x_0, y)`` at ``x``, of the shape of x and x0 (B, ...)."""
        c1, c2 = (self.at(table, t, x) for table in self.posterior_mean_coefficients)
        return c1 * x + c2 * x0

    def respace(self, count: int, *, keep_last: bool = True) -> RespacedShifted:
        """The chain through ``count`` of its steps; the network reads the times it knows.

        The steps are spread evenly from 0 to T-1. With ``keep_last`` false they are ``floor(i T / count)``, as in the official
        code, which loses the last one: then the chain starts at a smaller eta than it was trained for.
        """
        if not 1 <= count <= self.T:
            raise ValueError(f"count must lie in 1..{self.T}, got {count}")
        if not keep_last:
            kept = [int(self.T / count * i) for i in range(count)]
        elif count == 1:
            kept = [self.T - 1]
        else:
            kept = [math.floor((self.T - 1) * i / (count - 1) + 0.5) for i in range(count)]
        return RespacedShifted(base=self, kept=tuple(kept))

    @property
    def _nodes(self) -> Tensor:
        """sqrt(eta) at -1..T-1."""
        return torch.cat([torch.zeros(1, dtype=torch.float64), self.sqrt_eta])

    def _root(self, t: float | Tensor) -> tuple[Tensor, Tensor]:
        """sqrt(eta) at any real t in [-1, T-1], and its slope to the left."""
        t = double(t)
        if bool((t < -1).any()) or bool((t > self.T - 1).any()):
            raise ValueError(f"t must lie in [-1, {self.T - 1}], got {t.min().item():g}..{t.max().item():g}")
        nodes = self._nodes.to(t.device)
        right = (t.ceil() + 1).clamp(min=1).long()
        slope = nodes[right] - nodes[right - 1]
        return nodes[right] - (right - 1 - t) * slope, slope

    def alpha(self, t: float | Tensor) -> Tensor:
        return 1 - self._root(t)[0] ** 2

    def sigma(self, t: float | Tensor) -> Tensor:
        return self.kappa * self._root(t)[0]

    def time(self, level: float | Tensor) -> Tensor:
        level = double(level)
        # the positive root of level (1 - s^2) = kappa s
        s = 2 * level / (self.kappa + torch.sqrt(self.kappa**2 + 4 * level**2))
        nodes = self._nodes.to(level.device)
        right = torch.searchsorted(nodes, s).clamp(1, self.T)
        return (right - 2 + (s - nodes[right - 1]) / (nodes[right] - nodes[right - 1])).clamp(-1, self.T - 1)

    def drift(self, t: float | Tensor) -> Tensor:
        s, slope = self._root(t)
        return -2 * s * slope / (1 - s**2)

    def diffusion(self, t: float | Tensor) -> Tensor:
        s, slope = self._root(t)
        return self.kappa * torch.sqrt(2 * s * slope * (1 + s**2) / (1 - s**2))


@dataclass(frozen=True, kw_only=True)
class Shifted(ShiftedChain):
    r"""sqrt(eta) rises exponentially, ``s_t = s_0 (s_end / s_0)^(t / (T-1))^p`` (Yue et al. 2023).

    The defaults are those of the released four-step models; the first release has T = 15 and ``min_noise`` 0.04.

    Attributes
    ----------
    T: number of steps, which a network is trained for.
    kappa: strength of the noise.
    min_noise: ``s_0 = min(min_noise / kappa, min_noise)``: the noise of the first step is at most that.
    power: p; below 1 eta rises fast early.
    end: s_end, the last sqrt(eta); its square is the last eta.
    cap: an upper bound of s_0: sqrt(0.001) for the one old bicubic model with kappa 1, otherwise None.
    """

    T: int = 4
    kappa: float = 2.0
    min_noise: float = 0.2
    power: float = 0.3
    end: float = 0.99
    cap: float | None = None

    def __post_init__(self) -> None:
        if self.T < 2:
            raise ValueError(f"T must be at least 2, got {self.T}; respace(1) of a longer chain has one step")
        for name in ("kappa", "min_noise", "power", "end"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be positive and finite, got {getattr(self, name)}")
        if self.cap is not None and not self.cap > 0:
            raise ValueError(f"cap must be positive or None, got {self.cap}")
        if not self.first < self.end < 1:
            raise ValueError(f"end must lie strictly between the first sqrt(eta), {self.first:g}, and 1, got {self.end}")

    @property
    def first(self) -> float:
        """s_0."""
        return min(self.min_noise / self.kappa, self.min_noise, math.inf if self.cap is None else self.cap)

    @property
    def sqrt_eta(self) -> Tensor:
        beta = (torch.arange(self.T, dtype=torch.float64) / (self.T - 1)) ** self.power
        return self.first * torch.exp(math.log(self.end / self.first) * beta)


@dataclass(frozen=True, kw_only=True)
class RespacedShifted(ShiftedChain):
    """The steps ``kept`` of ``base``, as a chain of its own; networks still read the times of ``base``."""

    base: ShiftedChain
    kept: tuple[int, ...]
    T: int = field(init=False, repr=False)
    kappa: float = field(init=False, repr=False)

    def __post_init__(self) -> None:
        kept = tuple(int(k) for k in self.kept)
        if not kept or list(kept) != sorted(set(kept)) or not 0 <= kept[0] <= kept[-1] < self.base.T:
            raise ValueError(f"kept must be increasing steps within 0..{self.base.T - 1}, got {self.kept}")
        object.__setattr__(self, "kept", kept)
        object.__setattr__(self, "T", len(kept))
        object.__setattr__(self, "kappa", self.base.kappa)

    @property
    def sqrt_eta(self) -> Tensor:
        return self.base.sqrt_eta[list(self.kept)]

    def network_time(self, t: float | Tensor) -> Tensor:
        t = double(t)
        kept = torch.tensor(self.kept, dtype=torch.float64, device=t.device)
        left = t.floor().clamp(0, self.T - 1).long()
        right = (left + 1).clamp(max=self.T - 1)
        return self.base.network_time(torch.lerp(kept[left], kept[right], t - left))
