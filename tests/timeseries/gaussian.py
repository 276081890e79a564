"""A stand-in for the network whose prior is Gaussian, so that chains and energies have closed forms."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from timeseries.diffusion import TSDiff, linear_schedule
from timeseries.windows import WindowAssembly

T = 10


class GaussianNoise(nn.Module):
    """The exact noise estimate for windows of ``y ~ N(mean, covariance)``, flattened: ``eps = E_t x + e_t``.

    ``gain`` is 1, a parameter that gradients would reach. ``calls`` holds the times of every evaluation, ``learning`` whether
    a parameter required its gradient in it.
    """

    def __init__(self, mean: Tensor, covariance: Tensor, abar: Tensor) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones((), dtype=torch.float64))
        eye = torch.eye(len(mean), dtype=torch.float64)
        self.G = torch.stack([a.sqrt() * covariance @ torch.linalg.inv(a * covariance + (1 - a) * eye) for a in abar])
        self.g = torch.stack([mean - a.sqrt() * G @ mean for a, G in zip(abar, self.G, strict=True)])
        a = abar[:, None, None]
        self.E = (eye - a.sqrt() * self.G) / (1 - a).sqrt()
        self.e = -a[..., 0].sqrt() * self.g / (1 - a[..., 0]).sqrt()
        self.calls: list[Tensor] = []
        self.learning: list[bool] = []

    def forward(self, x: Tensor, t: Tensor, features: Tensor | None = None) -> Tensor:
        self.calls.append(t)
        self.learning.append(self.gain.requires_grad)
        flat = (self.E.to(x)[t] @ x.flatten(1)[..., None])[..., 0] + self.e.to(x)[t]
        return self.gain.to(x) * flat.view_as(x)


def gaussian_model(*, centred: bool = False, context: int = 5, horizon: int = 3, lags: tuple[int, ...] = (2,)) -> TSDiff:
    """TSDiff of T = 10 steps around :class:`GaussianNoise`; with ``centred`` the noise estimate is odd in x."""
    assembly = WindowAssembly(context_length=context, prediction_length=horizon, lags=lags)
    size = assembly.length * assembly.channels
    generator = torch.Generator().manual_seed(3)
    root = torch.randn(size, size, generator=generator, dtype=torch.float64) / size**0.5
    mean = torch.zeros(size, dtype=torch.float64) if centred else torch.randn(size, generator=generator, dtype=torch.float64)
    schedule = linear_schedule(T)
    backbone = GaussianNoise(mean, root @ root.mT + 0.05 * torch.eye(size, dtype=torch.float64), schedule.abar)
    return TSDiff(backbone, assembly, schedule=schedule)


def past(model: TSDiff, series: int = 2, seed: int = 0) -> Tensor:
    """Pasts (series, past_length), float64, around 5."""
    generator = torch.Generator().manual_seed(seed)
    return 5 + torch.randn(series, model.assembly.past_length, generator=generator, dtype=torch.float64)
