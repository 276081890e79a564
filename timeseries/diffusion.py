"""Diffusion of windows: the noising of a whole window and the way back, and the unconditional model."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from prior.schedules.discrete import DiscreteVP, Linear, Tabulated
from timeseries.features import Covariates, FeatureAssembly
from timeseries.scaling import MeanScale
from timeseries.windows import Window, WindowAssembly

__all__ = ["Noise", "TSDiff", "WindowDiffusion", "cosine_schedule", "linear_schedule"]

Noise = Callable[[Tensor], Tensor]
"""Standard normal noise of the shape, dtype and device of what it is called with, (B, L, C); each call draws the next.

:class:`~prior.randomness.MemberNoise` gives each entry of the batch a stream of its own.
"""


def linear_schedule(T: int = 100, first: float = 1e-4, last: float = 0.1) -> Linear:
    """Betas linear from ``first`` to ``last`` over ``T`` steps; the defaults are those of every published model."""
    return Linear(T=T, beta_min=first * T / 1000, beta_max=last * T / 1000)


def cosine_schedule(T: int = 100) -> Tabulated:
    """``abar_u = f(u) / f(0)``, ``f(u) = cos^2((u / T + 0.008) / 1.008 pi / 2)``, u = 0..T; betas within [1e-4, 0.9999].

    Nichol & Dhariwal 2021, eq. 17. In single precision like the released table, from which exact betas differ by 2e-6, for
    they are differences of numbers near 1.
    """
    u = torch.arange(T + 1, dtype=torch.float32)
    f = torch.cos((u / T + 0.008) / 1.008 * (math.pi / 2)) ** 2
    abar = f / f[0]
    betas = (1 - abar[1:] / abar[:-1]).clamp(1e-4, 0.9999)
    return Tabulated(table=tuple(betas.tolist()))


class WindowDiffusion(nn.Module):
    r"""A network that tells the noise of a window, with its schedule and the assembly of its windows.

    At time t = 0..T-1 a clean window y is ``x_t = sqrt(abar_t) y + sqrt(1 - abar_t) eps``, in every channel alike (Ho et al.
    2020; Kollovieh et al. 2023). Times are whole: one number for all, or (B,).

    The steps take the network's ``eps`` as an argument, so that who guides them can change it; each is algebra alone.

    Parameters
    ----------
    backbone: network of ``x`` (B, L, C), ``t`` (B,) and ``features`` (B, L, F) or None; returns (B, L, C).
    assembly: how windows are cut.
    schedule: by default :func:`linear_schedule`.
    scaler: by default :class:`~timeseries.scaling.MeanScale` of the default scale 1.
    embedder: makes features of covariates; by default of one category and one static number.
    """

    def __init__(
        self,
        backbone: nn.Module,
        assembly: WindowAssembly,
        *,
        schedule: DiscreteVP | None = None,
        scaler: MeanScale | None = None,
        embedder: FeatureAssembly | None = None,
    ) -> None:
        super().__init__()
        self.backbone, self.assembly = backbone, assembly
        self.schedule = linear_schedule() if schedule is None else schedule
        self.scaler = MeanScale() if scaler is None else scaler
        self.embedder = FeatureAssembly() if embedder is None else embedder

    @property
    def channels(self) -> int:
        """Channels of what is diffused."""
        raise NotImplementedError(f"{type(self).__name__} must define channels")

    def eps(self, x: Tensor, t: int | Tensor, features: Tensor | None = None) -> Tensor:
        """The noise that the network sees in ``x`` (B, L, C): the one place where it is evaluated."""
        t = torch.as_tensor(t, dtype=torch.long, device=x.device).expand(len(x))
        return self.backbone(x, t, features)

    def at(self, table: Tensor, t: int | Tensor, like: Tensor) -> Tensor:
        """Entries ``t`` of a table of the schedule, ready to multiply ``like`` (B, L, C).

        A number gives a float64 scalar, times (B,) give (B, 1, 1) in the dtype of ``like``. Raises ``ValueError`` for a
        number outside 0..T-1.
        """
        if isinstance(t, Tensor):
            return table.to(like)[t.to(like.device)].view(-1, 1, 1)
        if not 0 <= t < self.schedule.T:
            raise ValueError(f"t must lie in 0..{self.schedule.T - 1}, got {t}")
        return table[t]

    def noised(self, y: Tensor, t: int | Tensor, eps: Tensor) -> Tensor:
        """``x_t``, of the shape of the clean ``y`` and the noise ``eps``."""
        abar = self.at(self.schedule.abar, t, y)
        return abar.sqrt() * y + (1 - abar).sqrt() * eps

    def errors(self, y: Tensor, t: int | Tensor, eps: Tensor, features: Tensor | None = None) -> Tensor:
        """``(eps_theta(x_t, t) - eps)^2`` of every step and channel, (B, L, C)."""
        return (self.eps(self.noised(y, t, eps), t, features) - eps).square()

    def estimate(self, x: Tensor, t: int | Tensor, eps: Tensor) -> Tensor:
        """The clean window in one step: ``(x_t - sqrt(1 - abar_t) eps) / sqrt(abar_t)``; nothing is clipped."""
        abar = self.at(self.schedule.abar, t, x)
        return (x - (1 - abar).sqrt() * eps) / abar.sqrt()

    def step(self, x: Tensor, t: int | Tensor, eps: Tensor, z: Tensor | None = None) -> Tensor:
        r"""From ``x`` at t to t - 1 by the ancestral step of DDPM (Ho et al. 2020, algorithm 2).

        ``(x_t - beta_t eps / sqrt(1 - abar_t)) / sqrt(1 - beta_t) + sqrt(v_t) z``, v the posterior variance, which is 0 at
        t = 0. Without ``z`` the mean alone.
        """
        tables = self.schedule.betas, self.schedule.abar, self.schedule.posterior_variance
        beta, abar, variance = (self.at(table, t, x) for table in tables)
        mean = (x - beta / (1 - abar).sqrt() * eps) / (1 - beta).sqrt()
        return mean if z is None else mean + variance.sqrt() * z

    def ddim_step(self, x: Tensor, t: int, previous: int, eps: Tensor, z: Tensor | None = None, *, eta: float = 0.0) -> Tensor:
        r"""From ``x`` at t to the kept time ``previous`` < t, -1 being clean (Song et al. 2021, eq. 12).

        ``sqrt(abar_p) y + c z + sqrt(1 - abar_p - c^2) eps``, y the one-step estimate, abar_p = 1 at -1 and
        ``c = eta sqrt((1 - abar_t / abar_p) (1 - abar_p) / (1 - abar_t))``. At ``eta`` 1 and ``previous`` t - 1 this is
        :meth:`step`; at 0 ``z`` is not read.
        """
        if not -1 <= previous < t:
            raise ValueError(f"previous must lie in -1..{t - 1}, before t = {t}, got {previous}")
        if eta < 0:
            raise ValueError(f"eta must be at least 0, got {eta}")
        abar = self.at(self.schedule.abar, t, x)
        before = self.at(self.schedule.abar, previous, x) if previous >= 0 else torch.ones_like(abar)
        c = eta * ((1 - abar / before) * (1 - before) / (1 - abar)).sqrt()
        if z is None and c > 0:
            raise ValueError(f"z must be given: a step with eta = {eta} is stochastic")
        stepped = before.sqrt() * self.estimate(x, t, eps) + (1 - before - c**2).clamp(min=0).sqrt() * eps
        return stepped if z is None else stepped + c * z

    def losses(self, window: Window, noise: Noise, mask: Tensor | None = None) -> Tensor:
        """The loss of ``window`` at every time, (T,); ``noise`` is drawn once a time, from 0 on.

        Validation with the same ``noise`` each time measures the network alone.
        """
        with torch.no_grad():
            return torch.stack([self.loss(window, t, noise(window.x), mask) for t in range(self.schedule.T)])

    def loss(self, window: Window, t: int | Tensor, eps: Tensor, mask: Tensor | None = None) -> Tensor:
        """A number: the mean of :meth:`errors` over all steps and channels, or over those where ``mask`` (B, L, C) is 1."""
        return mean_over(self.errors(window.x, t, eps, window.features), mask)


class TSDiff(WindowDiffusion):
    """The unconditional model (Kollovieh et al. 2023): one network for forecasts, gaps, refinement and synthesis.

    It knows windows of a series and its lags, and nothing of what is observed; that enters by guidance. Parameters are those
    of :class:`WindowDiffusion`; ``backbone`` has ``assembly.channels`` channels in and out.
    """

    @property
    def channels(self) -> int:
        return self.assembly.channels

    def window(
        self,
        past: Tensor,
        past_observed: Tensor | None = None,
        *,
        future: Tensor | None = None,
        future_observed: Tensor | None = None,
        covariates: Covariates | None = None,
        scale: Tensor | None = None,
    ) -> Window:
        """The window of ``past`` (B, past_length) and ``future`` (B, prediction_length), see :meth:`WindowAssembly.joined`.

        ``scale`` (B, 1) replaces that of the observed context, for windows whose context is empty. A network trained with
        covariates needs them in every window, and one trained without must not get any.
        """
        sequence, observed = self.assembly.joined(past, past_observed, future, future_observed)
        if scale is None:
            scale = self.scaler(self.assembly.of_context(sequence), self.assembly.of_context(observed))
        features = None if covariates is None else self.embedder(scale, covariates, self.assembly.length)
        return self.assembly(sequence, observed, scale, features)

    @torch.no_grad()
    def sample(self, n: int, *, noise: Noise, features: Tensor | None = None, length: int | None = None) -> Tensor:
        """``n`` windows (n, L, C), scaled; channel 0 is the series, and the lags need not agree with it.

        ``noise`` is drawn for the start and then for every step but the last. ``length`` replaces L.
        """
        if n < 1:
            raise ValueError(f"n must be at least 1, got {n}")
        like = next(self.parameters()).new_zeros(n, length or self.assembly.length, self.channels)
        x = noise(like)
        for t in reversed(range(self.schedule.T)):
            x = self.step(x, t, self.eps(x, t, features), noise(x) if t > 0 else None)
        return x


def mean_over(errors: Tensor, mask: Tensor | None) -> Tensor:
    """The mean of ``errors`` where ``mask`` is 1, everywhere without one; 0 where no position is left."""
    if mask is None:
        return errors.mean()
    mask = mask.to(errors).expand_as(errors)
    return (errors * mask).sum() / mask.sum().clamp(min=1)
