"""Observation self-guidance: an unconditional model samples series that agree with what is observed of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, Protocol, get_args

import numpy as np
import torch
from torch import Tensor

from prior.randomness import MemberNoise
from timeseries.diffusion import Noise, TSDiff
from timeseries.paths import PathWindow, finite, input_gradients
from timeseries.windows import Window

__all__ = ["DDIMGuidance", "DDPMGuidance", "Energy", "Guidance", "QuantileEnergy", "SquareEnergy", "kept_steps"]

Spacing = Literal["uniform", "quadratic", "early"]


class Energy(Protocol):
    """How badly series ``y`` fit ``target`` where ``mask`` is 1; all (P, L, C), ``levels`` (P, 1, 1). A sum, not a mean."""

    def __call__(self, y: Tensor, target: Tensor, mask: Tensor, levels: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class SquareEnergy:
    """``sum mask (y - target)^2``, without a half: the negative log-density of Gaussian observations of variance 1/2."""

    def __call__(self, y: Tensor, target: Tensor, mask: Tensor, levels: Tensor) -> Tensor:
        return (mask * (y - target) ** 2).sum()


@dataclass(frozen=True)
class QuantileEnergy:
    """``sum mask max(q e, (q - 1) e)``, ``e = target - y``: path i is drawn towards the quantile of its level q_i.

    The paths of a series have to keep their order, since the level belongs to the place.
    """

    def __call__(self, y: Tensor, target: Tensor, mask: Tensor, levels: Tensor) -> Tensor:
        e = target - y
        return (mask * torch.maximum(levels * e, (levels - 1) * e)).sum()


@dataclass(frozen=True, kw_only=True)
class Guidance:
    r"""The reverse chain, pulled towards low energy of the clean estimate (Kollovieh et al. 2023, section 3.2).

        yhat(x_t, t) = (x_t - sqrt(1 - abar_t) eps_theta(x_t, t)) / sqrt(abar_t)
        score(x_t, t) = -grad_x E(yhat(x_t, t)),

    the gradient going through the network. E sums over paths, steps and channels, lag channels too, wherever the window is
    observed: at the end that is a forecast, at the beginning a back-cast, anywhere else an imputation. The pull grows with
    the number of observed values, but not with the number of paths or series. Subclasses give ``walk``.

    Attributes
    ----------
    energy: the data fit.
    scale: strength s of the pull, at least 0; 0 samples without regard to the observations.
    """

    energy: Energy = field(default_factory=QuantileEnergy)
    scale: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.scale < float("inf"):
            raise ValueError(f"scale must be finite and at least 0, got {self.scale}")

    def score(self, model: TSDiff, x: Tensor, t: int, paths: PathWindow) -> tuple[Tensor, Tensor]:
        """``(score, eps)`` at x (P, L, C) and time t, of its shape; one evaluation of the network and one gradient.

        Under ``torch.inference_mode`` call it, and make ``paths``, within :func:`~timeseries.paths.input_gradients`.
        """
        with input_gradients(model):
            x = x.detach().clone().requires_grad_()
            eps = model.eps(x, t, paths.window.features)
            yhat = model.estimate(x, t, eps)
            energy = self.energy(yhat, paths.window.x, paths.window.observed, paths.levels)
            (gradient,) = torch.autograd.grad(energy, x)
        return -gradient, eps.detach()

    def walk(self, model: TSDiff, paths: PathWindow, noise: Noise) -> Tensor:
        """The whole chain, all paths at once: (P, L, C), scaled; ``noise`` is drawn for the start, then in each step."""
        raise NotImplementedError(f"{type(self).__name__} must define walk")

    def sample(self, model: TSDiff, window: Window, paths: int = 100, *, seed: int = 0, batch: int = 256) -> Tensor:
        """``paths`` series for each of those in ``window``, (B, S, L) in their own unit, past and future.

        The last ``L - window.context`` steps are the forecast. Path i of series b has its own noise, of seed
        ``seed + b S + i``, so that but for rounding the result depends neither on ``batch``, how many paths the network sees at
        once and what bounds the memory, nor on the series around: for series n.. of a larger set pass ``seed + n S``. Runs that
        are to be independent need seeds at least B S apart.

        Other batches round otherwise, in float32 by 1e-6, and the chain carries that on, most where the pull changes its sign
        at a kink of the quantile energy: forecasts of the shipped model ``hourly`` by batches of 5 and of 16 differ by up to
        5 % in some paths and by 2.5 % in quantiles. In float64, of model and window, less is left than float32 rounds by.

        Works under ``torch.no_grad`` and ``torch.inference_mode``; put the model into evaluation mode before, and do not
        train it meanwhile (see :func:`~timeseries.paths.input_gradients`). Raises ``ValueError`` where the chain diverges.
        """
        with input_gradients(model), torch.no_grad():  # pieces are made within, so that they are ordinary tensors
            parts = [
                self.walk(model, piece, MemberNoise(seed + piece.first, len(piece)))[..., :1]
                for piece in PathWindow.pieces(window, paths, batch)
            ]
        return finite(window.series(torch.cat(parts)), f"with scale={self.scale:g} the chain diverges", "lower scale")


@dataclass(frozen=True, kw_only=True)
class DDPMGuidance(Guidance):
    r"""Ancestral sampling with a pull of the variance of the step, that of all published results:

        x' = (x_t - beta_t eps / sqrt(1 - abar_t)) / sqrt(1 - beta_t) + sqrt(v_t) z
        x_{t-1} = x' + s v_t score(x', t),    v_t = beta_t (1 - abar_{t-1}) / (1 - abar_t),

    the score being taken where the step arrived, but at the time it left: two evaluations and a gradient a step, one
    evaluation in the last, where v_0 = 0. The paper writes ``score(x_t, t)``, which costs one evaluation and one gradient.

    Attributes
    ----------
    score_at: ``"stepped"``, at x', as published, or ``"current"``, at x_t, as the paper writes it.
    """

    score_at: Literal["stepped", "current"] = "stepped"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.score_at not in ("stepped", "current"):
            raise ValueError(f"score_at must be 'stepped' or 'current', got {self.score_at!r}")

    def step(self, model: TSDiff, x: Tensor, t: int, paths: PathWindow, z: Tensor | None) -> Tensor:
        """From x (P, L, C) at time t to t - 1; z is standard noise of its shape, not read at t = 0."""
        features, weight = paths.window.features, self.scale * model.schedule.posterior_variance[t]
        if t == 0:
            return model.step(x, t, model.eps(x, t, features))
        if self.score_at == "current":
            score, eps = self.score(model, x, t, paths)
            return model.step(x, t, eps, z) + weight * score
        x = model.step(x, t, model.eps(x, t, features), z)
        return x + weight * self.score(model, x, t, paths)[0]

    def walk(self, model: TSDiff, paths: PathWindow, noise: Noise) -> Tensor:
        """As in the base; draws x_{T-1}, then one z for each t = T-1..1."""
        with input_gradients(model), torch.no_grad():
            x = noise(paths.window.x)
            for t in reversed(range(model.schedule.T)):
                x = self.step(model, x, t, paths, noise(x) if t else None)
            return x


@dataclass(frozen=True, kw_only=True)
class DDIMGuidance(Guidance):
    r"""Few steps, guided through the noise estimate (Dhariwal & Nichol 2021, algorithm 2):

        eps' = eps_theta(x_t, t) - s sqrt(1 - abar_t) score(x_t, t),

    of which follow yhat' and the step t -> p of Song et al. 2021, eq. 12, with ``eta``: p is the previous kept step, clean
    after the first of them. One evaluation and one gradient a step. The noise at the first time is standard normal whichever
    step comes first.

    Attributes
    ----------
    skip: k; about T / k steps are kept, see :func:`kept_steps`.
    spacing: ``"uniform"``, ``"quadratic"``, which is dense at little noise, or ``"early"``, dense at much noise, where the pull
        is strongest and long steps overshoot.
    eta: 0 is deterministic, 1 draws as much noise as ancestral sampling.
    """

    skip: int = 1
    spacing: Spacing = "uniform"
    eta: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.skip < 1:
            raise ValueError(f"skip must be at least 1, got {self.skip}")
        if not 0 <= self.eta <= 1:
            raise ValueError(f"eta must lie in [0, 1], from deterministic to ancestral, got {self.eta}")
        if self.spacing not in get_args(Spacing):
            raise ValueError(f"spacing must be one of {', '.join(get_args(Spacing))}, got {self.spacing!r}")

    def step(self, model: TSDiff, x: Tensor, t: int, p: int, paths: PathWindow, z: Tensor) -> Tensor:
        """From x (P, L, C) at time t to p < t, -1 being clean; z is standard noise of its shape, without effect at eta 0."""
        score, eps = self.score(model, x, t, paths)
        eps = eps - self.scale * (1 - model.schedule.abar[t]).sqrt() * score
        return model.ddim_step(x, t, p, eps, z, eta=self.eta)

    def walk(self, model: TSDiff, paths: PathWindow, noise: Noise) -> Tensor:
        """As in the base; draws the start, then one z for each kept step, also for those that do not use it."""
        with input_gradients(model), torch.no_grad():
            x = noise(paths.window.x)
            kept = kept_steps(model.schedule.T, self.skip, self.spacing)
            for t, p in zip(reversed(kept), reversed([-1, *kept[:-1]]), strict=True):
                x = self.step(model, x, t, p, paths, noise(x))
            return x


def kept_steps(T: int, skip: int, spacing: Spacing = "uniform") -> list[int]:
    """The steps of a chain of T that are kept, increasing.

    ``0, k, 2 k, ...`` below T, or with ``"quadratic"`` ``floor(u^2)`` for ``floor(T / k)`` values u spread evenly from 0 to
    ``sqrt(T (1 - k / T))``, each once, or with ``"early"`` the mirror image of these, ``T - 1 - floor(u^2)``. Raises
    ``ValueError`` unless ``1 <= skip <= T``.
    """
    if not 1 <= skip <= T:
        raise ValueError(f"skip must lie in 1..{T}, got {skip}")
    if spacing == "uniform":
        return list(range(0, T, skip))
    roots = np.linspace(0, np.sqrt(T * (1 - skip / T)), T // skip)
    quadratic = {int(u) for u in roots**2}
    return sorted(quadratic if spacing == "quadratic" else {T - 1 - t for t in quadratic})
