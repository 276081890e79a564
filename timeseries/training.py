"""Training models of windows: the LightningModule of TSDiff and TSDiff-Cond."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from prior import registry
from prior.randomness import MemberNoise
from timeseries.archive import load_weights
from timeseries.batches import WindowBatch, generator_of, seed_of
from timeseries.conditional import TSDiffCond
from timeseries.configuration import TSDiffConfig
from timeseries.data import WindowDataModule
from timeseries.features import Covariates
from timeseries.windows import Window

__all__ = ["TSDiffModule"]


class TSDiffModule(LightningModule):
    """Fits the model of ``config`` to :class:`~timeseries.batches.WindowBatch` es: the mean squared error of its noise.

    Every step takes uniform times and noise drawn from the seed of its batch. The error counts where values are observed,
    in the series and its lags alike; gaps and what was padded do not count. Logs ``train/loss``, and on held-out windows
    ``val/loss``, the mean over all times with noise that is the same in every validation: stop by the lowest. Adam, as
    published with a constant rate; the published clipping is the trainer's, ``gradient_clip_val: 0.5``.

    The kernels are settled at the length of the windows when the module is built (see
    :class:`~prior.networks.s4_kernel.S4Kernel`), so that a moving average of the parameters may begin at any step; average
    no buffers. When fitting begins, the model takes over the default scale and the covariate statistics of the data.
    Checkpoints hold the settings: :meth:`~timeseries.predictor.TSDiffPredictor.from_checkpoint` reads them.

    Parameters
    ----------
    config: of the model.
    lr: learning rate.
    final_lr: what it falls to along a cosine by the end of the trainer's epochs, for short runs; None keeps it constant.
    weights: file of a shipped or exported model, or checkpoint, from which training starts, for windows of the same length.

    Attributes
    ----------
    model: the :class:`~timeseries.diffusion.TSDiff` or :class:`~timeseries.conditional.TSDiffCond`.
    """

    def __init__(
        self, config: TSDiffConfig, lr: float = 1e-3, final_lr: float | None = None, weights: str | None = None
    ) -> None:
        super().__init__()
        if not 0 < lr < float("inf"):
            raise ValueError(f"lr must be positive and finite, got {lr}")
        if final_lr is not None and not 0 <= final_lr <= lr:
            raise ValueError(f"final_lr must lie in 0..lr = {lr} or be None, got {final_lr}")
        self.config, self.lr, self.final_lr = config, lr, final_lr
        self.model = config.model()
        if weights is not None:
            path = Path(weights)
            load_weights(self.model, registry.read_state(path, self.model.state_dict()), path)

    def setup(self, stage: str) -> None:
        data = getattr(self.trainer, "datamodule", None)
        if stage == "fit" and isinstance(data, WindowDataModule):
            self.config = replace(self.config, covariate_statistics=data.statistics)
            self.model.scaler.default_scale.fill_(data.scale)

    def windows(self, batch: WindowBatch) -> tuple[Window, Tensor]:
        """The scaled windows of ``batch`` with their future, and the mask of what is known of them, (B, L, C)."""
        covariates = None if batch.steps is None else Covariates(steps=batch.steps)
        model = self.model
        if not isinstance(model, TSDiffCond):
            window = model.window(batch.past, future=batch.future, covariates=covariates)
            return window, window.observed
        window = model.window(batch.past, future=batch.future, original_past=batch.truth, covariates=covariates)
        _, known = model.assembly.joined(batch.truth, None, batch.future)
        return window, known[:, -model.assembly.length :, None]

    def training_step(self, batch: WindowBatch, batch_idx: int) -> Tensor:
        window, known = self.windows(batch)
        generator = generator_of("noise", batch.seed)
        t = torch.randint(self.model.schedule.T, (len(window),), generator=generator)
        eps = torch.randn(window.x.shape, generator=generator).to(window.x)
        loss = self.model.loss(window, t.to(eps.device), eps, known)
        if not bool(loss.isfinite()):
            raise ValueError(
                f"the training loss is {loss.item()} at step {self.global_step}; lower lr, clip gradients "
                "(gradient_clip_val: 0.5), or look for values of another order of magnitude in the series"
            )
        self.log("train/loss", loss, prog_bar=True, batch_size=len(window))
        return loss

    def validation_step(self, batch: WindowBatch, batch_idx: int) -> None:
        window, known = self.windows(batch)
        noise = MemberNoise(seed_of("noise", batch.seed), len(window))
        loss = self.model.losses(window, noise, known).mean()
        self.log("val/loss", loss, prog_bar=True, on_epoch=True, on_step=False, batch_size=len(window), sync_dist=True)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["config"] = self.config.as_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Takes over the settings of the checkpoint, the covariate statistics among them."""
        if "config" in checkpoint:
            self.config = TSDiffConfig.of_dict(checkpoint["config"])

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.parameters(), lr=self.lr)
        if self.final_lr is None:
            return optimizer
        steps = int(self.trainer.estimated_stepping_batches)
        cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps, eta_min=self.final_lr)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": cosine, "interval": "step"}}
