"""Predictor-corrector sampling of the reverse-time SDE (Song et al. 2021)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import singledispatch

import torch
from torch import Tensor

from prior.denoiser import Denoiser
from prior.grids import grid
from prior.samplers.loop import Guidance, Progress, Sampler, guided
from prior.schedules import VE, VP, Schedule, SubVP

__all__ = ["CORRECTORS", "PREDICTORS", "PredictorCorrector", "Update"]


@dataclass(frozen=True, eq=False)
class Update:
    """``x_mean = c x + w score`` and ``x = x_mean + std z``; scalars, float64."""

    c: Tensor
    w: Tensor
    std: Tensor

    def probability_flow(self) -> Update:
        """Half the score and no noise: the step of the ODE with the same marginals."""
        return Update(self.c, self.w / 2, torch.zeros_like(self.std))


def euler_maruyama(schedule: Schedule, t: Tensor, k: int, N: int) -> Update:
    """``dx = (f x - g^2 score) dt + g dw`` with ``dt = -1 / N``."""
    variance = schedule.diffusion(t) ** 2 / N
    return Update(1 - schedule.drift(t) / N, variance, variance.sqrt())


@singledispatch
def reverse_diffusion(schedule: Schedule, t: Tensor, k: int, N: int) -> Update:
    """The discretised forward chain, run backwards (Song et al. 2021, appendix E)."""
    return euler_maruyama(schedule, t, k, N)


@reverse_diffusion.register(VP)
def _(schedule: VP, t: Tensor, k: int, N: int) -> Update:
    beta = _beta(schedule, k, N)
    return Update(2 - torch.sqrt(1 - beta), beta, beta.sqrt())


@reverse_diffusion.register(SubVP)
def _(schedule: SubVP, t: Tensor, k: int, N: int) -> Update:
    return euler_maruyama(schedule, t, k, N)


@reverse_diffusion.register(VE)
def _(schedule: VE, t: Tensor, k: int, N: int) -> Update:
    sigma, previous = _sigmas(schedule, k, N)
    variance = sigma**2 - previous**2
    return Update(torch.ones_like(sigma), variance, variance.sqrt())


@singledispatch
def ancestral(schedule: Schedule, t: Tensor, k: int, N: int) -> Update:
    """The posterior of the discretised chain (Song et al. 2021, appendix F); of VP and VE only."""
    raise TypeError(f"the ancestral predictor needs a VP or VE schedule, got {schedule!r}; use reverse_diffusion")


@ancestral.register(VP)
def _(schedule: VP, t: Tensor, k: int, N: int) -> Update:
    beta = _beta(schedule, k, N)
    return Update(1 / torch.sqrt(1 - beta), beta / torch.sqrt(1 - beta), beta.sqrt())


@ancestral.register(SubVP)
def _(schedule: SubVP, t: Tensor, k: int, N: int) -> Update:
    return ancestral.dispatch(Schedule)(schedule, t, k, N)


@ancestral.register(VE)
def _(schedule: VE, t: Tensor, k: int, N: int) -> Update:
    sigma, previous = _sigmas(schedule, k, N)
    variance = sigma**2 - previous**2
    return Update(torch.ones_like(sigma), variance, previous * variance.sqrt() / sigma)


def _beta(schedule: VP, k: int, N: int) -> Tensor:
    if schedule.beta_1 >= N:
        raise ValueError(f"steps must be more than beta_1 = {schedule.beta_1:g}, so that every beta_k is below 1, got {N}")
    return schedule.beta(k / max(N - 1, 1)) / N


def _sigmas(schedule: VE, k: int, N: int) -> tuple[Tensor, Tensor]:
    sigma, previous = schedule.sigma(k / max(N - 1, 1)), schedule.sigma((k - 1) / max(N - 1, 1))
    return sigma, previous if k > 0 else torch.zeros_like(sigma)


def langevin(score: Tensor, z: Tensor, sigma: Tensor, batch_norms: bool) -> Tensor:
    """``|z| / |score|``, (B, 1, ...), or the ratio of their means over the batch."""
    norms = torch.stack([z.flatten(1).norm(dim=1), score.flatten(1).norm(dim=1)])
    z_norm, score_norm = norms.mean(1, keepdim=True) if batch_norms else norms
    return (z_norm / score_norm).view(-1, *[1] * (z.ndim - 1))


def ald(score: Tensor, z: Tensor, sigma: Tensor, batch_norms: bool) -> Tensor:
    """Annealed Langevin dynamics: the standard deviation ``sigma_t`` (Song & Ermon 2019)."""
    return sigma


PREDICTORS: dict[str, Callable[[Schedule, Tensor, int, int], Update]] = {
    "reverse_diffusion": reverse_diffusion,
    "ancestral": ancestral,
    "euler_maruyama": euler_maruyama,
}
CORRECTORS: dict[str, Callable[[Tensor, Tensor, Tensor, bool], Tensor]] = {"langevin": langevin, "ald": ald}


@dataclass(frozen=True, kw_only=True)
class PredictorCorrector(Sampler):
    """Song et al. 2021, algorithms 2 to 5: Langevin steps at each of N times, then one step of the reverse SDE.

    For continuous VP, SubVP and VE schedules, discretised as by the authors: times ``linspace(t_max, t_end, N)``, tables
    read at ``k = N-1..0``. A corrector step is ``x + e score + sqrt(2 e) z`` with ``e = 2 a (snr r)^2``; r is the ratio of
    norms ``|z| / |score|`` (langevin) or ``sigma_t`` (ald), a is ``1 - beta_k`` (VP, SubVP) or 1 (VE). The result is the
    mean of the last predictor step. N steps cost ``N (corrector_steps + 1)`` network evaluations, N without a corrector.
    Guidance is added to the score at every evaluation.

    Parameters
    ----------
    predictor: reverse_diffusion, ancestral (VP and VE only) or euler_maruyama.
    corrector: langevin, ald or none; the authors use none with VP and SubVP.
    snr: signal-to-noise ratio of a corrector step; 0.16 for images of 32 pixels, 0.075 for 256.
    corrector_steps: corrector steps at each time.
    probability_flow: whether the predictor follows the ODE: half the score, no noise.
    batch_norms: whether norms are means over the batch, as in the authors' code, and not each member's own.
    t_end: last time at which the network is evaluated; None takes the schedule's ``t_min``.
    """

    steps: int = 1000
    predictor: str = "reverse_diffusion"
    corrector: str = "langevin"
    snr: float = 0.16
    corrector_steps: int = 1
    probability_flow: bool = False
    batch_norms: bool = False
    t_end: float | None = None

    def __post_init__(self) -> None:
        if self.predictor not in PREDICTORS:
            raise ValueError(f"predictor must be one of {', '.join(PREDICTORS)}, got {self.predictor!r}")
        if self.corrector not in ("none", *CORRECTORS):
            raise ValueError(f"corrector must be one of {', '.join(CORRECTORS)}, none, got {self.corrector!r}")
        if self.probability_flow and self.predictor == "ancestral":
            raise ValueError("probability_flow needs the predictor reverse_diffusion or euler_maruyama, got 'ancestral'")
        if self.spacing not in (None, "uniform"):
            raise ValueError(f"spacing must be uniform, which the tables of the predictors assume, got {self.spacing!r}")
        if self.snr <= 0:
            raise ValueError(f"snr must be positive, got {self.snr}")
        if self.corrector_steps < 1:
            raise ValueError(f"corrector_steps must be at least 1, got {self.corrector_steps}; or corrector='none'")

    @property
    def stochastic(self) -> bool:
        return self.corrector != "none" or not self.probability_flow

    def times(self, schedule: Schedule) -> Tensor:
        """``steps`` equal ones from ``t_max`` to ``t_end``, then ``schedule.clean``."""
        times = grid(schedule, self.steps, "uniform")
        if self.t_end is None:
            return times
        if not schedule.clean < self.t_end < schedule.t_max:
            raise ValueError(f"t_end must lie between {schedule.clean:g} and {schedule.t_max:g}, got {self.t_end}")
        return torch.cat([torch.linspace(schedule.t_max, self.t_end, self.steps, dtype=torch.float64), times[-1:]])

    @torch.no_grad()
    def walk(
        self,
        model: Denoiser,
        x: Tensor,
        times: Tensor,
        *,
        noise: Callable[[Tensor], Tensor] | None = None,
        guidance: Guidance | None = None,
        progress: Progress | None = None,
    ) -> Tensor:
        """As :meth:`Sampler.walk`, over :meth:`times` or an end of them; k counts down to 0 at the last noisy time.

        At each time ``noise(x)`` is drawn for the corrector steps and then for the predictor, whether or not it is used.
        """
        self._check(model.schedule, times)
        if self.stochastic and noise is None:
            raise ValueError(f"noise must be given, since {self!r} is stochastic; MemberNoise(seed, {len(x)}) draws it")
        draw = torch.zeros_like if noise is None else noise
        total, mean = len(times) - 1, x
        for done, t in enumerate(times[:-1], start=1):
            k = total - done
            for _ in range(self.corrector_steps if self.corrector != "none" else 0):
                x = self.correct(model, x, t, k, draw(x), guidance)
            x, mean = self.predict(model, x, t, k, draw(x), guidance)
            if progress is not None:
                progress(done, total)
        return mean

    def step(
        self, model: Denoiser, x: Tensor, t: Tensor, s: Tensor, noise: Tensor | None, guidance: Guidance | None = None
    ) -> Tensor:
        """Not offered: raises ``TypeError``."""
        raise TypeError("a predictor-corrector step draws several noises and counts k; call walk, or correct and predict")

    def predict(
        self, model: Denoiser, x: Tensor, t: Tensor, k: int, z: Tensor, guidance: Guidance | None = None
    ) -> tuple[Tensor, Tensor]:
        """One predictor step from time ``t``, the k-th of N from the clean end: the next ``x`` and its mean."""
        update = PREDICTORS[self.predictor](model.schedule, t, k, self.steps)
        if self.probability_flow:
            update = update.probability_flow()
        score = guided(model, model(x, t), t, guidance).score
        mean = update.c.to(x) * x + update.w.to(x) * score
        return mean + update.std.to(x) * z, mean

    def correct(self, model: Denoiser, x: Tensor, t: Tensor, k: int, z: Tensor, guidance: Guidance | None = None) -> Tensor:
        """One corrector step at time ``t``, the k-th of N from the clean end."""
        schedule = model.schedule
        a = 1 - _beta(schedule, k, self.steps).to(x) if isinstance(schedule, VP) else 1.0
        score = guided(model, model(x, t), t, guidance).score
        r = CORRECTORS[self.corrector](score, z, schedule.sigma(t).to(x), self.batch_norms)
        e = 2 * a * (self.snr * r) ** 2
        return x + e * score + torch.sqrt(2 * e) * z

    def _check(self, schedule: Schedule, times: Tensor) -> None:
        if not isinstance(schedule, VP | VE):
            raise TypeError(f"PredictorCorrector needs a VP, SubVP or VE schedule, got {schedule!r}; use DDPM, DDIM or Heun")
        if not 2 <= len(times) <= self.steps + 1 or times[-1] != schedule.clean:
            raise ValueError(
                f"times must be at most steps + 1 = {self.steps + 1} times that end at {schedule.clean}, "
                f"got {len(times)} that end at {float(times[-1]):g}"
            )
