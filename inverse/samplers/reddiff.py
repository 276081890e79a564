"""RED-Diff: posterior sampling as the optimisation of one image under a denoising regulariser."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from inverse.operators.base import LinearOperator, Operator
from inverse.reconstruction import Reconstruction, Trace
from inverse.samplers.loop import Noise, Progress, apart, counted, plain_settings
from inverse.samplers.optimizers import Adam, Implicit, Optimizer
from inverse.samplers.problem import Problem
from inverse.samplers.start import smooth_start
from prior.denoiser import Denoiser
from prior.grids import leading
from prior.randomness import NoiseSource
from prior.samplers import Heun
from prior.schedules import DiscreteVP, Linear

__all__ = ["WEIGHTINGS", "RedDiff"]

WEIGHTINGS: dict[str, Callable[[Tensor], Tensor]] = {
    "linear": lambda r: r,
    "sqrt": torch.sqrt,
    "square": torch.square,
    "log": torch.log1p,
    "trunc_linear": lambda r: r.clamp(max=1),
    "power2over3": lambda r: r ** (2 / 3),
    "const": torch.ones_like,
    "bayes": lambda r: 1 / r,
}
"""``w`` as a function of ``r = sigma / alpha``: those of the paper (appendix), and ``bayes``, under which the prior term
is minus the score of the prior smoothed to the level r, so that data and prior weigh as in Bayes' rule."""


@dataclass(frozen=True, eq=False)
class _Likelihood:
    """``weight |y - A(x + offset)|^2 / 2``, in the network's range."""

    problem: Problem
    weight: float
    offset: Tensor | float = 0.0

    def gradient(self, x: Tensor) -> Tensor:
        return self.weight * self.problem.gradient(x + self.offset)

    def prox(self, x: Tensor, curvature: Tensor) -> Tensor:
        return self.problem.prox(x + self.offset, curvature.flatten() / self.weight) - self.offset


