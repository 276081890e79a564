"""The conditional baseline: forecasts by a network that is shown what is observed."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from prior.schedules.discrete import DiscreteVP
from timeseries.diffusion import Noise, WindowDiffusion, mean_over
from timeseries.features import Covariates, FeatureAssembly
from timeseries.scaling import MeanScale
from timeseries.windows import Window, WindowAssembly

__all__ = ["TSDiffCond"]


class TSDiffCond(WindowDiffusion):
    """The conditional model (Kollovieh et al. 2023, TSDiff-Cond): one channel is diffused, the rest is told by features.

    A step's features, in this order: those of the covariates where there are any, the lags, the observed context with 0 for
    what is missing, and its mask; in the future the latter two are 0. The scale is that of the observed context.

    The released code builds the lags of training windows from true values. Where a lag is shorter than the forecast, or a
    value is hidden in training, the network then sees what it will not see when it forecasts. Here a lag repeats observed
    past values alone, unless ``look_ahead`` is set.

    Parameters
    ----------
    backbone: network with 1 channel in and out and ``feature_size`` features.
    assembly, schedule, scaler, embedder: see :class:`~timeseries.diffusion.WindowDiffusion`.
    noise_observed: whether observed values are noised like the others, as in every published model. If not, they go through
        the network as they are, and only the others count in the loss.
    look_ahead: whether lags in training hold true values as in the released code.
    """

    def __init__(
        self,
        backbone: nn.Module,
        assembly: WindowAssembly,
        *,
        schedule: DiscreteVP | None = None,
        scaler: MeanScale | None = None,
        embedder: FeatureAssembly | None = None,
        noise_observed: bool = True,
        look_ahead: bool = False,
    ) -> None:
        super().__init__(backbone, assembly, schedule=schedule, scaler=scaler, embedder=embedder)
        self.noise_observed, self.look_ahead = noise_observed, look_ahead

    @property
    def channels(self) -> int:
        return 1

    def feature_size(self, steps: int | None = None) -> int:
        """F, with ``steps`` covariates a step; None for no covariates at all."""
        return 2 + len(self.assembly.lags) + (0 if steps is None else self.embedder.size(steps))

    def window(
        self,
        past: Tensor,
        past_observed: Tensor | None = None,
        *,
        future: Tensor | None = None,
        original_past: Tensor | None = None,
        covariates: Covariates | None = None,
        scale: Tensor | None = None,
    ) -> Window:
        """The window of ``past`` (B, past_length) and ``future`` (B, prediction_length), see :meth:`WindowAssembly.joined`.

        In training, ``future`` and ``original_past``, the past before anything was hidden, are the truth that is noised; the
        features never tell it. ``observed`` is the mask of the observed context, 0 in the future.
        """
        assembly = self.assembly
        sequence, observed = assembly.joined(past, past_observed)
        true_past = (past, past_observed) if original_past is None else (original_past, None)
        truth, _ = assembly.joined(*true_past, future)
        if scale is None:
            scale = self.scaler(assembly.of_context(sequence), assembly.of_context(observed))
        x_past, mask = (part[:, -assembly.length :, None] for part in (sequence / scale, observed))
        lags = assembly.lagged((truth if self.look_ahead else sequence) / scale)
        parts = [] if covariates is None else [self.embedder(scale, covariates, assembly.length)]
        return Window(
            x=(truth / scale)[:, -assembly.length :, None],
            observed=mask,
            scale=scale,
            context=assembly.context_length,
            features=torch.cat([*parts, lags, x_past, mask], -1),
        )

    def loss(self, window: Window, t: int | Tensor, eps: Tensor, mask: Tensor | None = None) -> Tensor:
        """A number: the mean squared error of the noise ``eps`` (B, L, 1) over all steps, or where ``mask`` is 1.

        Without ``noise_observed``, over what is not observed: there an observed value takes the place of its noise.
        """
        if self.noise_observed:
            return super().loss(window, t, eps, mask)
        hidden = 1 - window.observed
        eps = torch.where(window.observed > 0, window.x, eps)
        return mean_over(self.errors(window.x, t, eps, window.features), hidden if mask is None else hidden * mask)

    @torch.no_grad()
    def sample(self, window: Window, *, noise: Noise) -> Tensor:
        """A path of each entry of ``window``, (B, L, 1), scaled; ``window.repeat(S)`` has S entries a series.

        ``noise`` is drawn for the start and then for every step but the last. ``window.forecast`` gives the future in the unit
        of the series.
        """
        x = noise(window.x)
        for t in reversed(range(self.schedule.T)):
            if not self.noise_observed:
                x = torch.where(window.observed > 0, window.x, x)
            x = self.step(x, t, self.eps(x, t, window.features), noise(x) if t > 0 else None)
        return x
