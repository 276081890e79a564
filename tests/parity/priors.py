"""The two priors that the cases of ``reddiff`` were made with."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from prior.denoiser import Denoiser, NoiseHead
from prior.schedules import DiscreteVP, Linear
from tests.parity.adm import model_of_module
from tests.parity.cases import Case

__all__ = ["MixedNetwork", "reddiff_prior"]


class MixedNetwork(nn.Module):
    """The noise of a Gaussian prior of deviation ``S0``, plus a tenth of a network's; its variance channels as they are."""

    def __init__(self, network: nn.Module, schedule: DiscreteVP, S0: float) -> None:
        super().__init__()
        self.network, self.abar, self.S0 = network, schedule.abar.float(), S0

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        left = t.floor().long().clamp(max=len(self.abar) - 2)
        abar = torch.lerp(self.abar[left], self.abar[left + 1], t.float() - left).view(-1, 1, 1, 1)
        eps, variance = self.network(x, t).chunk(2, dim=1)
        gaussian = x * (1 - abar).sqrt() / (abar * self.S0**2 + 1 - abar)
        return torch.cat([gaussian + 0.1 * eps, variance], dim=1)


def reddiff_prior(case: Case, name: str) -> Denoiser:
    """The prior ``net`` or ``mixed`` of the case of kind ``prior``."""
    network = model_of_module(case.meta["prior_config"]).build()
    network.load_state_dict(case.state_dict(), strict=True)
    network.eval().requires_grad_(False)
    schedule = Linear()
    networks = {"net": network, "mixed": MixedNetwork(network, schedule, case.meta["S0"])}
    return Denoiser(networks[name], schedule, NoiseHead(), learned_variance=True)