@dataclass(frozen=True, kw_only=True)
class RedDiff:
    r"""Mardani, Song, Kautz & Vahdat, ICLR 2024, algorithm 1: a variational posterior with one image as its mean.

    Minimises, one stochastic step a noise level, from noisy to clean, with ``x_t = alpha_t mu + sigma_t z``,

        data_weight |y - A(mu)|^2 / 2  +  prior_weight  w(sigma_t / alpha_t)  <eps(x_t, t) - z, mu>

    where the bracket's factor is held fixed: the network is evaluated once a step and never differentiated. With r the
    noise level and D the denoised image, ``eps - z = (mu - D) / r``: the gradient pulls the image to its denoised self.

    The defaults are the Bayesian weights and an implicit data step, for linear operators; ``RedDiff.paper()`` gives the
    authors' own settings, for any operator.

    Attributes
    ----------
    steps: network evaluations of one run.
    levels: highest and lowest noise level, in the network's range, visited in equal steps of their logarithm; None
        visits the leading grid of a discrete schedule, as the authors do. The lowest never falls below a third of the
        noise in the measurement.
    weighting: a name in ``WEIGHTINGS``.
    prior_weight: lambda of the paper.
    data_weight: v of the paper; None takes it from the operator's noise, 1 / (its variance), noise below
        ``noise_floor`` (in [0, 1] images) counting as that.
    reduction: "sum" over pixels, or "mean" over the measurement (data) and the image (prior), as the authors do.
    optimizer: ``Implicit``, ``Adam`` or ``SGD``.
    sigma_x0: spread of the variational distribution, as a noise added to mu before the forward process.
    samples: posterior samples besides the estimate; each costs ``steps + 2 resample_steps - 1`` evaluations.
    resample_level, resample_steps: of the alternative truths that the samples are made from, see ``draw``.
    """

    steps: int = 60
    levels: tuple[float, float] | None = (0.5, 0.02)
    weighting: str = "bayes"
    prior_weight: float = 1.0
    data_weight: float | None = None
    noise_floor: float = 0.002
    reduction: str = "sum"
    optimizer: Optimizer = field(default_factory=Implicit)
    sigma_x0: float = 0.0
    samples: int = 0
    resample_level: float = 1.0
    resample_steps: int = 6

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1, got {self.steps}")
        if self.weighting not in WEIGHTINGS:
            raise ValueError(f"weighting must be one of {', '.join(WEIGHTINGS)}, got {self.weighting!r}")
        if self.reduction not in ("sum", "mean"):
            raise ValueError(f"reduction must be 'sum' or 'mean', got {self.reduction!r}")
        if self.levels is not None and not 0 < self.levels[1] <= self.levels[0]:
            raise ValueError(f"levels must be two positive numbers, the highest first, got {self.levels}")
        if self.prior_weight < 0 or (self.prior_weight == 0 and isinstance(self.optimizer, Implicit)):
            raise ValueError(f"prior_weight must be positive (0 only with SGD or Adam), got {self.prior_weight}")
        if self.samples < 0:
            raise ValueError(f"samples must not be negative, got {self.samples}")

    @classmethod
    def paper(cls, *, steps: int = 100, lr: float = 0.1, prior_weight: float = 0.25, samples: int = 0) -> RedDiff:
        """The authors' defaults: means over pixels, Adam, ``w = sigma / alpha``, unit data weight, any operator.

        Their operating points: lr 0.5 with prior_weight 0.25; for noisy inpainting lr 0.25 with prior_weight 1.
        """
        return cls(
            steps=steps, levels=None, weighting="linear", prior_weight=prior_weight, data_weight=1.0, reduction="mean",
            optimizer=Adam(lr=lr), samples=samples,
        )  # fmt: skip

    @torch.inference_mode(False)
    def reconstruct(
        self, model: Denoiser, A: Operator, y: Tensor, *, seed: int = 0, progress: Progress | None = None
    ) -> Reconstruction:
        """The reconstruction of the measurement ``y`` (B, ...), taken by ``A`` of images (B, C, H, W) in [0, 1].

        The same seed gives the same bytes, and a batch equals its members. ``progress(done, total)`` is called after
        every network evaluation. Raises ``ValueError`` where ``y`` does not fit the operator or is not finite.
        """
        began = time.perf_counter()
        problem = Problem(model, A, y)
        self.check(problem)
        if problem.members_differ:
            return apart(lambda one, p: self.reconstruct(model, A, one, seed=seed, progress=p), y, progress)
        times = self.times(problem)
        with counted(model, progress, self.network_calls(len(times))) as calls, torch.no_grad():
            mu, trace = self.run(problem, self.start(problem), times, NoiseSource(seed))
            samples = [self.draw(problem, mu, times, seed + 1 + s) for s in range(self.samples)]
        estimate = model.to_image(mu)
        return Reconstruction(
            estimate=estimate,
            samples=torch.stack(samples) if samples else estimate.new_empty((0, *estimate.shape)),
            measurement=y,
            operator=A,
            network_calls=calls.count,
            seconds=time.perf_counter() - began,
            settings={"sampler": "RedDiff", "seed": seed, **plain_settings(self)},
            trace=trace,
        )

    def check(self, problem: Problem) -> None:
        """Raise ``TypeError`` where an implicit step meets a nonlinear operator."""
        if isinstance(self.optimizer, Implicit) and not problem.linear:
            raise TypeError(
                f"an implicit step needs a linear operator, got {problem.A!r}; use RedDiff.paper(), which takes any"
            )

    def network_calls(self, times: int) -> int:
        """Network evaluations of one reconstruction that visits this many ``times``, samples included."""
        return times + self.samples * (times + 2 * self.resample_steps - 1)

    def times(self, problem: Problem) -> list[float]:
        """The times visited, from noisy to clean."""
        schedule = problem.model.schedule
        if self.levels is None:
            if isinstance(schedule, DiscreteVP):
                return leading(schedule, self.steps)[:-1].tolist()
            levels = Linear().level(leading(Linear(), self.steps)[:-1])
        else:
            high, low = self.levels
            low = max(low, problem.noise / 3)
            levels = torch.logspace(math.log10(high), math.log10(min(low, high)), self.steps, dtype=torch.float64)
        return schedule.time(levels).tolist()

    def start(self, problem: Problem) -> Tensor:
        """Where the optimisation begins, in the network's range: the smoothest image that explains ``y``.

        For a nonlinear operator what its own ``pinv`` makes of ``y``.
        """
        if isinstance(problem.A, LinearOperator):
            noise = max(problem.noise / problem.scale, self.noise_floor)
            return problem.model.to_network(smooth_start(problem.A, problem.y, noise))
        return problem.back_projected

    def run(self, problem: Problem, mu: Tensor, times: list[float], noise: Noise) -> tuple[Tensor, Trace]:
        """Optimise from ``mu``, in the network's range: one network evaluation and two draws of ``noise`` a time."""
        data = self.likelihood(problem)
        state = self.optimizer.init(mu)
        levels, residuals = [], []
        for t in times:
            mu, state = self.step(problem.model, data, mu, t, noise, state)
            levels.append(float(problem.model.schedule.level(t)))
            residuals.append(float((problem.residual(mu) / problem.scale).abs().square().mean()))
        return mu, Trace(tuple(times), tuple(levels), tuple(residuals))

    def step(
        self, model: Denoiser, data: _Likelihood, mu: Tensor, t: float, noise: Noise, state: object
    ) -> tuple[Tensor, object]:
        """One step at time ``t``; z0 is drawn before z, also where ``sigma_x0`` is zero."""
        z0, z = noise(mu), noise(mu)
        spread = self.sigma_x0 * z0
        p = model(model.noised(mu + spread, z, t), t)
        r = p.sigma / p.alpha
        weight = self.prior_weight * WEIGHTINGS[self.weighting](r)
        if self.reduction == "mean":
            weight = weight / mu[0].numel()
        return self.optimizer.step(mu, weight * (p.eps - z), weight / r, dataclasses.replace(data, offset=spread), state)

    def likelihood(self, problem: Problem) -> _Likelihood:
        """The data term with its weight."""
        weight = self.data_weight
        if weight is None:
            weight = 1 / max(problem.noise, self.noise_floor * problem.scale) ** 2
        return _Likelihood(problem, weight / (problem.y[0].numel() if self.reduction == "mean" else 1))

    def draw(self, problem: Problem, mu: Tensor, times: list[float], seed: int) -> Tensor:
        """One posterior sample, in [0, 1], by perturbation (Matheron's rule; Papandreou & Yuille 2010).

        An alternative truth is drawn from the prior, measured with fresh noise and reconstructed in the same way; what
        that reconstruction got wrong is what this one may have got wrong, so ``sample = mu + truth' - mu'``. Exact for
        a Gaussian prior. The alternative truth is the estimate, noised to ``resample_level`` and denoised again along
        the probability flow: with the prior's highest level an unconditional sample, with less a variation of the estimate.
        """
        noise, model, A = NoiseSource(seed), problem.model, problem.A
        truth = self._variation(model, mu, noise)
        clean = A(model.to_image(truth))
        measured = torch.cat([A.noise.sample(member[None], torch.Generator().manual_seed(seed)) for member in clean])
        imagined = Problem(model, A, measured)
        again, _ = self.run(imagined, self.start(imagined), times, noise)
        return model.to_image(mu + truth - again)

    def _variation(self, model: Denoiser, mu: Tensor, noise: Noise) -> Tensor:
        low = float(model.schedule.level(model.schedule.t_min))
        high = max(self.resample_level, low)
        rho = 7  # Karras et al. 2022, eq. 5
        levels = torch.linspace(high ** (1 / rho), low ** (1 / rho), self.resample_steps, dtype=torch.float64) ** rho
        times = torch.cat([model.schedule.time(levels), torch.tensor([model.schedule.clean], dtype=torch.float64)])
        return Heun().walk(model, model.noised(mu, noise(mu), times[0]), times)
