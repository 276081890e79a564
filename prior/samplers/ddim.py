"""Denoising diffusion implicit models (Song, Meng & Ermon 2021)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from prior.denoiser import Denoiser
from prior.samplers.loop import Guidance, Sampler, guided
from prior.transition import Transition

__all__ = ["DDIM"]


@dataclass(frozen=True, kw_only=True)
class DDIM(Sampler):
    """Song et al. 2021, eq. 12: ``x_s = alpha_s x0 + sqrt(sigma_s^2 - zeta^2) eps + zeta z``, ``zeta^2 = eta^2 variance``.

    The variance is that of ``q(x_s | x_t, x_0)``, so ``eta = 1`` is as noisy as ancestral sampling and ``eta = 0``
    deterministic. Where the clean image is clipped, eps follows it. N steps cost N network evaluations; guidance
    replaces eps by ``eps - sigma grad log p(y | x_t)`` (Dhariwal & Nichol 2021, algorithm 2).
    """

    eta: float = 0.0
    clip: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.eta <= 1:
            raise ValueError(f"eta must lie in [0, 1], from deterministic to ancestral, got {self.eta}")

    @property
    def stochastic(self) -> bool:
        return self.eta > 0

    def step(
        self, model: Denoiser, x: Tensor, t: Tensor, s: Tensor, noise: Tensor | None, guidance: Guidance | None = None
    ) -> Tensor:
        p = model(x, t)
        if self.clip:
            p = p.clip(*model.data_range)
        p = guided(model, p, t, guidance)
        if not self.stochastic:
            alpha, sigma, _ = model.coefficients(x, s)
            return alpha * p.x0 + sigma * p.eps
        if noise is None:
            raise ValueError(f"noise must be given: a step with eta = {self.eta} is stochastic")
        q = Transition.between(model.schedule, t, s, x)
        zeta = self.eta * q.variance.sqrt()
        return q.alpha * p.x0 + (q.sigma**2 - zeta**2).clamp(min=0).sqrt() * p.eps + zeta * noise

    @torch.no_grad()
    def invert(self, model: Denoiser, image: Tensor) -> Tensor:
        """The noise, (B, C, H, W) in the network's range, from which ``walk`` comes back to ``image`` (B, C, H, W) in [0, 1].

        The steps of the grid in reverse, the image standing for ``x`` at the grid's last noisy time (Dhariwal & Nichol
        2021, appendix F); ``walk(model, noise, self.times(model.schedule))`` decodes. The network is evaluated
        ``steps - 1`` times. Raises ``ValueError`` unless ``eta`` is 0.
        """
        if self.stochastic:
            raise ValueError(f"eta must be 0 to invert, since the noise of a stochastic step cannot be told, got {self.eta}")
        return self.walk(model, model.to_network(image), self.times(model.schedule)[:-1].flip(0))
