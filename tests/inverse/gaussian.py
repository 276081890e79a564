"""A Gaussian prior whose posterior is known: every pixel N(m, s^2), alone."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from inverse.operators import LinearOperator
from prior.denoiser import Denoiser, NoiseHead
from prior.schedules import EDM

__all__ = ["GaussianPrior"]


class _Noise(nn.Module):
    def __init__(self, mean: float, std: float) -> None:
        super().__init__()
        self.mean, self.std = mean, std
        self.calls = 0

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        self.calls += 1
        sigma = t.view(-1, *[1] * (x.ndim - 1))
        return sigma * (x - self.mean) / (self.std**2 + sigma**2)


@dataclass(frozen=True)
class GaussianPrior:
    """N(mean, std^2) in images in [0, 1]; ``denoiser()`` is its exact denoiser, in [-1, 1] and noise levels t."""

    mean: float = 0.6
    std: float = 0.25

    def denoiser(self) -> Denoiser:
        return Denoiser(_Noise(2 * self.mean - 1, 2 * self.std), EDM(sigma_min=0.002, sigma_max=80.0), NoiseHead())

    def image(self, shape: tuple[int, ...], seed: int = 0) -> Tensor:
        return self.mean + self.std * torch.randn(1, *shape, generator=torch.Generator().manual_seed(seed))

    def posterior(self, A: LinearOperator, y: Tensor, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of x given y, exact, from the dense matrix of ``A`` and its Gaussian noise."""
        n = torch.Size(shape).numel()
        D = A(torch.eye(n).view(n, *shape)).flatten(1).T.double()
        variance = A.noise.std(y).double() ** 2
        covariance = torch.linalg.inv(D.T @ D / variance + torch.eye(n, dtype=torch.float64) / self.std**2)
        mean = covariance @ (D.T @ y.flatten().double() / variance + self.mean / self.std**2)
        return mean.view(1, *shape).float(), covariance.diagonal().sqrt().view(1, *shape).float()
