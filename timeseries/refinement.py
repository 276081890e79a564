"""Refinement: any forecast is moved to where the unconditional model finds the window likely."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

import torch
from torch import Tensor

from prior.randomness import MemberNoise
from timeseries.diffusion import Noise, TSDiff
from timeseries.guidance import Energy, QuantileEnergy, SquareEnergy
from timeseries.langevin import Langevin
from timeseries.paths import PathWindow, finite, input_gradients
from timeseries.windows import Window

__all__ = ["Dynamics", "ImplicitEnergy", "Refiner", "representative_step", "seasonal_naive"]


class Dynamics(Protocol):
    """One iteration on y (P, L, C); ``gradient(y)`` is that of the energy, and draws its own noise at each call."""

    def step(self, gradient: Callable[[Tensor], Tensor], y: Tensor, noise: Noise) -> Tensor: ...


@dataclass(frozen=True, kw_only=True)
class ImplicitEnergy:
    r"""``E(y) = |eps_theta(x_tau, tau) - eps|^2 + lambda R(y, base)``, ``x_tau = sqrt(abar_tau) y + sqrt(1 - abar_tau) eps``.

    The first term stands for -log p(y) of the model, with fresh noise eps at every evaluation (Kollovieh et al. 2023, section
    3.3); the second, the regulariser, holds y to the base forecast and to what is observed. Both are sums over paths, steps
    and channels.

    What R covers is ``region``:

    - ``"known"``, the default: :class:`~timeseries.guidance.SquareEnergy` all that is observed,
      :class:`~timeseries.guidance.QuantileEnergy` that and the base forecast. The published numbers rest on this wherever the
      context has no gaps and no lag is shorter than the forecast: the step sizes and the 20 iterations were chosen for it.
    - ``"released"``: to the letter of the released code, the square energy takes every value of the lag channels for
      observed, the quantile energy every value of the window. Zeros that stand for unknown values then pass for data.
    - ``"whole"``: both energies cover what is observed and the base forecast, as the paper writes R. Under the square energy
      this is the only one in which the base is more than a start.

    Attributes
    ----------
    regulariser: R.
    weight: lambda, at least 0.
    tau: the time at which the network is asked, see :func:`representative_step`; None draws one for each path and
        evaluation.
    region: where R counts.
    """

    regulariser: Energy = field(default_factory=QuantileEnergy)
    weight: float = 1.0
    tau: int | None = 20
    region: Literal["known", "released", "whole"] = "known"

    def __post_init__(self) -> None:
        if not 0 <= self.weight < math.inf:
            raise ValueError(f"weight must be finite and at least 0, got {self.weight}")
        if self.tau is not None and self.tau < 0:
            raise ValueError(f"tau must be a time of the model, from 0 on, or None for random ones, got {self.tau}")
        if self.region not in ("known", "released", "whole"):
            raise ValueError(f"region must be 'known', 'released' or 'whole', got {self.region!r}")

    def mask(self, window: Window) -> Tensor:
        """1 where R counts, (P, L, C)."""
        square = isinstance(self.regulariser, SquareEnergy)
        if self.region == "released":
            return window.with_lags_observed().observed if square else torch.ones_like(window.observed)
        if self.region == "known" and square:
            return window.observed
        mask = window.observed.clone()
        mask[:, window.context :, 0] = 1
        return mask

    def __call__(self, model: TSDiff, y: Tensor, base: PathWindow, noise: Noise) -> Tensor:
        """E at y (P, L, C), a number; ``base.window.x`` holds the base forecast. Draws the times if tau is None, then eps."""
        t = self._times(model, y, noise)
        error = model.errors(y, t, noise(y), base.window.features).sum()
        return error + self.weight * self.regulariser(y, base.window.x, self.mask(base.window), base.levels)

    def gradient(self, model: TSDiff, y: Tensor, base: PathWindow, noise: Noise) -> Tensor:
        """``dE/dy`` (P, L, C): one evaluation of the network and one gradient, none towards its parameters."""
        with input_gradients(model):
            y = y.detach().clone().requires_grad_()
            (gradient,) = torch.autograd.grad(self(model, y, base, noise), y)
        return gradient

    def _times(self, model: TSDiff, y: Tensor, noise: Noise) -> int | Tensor:
        T = model.schedule.T
        if self.tau is None:  # uniform, from one normal number a path
            uniform = torch.special.ndtr(noise(y[:, :1, :1]).double()).flatten()
            return (T * uniform).long().clamp(max=T - 1)
        if self.tau >= T:
            raise ValueError(f"tau must lie in 0..{T - 1}, the times of the model, got {self.tau}")
        return self.tau


@dataclass(frozen=True, kw_only=True)
class Refiner:
    """Iterations of ``dynamics`` on the whole window, lag channels included, from the base forecast on.

    Published: 20 iterations, 100 paths, steps of 0.1 (exchange rates 0.01), tau by :func:`representative_step`. LMC suits
    point forecasts best, ML with the quantile energy probabilistic ones.

    Attributes
    ----------
    energy: what falls.
    dynamics: one of :mod:`timeseries.langevin`.
    iterations: how many, at least 0.
    """

    energy: ImplicitEnergy = field(default_factory=ImplicitEnergy)
    dynamics: Dynamics = field(default_factory=Langevin)
    iterations: int = 20

    def __post_init__(self) -> None:
        if self.iterations < 0:
            raise ValueError(f"iterations must be at least 0, got {self.iterations}")

    def walk(self, model: TSDiff, base: PathWindow, noise: Noise) -> Tensor:
        """(P, L, C), scaled, from ``base.window.x``, all paths at once."""
        y = base.window.x
        for _ in range(self.iterations):
            y = self.dynamics.step(lambda y: self.energy.gradient(model, y, base, noise), y, noise)
        return y

    def pieces(self, window: Window, base: Tensor, paths: int, batch: int) -> Iterator[PathWindow]:
        """Where :meth:`walk` starts: at most ``batch`` paths at a time, the base forecast sorted and scaled in their x."""
        forecasts = _sorted(window, base, paths)
        for piece in PathWindow.pieces(window, paths, batch):
            x = piece.window.x.clone()
            x[:, window.context :, 0] = forecasts[piece.first : piece.first + len(piece)]
            yield replace(piece, window=replace(piece.window, x=x))

    def refine(
        self, model: TSDiff, window: Window, base: Tensor, *, paths: int = 100, seed: int = 0, batch: int = 256
    ) -> Tensor:
        """The refined paths (B, S, H) of the forecasts ``base``, both in the unit of the series.

        ``base`` is (B, paths, H), or (B, 1, H) for a point forecast, which is repeated; its paths are sorted step by step, to
        line up with the quantile levels. Without a forecast begin with :func:`seasonal_naive`. Noise, ``seed``, ``batch`` and
        the contexts that may surround the call are as in :meth:`timeseries.guidance.Guidance.sample`. Raises ``ValueError``
        for a base of another shape or with values that are not finite, and where the iterations diverge.
        """
        with input_gradients(model), torch.no_grad():  # pieces are made within, so that they are ordinary tensors
            parts = [
                self.walk(model, piece, MemberNoise(seed + piece.first, len(piece)))[..., :1]
                for piece in self.pieces(window, base, paths, batch)
            ]
        return finite(window.forecast(torch.cat(parts)), "the iterations diverge", f"lower the step of {self.dynamics!r}")


def _sorted(window: Window, base: Tensor, paths: int) -> Tensor:
    """``base`` (B, S or 1, H) in scaled units, ascending along S at each step, an entry a path: (B S, H)."""
    horizon = window.x.shape[1] - window.context
    if base.ndim != 3 or len(base) != len(window) or base.shape[1] not in (1, paths) or base.shape[2] != horizon:
        wanted = f"({len(window)}, {paths} or 1, {horizon})"
        raise ValueError(f"base must have shape {wanted}, series, paths and steps of the forecast, got {tuple(base.shape)}")
    if not bool(base.isfinite().all()):
        index = (~base.isfinite()).nonzero()[0].tolist()
        raise ValueError(f"base must be finite, got {base[tuple(index)].item()} at {index}")
    scaled = base.to(window.x) / window.scale[:, None]
    return scaled.expand(-1, paths, -1).sort(1).values.flatten(0, 1)


def seasonal_naive(window: Window, season: int) -> Tensor:
    """The last season of the context again and again, (B, 1, H) in the unit of the series.

    A step that is unknown there is taken from the season before, and so on; where none is known, and everywhere if the
    context is shorter than a season, it is the mean of the known context. Raises ``ValueError`` for a season below 1.
    """
    if season < 1:
        raise ValueError(f"season must be at least 1 step, got {season}")
    horizon, seasons = window.x.shape[1] - window.context, window.context // season
    y, known = window.x[:, : window.context, 0], window.observed[:, : window.context, 0]
    mean = (y * known).sum(1, keepdim=True) / known.sum(1, keepdim=True).clamp(min=1)
    if seasons == 0:
        return (mean * window.scale)[:, None].expand(-1, -1, horizon).clone()
    y, known = (part[:, window.context - seasons * season :].unflatten(1, (seasons, season)) for part in (y, known))
    order = torch.arange(1, seasons + 1, device=y.device)[:, None]
    last = torch.where(known > 0, order, 0).amax(1)
    naive = torch.where(last > 0, y.gather(1, (last - 1).clamp(min=0)[:, None])[:, 0], mean)
    index = torch.arange(horizon, device=y.device) % season
    return (naive * window.scale)[:, None, index]


def representative_step(model: TSDiff, window: Window, *, seed: int = 0, batch: int = 1024) -> int:
    """The time whose loss is nearest to the mean over all times: ``argmin_t (loss(t) - mean loss)^2``.

    ``window`` holds training windows, published 1024 of them; what is unknown in them does not count. The noise is fresh at
    every time; window i has seed ``seed + i``. ``batch`` windows at once.
    """
    if not len(window):
        raise ValueError("window must hold at least one training window, got none")
    total = torch.zeros(model.schedule.T, dtype=torch.float64)
    for piece in PathWindow.pieces(window, 1, batch):
        losses = model.losses(piece.window, MemberNoise(seed + piece.first, len(piece)), piece.window.observed)
        total += len(piece) * losses.double().cpu()
    loss = total / len(window)
    return int((loss - loss.mean()).square().argmin())
