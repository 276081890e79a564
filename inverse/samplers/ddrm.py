"""Denoising diffusion restoration models: a rule of its own for every singular value of the operator."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from inverse.samplers.loop import Noise, PosteriorSampler
from inverse.samplers.problem import Problem
from inverse.samplers.spectrum import Spectrum
from prior.denoiser import Prediction

__all__ = ["DDRM", "spectral_step", "spectrum_of"]


@dataclass(frozen=True, kw_only=True)
class DDRM(PosteriorSampler):
    """Kawar, Elad, Ermon & Song, NeurIPS 2022, eq. 4 to 8; N steps cost N network evaluations.

    Along singular direction i, ``y_i`` being the coefficient of ``A^+ y`` and ``v = alpha noise / s_i`` its deviation in an
    image scaled by alpha, x at the next alpha and sigma is

    - not seen (``s_i = 0``): ``alpha x0 + sqrt(1 - eta^2) sigma eps + eta sigma z``
    - seen, but worse than the image (``v > sigma``): ``alpha (x0 + sqrt(1 - eta^2) sigma (y_i - x0) / v) + eta sigma z``
    - seen better (``v <= sigma``): ``alpha ((1 - eta_b) x0 + eta_b y_i) + sqrt(sigma^2 - eta_b^2 v^2) z``

    The last step of a noiseless measurement thus leaves ``A x = y`` if ``eta_b`` is 1. One noise z serves all three. For
    linear operators with a singular value decomposition. With noise it is not exact: on a Gaussian prior the draws spread
    less than the posterior, and many steps pull faintly seen directions too far towards ``A^+ y``; 20 are the authors' choice.

    Attributes
    ----------
    eta: how much of a step's noise is new where the measurement cannot tell, from none (0) to all (1).
    eta_b: how much the measurement counts where it is better than the image.
    """

    steps: int = 20
    eta: float = 0.85
    eta_b: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, value in (("eta", self.eta), ("eta_b", self.eta_b)):
            if not 0 <= value <= 1:
                raise ValueError(f"{name} must lie in [0, 1], got {value}")

    def check(self, problem: Problem) -> None:
        """Raise ``TypeError`` unless the operator is linear with a singular value decomposition."""
        spectrum_of(problem, "DDRM")

    def start(self, problem: Problem, t: Tensor, noise: Noise) -> Tensor:
        """``alpha A^+ y`` with noise added up to sigma; pure noise where nothing is seen, or ``v > sigma``."""
        spectrum, (alpha, sigma) = spectrum_of(problem, "DDRM"), _at(problem, t)
        z = noise(torch.empty(problem.shape, dtype=problem.y.real.dtype, device=problem.y.device))
        v = spectrum.deviation(alpha * problem.noise)
        spread = torch.where(v <= sigma, (sigma**2 - v**2).clamp(min=0).sqrt(), sigma)
        return spectrum.mix((sigma, spread, z), y=alpha * (v <= sigma).double())

    def step(self, problem: Problem, x: Tensor, t: Tensor, s: Tensor, noise: Noise) -> Tensor:
        return spectral_step(problem, problem.model(x, t), s, noise(x), eta=self.eta, eta_b=self.eta_b)


def spectral_step(problem: Problem, p: Prediction, s: Tensor, z: Tensor, *, eta: float, eta_b: float) -> Tensor:
    """The rules of :class:`DDRM`, from the prediction ``p`` to time ``s`` with noise ``z`` (B, C, H, W).

    With ``eta_b = 1`` they are those of DDNM+ (Wang, Yu & Zhang, ICLR 2023, section 3.3).
    """
    spectrum, (alpha, sigma) = spectrum_of(problem, "a spectral step"), _at(problem, s)
    v = spectrum.deviation(alpha * problem.noise)
    old, new = math.sqrt(1 - eta**2) * sigma, eta * sigma
    trust = torch.where(v <= sigma, eta_b * alpha, alpha * old / v)
    spread = torch.where(v <= sigma, (sigma**2 - (eta_b * v) ** 2).clamp(min=0).sqrt(), new)
    return spectrum.mix((alpha, alpha - trust, p.x0), (old, 0.0, p.eps), (new, spread, z), y=trust)


def spectrum_of(problem: Problem, sampler: str) -> Spectrum:
    """The problem's spectrum; ``TypeError`` in the name of ``sampler`` where the operator has none."""
    A = problem.linear_operator(sampler)
    if problem.spectrum is None:
        raise TypeError(
            f"{sampler} needs an operator with a singular value decomposition, got {A!r}; "
            "DDNM(plus=False), DPS, DiffPIR and RedDiff do without"
        )
    return problem.spectrum


def _at(problem: Problem, t: Tensor) -> tuple[float, float]:
    """alpha and sigma, the same for all members."""
    schedule = problem.model.schedule
    return float(schedule.alpha(t)), float(schedule.sigma(t))
