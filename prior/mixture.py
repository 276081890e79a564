"""A prior known in closed form: the mixture of Gaussians, whose denoiser, score, density and posterior are exact.

No network can be wrong here, so whatever error a sampler makes on it is the sampler's own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from prior.denoiser import Denoiser, ImageHead
from prior.schedules import Schedule

__all__ = ["GaussianMixture", "MixturePosterior"]


@dataclass(frozen=True, eq=False)
class GaussianMixture:
    """``p(x) = sum_k w_k N(m_k, diag(v_k))``.

    Attributes
    ----------
    weights: w, (K,), positive; they are normalised where they are used.
    means: m, (K, C, H, W) or any (K, ...), in the network's range.
    variances: v, of the shape of ``means``, positive.
    """

    weights: Tensor
    means: Tensor
    variances: Tensor

    def __post_init__(self) -> None:
        if self.means.shape != self.variances.shape or self.weights.shape != self.means.shape[:1]:
            shapes = tuple(tuple(t.shape) for t in (self.weights, self.means, self.variances))
            raise ValueError(f"weights, means and variances must have shapes (K,), (K, ...) and (K, ...), got {shapes}")
        if not bool((self.weights > 0).all()) or not bool((self.variances > 0).all()):
            raise ValueError("weights and variances must be positive")

    @classmethod
    def random(cls, shape: tuple[int, ...], K: int = 3, *, spread: float = 0.6, seed: int = 0) -> GaussianMixture:
        """K components of ``shape``: means ``spread`` N(0, 1), variances U(0.02, 0.25), float64."""
        generator = torch.Generator().manual_seed(seed)
        weights = 0.2 + torch.rand(K, generator=generator, dtype=torch.float64)
        means = spread * torch.randn(K, *shape, generator=generator, dtype=torch.float64)
        variances = 0.02 + 0.23 * torch.rand(K, *shape, generator=generator, dtype=torch.float64)
        return cls(weights / weights.sum(), means, variances)

    def x0(self, x: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """``E[x_0 | x_t = x]`` for x (B, ...), with alpha and sigma numbers or (B,)."""
        alpha, sigma = (_rows(a, x) for a in (alpha, sigma))
        f = x.flatten(1)[:, None]
        m, v = self.means.flatten(1).to(x), self.variances.flatten(1).to(x)
        S = alpha**2 * v + sigma**2
        r = f - alpha * m
        g = torch.softmax(self._log_joint(r, S), 1)[..., None]
        return (g * (m + alpha * v * r / S)).sum(1).view_as(x)

    def log_prob(self, x: Tensor, alpha: float | Tensor = 1.0, sigma: float | Tensor = 0.0) -> Tensor:
        """``log p_t(x)`` in nats, (B,), of the mixture noised to alpha and sigma."""
        alpha, sigma = (_rows(torch.as_tensor(a, dtype=x.dtype), x) for a in (alpha, sigma))
        S = alpha**2 * self.variances.flatten(1).to(x) + sigma**2
        return torch.logsumexp(self._log_joint(x.flatten(1)[:, None] - alpha * self.means.flatten(1).to(x), S), 1)

    def _log_joint(self, r: Tensor, S: Tensor) -> Tensor:
        log_weights = torch.log(self.weights / self.weights.sum()).to(r)
        return log_weights - 0.5 * (r**2 / S + torch.log(2 * math.pi * S)).sum(-1)

    def sample(self, count: int, *, seed: int = 0) -> Tensor:
        """``count`` exact draws, (count, ...)."""
        generator = torch.Generator().manual_seed(seed)
        which = torch.multinomial(self.weights, count, replacement=True, generator=generator)
        z = torch.randn(count, *self.means.shape[1:], generator=generator, dtype=self.means.dtype)
        return self.means[which] + self.variances[which].sqrt() * z

    def denoiser(self, schedule: Schedule, *, data_range: tuple[float, float] = (0.0, 1.0)) -> Denoiser:
        """The exact denoiser behind ``schedule``."""
        return Denoiser(_Exact(self), schedule, _ExactHead(), data_range=data_range)

    def posterior(self, A: Tensor, y: Tensor, noise: float) -> MixturePosterior:
        """Of x given ``y = A x + noise z``: A (m, n) dense, y (m,), x flattened (n,); again a mixture."""
        weights, means, covariances = [], [], []
        A, y = A.double(), y.double()
        for w, m, v in zip(
            self.weights.double(), self.means.flatten(1).double(), self.variances.flatten(1).double(), strict=True
        ):
            S = (A * v) @ A.mT + noise**2 * torch.eye(len(y), dtype=torch.float64)
            gain = torch.linalg.solve(S, A * v).mT
            r = y - A @ m
            weights.append(w.log() - 0.5 * (r @ torch.linalg.solve(S, r) + torch.logdet(2 * math.pi * S)))
            means.append(m + gain @ r)
            covariances.append(torch.diag(v) - gain @ (A * v))
        return MixturePosterior(torch.softmax(torch.stack(weights), 0), torch.stack(means), torch.stack(covariances))


@dataclass(frozen=True, eq=False)
class MixturePosterior:
    """A mixture of Gaussians with full covariances: weights (K,), means (K, n), covariances (K, n, n), float64."""

    weights: Tensor
    means: Tensor
    covariances: Tensor

    @property
    def mean(self) -> Tensor:
        """(n,)."""
        return self.weights @ self.means

    @property
    def covariance(self) -> Tensor:
        """(n, n), within and between the components."""
        d = self.means - self.mean
        return torch.einsum("k,kij->ij", self.weights, self.covariances) + torch.einsum("k,ki,kj->ij", self.weights, d, d)

    def sample(self, count: int, *, seed: int = 0) -> Tensor:
        """``count`` exact draws, (count, n)."""
        generator = torch.Generator().manual_seed(seed)
        which = torch.multinomial(self.weights, count, replacement=True, generator=generator)
        jitter = 1e-12 * torch.eye(self.means.shape[1], dtype=torch.float64)
        roots = torch.linalg.cholesky(self.covariances + jitter)
        z = torch.randn(count, self.means.shape[1], generator=generator, dtype=torch.float64)
        return self.means[which] + torch.einsum("nij,nj->ni", roots[which], z)


@dataclass(frozen=True)
class _ExactHead(ImageHead):
    """The network is told alpha and sigma instead of a time, (B, 2), and so serves every schedule."""

    def inputs(self, x: Tensor, t: Tensor, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        return x, torch.cat([alpha.flatten(1), sigma.flatten(1)], 1)


class _Exact(nn.Module):
    def __init__(self, mixture: GaussianMixture) -> None:
        super().__init__()
        self.mixture = mixture

    def forward(self, x: Tensor, alpha_sigma: Tensor) -> Tensor:
        return self.mixture.x0(x, *alpha_sigma.unbind(1))


def _rows(a: Tensor, x: Tensor) -> Tensor:
    return torch.as_tensor(a).to(x).reshape(-1, 1, 1)
