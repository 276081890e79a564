"""Training a denoiser: the LightningModule behind every diffusion prior."""

from __future__ import annotations

import math
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from prior.denoiser import Denoiser
from prior.losses import DenoisingLoss, HybridLoss, LogNormalTimes, UniformTimes, VariationalLoss, denoising_loss

__all__ = ["DiffusionModule"]


class DiffusionModule(LightningModule):
    """Fits a :class:`~prior.denoiser.Denoiser` to batches of images (B, C, H, W) in [0, 1].

    Logs ``train/loss`` and, on fixed noise, ``val/psnr_<level>``: the denoising PSNR at each of ``val_levels``, in dB
    over images in [0, 1], and ``val/loss``. ``predict`` denoises its batch at the first of these levels.

    Parameters
    ----------
    denoiser: the model to train.
    times: the distribution of training times.
    lr, weight_decay, betas: of AdamW.
    warmup_steps: linear warm-up of the learning rate, which then falls to zero along a cosine at the trainer's
        ``max_steps``; a negative ``max_steps`` keeps it constant.
    val_levels: noise levels, in the network's range, at which validation measures.
    loss: the training objective, by default the denoising loss; validation always logs that one.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        times: LogNormalTimes | UniformTimes | None = None,
        lr: float = 5e-4,
        weight_decay: float = 0.0,
        betas: tuple[float, float] = (0.9, 0.99),
        warmup_steps: int = 100,
        val_levels: tuple[float, ...] = (0.05, 0.1, 0.2, 0.4, 1.0),
        loss: DenoisingLoss | HybridLoss | VariationalLoss | None = None,
    ) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.times = times or LogNormalTimes()
        self.lr, self.weight_decay, self.betas = lr, weight_decay, betas
        self.warmup_steps = warmup_steps
        self.val_levels = val_levels
        self.loss = loss or DenoisingLoss()

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.denoiser(x, t).x0

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        x0 = self.denoiser.to_network(batch)
        t = self.times.sample(self.denoiser.schedule, len(x0)).to(x0.device)
        loss = self.loss(self.denoiser, x0, torch.randn_like(x0), t).mean()
        self.log("train/loss", loss, prog_bar=True, batch_size=len(x0))
        return loss

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        losses = []
        for level in self.val_levels:
            x0, x_t, eps, t = self._noised(batch, level, seed=batch_idx)
            prediction = self.denoiser(x_t, t)
            mse = (self.denoiser.to_image(prediction.x0) - batch).square().flatten(1).mean(1)
            self._log_mean(f"val/psnr_{level:g}", (-10 * torch.log10(mse)).mean(), len(batch))
            losses.append(denoising_loss(self.denoiser, x0, eps, t).mean())
        self._log_mean("val/loss", torch.stack(losses).mean(), len(batch))

    def test_step(self, batch: Tensor, batch_idx: int) -> None:
        self.validation_step(batch, batch_idx)

    def predict_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        _, x_t, _, t = self._noised(batch, self.val_levels[0], seed=batch_idx)
        return self.denoiser.to_image(self(x_t, t)).clamp(0, 1)

    def _noised(self, batch: Tensor, level: float, seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        x0 = self.denoiser.to_network(batch)
        noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(seed), dtype=x0.dtype)
        t = self.denoiser.schedule.time(level).expand(len(x0)).to(x0.device)
        eps = noise.to(x0.device)
        return x0, self.denoiser.noised(x0, eps, t), eps, t

    def _log_mean(self, name: str, value: Tensor, count: int) -> None:
        self.log(name, value, prog_bar=True, on_epoch=True, on_step=False, batch_size=count, sync_dist=True)

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.lr, weight_decay=self.weight_decay, betas=self.betas)
        total = self.trainer.max_steps

        def factor(step: int) -> float:
            warm = min(1.0, (step + 1) / self.warmup_steps)
            return warm if total < 0 else warm * 0.5 * (1 + math.cos(math.pi * min(step / total, 1.0)))

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
