"""The ADM U-Net (Dhariwal & Nichol 2021, "Diffusion models beat GANs on image synthesis") and its upsampling variant.

Names of parameters and their shapes are the official ones, so that the released files load unchanged with
``strict=True``; :mod:`prior.checkpoints` reads the configuration off such a file.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from prior.networks.adm_blocks import GROUPS, Attention, Downsample, GroupNorm32, ResBlock, Stage, Upsample, zero_init
from prior.networks.embedding import sinusoidal_embedding

__all__ = ["ADMConfig", "ADMEncoder", "ADMUNet", "SuperResUNet"]


@dataclass(frozen=True, kw_only=True)
class ADMConfig:
    """What an ADM network is made of; the defaults are the unconditional ImageNet model of 256 pixels.

    Parameters
    ----------
    in_channels, out_channels: of the image and of the output; twice ``in_channels`` where the variance is learned. For a
        classifier ``out_channels`` is the number of classes.
    model_channels: the base width C; level k has ``channel_mult[k] * C`` channels.
    num_res_blocks: residual blocks a level on the way down; one more on the way up.
    attention_ds: downsampling factors (1, 2, 4, ...) of the levels with attention; the middle always has it.
    num_heads: attention heads, where ``head_channels`` does not fix their width instead.
    num_heads_upsample: heads on the way up, ``num_heads`` by default.
    scale_shift: the embedding scales and shifts; otherwise it is added.
    updown: levels are joined by residual blocks that resize; otherwise by plain resampling, with a convolution where
        ``conv_resample``.
    new_attention_order: layout of queries, keys and values, see :class:`~prior.networks.adm_blocks.Attention`.
    num_classes: of a class-conditional network.
    """

    in_channels: int = 3
    out_channels: int = 6
    model_channels: int = 256
    channel_mult: tuple[float, ...] = (1, 1, 2, 2, 4, 4)
    num_res_blocks: int = 2
    attention_ds: tuple[int, ...] = (8, 16, 32)
    num_heads: int = 4
    head_channels: int | None = 64
    num_heads_upsample: int | None = None
    scale_shift: bool = True
    updown: bool = True
    conv_resample: bool = True
    new_attention_order: bool = False
    num_classes: int | None = None
    dropout: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "channel_mult", tuple(self.channel_mult))
        object.__setattr__(self, "attention_ds", tuple(sorted(self.attention_ds)))
        if not self.channel_mult or any(c < 1 or c % GROUPS for c in self.channels):
            raise ValueError(f"model_channels * channel_mult must be multiples of {GROUPS}, got {self.channels}")
        if self.num_res_blocks < 1:
            raise ValueError(f"num_res_blocks must be at least 1, got {self.num_res_blocks}")
        wrong = set(self.attention_ds) - {2**level for level in range(len(self.channel_mult))}
        if wrong:
            raise ValueError(f"attention_ds must be powers of two below 2^{len(self.channel_mult)}, got {self.attention_ds}")

    @property
    def channels(self) -> tuple[int, ...]:
        """Features of each level."""
        return tuple(int(m * self.model_channels + 1e-6) for m in self.channel_mult)

    @property
    def embedding(self) -> int:
        """Width of the time embedding."""
        return 4 * self.model_channels

    def attention(self, channels: int, *, up: bool = False) -> Attention:
        """An attention block of ``channels`` features, with the heads of the way down or ``up``."""
        heads = self.num_heads_upsample if up and self.num_heads_upsample else self.num_heads
        if self.head_channels:
            if channels % self.head_channels:
                raise ValueError(f"head_channels must divide the {channels} features that attend, got {self.head_channels}")
            heads = channels // self.head_channels
        return Attention(channels, heads, new_order=self.new_attention_order)

    def block(self, channels: int, out_channels: int, resize: nn.Module | None = None) -> ResBlock:
        """A residual block between these widths."""
        scale_shift, dropout = self.scale_shift, self.dropout
        return ResBlock(channels, out_channels, self.embedding, scale_shift=scale_shift, dropout=dropout, resize=resize)

    def resample(self, channels: int, kind: type[Downsample] | type[Upsample]) -> nn.Module:
        """What joins two levels."""
        if self.updown:
            return self.block(channels, channels, kind(channels, conv=False))
        return kind(channels, conv=self.conv_resample)


class ADMEncoder(nn.Module):
    """The way down and the middle, common to the U-Nets and the classifier.

    Parameters
    ----------
    input_channels: channels that enter, where they are not ``config.in_channels``.
    checkpointing: recompute activations in the backward pass instead of keeping them; may be switched at any time.
    """

    def __init__(self, config: ADMConfig, *, input_channels: int | None = None, checkpointing: bool = False) -> None:
        super().__init__()
        self.config, self.checkpointing = config, checkpointing
        width = config.channels[0]
        self.time_embed = nn.Sequential(
            nn.Linear(config.model_channels, config.embedding), nn.SiLU(), nn.Linear(config.embedding, config.embedding)
        )
        if config.num_classes is not None:
            self.label_emb = nn.Embedding(config.num_classes, config.embedding)
        first = nn.Conv2d(input_channels or config.in_channels, width, 3, padding=1)
        self.input_blocks = nn.ModuleList([Stage(first), *_down_stages(config)])
        width = config.channels[-1]
        self.middle_block = Stage(config.block(width, width), config.attention(width), config.block(width, width))

    @property
    def skip_channels(self) -> list[int]:
        """Features that each input block hands over."""
        c, blocks = self.config.channels, self.config.num_res_blocks
        return [c[0]] + [width for level, width in enumerate(c) for _ in range(blocks + (level < len(c) - 1))]

    @property
    def dtype(self) -> torch.dtype:
        """That of the weights outside the blocks, in which the embedding and the last layers are evaluated."""
        return next(self.time_embed.parameters()).dtype

    def embed(self, t: Tensor, y: Tensor | None = None) -> Tensor:
        """Embedding (B, 4C) of the times t (B,), any real, and of the classes y (B,) where they are given."""
        embedding = self.time_embed(sinusoidal_embedding(t, self.config.model_channels).to(self.dtype))
        return embedding if y is None else embedding + self.label_emb(y)

    def encode(self, x: Tensor, embedding: Tensor) -> tuple[Tensor, list[Tensor]]:
        """``(middle, skips)``: the features of the middle and of every input block."""
        h = x.to(next(self.input_blocks.parameters()).dtype)
        skips = []
        for stage in self.input_blocks:
            h = self._run(stage, h, embedding)
            skips.append(h)
        return self._run(self.middle_block, h, embedding), skips

    def half_convolutions(self, dtype: torch.dtype = torch.float16) -> ADMEncoder:
        """Converts the convolutions of the blocks to ``dtype``, in place, as the official mixed precision does.

        Linear layers, norms, embeddings and ``out`` stay as they are. Load float32 weights first.
        """
        stages = [child for name, child in self.named_children() if name.endswith(("_block", "_blocks"))]
        for stage in stages:
            for module in stage.modules():
                if isinstance(module, nn.Conv1d | nn.Conv2d):
                    module.to(dtype)
        return self

    def _run(self, stage: nn.Module, h: Tensor, embedding: Tensor) -> Tensor:
        if self.checkpointing and torch.is_grad_enabled():
            return checkpoint(stage, h, embedding, use_reentrant=False)
        return stage(h, embedding)

    def _check(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> None:
        channels, multiple = self.config.in_channels, 2 ** (len(self.config.channel_mult) - 1)
        if x.ndim != 4 or x.shape[1] != channels or x.shape[2] % multiple or x.shape[3] % multiple:
            raise ValueError(f"x must be (B, {channels}, H, W) with H and W multiples of {multiple}, got {tuple(x.shape)}")
        if t.shape != (x.shape[0],):
            raise ValueError(f"t must have shape ({x.shape[0]},), one time a batch member, got {tuple(t.shape)}")
        classes = self.config.num_classes
        if (y is None) != (classes is None):
            given = "none was given" if y is None else "y was given"
            wanted = "takes no class y" if classes is None else f"needs a class y (B,) in 0..{classes - 1}"
            raise ValueError(f"this network {wanted}; {given}")
        if y is not None and y.shape != (x.shape[0],):
            raise ValueError(f"y must have shape ({x.shape[0]},), one class a batch member, got {tuple(y.shape)}")


def _down_stages(config: ADMConfig) -> Iterator[Stage]:
    channels = config.channels[0]
    for level, width in enumerate(config.channels):
        for _ in range(config.num_res_blocks):
            attends = 2**level in config.attention_ds
            yield Stage(config.block(channels, width), *([config.attention(width)] if attends else []))
            channels = width
        if level < len(config.channels) - 1:
            yield Stage(config.resample(width, Downsample))


def _up_stages(config: ADMConfig, skips: list[int]) -> Iterator[Stage]:
    channels = config.channels[-1]
    for level, width in reversed(list(enumerate(config.channels))):
        for i in range(config.num_res_blocks + 1):
            layers: list[nn.Module] = [config.block(channels + skips.pop(), width)]
            if 2**level in config.attention_ds:
                layers.append(config.attention(width, up=True))
            if level > 0 and i == config.num_res_blocks:
                layers.append(config.resample(width, Upsample))
            yield Stage(*layers)
            channels = width


class ADMUNet(ADMEncoder):
    """The ADM U-Net: ``network(x, t)`` or, where it is class-conditional, ``network(x, t, y)``.

    x (B, in_channels, H, W) with H and W multiples of ``2^(levels - 1)``; t (B,), integer or fractional steps; y (B,)
    class indices. Returns (B, out_channels, H, W): the noise and, where the variance is learned, its raw second half.
    A new network outputs zero. Raises ``ValueError`` for other shapes and for a missing or superfluous y.
    """

    def __init__(self, config: ADMConfig, *, input_channels: int | None = None, checkpointing: bool = False) -> None:
        super().__init__(config, input_channels=input_channels, checkpointing=checkpointing)
        width = config.channels[0]
        self.output_blocks = nn.ModuleList(_up_stages(config, self.skip_channels))
        self.out = nn.Sequential(GroupNorm32(width), nn.SiLU(), zero_init(nn.Conv2d(width, config.out_channels, 3, padding=1)))

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        self._check(x, t, y)
        return self.decode(x, self.embed(t, y))

    def decode(self, x: Tensor, embedding: Tensor) -> Tensor:
        """The output for x, checked and joined with what else enters, and its embedding (B, 4C)."""
        h, skips = self.encode(x, embedding)
        for stage in self.output_blocks:
            h = self._run(stage, torch.cat([h, skips.pop()], dim=1), embedding)
        return self.out(h.to(self.dtype)).to(x.dtype)


class SuperResUNet(ADMUNet):
    """The ADM upsampler: the U-Net sees x beside the low-resolution image ``low_res`` (B, in_channels, h, w), enlarged.

    ``network(x, t, low_res)``, with y (B,) where it is class-conditional.
    """

    def __init__(self, config: ADMConfig, *, checkpointing: bool = False) -> None:
        super().__init__(config, input_channels=2 * config.in_channels, checkpointing=checkpointing)

    def forward(self, x: Tensor, t: Tensor, low_res: Tensor, y: Tensor | None = None) -> Tensor:  # type: ignore[override]
        self._check(x, t, y)
        if low_res.ndim != 4 or low_res.shape[:2] != x.shape[:2]:
            raise ValueError(f"low_res must have shape ({x.shape[0]}, {x.shape[1]}, h, w), got {tuple(low_res.shape)}")
        enlarged = F.interpolate(low_res, x.shape[-2:], mode="bilinear", align_corners=False)
        return self.decode(torch.cat([x, enlarged.to(x.dtype)], dim=1), self.embed(t, y))

    def given(self, low_res: Tensor, y: Tensor | None = None) -> nn.Module:
        """The network with its conditions filled in, to be called as ``network(x, t)``, for a denoiser of this one image."""
        return _Given(self, low_res, y)


class _Given(nn.Module):
    def __init__(self, network: SuperResUNet, low_res: Tensor, y: Tensor | None) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("low_res", low_res, persistent=False)
        self.register_buffer("y", y, persistent=False)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.network(x, t, self.low_res, self.y)
