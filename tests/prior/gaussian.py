"""A prior in closed form: independent pixels N(mean, std^2), and the network that denoises them exactly."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from prior.denoiser import Denoiser, EDMHead, Head, NoiseHead
from prior.schedules import Schedule


class GaussianNetwork(nn.Module):
    """Outputs what ``head`` calls a perfect output, ``head.target(E[x0 | x_t], E[eps | x_t])``; counts its calls.

    With ``learned_variance`` the second half makes ``p(x_{t-1} | x_t)`` exact, not only its mean, on a discrete schedule.
    """

    def __init__(self, schedule: Schedule, head: Head, mean: float, std: float, learned_variance: bool = False) -> None:
        super().__init__()
        self.schedule, self.head, self.mean, self.std = schedule, head, mean, std
        self.learned_variance = learned_variance
        self.calls = 0

    def forward(self, x: Tensor, t: Tensor, condition: Tensor | None = None) -> Tensor:
        self.calls += 1
        shape = (-1, *[1] * (x.ndim - 1))
        if isinstance(self.head, EDMHead):
            level = torch.exp(4 * t.double()).view(shape)
            t = self.schedule.time(level)
            alpha = self.schedule.alpha(t).to(x)
            sigma = self.schedule.sigma(t).to(x)
            x = alpha * x * torch.sqrt(level**2 + self.head.sigma_data**2).to(x)
        else:
            trained = getattr(self.schedule, "base", self.schedule)  # a respaced process keeps the times of its base
            alpha, sigma = trained.alpha(t).to(x).view(shape), trained.sigma(t).to(x).view(shape)
        mean = self.mean if condition is None else condition
        total = alpha**2 * self.std**2 + sigma**2
        x0 = mean + self.std**2 * alpha * (x - alpha * mean) / total
        eps = sigma * (x - alpha * mean) / total
        out = self.head.target(x0, eps, alpha, sigma)
        return torch.cat([out, self._variance(t).to(x).view(shape).expand_as(x)], 1) if self.learned_variance else out

    def _variance(self, t: Tensor) -> Tensor:
        index = torch.searchsorted(torch.tensor(getattr(self.schedule, "kept", range(self.schedule.T))), t.round().long())
        abar, abar_prev = self.schedule.abar[index], self.schedule.abar_prev[index]
        beta, low = self.schedule.betas[index], self.schedule.posterior_log_variance[index]
        c1 = self.schedule.posterior_mean_coefficients[0][index]
        x0_variance = self.std**2 * (1 - abar) / (abar * self.std**2 + 1 - abar)
        exact = beta * (1 - abar_prev) / (1 - abar) + c1**2 * x0_variance
        return 2 * (exact.log() - low) / (beta.log() - low) - 1


def gaussian_model(
    schedule: Schedule, head: Head | None = None, *, mean: float = 0.3, std: float = 0.5, learned_variance: bool = False
) -> Denoiser:
    """The exact denoiser of N(mean, std^2) behind ``schedule`` and ``head``; its range is [0, 1], so nothing is rescaled."""
    head = head or NoiseHead()
    network = GaussianNetwork(schedule, head, mean, std, learned_variance)
    return Denoiser(network, schedule, head, learned_variance=learned_variance, data_range=(0.0, 1.0))
