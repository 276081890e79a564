"""Training a restorer: the LightningModule behind every network of the shifted chain."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from prior.checkpoints import named_tensors, read_file
from prior.randomness import MemberNoise
from restore.degradations import psnr_y, ssim_y
from restore.resshift.batches import RestorationBatch, generator_of
from restore.resshift.chain import ResShift
from restore.resshift.checkpoints import load_unet
from restore.resshift.losses import Perceptual, ShiftedLoss
from restore.resshift.picture import composite
from restore.resshift.prediction import Condition, ShiftedDenoiser
from restore.resshift.swin_unet import SwinUNet

__all__ = ["ResShiftModule"]


class ResShiftModule(LightningModule):
    """Fits a :class:`~restore.resshift.ShiftedDenoiser` to batches of clean and degraded images.

    Every step takes uniform times and noise drawn from the seed of its batch. Logs ``train/loss`` and ``train/mse``, with
    LPIPS ``train/lpips``, and of whole restorations of held-out images, a network evaluation for each step of the chain,
    ``val/psnr`` in dB and ``val/ssim``, on luma of 8 bits. ``predict`` restores its batch, in [0, 1].

    First stage and LPIPS are no part of the module's weights: no optimizer, average or checkpoint holds them.

    Parameters
    ----------
    model: the denoiser to train.
    first_stage: an autoencoder with ``encode`` and ``decode``, which stays as it is; None trains on images themselves.
    factor: how much larger the restored image is; multiple: see :class:`~restore.resshift.ResShift`.
    weights: file whose weights the network starts with: of a Swin U-Net in the official layout, of another network a state
        dict or checkpoint of its own.
    perceptual: a distance of images (B, 3, H, W) in [-1, 1], such as :class:`~restore.resshift.LPIPS`, and
        perceptual_weight: its coefficient in the loss; without a distance the loss is the squared error alone.
    weighted: whether errors are weighted as in the variational bound; root: whether each counts by its root.
    lr, weight_decay: of AdamW.
    warmup_steps: linear warm-up of the learning rate, which then falls to ``final_lr`` along a cosine at the trainer's
        ``max_steps``; it stays where ``final_lr`` is None or ``max_steps`` negative.
    """

    def __init__(
        self,
        model: ShiftedDenoiser,
        first_stage: nn.Module | None = None,
        factor: int = 1,
        multiple: int = 64,
        weights: str | None = None,
        perceptual: nn.Module | None = None,
        perceptual_weight: float = 0.0,
        weighted: bool = False,
        root: bool = False,
        lr: float = 5e-5,
        final_lr: float | None = 2e-5,
        weight_decay: float = 0.0,
        warmup_steps: int = 5000,
    ) -> None:
        super().__init__()
        if not lr > 0 or (final_lr is not None and not 0 <= final_lr <= lr):
            raise ValueError(f"lr must be positive and final_lr within 0..lr or None, got {lr} and {final_lr}")
        if warmup_steps < 0:
            raise ValueError(f"warmup_steps must be at least 0, got {warmup_steps}")
        if perceptual is not None and not perceptual_weight > 0:
            raise ValueError(
                f"perceptual_weight must be positive where a perceptual distance is given, got {perceptual_weight}"
            )
        self.model = model
        frozen = [m.requires_grad_(False).eval() for m in (first_stage, perceptual) if m is not None]
        self._frozen = tuple(frozen)  # a tuple hides modules from state_dict and parameters
        restorer = ResShift(model, first_stage, factor=factor, multiple=multiple)  # type: ignore[arg-type]
        self._restorer = (restorer,)
        self.loss = ShiftedLoss(
            weighted=weighted, root=root, perceptual=_perceptual(perceptual, restorer), perceptual_weight=perceptual_weight
        )
        self.lr, self.final_lr, self.weight_decay, self.warmup_steps = lr, final_lr, weight_decay, warmup_steps
        if perceptual is None and perceptual_weight > 0:
            warnings.warn(
                f"perceptual_weight is {perceptual_weight:g} but there is no perceptual distance: the squared error alone "
                "is trained with. To train as the released models were, give restore.resshift.LPIPS with its two files",
                stacklevel=2,
            )
        if weights is not None:
            _start(model.network, Path(weights))

    @property
    def restorer(self) -> ResShift:
        """The model with its first stage, which restores whole images."""
        return self._restorer[0]

    def forward(self, lq: Tensor, mask: Tensor | None, seed: int) -> Tensor:
        """Degraded images (B, 3, h, w) and masks as in :class:`RestorationBatch`, restored, (B, 3, H, W) in [0, 1]."""
        signed = None if mask is None else 2 * mask - 1
        restored = self.restorer(2 * lq - 1, signed, noise=MemberNoise(seed, len(lq))) / 2 + 0.5
        return restored if mask is None else composite(restored, lq, mask)

    def training_step(self, batch: RestorationBatch, batch_idx: int) -> Tensor:
        x0, image, condition = self._prepared(batch)
        generator = generator_of(batch.seed, "noise")
        t = torch.randint(self.model.schedule.T, (len(x0),), generator=generator)
        eps = torch.randn(x0.shape, generator=generator).to(x0)
        terms = self.loss.terms(self.model, x0, eps=eps, t=t.to(x0.device), condition=condition, image=image)
        parts = {"loss": terms.total, "mse": terms.mse, "lpips": terms.perceptual}
        logged = {f"train/{name}": part.mean() for name, part in parts.items() if part is not None}
        self.log_dict(logged, prog_bar=True, batch_size=len(x0))
        return terms.total.mean()

    def validation_step(self, batch: RestorationBatch, batch_idx: int) -> None:
        restored = self(batch.degraded, batch.mask, batch.seed)
        metrics = {"val/psnr": psnr_y(restored, batch.truth).mean(), "val/ssim": ssim_y(restored, batch.truth).mean()}
        rounded = {name: value.float() for name, value in metrics.items()}
        self.log_dict(rounded, prog_bar=True, on_epoch=True, on_step=False, batch_size=len(restored), sync_dist=True)

    def test_step(self, batch: RestorationBatch, batch_idx: int) -> None:
        self.validation_step(batch, batch_idx)

    def predict_step(self, batch: RestorationBatch, batch_idx: int) -> Tensor:
        return self(batch.degraded, batch.mask, batch.seed)

    @torch.no_grad()
    def _prepared(self, batch: RestorationBatch) -> tuple[Tensor, Tensor, Condition]:
        """The clean latents, the clean image and the condition, in [-1, 1]."""
        image, mask = 2 * batch.truth - 1, None if batch.mask is None else 2 * batch.mask - 1
        return self.restorer.encode(image), image, self.restorer.condition(2 * batch.degraded - 1, mask)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> ResShiftModule:
        """Moves first stage and LPIPS along with the weights."""
        for module in self._frozen:
            module._apply(fn)
        return super()._apply(fn, recurse)

    def learning_rate(self, step: int, total: int) -> float:
        """Of the optimizer's step ``step``, 0.., out of ``total``; a negative total is without end."""
        if step < self.warmup_steps:
            return self.lr * (step + 1) / self.warmup_steps
        if total < 0 or self.final_lr is None:
            return self.lr
        done = min(1.0, (step - self.warmup_steps) / max(1, total - self.warmup_steps))
        return self.final_lr + (self.lr - self.final_lr) * (1 + math.cos(math.pi * done)) / 2

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.lr, weight_decay=self.weight_decay)
        total = self.trainer.max_steps
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: self.learning_rate(step, total) / self.lr)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def _perceptual(distance: nn.Module | None, restorer: ResShift) -> Perceptual | None:
    if distance is None:
        return None
    return Perceptual(distance=distance, decode=restorer.decode)


def _start(network: nn.Module, path: Path) -> None:
    """Put the weights in ``path`` into ``network``."""
    if isinstance(network, SwinUNet):
        network.load_state_dict(load_unet(network.config, path).state_dict())
        return
    first = next(iter(network.state_dict()))
    tensors = named_tensors(read_file(path), path, anchor=re.escape(first), family=type(network).__name__)
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        raise ValueError(f"weights: {path} must hold the weights of this {type(network).__name__}: {error}") from error
