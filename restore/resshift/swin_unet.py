"""The Swin U-Net of ResShift (Yue et al. 2023, "ResShift", section 3; 2024, arXiv 2403.07319).

Names of parameters, their shapes and their types are the official ones, so that the released files load unchanged with
``strict=True``; :mod:`restore.resshift.checkpoints` opens them.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from prior.networks.adm_blocks import Downsample, GroupNorm32, ResBlock, Stage, Upsample
from prior.networks.embedding import sinusoidal_embedding
from restore.resshift.configuration import SwinUNetConfig
from restore.resshift.swin_blocks import SwinLayer

__all__ = ["SwinUNet"]

FEATURES = 16  # of the first stage of the feature extractor, doubled by each


class SwinUNet(nn.Module):
    """The network of the chain: ``network(x, t, lq)``, or ``network(x, t, lq, mask)`` where ``config.cond_mask``.

    x (B, in_channels, H, W) is the scaled state, with H and W multiples of ``config.multiple`` and otherwise any; t (B,)
    are the integer steps 0..T-1; lq (B, lq_channels, f H, f W) is the low-quality image itself in [-1, 1], at its own
    size, with f = ``config.factor``; mask (B, 1, f H, f W) is 1 where the image is unknown and -1 elsewhere. Returns
    (B, out_channels, H, W) of the dtype of x. Raises ``ValueError`` for other shapes and for a missing or superfluous mask.

    Attributes
    ----------
    config: what the network is made of.
    checkpointing: recompute activations in the backward pass instead of keeping them; may be switched at any time.
    """

    def __init__(self, config: SwinUNetConfig, *, checkpointing: bool = False) -> None:
        super().__init__()
        self.config, self.checkpointing = config, checkpointing
        self.time_embed = nn.Sequential(
            nn.Linear(config.model_channels, config.embedding), nn.SiLU(), nn.Linear(config.embedding, config.embedding)
        )
        condition = config.lq_channels + config.cond_mask
        self.feature_extractor = nn.Sequential(*_feature_stages(condition, config.stages)) if config.stages else nn.Identity()
        features = FEATURES * config.factor if config.stages else condition
        first, last = config.channels[0], config.channels[-1]
        self.input_blocks = nn.ModuleList([Stage(nn.Conv2d(config.in_channels + features, first, 3, padding=1))])
        self.input_blocks.extend(_down_stages(config))
        middle = SwinLayer(config, len(config.channels) - 1, last)
        self.middle_block = Stage(_block(config, last, last), middle, _block(config, last, last))
        self.output_blocks = nn.ModuleList(_up_stages(config))
        self.out = nn.Sequential(GroupNorm32(first), nn.SiLU(), nn.Conv2d(first, config.out_channels, 3, padding=1))

    def forward(self, x: Tensor, t: Tensor, lq: Tensor, mask: Tensor | None = None) -> Tensor:
        self._check(x, t, lq, mask)
        dtype = next(self.out.parameters()).dtype
        condition = lq if mask is None else torch.cat([lq, mask.to(lq.dtype)], dim=1)
        h = torch.cat([x.to(dtype), self.feature_extractor(condition.to(dtype))], dim=1)
        embedding = self.embed(t)
        skips = []
        for stage in self.input_blocks:
            h = self._run(stage, h, embedding)
            skips.append(h)
        h = self._run(self.middle_block, h, embedding)
        for stage in self.output_blocks:
            h = self._run(stage, torch.cat([h, skips.pop()], dim=1), embedding)
        return self.out(h).to(x.dtype)

    def embed(self, t: Tensor) -> Tensor:
        """Embedding (B, 4C) of the steps t (B,)."""
        embedding = sinusoidal_embedding(t, self.config.model_channels)
        return self.time_embed(embedding.to(next(self.time_embed.parameters()).dtype))

    def _run(self, stage: nn.Module, h: Tensor, embedding: Tensor) -> Tensor:
        if self.checkpointing and torch.is_grad_enabled():
            return checkpoint(stage, h, embedding, use_reentrant=False)
        return stage(h, embedding)

    def _check(self, x: Tensor, t: Tensor, lq: Tensor, mask: Tensor | None) -> None:
        config, multiple = self.config, self.config.multiple
        if x.ndim != 4 or x.shape[1] != config.in_channels or x.shape[2] % multiple or x.shape[3] % multiple or not x.numel():
            raise ValueError(
                f"x must be (B, {config.in_channels}, H, W) with H and W multiples of {multiple}, got {tuple(x.shape)}; "
                "pad the images"
            )
        batch, _, height, width = x.shape
        if t.shape != (batch,):
            raise ValueError(f"t must have shape ({batch},), one step a batch member, got {tuple(t.shape)}")
        size = (config.factor * height, config.factor * width)
        if lq.shape != (batch, config.lq_channels, *size):
            raise ValueError(f"lq must have shape {(batch, config.lq_channels, *size)} for this x, got {tuple(lq.shape)}")
        if (mask is None) == config.cond_mask:
            wanted = f"needs a mask of shape {(batch, 1, *size)}" if config.cond_mask else "takes no mask"
            raise ValueError(f"this network {wanted}; {'none' if mask is None else 'one'} was given")
        if mask is not None and mask.shape != (batch, 1, *size):
            raise ValueError(f"mask must have shape {(batch, 1, *size)}, that of lq, got {tuple(mask.shape)}")


class FeatureDownsample(nn.Module):
    """Half the size and twice the features, by a strided 3x3 convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.op = nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.op(x)


def _feature_stages(channels: int, stages: int) -> Iterator[nn.Module]:
    for stage in range(stages):
        width = FEATURES * 2**stage
        yield from (nn.Conv2d(channels, width, 3, padding=1), nn.SiLU(), FeatureDownsample(width))
        channels = 2 * width


def _block(config: SwinUNetConfig, channels: int, out_channels: int, resize: nn.Module | None = None) -> ResBlock:
    scale_shift, dropout = config.use_scale_shift_norm, config.dropout
    return ResBlock(channels, out_channels, config.embedding, scale_shift=scale_shift, dropout=dropout, resize=resize)


def _resample(config: SwinUNetConfig, channels: int, kind: type[Downsample] | type[Upsample]) -> nn.Module:
    if config.resblock_updown:
        return _block(config, channels, channels, kind(channels, conv=False))
    return kind(channels, conv=config.conv_resample)


def _swin(config: SwinUNetConfig, level: int, number: int) -> list[nn.Module]:
    """The Swin layer that follows the residual block of this number: only the first of a level has one."""
    attends = number == 0 and config.sizes[level] in config.attention_resolutions
    return [SwinLayer(config, level, config.channels[level])] if attends else []


def _down_stages(config: SwinUNetConfig) -> Iterator[Stage]:
    channels = config.channels[0]
    for level, width in enumerate(config.channels):
        for number in range(config.blocks[level]):
            yield Stage(_block(config, channels, width), *_swin(config, level, number))
            channels = width
        if level < len(config.channels) - 1:
            yield Stage(_resample(config, width, Downsample))


def _up_stages(config: SwinUNetConfig) -> Iterator[Stage]:
    widths = config.channels
    skips = [widths[0]]
    for level, width in enumerate(widths):
        skips += [width] * (config.blocks[level] + (level < len(widths) - 1))
    channels = widths[-1]
    for level, width in reversed(list(enumerate(widths))):
        for number in range(config.blocks[level] + 1):
            joins = level > 0 and number == config.blocks[level]
            up = [_resample(config, width, Upsample)] if joins else []
            yield Stage(_block(config, channels + skips.pop(), width), *_swin(config, level, number), *up)
            channels = width
