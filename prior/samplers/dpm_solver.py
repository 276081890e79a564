"""DPM-Solver++ (Lu et al. 2022): multistep in the clean image and the log signal-to-noise ratio, also stochastic."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from prior.samplers.loop import Step
from prior.samplers.multistep import LinearMultistep, Multistep, check_choice, lowers_last
from prior.schedules import Schedule

__all__ = ["DPMSolver"]


@dataclass(frozen=True, kw_only=True)
class DPMSolver(Multistep):
    r"""DPM-Solver++(2M), Lu et al. 2022, algorithm 2, and SDE-DPM-Solver++(2M); N steps cost N network evaluations.

    With ``lambda = log(alpha / sigma)``, its step h and ``r = h_previous / h``, the clean image is extrapolated,

        D = (1 + 1 / 2r) x0_i - (1 / 2r) x0_{i-1},
        x_{i+1} = (sigma_{i+1} / sigma_i) x_i - alpha_{i+1} (e^-h - 1) D,

    and in its stochastic form keeps ``e^-h`` of the predicted noise and draws the rest anew. The first step has no
    history and is DDIM; so is a step that arrives at sigma = 0, which returns the clean image.

    Parameters
    ----------
    order: 2, or 1 for DDIM (stochastic: DDIM with fresh noise).
    sde: draw noise at every step.
    lower_order_final: whether the last step is of first order: "always", "never", or "auto" below 10 steps, as the
        authors do.
    """

    steps: int = 20
    spacing: str | None = "log_snr"
    order: int = 2
    sde: bool = False
    lower_order_final: str = "auto"

    def __post_init__(self) -> None:
        check_choice("order", self.order, 1, 2)
        check_choice("lower_order_final", self.lower_order_final, "auto", "always", "never")

    @property
    def stochastic(self) -> bool:
        return self.sde

    def begin(self, schedule: Schedule, times: Tensor) -> Step:
        h = (0.5 * schedule.log_snr(times)).diff()
        if self.sde and not bool((h > 0).all()):
            raise ValueError(f"times must lead to the clean image, since sde draws noise at every step, got {times.tolist()}")
        kept = torch.exp(-h) if self.sde else None
        return LinearMultistep(times, self._weights(schedule, times, h), of="x0", kept=kept)

    def _weights(self, schedule: Schedule, times: Tensor, h: Tensor) -> Tensor:
        """``alpha (e^-h - 1) / 2r``, or ``alpha (e^-2h - 1) / 2r`` with fresh noise, (N, 1)."""
        steps = len(h)
        weights = torch.zeros(steps, self.order - 1, dtype=torch.float64)
        for i in range(1, steps - lowers_last(self.lower_order_final, steps)):
            if self.order == 2 and h[i].isfinite():
                r = h[i - 1] / h[i]
                weights[i, 0] = schedule.alpha(times[i + 1]) * torch.expm1(-(2 if self.sde else 1) * h[i]) / (2 * r)
        return weights
