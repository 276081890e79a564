"""The Swin layer of ResShift: group norms, windows that are shifted in every second block, and 1x1 convolutions.

Names of parameters and buffers are the official ones. Unlike the Swin transformer of Liu et al. 2021, it normalises the
whole feature map by groups, not each token.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from prior.networks.adm_blocks import GroupNorm32
from restore.resshift.configuration import SwinUNetConfig
from restore.resshift.swin_layers import WindowAttention, shift_mask

__all__ = ["SwinBlock", "SwinLayer"]


class Mlp(nn.Module):
    """``fc2(gelu(fc1(x)))`` at every pixel, with the exact Gaussian error function."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, hidden, 1)
        self.fc2 = nn.Conv2d(hidden, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class SwinBlock(nn.Module):
    """``x + attention(norm(x))``, then ``x + mlp(norm(x))``, of x (B, C, H, W), with H and W multiples of the window.

    Parameters
    ----------
    config: of the network.
    level: the level that the block is on; it decides window and shift, whatever the size of x.
    shifted: the windows are shifted by half their side, where the level is larger than one window.

    Attributes
    ----------
    attn_mask: only in a shifted block, the mask at the size of ``config``. Files have it, and nothing reads it: the mask
        follows from the size of x.
    """

    def __init__(self, config: SwinUNetConfig, level: int, *, shifted: bool) -> None:
        super().__init__()
        width = config.swin_embed_dim
        self.window, self.shift = config.window(level), config.shift(level) if shifted else 0
        self.side, self.mask = config.sizes[level], config.mask
        self.norm1, self.norm2 = GroupNorm32(width), GroupNorm32(width)
        heads = width // config.num_head_channels
        self.attn = WindowAttention(width, heads, window=self.window, shift=self.shift, mask=self.mask)
        self.mlp = Mlp(width, int(width * config.mlp_ratio))
        if self.shift:
            self.register_buffer("attn_mask", self.configured_mask().to(torch.get_default_device()))

    def configured_mask(self) -> Tensor:
        """The mask at the size of the configuration, (windows, w^2, w^2)."""
        count = self.side // self.window
        return shift_mask(count, count, self.window, shift=self.shift, mask=self.mask)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm1(x).permute(0, 2, 3, 1)
        if self.shift:
            h = torch.roll(self.attn(torch.roll(h, (-self.shift, -self.shift), (1, 2))), (self.shift, self.shift), (1, 2))
        else:
            h = self.attn(h)
        x = x + h.permute(0, 3, 1, 2)
        return x + self.mlp(self.norm2(x))


class Projection(nn.Module):
    """A 1x1 convolution between ``channels`` and ``out_channels``, then a group norm where ``norm``."""

    def __init__(self, channels: int, out_channels: int, *, norm: bool) -> None:
        super().__init__()
        self.proj = nn.Conv2d(channels, out_channels, 1)
        self.norm = GroupNorm32(out_channels) if norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.proj(x))


class SwinLayer(nn.Module):
    """``swin_depth`` blocks between two 1x1 convolutions: x (B, channels, H, W) is replaced, not added to."""

    def __init__(self, config: SwinUNetConfig, level: int, channels: int) -> None:
        super().__init__()
        width, norm = config.swin_embed_dim, config.patch_norm
        self.patch_embed = Projection(channels, width, norm=norm)
        self.blocks = nn.ModuleList(SwinBlock(config, level, shifted=i % 2 == 1) for i in range(config.swin_depth))
        self.patch_unembed = Projection(width, channels, norm=norm)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch_embed(x)
        for block in self.blocks:
            x = block(x)
        return self.patch_unembed(x)
